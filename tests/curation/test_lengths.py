"""Statistics of counted lengths against those of the lengths themselves."""

from __future__ import annotations

import collections
import math

import hypothesis
from hypothesis import strategies
import numpy as np

from instructjax.curation import lengths

_COLUMNS = ('mean', 'std', 'min', 'lower', 'median', 'upper', 'max')


@hypothesis.given(strategies.lists(strategies.integers(0, 3000), min_size=2))
def test_as_numpy_of_all_lengths(values):
  found = lengths.describe(collections.Counter(values))
  expected = [
    np.mean(values),
    np.std(values, ddof=1),
    min(values),
    *np.percentile(values, (25, 50, 75)),
    max(values),
  ]
  assert found.n == len(values)
  np.testing.assert_allclose(
    [getattr(found, name) for name in _COLUMNS], expected, rtol=1e-9, atol=1e-9
  )


def test_one_length_has_no_deviation():
  found = lengths.describe({7: 1, 9: 0})
  assert (found.n, found.mean, found.lower, found.upper) == (1, 7, 7, 7)
  assert math.isnan(found.std)


def test_no_length_has_no_summary():
  assert lengths.describe({}) is None
  assert lengths.describe({3: 0}) is None


def test_large_counts_lose_nothing():
  # In float64 the squares' sum would have swallowed the difference.
  found = lengths.describe({10**9: 10**9, 10**9 + 1: 10**9})
  assert found.mean == 10**9 + 0.5
  assert math.isclose(found.std, 0.5, rel_tol=1e-9)
