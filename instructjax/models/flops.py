"""How many FLOPs a model's matrix products take: 2 for each multiply-add.

    a token in a layer    2 (D (H + 2 K) h + H h D + 2 D F), 3 D F if gated
    a query and a key     4 H h, the score and what it weighs, in each layer
    logits of a token     2 D V
    a scalar of a token   2 D

with D = d_model, H heads of width h = head_dim, K of them for keys and values,
F = d_ff, V = vocab_size. A query has as many keys as it may see: itself and
those before it in its sequence, `band` at most in a banded layer. These are a
model's FLOPs: what its definition asks for. The gradient takes two products
where the forward pass takes one, so training takes `TRAINING` times as many.

A program does more: it multiplies with keys that a mask hides, and computes
anew what it did not keep. `forward` counts the former if asked, `train_program`
both. Norms, activations, softmax and sampling are no products: not counted.

Source: Kaplan et al. 2020 (arXiv:2001.08361), section 2.1, which leaves out
  attention's products, and Chowdhery et al. 2022 (arXiv:2204.02311), appendix
  B, which counts hidden keys too and padding as tokens.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig

TRAINING = 3


def per_token(config: ModelConfig) -> int:
  """Returns the FLOPs of a token's products with the weights of all layers."""
  return config.num_layers * sum(_weights(config).values())


def per_pair(config: ModelConfig) -> int:
  """Returns the FLOPs of a query with one key, in one layer."""
  return 4 * config.num_heads * config.head_dim


def per_logits(config: ModelConfig) -> int:
  """Returns the FLOPs of one token's logits."""
  return 2 * config.d_model * config.vocab_size


def per_scalar(config: ModelConfig) -> int:
  """Returns the FLOPs of one read-out of a reward or value model."""
  return 2 * config.d_model


def _weights(config: ModelConfig) -> dict[str, int]:
  """FLOPs of a token's products with the weights of one layer."""
  width = 2 * config.d_model
  inner = config.num_heads * config.head_dim
  return {
    'qkv': width * (inner + 2 * config.kv_heads * config.head_dim),
    'attention_output': width * inner,
    'mlp_input': width * config.d_ff * (2 if config.gated else 1),
    'mlp_output': width * config.d_ff,
  }


def forward(
  config: ModelConfig,
  *,
  batch: int,
  length: int,
  past: int = 0,
  logits: int = 0,
  scalars: int = 0,
  blocks: int = 0,
  columns: int = 0,
) -> int:
  """Returns the FLOPs of full rows in one forward pass.

  A prompt is length=P, logits=1. R tokens drawn after it are R - 1 that are
  fed: length=R - 1, past=P, logits=R - 1, as each sees what is there by then.

  Args:
    config: the model's shape.
    batch: rows.
    length: tokens a row.
    past: tokens of each row that are in the cache.
    logits: tokens a row whose logits are taken.
    scalars: tokens a row whose scalar is read out.
    blocks: 0 counts the keys that a query may see. A number counts the keys a
      program multiplies with that cuts the queries into so many blocks, each
      with keys up to its own end (attention.causal_attend: 4 of 64 or more),
      whatever the bands; 1 is all with all.
    columns: of the cache, if past: what a program multiplies with.
  """
  if blocks:
    pairs = _computed_pairs(length, blocks, columns) * config.num_layers
  else:
    bands = [
      config.band if config.is_banded(layer) else 0
      for layer in range(config.num_layers)
    ]
    counts = {band: visible_pairs(length, past, band) for band in set(bands)}
    pairs = sum(counts[band] for band in bands)
  row = length * per_token(config) + pairs * per_pair(config)
  row += logits * per_logits(config) + scalars * per_scalar(config)
  return batch * row


def visible_pairs(length: int, past: int = 0, band: int = 0) -> int:
  """Returns sum_t min(past + t, band) over t = 1..length; band 0: no bound."""
  rising = min(length, max(0, band - past)) if band else length
  pairs = rising * past + rising * (rising + 1) // 2
  return pairs + (length - rising) * band


def _computed_pairs(length: int, blocks: int, columns: int) -> int:
  if columns:
    return length * columns
  step = max(1, -(-length // blocks))
  starts = range(0, length, step)
  ends = [min(start + step, length) for start in starts]
  return sum(
    (end - start) * end for start, end in zip(starts, ends, strict=True)
  )


def kept(
  config: ModelConfig,
  mask: jax.Array,
  positions: jax.Array | None = None,
  *,
  logits: jax.Array | int = 0,
  scalars: jax.Array | int = 0,
) -> jax.Array:
  """Returns the FLOPs of a forward pass over the tokens that a mask keeps.

  A token's position is how many others it sees, so this is the same for rows
  that are padded, packed, or have their prompt in a cache.

  Args:
    config: the model's shape.
    mask: bool[B, T], the tokens that count.
    positions: i32[B, T], of each in its sequence, from 0; None: each row is
      one sequence.
    logits: how many tokens' logits are taken, in all.
    scalars: how many scalars are read out, in all.

  Returns:
    f32[], fit to run under jit.
  """
  banded = sum(map(config.is_banded, range(config.num_layers)))
  seen = 1 + (positions_of(mask) if positions is None else positions)
  pairs = (config.num_layers - banded) * _total(jnp.where(mask, seen, 0))
  if banded:
    near = jnp.minimum(seen, config.band)
    pairs += banded * _total(jnp.where(mask, near, 0))
  return (
    float(per_token(config)) * count(mask)
    + float(per_pair(config)) * pairs
    + float(per_logits(config)) * logits
    + float(per_scalar(config)) * scalars
  )


def positions_of(mask: jax.Array) -> jax.Array:
  """Returns how many kept tokens stand before each, i32[..., T]."""
  kept_tokens = mask.astype(jnp.int32)
  return jnp.cumsum(kept_tokens, axis=-1) - kept_tokens


def count(mask: jax.Array) -> jax.Array:
  """Returns how many entries of a mask bool[..., T] are true, f32[]."""
  return _total(jnp.asarray(mask))


def _total(x: jax.Array) -> jax.Array:
  # Whole numbers in a row; all rows together may exceed what 32 bits hold.
  return jnp.sum(jnp.sum(x, axis=-1, dtype=jnp.int32).astype(jnp.float32))


def train_program(
  config: ModelConfig,
  *,
  batch: int,
  length: int,
  past: int = 0,
  logits: int = 0,
  scalars: int = 0,
  blocks: int = 4,
  logits_passes: int = 4,
) -> int:
  """Returns the FLOPs of a train step's program, recomputation included.

  Attention computes its scores anew in the backward pass whatever
  config.remat says (attention.attend); 'dots' computes all of attention anew,
  'full' the weights' products too, but for those whose result nothing but the
  sum of the residual stream needs.

  Args:
    config: the model's shape, and what it keeps (remat).
    batch: rows.
    length: tokens a row.
    past: tokens before them, whose keys and values are there; a gradient to
      these is another row's, which has made them.
    logits: tokens a row whose logits are taken.
    scalars: tokens a row whose scalar is read out.
    blocks: as of `forward`.
    logits_passes: products with the output's embedding for one in the forward
      pass: 4 where losses.language cuts the tokens into chunks, otherwise 3.
  """
  weights = _weights(config)
  passes = {name: TRAINING for name in weights}
  attention = 2 * TRAINING + 1
  if config.remat != 'none':
    attention += 2
  if config.remat == 'full':
    for name in weights:
      passes[name] += 1
    if not config.post_norms:
      passes['mlp_output'] -= 1
      if config.branches != 'sequential':
        passes['attention_output'] -= 1
  layer = length * sum(passes[name] * weights[name] for name in weights)
  pairs = _computed_pairs(length, blocks, 0) + length * past
  layer += attention * pairs * per_pair(config) // 2
  row = config.num_layers * layer
  row += logits_passes * logits * per_logits(config)
  row += TRAINING * scalars * per_scalar(config)
  return batch * row
