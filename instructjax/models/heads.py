"""The scalar read-out that turns a decoder into a reward or value model."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp


def init_scalar_head(key: jax.Array, d_model: int) -> dict[str, jax.Array]:
  """Returns {'kernel': f32[D] ~ N(0, 1 / (D + 1)), 'bias': f32[] = 0}.

  Source: Ziegler et al. 2019 (arXiv:1909.08593), in their released code;
  Stiennon et al. 2020 print the same without the square root.
  """
  std = 1.0 / math.sqrt(d_model + 1)
  kernel = std * jax.random.normal(key, (d_model,), jnp.float32)
  return {'kernel': kernel, 'bias': jnp.zeros((), jnp.float32)}


def with_head(params: Any, head: Any) -> dict[str, Any]:
  """Returns a reward or value model: a decoder without its logits, a head."""
  trunk = {name: leaf for name, leaf in params.items() if name != 'output'}
  return {'transformer': trunk, 'head': head}


def scalar_head(params: Any, hidden: jax.Array) -> jax.Array:
  """Returns hidden . kernel + bias, f32[...], for hidden f[..., D]."""
  product = jnp.einsum(
    '...d,d->...',
    hidden,
    params['kernel'].astype(hidden.dtype),
    preferred_element_type=jnp.float32,
  )
  return product + params['bias']
