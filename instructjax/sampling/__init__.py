"""Completing prompts: filtering of logits and the decoding loop."""
