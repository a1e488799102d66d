"""Which tokens a sampler may draw: temperature, top-k and top-p."""

from __future__ import annotations

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
