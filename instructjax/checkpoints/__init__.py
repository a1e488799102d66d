"""Reading and writing training states and finished models."""
