"""Losses as pure functions: arrays in, float32 arrays out, no model known."""

from instructjax.losses import language
from instructjax.losses import policy_gradient
from instructjax.losses import preference

__all__ = ['language', 'policy_gradient', 'preference']
