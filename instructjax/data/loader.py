"""Encoded rows to batches whose order is a function of (seed, iteration).

A loader keeps no position: `from_iteration(i)` gives what an uninterrupted run
would have seen from iteration i on, so a resumed run needs no saved iterator.
Rows are shuffled anew every epoch and batches run across the seam of two
epochs, so a batch may be larger than the data. Where several processes share
the work, each picks its rows of every batch, and gathers no others. Rows that
are arrays are shuffled here; others (`Endless`) know their order themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
    self.rows, self.seed, self.stream = rows, seed, stream
    self.num_rows = _num_rows(rows)

  def rows_at(self, positions: np.ndarray) -> Batch:
    """Returns {name: array [n, ...]} of i64[n] positions."""
    order = _shuffled(positions, self.num_rows, self.seed, self.stream)
    return {name: array[order] for name, array in self.rows.items()}


def endless(rows: Rows | Endless, seed: int, stream: int = 0) -> Endless:
  """Returns rows in an endless run; arrays are shuffled."""
  return Shuffled(rows, seed, stream) if isinstance(rows, Mapping) else rows


class Loader:
  """Batches of one dataset."""

  def __init__(self, rows: Rows | Endless, batch_size: int, *, seed: int = 0):
    """Makes a loader.

    Args:
      rows: arrays with one leading axis N, or what is endless already.
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
    """Returns how many iterations pass over the rows `epochs` times."""
    return max(1, math.ceil(epochs * self.num_rows / self.batch_size))


class Mixture:
  """Batches of two datasets, a fixed share of the rows from the second."""

  def __init__(
    self,
    rows: Rows | Endless,
    other: Rows | Endless,
    fraction: float,
    batch_size: int,
    *,
    seed: int = 0,
  ):
    """Makes a mixture.

    Args:
      rows: arrays with one leading axis N, or what is endless already.
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
    self.rows = endless(rows, seed)
    self.other = endless(other, seed, stream=1)
    if _shapes(self.rows) != _shapes(self.other):
      raise ValueError('mixed rows differ in their names or shapes')
    self.num_rows, self.batch_size = self.rows.num_rows, batch_size
    self.fraction = fractions.Fraction(fraction).limit_denominator(10_000)
    _check_batch_size(batch_size)

  def batch(self, iteration: int, pick: Pick = None) -> Batch:
    """Returns {name: array [batch_size, ...]} of one iteration."""
    positions = _positions(iteration, self.batch_size, pick)
    share, whole = self.fraction.numerator, self.fraction.denominator
    others = positions * share // whole
    from_other = (positions + 1) * share // whole > others
    mine = self.rows.rows_at((positions - others)[~from_other])
    theirs = self.other.rows_at(others[from_other])
    result = {}
    for name, array in mine.items():
      mixed = np.empty((len(positions), *array.shape[1:]), array.dtype)
      mixed[~from_other], mixed[from_other] = array, theirs[name]
      result[name] = mixed
    return result

  def from_iteration(
    self, iteration: int, pick: Pick = None
  ) -> Iterator[Batch]:
    """Yields batches from one iteration on, read ahead in a thread."""
    return _iterate(self, iteration, pick)

  def iterations(self, epochs: float = 1) -> int:
    """Returns how many iterations pass over `rows` (not `other`) so often."""
    mixed = epochs * self.num_rows / float(1 - self.fraction)
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


def _shuffled(
  positions: np.ndarray, num_rows: int, seed: int, stream: int = 0
) -> np.ndarray:
  """Returns the row of each position in the endless run of shuffled epochs."""
  epochs, places = np.divmod(positions, num_rows)
  rows = np.empty_like(positions)
  for epoch in np.unique(epochs):
    chosen = epochs == epoch
    rows[chosen] = _order(num_rows, seed, stream, int(epoch))[places[chosen]]
  return rows


@functools.lru_cache(maxsize=8)
def _order(num_rows: int, seed: int, stream: int, epoch: int) -> np.ndarray:
  """Returns the order of one epoch, a function of its arguments alone."""
  order = np.random.default_rng((seed, stream, epoch)).permutation(num_rows)
  order.flags.writeable = False  # shared by every caller of the cache
  return order
