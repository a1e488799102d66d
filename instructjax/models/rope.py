"""Rotary positions: how fast each pair of a head's numbers turns.

A pair i of rotary_dim / 2 turns by theta^(-2i / rotary_dim) a position; what
RopeScaling says of sequences longer than the model was trained on changes
these rates. Sources: Su et al. 2021 (arXiv:2104.09864), and RopeScaling's.
"""

from __future__ import annotations

from collections.abc import Callable
import math

import jax
import jax.numpy as jnp

from instructjax import errors
from instructjax.models import config as config_lib
from instructjax.models import layers

Array = jax.Array
ModelConfig = config_lib.ModelConfig
RopeScaling = config_lib.RopeScaling


def rotation(
  config: ModelConfig, positions: Array
) -> Callable[[Array | int, Array], Array]:
  """Returns (layer, queries or keys) -> the same, turned by their positions.

  Args:
    config: the model's shape.
    positions: i32[B or 1, T].
  """
  if config.positions == 'learned':
    return lambda layer, x: x
  scaling = config.rope_scaling
  rates = _rates(config, config.rope_theta, scaling)
  factor = _sharpness(scaling)
  if not config.local_rope_theta:
    return lambda layer, x: layers.rotate(x, positions, rates, factor)
  local = _rates(config, config.local_rope_theta, RopeScaling())
  is_local = jnp.asarray(
    [config.is_banded(layer) for layer in range(config.num_layers)]
  )

  def rotate(layer, x):
    own = is_local[layer]
    return layers.rotate(
      x,
      positions,
      jnp.where(own, local, rates),
      jnp.where(own, 1.0, factor),
    )

  return rotate


def check_reach(config: ModelConfig, length: int) -> None:
  """Raises UserError if rows are longer than the rotation is known for."""
  if config.rope_scaling.kind == 'dynamic' and length > config.max_length:
    raise errors.UserError(
      'a model with dynamic rotary scaling needs sequences of at most its'
      f' max_length={config.max_length} tokens, given {length}: shorten them.'
    )


def _rates(config: ModelConfig, theta: float, scaling: RopeScaling) -> Array:
  """Radians a position, f32[rotary_dim / 2]."""
  width = config.rotary_dim or config.head_dim
  half = width // 2
  rates = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  if scaling.kind in ('none', 'dynamic'):
    return rates
  if scaling.kind == 'linear':
    return rates / scaling.factor
  if scaling.kind == 'llama3':
    turns = scaling.original_length * rates / (2 * math.pi)
    kept = (turns - scaling.low) / (scaling.fast - scaling.low)
  else:
    kept = 1 - _ramp(scaling, theta, width)
  kept = jnp.clip(kept, 0.0, 1.0)
  return kept * rates + (1 - kept) * rates / scaling.factor


def _ramp(scaling: RopeScaling, theta: float, width: int) -> Array:
  """YaRN's ramp over the pairs: 0 where they turn `fast` times and more."""

  def pair(turns):  # the one, a fraction, that turns so often
    wave = scaling.original_length / (2 * math.pi * turns)
    return width * math.log(wave) / (2 * math.log(theta))

  first, last = pair(scaling.fast), pair(scaling.low)
  if scaling.truncate:
    first, last = math.floor(first), math.ceil(last)
  first, last = max(first, 0), min(last, width - 1)
  length = max(last - first, 1e-3)
  return (jnp.arange(width // 2, dtype=jnp.float32) - first) / length


def _sharpness(scaling: RopeScaling) -> float:
  """What queries and keys are multiplied by."""
  if scaling.kind != 'yarn':
    return 1.0
  return scaling.attention_factor or 1 + 0.1 * math.log(scaling.factor)
