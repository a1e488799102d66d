"""Lengths in tokens, counted and summarised without a rounding error."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
import dataclasses
import itertools
import math

Lengths = Mapping[int, int]  # {tokens: prompts}


@dataclasses.dataclass(frozen=True)
class Summary:
  """What a table tells of lengths, in tokens; std is NaN for one prompt."""

  n: int
  mean: float
  std: float
  min: int
  lower: float
  median: float
  upper: float
  max: int


def describe(lengths: Lengths) -> Summary | None:
  """Summarises {tokens: prompts}; None if there are none.

  mean = sum x / n,  std = sqrt((n sum x^2 - (sum x)^2) / (n (n - 1))), both of
  whole sums; a quartile lies at (n - 1) q of the sorted lengths, between two of
  them where that is no whole number.
  """
  values = sorted(length for length, count in lengths.items() if count)
  if not values:
    return None
  ends = list(itertools.accumulate(lengths[value] for value in values))
  n = ends[-1]
  total = sum(value * lengths[value] for value in values)
  squares = sum(value * value * lengths[value] for value in values)
  variance = (n * squares - total**2) / (n * (n - 1)) if n > 1 else math.nan
  quartiles = (_quartile(values, ends, i) for i in (1, 2, 3))
  return Summary(
    n, total / n, math.sqrt(variance), values[0], *quartiles, values[-1]
  )


def _quartile(values: list[int], ends: list[int], i: int) -> float:
  """Returns the i-th quartile of values that end at the ranks `ends`."""
  below, rest = divmod((ends[-1] - 1) * i, 4)
  at = values[bisect.bisect_right(ends, below)]
  if not rest:
    return float(at)
  return at + (values[bisect.bisect_right(ends, below + 1)] - at) * rest / 4
