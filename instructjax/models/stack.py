"""Running all layers: a few one after the other, many by a scan.

A scan bounds compilation for deep models, but on a CPU each of its steps copies
its layer's weights, keys and values out of a stack, and what the gradient needs
into another. Without, a shallow model trains in three quarters of the time and
decodes in half.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp

from instructjax import sharding
from instructjax.models import config as config_lib
from instructjax.models import layers

Array = jax.Array
ModelConfig = config_lib.ModelConfig

_MAX_UNROLLED_LAYERS = 6


def is_scanned(config: ModelConfig) -> bool:
  """Returns whether one compiled layer serves for all."""
  return config.num_layers > _MAX_UNROLLED_LAYERS


def run_layers(
  config: ModelConfig,
  params: Any,
  x: Array,
  attention: Callable[..., Any],
  cache: tuple[Any, Any] | None = None,
  drop: Callable[..., Array] | None = None,
  *,
  writes: bool = True,
) -> tuple[Array, Any, Any]:
  """Runs the blocks over the residual stream.

  Args:
    config: the model's shape.
    params: of the whole model.
    x: f[B, T, D].
    attention: (layer, cache, q, k, v) -> f[B, H, T, head_dim], (cache, what to
      keep of this layer). The cache is the layer's own, or all layers' stack
      where these are scanned and write to it.
    cache: keys and values as `Cache` has them.
    drop: (site, f[B, T, D]) -> f[B, T, D].
    writes: whether `attention` returns a cache that it has written to. One that
      is only read is each layer's input, and returned as ().

  Returns:
    f[B, T, D], the cache, and what the layers kept, laid out as the cache is.
  """
  block = layers.Block(config)
  x = layers.stream(config, x)

  def run(layer, x, cache, layer_params):
    def dropout(y, branch):
      return drop(1 + 2 * layer + branch, y) if drop else y

    def attend(q, k, v):
      heads = (
        sharding.constrain(config.mesh, 'activation/heads', part)
        for part in (q, k, v)
      )
      out, carried = attention(layer, cache, *heads)
      return sharding.constrain(config.mesh, 'activation/heads', out), carried

    x, (cache, kept) = block.apply({'params': layer_params}, x, attend, dropout)
    return (x, cache), kept

  if is_scanned(config):

    def body(state, xs):
      (x, stack), (layer, layer_params, own) = state, xs
      return run(layer, x, stack if writes else own, layer_params)

    stack, own = (cache, ()) if writes else ((), cache)
    xs = (jnp.arange(config.num_layers), params['layers'], own)
    body = _rematerialised(config, body, prevent_cse=False)
    (x, stack), kept = jax.lax.scan(body, (x, stack), xs)
    return x, stack, kept

  results = []
  for layer in range(config.num_layers):
    layer_params = jax.tree.map(lambda p, i=layer: p[i], params['layers'])
    layer_cache = cache and tuple(stack[layer] for stack in cache)
    body = functools.partial(run, layer)
    body = _rematerialised(config, body, prevent_cse=True)
    (x, layer_cache), kept = body(x, layer_cache, layer_params)
    results.append((layer_cache, kept))
  cache, kept = jax.tree.map(lambda *leaves: leaves, *results)
  return x, cache, kept


def _rematerialised(config: ModelConfig, body, *, prevent_cse: bool):
  """Wraps a layer by the config's policy.

  A loop keeps the recomputation apart by itself; without one, XLA would merge
  it with what it is to replace, unless `prevent_cse`.
  """
  if config.remat == 'none':
    return body
  policy = None
  if config.remat == 'dots':
    policy = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  return jax.checkpoint(body, policy=policy, prevent_cse=prevent_cse)
