"""Means with 95% intervals that respect how the data was drawn."""

from __future__ import annotations

import numpy as np


def bootstrap(
  totals: np.ndarray,
  counts: np.ndarray | None = None,
  *,
  seed: int = 0,
  resamples: int = 2000,
) -> dict[str, float]:
  """Mean over all items and its 95% interval, resampling whole clusters.

  mean = sum_i totals_i / sum_i counts_i

  Args:
    totals: f[N], per cluster (a prompt), the sum over its items (its pairs).
    counts: f[N], its number of items; None means one each.
    seed: of the resampling.
    resamples: of the bootstrap.

  Returns:
    {'mean', 'low', 'high', 'n'}: n clusters; low and high are the 2.5 and 97.5
    percentiles, NaN if there is nothing to average.
  """
  totals = np.asarray(totals, np.float64)
  counts = np.ones_like(totals) if counts is None else np.asarray(counts)
  n, items = len(totals), float(counts.sum())
  if not items:
    return {'mean': np.nan, 'low': np.nan, 'high': np.nan, 'n': n}
  rows = np.random.default_rng(seed).integers(0, n, (resamples, n))
  with np.errstate(invalid='ignore'):
    means = totals[rows].sum(axis=1) / counts[rows].sum(axis=1)
  low, high = np.nanpercentile(means, [2.5, 97.5])
  return {
    'mean': float(totals.sum() / items),
    'low': float(low),
    'high': float(high),
    'n': n,
  }
