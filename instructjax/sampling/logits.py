"""Which tokens a sampler may draw (temperature, top-k, top-p), and the draw."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def filter_logits(
  logits: jax.Array,
  *,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> jax.Array:
  """Divides by the temperature, then sets what may not be drawn to -inf.

  top_k keeps the k largest. top_p then keeps the fewest tokens, likeliest
  first, whose probabilities (among those left) sum to at least top_p. A token
  equal to the last one kept is kept as well.

  Args:
    logits: f32[..., V].
    temperature: > 0.
    top_k: number of tokens to keep; 0 keeps all.
    top_p: probability mass to keep, in (0, 1]; 1 keeps all.

  Returns:
    f32[..., V]; at least the largest logit stays finite.

  Source: top-p is nucleus sampling, Holtzman et al. 2019 (arXiv:1904.09751).
  """
  logits = logits / temperature
  if 0 < top_k < logits.shape[-1]:
    last = jax.lax.top_k(logits, top_k)[0][..., -1:]
    logits = jnp.where(logits >= last, logits, -jnp.inf)
  if top_p < 1.0:
    ordered = -jnp.sort(-logits, axis=-1)
    probs = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probs, axis=-1) - probs
    # The likeliest token stays even where top_p is 0 or rounding says no.
    keep = (before < top_p).at[..., 0].set(True)
    last = jnp.min(jnp.where(keep, ordered, jnp.inf), axis=-1, keepdims=True)
    logits = jnp.where(logits >= last, logits, -jnp.inf)
  return logits


def draw(logits: jax.Array, uniform: jax.Array) -> jax.Array:
  """Draws each row's token from the softmax, by its cumulative distribution.

  The first token whose cumulative probability exceeds the row's number. It is
  looked for among blocks of about sqrt(V) tokens, then within the block: one
  random number a row. The Gumbel trick takes V, and two logarithms each: 1.8 ms
  instead of 0.3 for 256 rows of 1,280 tokens on a CPU.

  Args:
    logits: f32[B, V], a finite one in every row; -inf is never drawn.
    uniform: f32[B], in [0, 1).

  Returns:
    i32[B].
  """
  batch, size = logits.shape
  width = math.isqrt(size - 1) + 1
  weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
  weights = jnp.pad(weights, ((0, 0), (0, -size % width)))
  blocks = weights.reshape(batch, -1, width)
  sums = jnp.sum(blocks, axis=-1)
  block, left = _first_above(sums, uniform * jnp.sum(sums, axis=-1))
  inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
  return block * width + _first_above(inside, left)[0]


def _first_above(
  weights: jax.Array, level: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the first index whose cumulative weight exceeds the level.

  Rounding may leave none, or point at a weight of 0: then it is the last index
  of a positive weight, or the next one.

  Args:
    weights: f32[B, N], none negative, a positive one in every row.
    level: f32[B].

  Returns:
    i32[B], and what the level exceeds the weights before that index by.
  """
  indices = jnp.arange(weights.shape[1])
  upto = jnp.cumsum(weights, axis=1)
  positive = weights > 0
  last = jnp.max(jnp.where(positive, indices, 0), axis=1)
  above = positive & (upto > level[:, None])
  first = jnp.min(jnp.where(above, indices, last[:, None]), axis=1)
  pick = jnp.take_along_axis
  before = pick(upto - weights, first[:, None], axis=1)[:, 0]
  return first.astype(jnp.int32), level - before
