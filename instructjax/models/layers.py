"""The pieces of one decoder block, as linen modules on single layers.

A block knows neither caches nor random keys: the caller passes how heads
attend and how a branch is dropped, so that training, prefill and decoding run
the same block.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import math
from typing import Any

from flax import errors as flax_errors
from flax import linen as nn
import jax
import jax.numpy as jnp

from instructjax import sharding
from instructjax.models import config as config_lib

Array = jax.Array
# q f[B, H, T, head_dim], k and v f[B, K, T, head_dim] -> (as q, anything).
Attention = Callable[[Array, Array, Array], tuple[Array, Any]]
# (branch f[B, T, D], which of the block's two branches) -> f[B, T, D].
Dropout = Callable[[Array, int], Array]

_INIT_STD = 0.02


def rotate(
  x: Array, positions: Array, rates: Array, factor: Array | float = 1.0
) -> Array:
  """Turns queries or keys by their positions, so that scores see distances.

  Numbers i and i + half of a head are a point in a plane, which turns by
  position * rates[i]; those from 2 half on stay as they are.

  Args:
    x: f[B, H, T, head_dim].
    positions: i32[B or 1, T].
    rates: f32[half], radians a position.
    factor: multiplies what turns.

  Returns:
    The same shape and type; angles are computed in float32.

  Source: Su et al. 2021, RoFormer (arXiv:2104.09864), section 3.2.2; halves
    instead of neighbours make the pairs, as in GPT-NeoX.
  """
  half = rates.shape[0]
  angles = positions[:, None, :, None] * rates  # f32[B, 1, T, half]
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  if not (isinstance(factor, float) and factor == 1.0):
    cos, sin = factor * cos, factor * sin
  a, b, rest = jnp.split(x, (half, 2 * half), axis=-1)
  a, b = a.astype(jnp.float32), b.astype(jnp.float32)
  turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  turned = turned.astype(x.dtype)
  return jnp.concatenate([turned, rest], axis=-1) if rest.size else turned


@functools.partial(jax.checkpoint, static_argnums=0)
def _activate(name: str, x: Array) -> Array:
  # Checkpointed, or the backward pass would keep five arrays of [B, T, d_ff].
  return _ACTIVATIONS[name](x)


_ACTIVATIONS = {
  'gelu_tanh': functools.partial(nn.gelu, approximate=True),
  'gelu': functools.partial(nn.gelu, approximate=False),
  'relu': nn.relu,
  'silu': nn.silu,
}


def _param(
  module: nn.Module,
  name: str,
  init: Callable[..., Array],
  shape: tuple[int, ...],
) -> Array:
  """Returns a module's parameter, drawn by `init` where there is none yet.

  `module.param` traces the initialiser also of a parameter that is there, for
  its shape: a fifth of the time that tracing a small model's gradient takes.

  Raises:
    flax.errors.ScopeParamShapeError: what is there has another shape.
  """
  if not module.has_variable('params', name):
    return module.param(name, init, shape)
  value = module.get_variable('params', name)
  if value.shape != shape:
    raise flax_errors.ScopeParamShapeError(
      name, module.scope.path_text, value.shape, shape
    )
  return value


class LayerNorm(nn.Module):
  """(x - mean) / sqrt(variance + epsilon) * scale + bias, in float32."""

  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: Array) -> Array:
    width = x.shape[-1]
    scale = _param(self, 'scale', nn.initializers.ones, (width,))
    bias = _param(self, 'bias', nn.initializers.zeros, (width,))
    x32 = x.astype(jnp.float32)
    centered = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centered), axis=-1, keepdims=True)
    y = centered * jax.lax.rsqrt(variance + self.epsilon)
    return (y * scale + bias).astype(x.dtype)


class RMSNorm(nn.Module):
  """x / sqrt(mean(x^2) + epsilon) * scale, computed in float32.

  With `offset`, * (1 + scale), whose scale begins at 0.

  Source: Zhang and Sennrich 2019 (arXiv:1910.07467).
  """

  epsilon: float = 1e-6
  offset: bool = False

  @nn.compact
  def __call__(self, x: Array) -> Array:
    init = nn.initializers.zeros if self.offset else nn.initializers.ones
    scale = _param(self, 'scale', init, (x.shape[-1],))
    x32 = x.astype(jnp.float32)
    square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    y = x32 * jax.lax.rsqrt(square + self.epsilon)
    return (y * (1.0 + scale if self.offset else scale)).astype(x.dtype)


def norm(config: config_lib.ModelConfig, name: str | None = None) -> nn.Module:
  """Returns a norm of the residual stream, as the config has them."""
  if config.norm == 'layer':
    return LayerNorm(config.norm_epsilon, name=name)
  return RMSNorm(config.norm_epsilon, config.norm_offset, name=name)


class Linear(nn.Module):
  """x @ kernel + bias in the type of x, over the last axis of x."""

  features: tuple[int, ...]
  std: float = _INIT_STD
  bias: bool = True

  @nn.compact
  def __call__(self, x: Array) -> Array:
    init = nn.initializers.normal(self.std)
    kernel = _param(self, 'kernel', init, (x.shape[-1], *self.features))
    y = jnp.tensordot(x, kernel.astype(x.dtype), axes=1)
    if not self.bias:
      return y
    bias = _param(self, 'bias', nn.initializers.zeros, self.features)
    return y + bias.astype(x.dtype)


def stream(config: config_lib.ModelConfig, x: Array) -> Array:
  """Places the residual stream f[B, T, D] between the parts of a block."""
  name = 'step' if x.shape[1] == 1 else 'residual'
  return sharding.constrain(config.mesh, f'activation/{name}', x)


def _read(config: config_lib.ModelConfig, x: Array) -> Array:
  """Places f[B, T, D] that the products of a part are going to read."""
  name = 'step' if x.shape[1] == 1 else 'read'
  return sharding.constrain(config.mesh, f'activation/{name}', x)


def _wide(config: config_lib.ModelConfig, x: Array) -> Array:
  """Places f[B, T, features] within a part, split by features."""
  name = 'wide_step' if x.shape[1] == 1 else 'wide'
  return sharding.constrain(config.mesh, f'activation/{name}', x)


class Block(nn.Module):
  """One block: x += attention(norm(x)); x += mlp(norm(x)), or as configured.

  Initialisation: weights N(0, 0.02), those that write to the residual stream
  N(0, 0.02 / sqrt(2 L)), biases 0, norms multiply by 1.

  Source: GPT-2 (Radford et al. 2019, section 2.3, which scales by the square
  root of the number of residual layers, two a block) and GPT-3
  (arXiv:2005.14165, section 2.1); GELU in its tanh form as GPT-2 released it.
  Norms of queries and keys: Dehghani et al. 2023 (arXiv:2302.05442), here
  without their means, as in Qwen 3.
  """

  config: config_lib.ModelConfig

  @nn.compact
  def __call__(
    self, x: Array, attention: Attention, dropout: Dropout
  ) -> tuple[Array, Any]:
    """Returns the block's output f[B, T, D] and what `attention` returned."""
    config = self.config
    batch, length, _ = x.shape
    inner = config.num_heads * config.head_dim

    read = y = _read(config, norm(config, 'attention_norm')(x))
    q, k, v = (jnp.swapaxes(heads, 1, 2) for heads in self._heads(y))
    if config.qk_norm:
      options = config.qk_norm_epsilon, config.norm_offset
      q = RMSNorm(*options, name='q_norm')(q)
      k = RMSNorm(*options, name='k_norm')(k)
    y, carried = attention(q, k, v)
    y = jnp.transpose(y, (0, 2, 1, 3)).reshape(batch, length, inner)
    y = _wide(config, y)
    bias = config.attention_bias == 'all'
    y = self._to_stream(y, 'attention_output', bias)
    if config.post_norms:
      y = norm(config, 'attention_post_norm')(y)
    added = stream(config, x + dropout(y, 0))

    if config.branches == 'sequential':
      y = _read(config, norm(config, 'mlp_norm')(added))
    elif config.branches == 'parallel':
      y = read
    else:
      y = _read(config, norm(config, 'mlp_norm')(x))
    y = self._mlp(y)
    if config.post_norms:
      y = norm(config, 'mlp_post_norm')(y)
    return stream(config, added + dropout(y, 1)), carried

  def _heads(self, y: Array) -> tuple[Array, Array, Array]:
    """Queries f[B, T, H, head_dim], keys and values f[B, T, K, head_dim]."""
    config = self.config
    size, bias = config.head_dim, config.attention_bias != 'none'
    if config.kv_heads == config.num_heads:
      shape = (3, config.num_heads, size)
      qkv = Linear(shape, bias=bias, name='qkv')(y)
      return qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    q = Linear((config.num_heads, size), bias=bias, name='q')(y)
    kv = Linear((2, config.kv_heads, size), bias=bias, name='kv')(y)
    return q, kv[:, :, 0], kv[:, :, 1]

  def _mlp(self, y: Array) -> Array:
    """The feed-forward layer, f[B, T, D]."""
    config = self.config
    bias, shape = config.mlp_bias, (config.d_ff,)
    x = Linear(shape, bias=bias, name='mlp_input')(y)
    if config.gated:
      gate = Linear(shape, bias=bias, name='mlp_gate')(y)
      x = x * _activate(config.activation, gate)
    else:
      x = _activate(config.activation, x)
    x = _wide(config, x)
    return self._to_stream(x, 'mlp_output', bias)

  def _to_stream(self, y: Array, name: str, bias: bool) -> Array:
    """A projection that writes to the residual stream, f[B, T, D]."""
    std = _INIT_STD / math.sqrt(2 * self.config.num_layers)
    return Linear((self.config.d_model,), std, bias, name=name)(y)
