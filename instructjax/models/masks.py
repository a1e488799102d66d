"""Which keys a query may see: causal, of its own sequence, in its band."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from instructjax.models import config as config_lib

Array = jax.Array
ModelConfig = config_lib.ModelConfig


def causal(length: int) -> Array:
  """Returns bool[T, T]: whether a key is no later than its query."""
  return jnp.tril(jnp.ones((length, length), bool))


def together(segments: Array, prefixes: Array | None) -> Array:
  """Returns bool[B, T, T]: whether a query's sequence holds the key.

  Args:
    segments: i32[B, T], of transformer.Packing.
    prefixes: i32[B, T], the same.
  """
  keys = segments[:, None, :]
  own = segments[:, :, None] == keys
  return own if prefixes is None else own | (prefixes[:, :, None] == keys)


def visibility(
  config: ModelConfig,
  query_positions: Array,
  key_positions: Array,
  earlier: Array,
  kept: Array | None,
) -> Callable[[Array], Array]:
  """Returns layer -> bool[B or 1, 1, T, S]: which keys its queries may see.

  Args:
    config: the model's shape.
    query_positions: i32[B or 1, T].
    key_positions: i32[B or 1, S].
    earlier: bool[T, S] or bool[B, T, S], which keys are no later than a query.
    kept: bool[B, S], keys that are no padding; None: all.
  """
  dense = earlier[:, None] if earlier.ndim == 3 else earlier[None, None]
  if kept is not None:
    dense = dense & kept[:, None, None, :]
  is_banded = [config.is_banded(layer) for layer in range(config.num_layers)]
  if not any(is_banded):
    return lambda layer: dense
  distance = query_positions[:, None, :, None] - key_positions[:, None, None]
  banded = dense & (distance < config.band)
  if all(is_banded):
    return lambda layer: banded
  return lambda layer: jnp.where(jnp.asarray(is_banded)[layer], banded, dense)
