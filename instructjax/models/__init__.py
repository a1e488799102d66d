"""One decoder for all model families, and the heads that stand on it."""
