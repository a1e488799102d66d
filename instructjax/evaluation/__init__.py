"""Evaluators: a training state in, named numbers out."""
