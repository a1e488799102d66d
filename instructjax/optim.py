"""Optimisers and learning-rate schedules, built from optax.

Every network of a run (policy, value, reward model) has an optimiser of its
own, so learning rates, moments and gradient clipping never mix.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from optax import contrib

_MUON_MOMENTUM = 0.95
_MUON_RMS = 0.2  # of an update at a learning rate of 1


def schedule(
  kind: str,
  peak: float,
  *,
  total_steps: int,
  warmup_steps: int = 0,
  warmup_start: float = 0.0,
  final_fraction: float = 0.1,
) -> optax.Schedule:
  """Learning rate against optimiser step: linear warm-up, then a decay.

  Args:
    kind: 'cosine' decays to final_fraction * peak at total_steps (paper,
      appendix C.1 to C.3); 'constant' stays at the peak (C.4).
    peak: learning rate after the warm-up.
    total_steps: optimiser steps of the whole run, warm-up included.
    warmup_steps: steps from warmup_start * peak to peak.
    warmup_start: share of the peak at step 0 (paper, C.4: a tenth).
    final_fraction: share of the peak at the end of a cosine decay.

  Raises:
    ValueError: for an unknown kind.
  """
  steps = max(total_steps - warmup_steps, 1)
  if kind == 'cosine':
    main = optax.cosine_decay_schedule(peak, steps, alpha=final_fraction)
  elif kind == 'constant':
    main = optax.constant_schedule(peak)
  else:
    raise ValueError(f"schedule {kind!r} is not one of 'cosine', 'constant'.")
  if not warmup_steps:
    return main
  warmup = optax.linear_schedule(warmup_start * peak, peak, warmup_steps)
  return optax.join_schedules([warmup, main], [warmup_steps])


def adam(
  learning_rate: optax.Schedule,
  *,
  b1: float = 0.9,
  b2: float = 0.95,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  max_grad_norm: float = 1.0,
) -> optax.GradientTransformation:
  """Adam with decoupled weight decay after clipping by the global norm.

  Weights decay; biases and the norms' scales do not. max_grad_norm 0 turns
  clipping off. Moments: GPT-3 and InstructGPT (beta2 0.95); epsilon and
  clipping are GPT-3's, as the InstructGPT paper does not print them.
  """
  scale = optax.scale_by_adam(b1=b1, b2=b2, eps=eps)
  return _decoupled(scale, learning_rate, weight_decay, max_grad_norm)


def muon(
  learning_rate: optax.Schedule,
  *,
  b1: float = 0.9,
  b2: float = 0.95,
  eps: float = 1e-8,
  weight_decay: float = 0.0,
  max_grad_norm: float = 1.0,
) -> optax.GradientTransformation:
  """As `adam`, but the layers' matrices move along orthogonal directions.

  A matrix's momentum (Nesterov's, 0.95 whatever b1 is) is replaced by the
  nearest matrix whose singular values are all near 1, scaled to a root mean
  square of 0.2, which is about that of Adam's updates: both take the same
  learning rate. Queries, keys and values are a matrix each. All other
  parameters move by Adam, here with Nesterov's momentum too. The paper's models
  were trained by Adam.

  Source: Jordan et al. 2024, Muon (kellerjordan.github.io/posts/muon); the
    scale from Liu et al. 2025 (arXiv:2502.16982), section 2.2.
  """
  scale = contrib.muon(
    -1.0,  # the sign is left to the learning rate
    beta=_MUON_MOMENTUM,
    eps=eps,
    adam_b1=b1,
    adam_b2=b2,
    consistent_rms=_MUON_RMS,
    muon_weight_dimension_numbers=_matrices,
  )
  return _decoupled(scale, learning_rate, weight_decay, max_grad_norm)


def stored_as(
  dtype: str, optimizer: optax.GradientTransformation
) -> optax.GradientTransformation:
  """Keeps an optimiser's moments in `dtype`; it computes in float32.

  bfloat16 halves them. Its 8 bits are enough for averages over some twenty
  steps (beta2 0.95), not for those over a thousand (0.999), whose steps it
  rounds away.
  """
  if dtype == 'float32':
    return optimizer

  def cast(state, dtype):
    return jax.tree.map(
      lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
      state,
    )

  def init(params):
    return cast(optimizer.init(params), dtype)

  def update(grads, state, params=None):
    updates, state = optimizer.update(grads, cast(state, 'float32'), params)
    return updates, cast(state, dtype)

  return optax.GradientTransformation(init, update)


OPTIMIZERS = {'adam': adam, 'muon': muon}


def _matrices(params):
  """Says of each kernel of the stacked layers which axes it maps to which."""

  def axes(path, leaf):
    names = [key.key for key in path]
    if 'layers' not in names or names[-1] != 'kernel':
      return None
    # [L, D, features], [L, D, H, head_dim] of queries, or [L, D, 3, H,
    # head_dim] of queries, keys and values.
    output = {3: (2,), 4: (2, 3), 5: (3, 4)}[leaf.ndim]
    return contrib.MuonDimensionNumbers((1,), output)

  return jax.tree_util.tree_map_with_path(axes, params)


def _decoupled(
  scale: optax.GradientTransformation,
  learning_rate: optax.Schedule,
  weight_decay: float,
  max_grad_norm: float,
) -> optax.GradientTransformation:
  """Clips, scales by moments, lets weights decay, applies the rate."""
  steps = [optax.clip_by_global_norm(max_grad_norm)] if max_grad_norm else []
  steps.append(scale)
  if weight_decay:
    steps.append(optax.add_decayed_weights(weight_decay, mask=_decays))
  steps.append(optax.scale_by_learning_rate(learning_rate))
  return optax.chain(*steps)


def _decays(params):
  """True where a leaf is a weight. The name tells: by their axes, the stacked
  layers' norms and the heads' biases look like matrices."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: path[-1].key not in ('bias', 'scale'), params
  )


def per_network(
  optimizers: Mapping[str, optax.GradientTransformation],
) -> optax.GradientTransformation:
  """Joins one optimiser per top-level key of the parameters."""

  def init(params):
    return {name: optimizers[name].init(params[name]) for name in params}

  def update(grads, state, params=None):
    pairs = {
      name: optimizers[name].update(grads[name], state[name], params[name])
      for name in grads
    }
    updates = {name: pair[0] for name, pair in pairs.items()}
    return updates, {name: pair[1] for name, pair in pairs.items()}

  return optax.GradientTransformation(init, update)
