"""Encoded rows to batches whose order is a function of (seed, iteration).

A loader keeps no position: `from_iteration(i)` gives what an uninterrupted run
would have seen from iteration i on, so a resumed run needs no saved iterator.
Rows are shuffled anew every epoch and batches run across the seam of two
epochs, so a batch may be larger than the data. Where several processes share
the work, each picks its rows of every batch, and gathers no others. Rows that
are arrays are shuffled here; others (`Endless`) know their order themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import fractions
import functools
import math
from typing import Protocol

import grain
import numpy as np

from instructjax import errors

Batch = dict[str, np.ndarray]
Rows = Mapping[str, np.ndarray]
# Size of a batch -> the rows of it that are wanted, i64[n]; None wants all.
Pick = Callable[[int], np.ndarray] | None

# Far beyond any run, within what grain's indices can hold.
_ITERATIONS = 2**48
_PREFETCH = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)


class Source(Protocol):
  """Anything with batches by number; what the trainer iterates over."""

  def batch(self, iteration: int, pick: Pick = None) -> dict:
    """Returns the batch of one iteration, or the rows picked of it."""

  def from_iteration(self, iteration: int, pick: Pick = None) -> Iterator[dict]:
    """Yields the batches from one iteration on, without end."""


class Endless(Protocol):
  """Rows in an endless run of epochs.

  Attributes:
    num_rows: of one epoch.
  """

  num_rows: int

  def rows_at(self, positions: np.ndarray) -> Batch:
    """Returns {name: array [n, ...]} of i64[n] positions, n = 0 too."""


class Shuffled:
  """Rows that are arrays in an endless run of epochs, each shuffled anew."""

  def __init__(self, rows: Rows, seed: int, stream: int = 0):
    """Takes arrays with one leading axis N; stream is a second seed."""
    self.rows, self.num_rows = rows, _num_rows(rows)
    order = functools.partial(_order, self.num_rows, seed, stream)
    # Batches run across the seam of two epochs, seldom of more.
    self._order = functools.lru_cache(maxsize=2)(order)

  def rows_at(self, positions: np.ndarray) -> Batch:
    """Returns {name: array [n, ...]} of i64[n] positions."""
    epochs, places = np.divmod(positions, self.num_rows)
    order = np.empty_like(positions)
    for epoch in np.unique(epochs):
      chosen = epochs == epoch
      order[chosen] = self._order(int(epoch))[places[chosen]]
    return {name: array[order] for name, array in self.rows.items()}


@dataclasses.dataclass(frozen=True)
class Parts:
  """The rows of several sources.

  Attributes:
    rows: of each source, with the same names and shapes but for N.
    weights: how often each source comes, relative to the others, > 0.
  """

  rows: Sequence[Rows | Endless]
  weights: Sequence[float]

  def each(self, function: Callable) -> Parts:
    """Returns the parts with a function applied to the rows of each."""
    return Parts([function(rows) for rows in self.rows], self.weights)


def each(function: Callable, rows: Rows | Parts) -> Rows | Parts:
  """Applies a function to rows, or to those of each part."""
  return rows.each(function) if isinstance(rows, Parts) else function(rows)


def joined(rows: Rows | Parts) -> Rows:
  """Returns the rows of all parts, one source behind the other."""
  if not isinstance(rows, Parts):
    return rows
  names = rows.rows[0]
  return {k: np.concatenate([part[k] for part in rows.rows]) for k in names}


class Blend:
  """Several endless runs in fixed proportions, as one.

  The last run comes first: of the first n rows, floor(n s_K) are of run K, with
  s_K its share of all weights; the rest are divided between the others in the
  same way. So every run is read in its own order, without replacement within
  its epochs, what stands at a position is a function of it, and the rows of a
  run among the first n are off n times its share by less than K.

  Attributes:
    num_rows: an epoch holds as many rows as those of the runs together.
    shares: of each run, as fractions with denominators up to 10,000 of what
      the runs before it and itself get.
  """

  def __init__(self, runs: Sequence[Endless], weights: Sequence[float]):
    """Blends runs with weights >= 0 that have one above 0 at the front.

    Raises:
      UserError: a weight too small to be kept.
      ValueError: rows that are unlike.
    """
    self.runs = list(runs)
    if any(_shapes(run) != _shapes(self.runs[0]) for run in self.runs):
      raise ValueError('mixed rows differ in their names or shapes')
    self.num_rows = sum(run.num_rows for run in self.runs)
    exact = [fractions.Fraction(weight) for weight in weights]
    self.shares = []
    for i, weight in enumerate(exact):
      share = (weight / sum(exact[: i + 1])).limit_denominator(10_000)
      if weight and not share:
        raise errors.UserError(
          f'needed weights that differ by less than 10,000 times, got'
          f' {[*weights]}: raise the smallest, or leave that source out.'
        )
      self.shares.append(share)

  def rows_at(self, positions: np.ndarray) -> Batch:
    """Returns {name: array [n, ...]} of i64[n] positions."""
    mixed, total = {}, len(positions)
    if not total:
      return self.runs[0].rows_at(positions)
    left = np.arange(total)  # places that no run has filled yet
    for run, share in reversed(list(zip(self.runs, self.shares, strict=True))):
      before = positions * share.numerator // share.denominator
      after = (positions + 1) * share.numerator // share.denominator
      taken = after > before
      # Runs that read ahead are left alone where nothing is asked of them.
      found = run.rows_at(before[taken]) if taken.any() else {}
      for name, array in found.items():
        if name not in mixed:
          mixed[name] = np.empty((total, *array.shape[1:]), array.dtype)
        mixed[name][left[taken]] = array
      positions, left = (positions - before)[~taken], left[~taken]
    return mixed


def endless(
  rows: Rows | Endless | Parts, seed: int, stream: int = 0
) -> Endless:
  """Returns rows in an endless run; arrays are shuffled, parts blended."""
  if isinstance(rows, Parts):
    # Two streams apart: a `Mixture` has other rows on the one between.
    runs = [endless(x, seed, stream + 2 * i) for i, x in enumerate(rows.rows)]
    return Blend(runs, rows.weights)
  return Shuffled(rows, seed, stream) if isinstance(rows, Mapping) else rows


class Loader:
  """Batches of one dataset."""

  def __init__(
    self, rows: Rows | Endless | Parts, batch_size: int, *, seed: int = 0
  ):
    """Makes a loader.

    Args:
      rows: arrays with one leading axis N, those of several sources with
        weights, or what is endless already.
      batch_size: rows a batch; may exceed N.
      seed: of the order of the rows, where they are arrays.

    Raises:
      UserError: no rows, or batch_size below 1.
    """
    self.rows, self.batch_size = endless(rows, seed), batch_size
    self.num_rows = self.rows.num_rows
    _check_batch_size(batch_size)

  def batch(self, iteration: int, pick: Pick = None) -> Batch:
    """Returns {name: array [batch_size, ...]} of one iteration."""
    return self.rows.rows_at(_positions(iteration, self.batch_size, pick))

  def from_iteration(
    self, iteration: int, pick: Pick = None
  ) -> Iterator[Batch]:
    """Yields batches from one iteration on, read ahead in a thread."""
    return _iterate(self, iteration, pick)

  def iterations(self, epochs: float = 1) -> int:
    """Returns how many iterations pass over the rows `epochs` times.

    Of several sources that is as many rows as they hold together.
    """
    return max(1, math.ceil(epochs * self.num_rows / self.batch_size))


class Mixture(Loader):
  """Batches of two datasets, a fixed share of the rows from the second."""

  def __init__(
    self,
    rows: Rows | Endless | Parts,
    other: Rows | Endless | Parts,
    fraction: float,
    batch_size: int,
    *,
    seed: int = 0,
  ):
    """Makes a mixture.

    Args:
      rows: as a loader takes them.
      other: the same, of the same names and shapes but for N.
      fraction: share of all rows that come from `other`, 0 <= fraction < 1.
        Spread evenly: of the first n rows, floor(n * fraction).
      batch_size: rows a batch.
      seed: of the order of the rows.

    Raises:
      UserError: no rows, unlike rows, or a fraction out of range.
    """
    if not 0 <= fraction < 1:
      raise errors.UserError(
        f'needed a fraction of mixed-in rows in [0, 1), got {fraction}: the '
        'paper mixes in 0.1.'
      )
    first = endless(rows, seed)
    runs = [first, endless(other, seed, stream=1)]
    share = fractions.Fraction(fraction).limit_denominator(10_000)
    super().__init__(Blend(runs, [1 - share, share]), batch_size)
    self.num_rows, self._share = first.num_rows, share

  def iterations(self, epochs: float = 1) -> int:
    """Returns how many iterations pass over `rows` (not `other`) so often."""
    mixed = epochs * self.num_rows / float(1 - self._share)
    return max(1, math.ceil(mixed / self.batch_size))


class Joint:
  """Several loaders side by side, each with its own batch size."""

  def __init__(self, loaders: Mapping[str, Source]):
    """Makes a joint loader, e.g. Joint({'prompts': a, 'ptx': b})."""
    self.loaders = dict(loaders)

  def batch(self, iteration: int, pick: Pick = None) -> dict[str, dict]:
    """Returns {name: that loader's batch} of one iteration."""
    return {name: x.batch(iteration, pick) for name, x in self.loaders.items()}

  def from_iteration(
    self, iteration: int, pick: Pick = None
  ) -> Iterator[dict[str, dict]]:
    """Yields batches from one iteration on, read ahead in a thread."""
    return _iterate(self, iteration, pick)


def eval_batches(
  rows: Rows, batch_size: int, pick: Pick = None
) -> Iterator[tuple[Batch, np.ndarray]]:
  """Yields all rows once, in order, in batches of one shape.

  Args:
    rows: arrays with one leading axis N; none, or N = 0, give no batch.
    batch_size: rows a batch; the last one is filled up with repeated rows.
    pick: the rows of each batch that are wanted.

  Yields:
    {name: array [batch_size, ...]} and bool[batch_size], False on repeats.
  """
  num_rows = len(next(iter(rows.values()), ()))
  _check_batch_size(batch_size)
  for start in range(0, num_rows, batch_size):
    index = start + _picked(batch_size, pick)
    kept = index < num_rows
    yield {k: v[index % num_rows] for k, v in rows.items()}, kept


class _Batches:
  """A source as the random-access sequence grain reads from."""

  def __init__(self, source: Source, pick: Pick):
    self._source, self._pick = source, pick

  def __len__(self) -> int:
    return _ITERATIONS

  def __getitem__(self, iteration: int) -> dict:
    return self._source.batch(int(iteration), self._pick)


def _iterate(source: Source, iteration: int, pick: Pick) -> Iterator[dict]:
  dataset = grain.MapDataset.source(_Batches(source, pick))[int(iteration) :]
  return iter(dataset.to_iter_dataset(_PREFETCH))


def _num_rows(rows: Rows) -> int:
  sizes = {len(array) for array in rows.values()} or {0}
  if len(sizes) != 1:
    raise ValueError(f'rows of one length needed, got {sizes}')
  num_rows = sizes.pop()
  if not num_rows:
    raise errors.UserError(
      'needed at least one row to load, got none: add data.'
    )
  return num_rows


def _shapes(rows: Endless) -> dict[str, tuple[int, ...]]:
  none = rows.rows_at(np.zeros(0, np.int64))
  return {name: array.shape[1:] for name, array in none.items()}


def _check_batch_size(batch_size: int) -> None:
  if batch_size < 1:
    raise errors.UserError(
      f'needed a batch_size of at least 1, got {batch_size}: raise it.'
    )


def _positions(iteration: int, batch_size: int, pick: Pick) -> np.ndarray:
  return iteration * batch_size + _picked(batch_size, pick)


def _picked(batch_size: int, pick: Pick) -> np.ndarray:
  rows = np.arange(batch_size) if pick is None else pick(batch_size)
  return rows.astype(np.int64)


def _order(num_rows: int, seed: int, stream: int, epoch: int) -> np.ndarray:
  """Returns the order of one epoch, a function of its arguments alone."""
  order = np.random.default_rng((seed, stream, epoch)).permutation(num_rows)
  return order
