"""Text to batches: records, tokenizer, encoded rows, loaders (no JAX here)."""
