"""Keys and values of the tokens that a model has seen."""

from __future__ import annotations

import functools

from flax import struct
import jax
import jax.numpy as jnp

from instructjax import sharding
from instructjax.models import config as config_lib
from instructjax.models import stack

Array = jax.Array
ModelConfig = config_lib.ModelConfig


@struct.dataclass
class Cache:
  """Keys and values of the tokens seen so far.

  Attributes:
    keys: f[L, B, K, S, head_dim], K = config.kv_heads, where the layers are
      scanned, otherwise a tuple of L f[B, K, S, head_dim]; of the S columns
      `index` are written.
    values: the same.
    mask: bool[B, S], written and kept.
    positions: i32[B], the next kept token's position in each row.
    index: i32[], the next column to write, the same in all rows.
  """

  keys: Array | tuple[Array, ...]
  values: Array | tuple[Array, ...]
  mask: Array
  positions: Array
  index: Array


def of(
  config: ModelConfig,
  keys: Array | tuple[Array, ...],
  values: Array | tuple[Array, ...],
  mask: Array,
  *,
  length: int,
) -> Cache:
  """Returns the cache of T tokens, with room up to `length`.

  Args:
    config: the model's shape.
    keys: as Cache has them, of T columns.
    values: the same.
    mask: bool[B, T], kept tokens.
    length: S >= T, how many columns the cache will have.
  """
  seen = mask.shape[1]
  pad = functools.partial(_pad_columns, free=length - seen, axis=-2)
  keys, values = jax.tree.map(lambda x: _place(config, pad(x)), (keys, values))
  return Cache(
    keys=keys,
    values=values,
    mask=_pad_columns(mask, length - seen, -1),
    positions=jnp.sum(mask, axis=1, dtype=jnp.int32),
    index=jnp.asarray(seen, jnp.int32),
  )


def take(cache: Cache, rows: Array) -> Cache:
  """Returns the cache whose row n is this one's row rows[n], i32[N]."""

  def pick(x, axis=0):
    return jnp.take(x, rows, axis=axis)

  def pick_layers(leaf):  # the batch is the fourth axis from the end
    return pick(leaf, leaf.ndim - 4)

  return cache.replace(
    keys=jax.tree.map(pick_layers, cache.keys),
    values=jax.tree.map(pick_layers, cache.values),
    mask=pick(cache.mask),
    positions=pick(cache.positions),
  )


def write(
  config: ModelConfig, layer: Array, cached: Array, new: Array, column: Array
) -> tuple[Array, Array]:
  """Writes f[B, K, T, head_dim] into a cache; returns it and the layer's part.

  A scan must carry the stack of all layers for this to happen in place: as the
  scan's input and output, all of it would be copied at every step.
  """
  if not stack.is_scanned(config):
    written = jax.lax.dynamic_update_slice(cached, new, (0, 0, column, 0))
    written = _place(config, written)
    return written, written
  cached = jax.lax.dynamic_update_slice(
    cached, new[None], (layer, 0, 0, column, 0)
  )
  cached = _place(config, cached)
  return cached, jax.lax.dynamic_index_in_dim(cached, layer, keepdims=False)


def _pad_columns(x: Array, free: int, axis: int) -> Array:
  pads = [(0, 0)] * x.ndim
  pads[axis] = (0, free)
  return jnp.pad(x, pads)


def _place(config: ModelConfig, cached: Array) -> Array:
  """Spreads keys or values, f[..., B, K, S, head_dim], over the devices."""
  return sharding.constrain(config.mesh, 'cache/keys', cached)
