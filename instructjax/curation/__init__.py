"""The paper's rules for prompt data."""
