"""The pieces of one decoder block, as linen modules on single layers.

A block knows neither caches nor random keys: the caller passes how heads
attend and how a branch is dropped, so that training, prefill and decoding run
the same block.
"""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from instructjax.models import config as config_lib

Array = jax.Array
# (q, k, v), each f[B, H, T, head_dim] -> (f[B, H, T, head_dim], anything).
Attention = Callable[[Array, Array, Array], tuple[Array, Any]]
# (branch f[B, T, D], which of the block's two branches) -> f[B, T, D].
Dropout = Callable[[Array, int], Array]

_INIT_STD = 0.02
_MAX_QUERY_BLOCKS = 4
_MIN_QUERY_BLOCK = 64
_HIDDEN_SCORE = -1e30  # finite: a query that sees nothing must not give NaN


# Recomputing the probabilities in the backward pass costs one product and an
# exponential; keeping them costs f32[B, H, T, S] a layer.
@jax.checkpoint
def attend(q: Array, k: Array, v: Array, mask: Array) -> Array:
  """Softmax attention of each head, scores and softmax in float32.

  out_t = sum_s softmax_s(q_t . k_s / sqrt(head_dim), over s with mask) v_s

  Args:
    q: f[B, H, T, head_dim].
    k: f[B, H, S, head_dim].
    v: f[B, H, S, head_dim].
    mask: bool, broadcast to [B, H, T, S]; true where query t may see key s.
      A query that may see nothing gets a finite, meaningless value.

  Returns:
    f[B, H, T, head_dim] in the type of v.
  """
  q = q * (1.0 / math.sqrt(q.shape[-1]))
  scores = jnp.einsum(
    'bhtd,bhsd->bhts', q, k, preferred_element_type=jnp.float32
  )
  probs = jax.nn.softmax(jnp.where(mask, scores, _HIDDEN_SCORE), axis=-1)
  return jnp.einsum('bhts,bhsd->bhtd', probs.astype(v.dtype), v)


def causal_attend(q: Array, k: Array, v: Array, mask: Array) -> Array:
  """As `attend`, for T = S and a mask that is false above the diagonal.

  Queries go in a few blocks, each with the keys up to its own end, which skips
  most of the hidden upper triangle.
  """
  length = q.shape[2]
  step = max(_MIN_QUERY_BLOCK, -(-length // _MAX_QUERY_BLOCKS))
  outputs = []
  for start in range(0, length, step):
    stop = min(start + step, length)
    outputs.append(
      attend(
        q[:, :, start:stop],
        k[:, :, :stop],
        v[:, :, :stop],
        mask[:, :, start:stop, :stop],
      )
    )
  return jnp.concatenate(outputs, axis=2)


def rotate(x: Array, positions: Array, theta: float) -> Array:
  """Turns queries or keys by their positions, so that scores see distances.

  Numbers i and i + half of a head are a point in a plane, which turns by
  position * theta^(-i / half).

  Args:
    x: f[B, H, T, head_dim], head_dim even.
    positions: i32[B or 1, T].
    theta: base of the rates.

  Returns:
    The same shape and type; angles are computed in float32.

  Source: Su et al. 2021, RoFormer (arXiv:2104.09864), section 3.2.2; halves
    instead of neighbours make the pairs, as in GPT-NeoX.
  """
  half = x.shape[-1] // 2
  rates = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angles = positions[:, None, :, None] * rates  # f32[B, 1, T, half]
  cos, sin = jnp.cos(angles), jnp.sin(angles)
  a, b = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
  turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  return turned.astype(x.dtype)


@jax.checkpoint  # or the backward pass would keep five arrays of [B, T, d_ff]
def _gelu(x: Array) -> Array:
  return nn.gelu(x, approximate=True)


class LayerNorm(nn.Module):
  """(x - mean) / sqrt(variance + 1e-5) * scale + bias, moments in float32."""

  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: Array) -> Array:
    width = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones, (width,))
    bias = self.param('bias', nn.initializers.zeros, (width,))
    x32 = x.astype(jnp.float32)
    centered = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centered), axis=-1, keepdims=True)
    y = centered * jax.lax.rsqrt(variance + self.epsilon)
    return (y * scale + bias).astype(x.dtype)


class RMSNorm(nn.Module):
  """x / sqrt(mean(x^2) + 1e-6) * scale, computed in float32.

  Source: Zhang and Sennrich 2019 (arXiv:1910.07467).
  """

  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: Array) -> Array:
    scale = self.param('scale', nn.initializers.ones, (x.shape[-1],))
    x32 = x.astype(jnp.float32)
    square = jnp.mean(jnp.square(x32), axis=-1, keepdims=True)
    y = x32 * jax.lax.rsqrt(square + self.epsilon)
    return (y * scale).astype(x.dtype)


class Linear(nn.Module):
  """x @ kernel + bias in the type of x, over `num_in` trailing axes of x."""

  features: tuple[int, ...]
  std: float = _INIT_STD

  @nn.compact
  def __call__(self, x: Array) -> Array:
    init = nn.initializers.normal(self.std)
    kernel = self.param('kernel', init, (x.shape[-1], *self.features))
    bias = self.param('bias', nn.initializers.zeros, self.features)
    y = jnp.tensordot(x, kernel.astype(x.dtype), axes=1)
    return y + bias.astype(x.dtype)


class Block(nn.Module):
  """One pre-norm block: x += attention(norm(x)); x += mlp(norm(x)).

  Initialisation: weights N(0, 0.02), those that write to the residual stream
  N(0, 0.02 / sqrt(2 L)), biases 0, norms 1.

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
    batch, length, width = x.shape
    inner = config.num_heads * config.head_dim
    residual_std = _INIT_STD / math.sqrt(2 * config.num_layers)

    y = LayerNorm(name='attention_norm')(x)
    heads = (3, config.num_heads, config.head_dim)
    qkv = Linear(heads, name='qkv')(y)  # f[B, T, 3, H, head_dim]
    q, k, v = (jnp.swapaxes(qkv[:, :, i], 1, 2) for i in range(3))
    if config.qk_norm:
      q, k = RMSNorm(name='q_norm')(q), RMSNorm(name='k_norm')(k)
    y, carried = attention(q, k, v)
    y = jnp.transpose(y, (0, 2, 1, 3)).reshape(batch, length, inner)
    y = Linear((width,), residual_std, name='attention_output')(y)
    x = x + dropout(y, 0)

    y = LayerNorm(name='mlp_norm')(x)
    y = Linear((config.d_ff,), name='mlp_input')(y)
    y = _gelu(y)
    y = Linear((width,), residual_std, name='mlp_output')(y)
    return x + dropout(y, 1), carried
