"""Accuracy of a reward model on labelers' comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from instructjax import rewards
from instructjax import sharding
from instructjax.evaluation import statistics
from instructjax.models import config as config_lib


def make_scores(config: config_lib.ModelConfig) -> Callable[..., dict]:
  """Returns scores(params, batches) of comparison rows, compiled once.

  Its result holds, for all N rows: 'scores' f32[N, K], 'ranks', 'mask' and
  'labeler'.
  """

  @jax.jit
  def score(params, batch):
    return rewards.reward_model_scores(
      config,
      params,
      batch['prompts'],
      batch['prompt_mask'],
      batch['responses'],
      batch['response_mask'],
    )

  def scores(params: Any, batches: Iterable) -> dict[str, np.ndarray]:
    found = []
    for batch, row_mask in batches:
      row = {k: batch[k] for k in ('ranks', 'mask', 'labeler')}
      row['scores'] = score(params, batch)
      row, keep = sharding.to_host((row, row_mask))
      found.append({k: v[keep] for k, v in row.items()})
    return {k: np.concatenate([row[k] for row in found]) for k in found[0]}

  return scores


def pairs(scored: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
  """Returns correctly ordered pairs f64[N] and all pairs f64[N] per prompt.

  Equal ranks make no pair; equal scores are half right.
  """
  ranks, scores, mask = scored['ranks'], scored['scores'], scored['mask']
  both = mask[:, :, None] & mask[:, None, :]
  better = (ranks[:, :, None] < ranks[:, None, :]) & both
  margin = scores[:, :, None] - scores[:, None, :]
  right = np.where(margin > 0, 1.0, np.where(margin == 0, 0.5, 0.0))
  return (right * better).sum((1, 2)), better.sum((1, 2)).astype(np.float64)


def summarize(
  scored: dict[str, np.ndarray], labelers: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
  """Accuracy over all pairs, by K and by labeler, with 95% intervals.

  Args:
    scored: from make_scores.
    labelers: names; a row's 'labeler' is an index into them, -1 = unknown.
    seed: of the bootstrap, which resamples prompts.

  Returns:
    {'accuracy': {...}, 'by_k': {K: {...}}, 'by_labeler': {name: {...}}}, each
    as statistics.bootstrap gives it with 'pairs' added.
  """
  right, count = pairs(scored)

  def over(rows):
    found = statistics.bootstrap(right[rows], count[rows], seed=seed)
    return found | {'pairs': int(count[rows].sum())}

  sizes = scored['mask'].sum(axis=1)
  everything = np.ones(len(count), bool)
  return {
    'accuracy': over(everything),
    'by_k': {str(k): over(sizes == k) for k in np.unique(sizes)},
    'by_labeler': {
      labelers[i]: over(scored['labeler'] == i)
      for i in np.unique(scored['labeler'])
      if i >= 0
    },
  }
