"""Optimisers and learning-rate schedules, built from optax.

Every network of a run (policy, value, reward model) has an optimiser of its
own, so learning rates, moments and gradient clipping never mix.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import optax


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
  steps = [optax.clip_by_global_norm(max_grad_norm)] if max_grad_norm else []
  steps.append(optax.scale_by_adam(b1=b1, b2=b2, eps=eps))
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
