"""One source of records, read and split by itself; and several put together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from instructjax.data import loader
from instructjax.data import records
from instructjax.data import splits


@dataclasses.dataclass(frozen=True)
class Source:
  """The records of a source to train and to validate on, and counts of them."""

  train: list
  valid: list
  counts: dict[str, int]


def read(
  kind: str, source: str, data: Mapping[str, Any], seed: int
) -> tuple[Source, list[tuple[str, str]]]:
  """Reads a source and splits it.

  Args:
    kind: of record.
    source: as for `sources.expand`.
    data: config.data as a plain dict.
    seed: of the split.

  Returns:
    The source, and ('FILE:LINE', why) of the first rows that were skipped.

  Raises:
    UserError: as `records.gather` and `splits.split`.
  """
  found = records.gather(
    kind,
    source,
    on_bad_row=data['on_bad_row'],
    max_bad_share=data['max_bad_share'],
    tfds_dir=data['tfds_dir'],
  )
  fraction = data['validation_fraction']
  train, valid, counts = splits.split(found.records, fraction, seed)
  return Source(train, valid, found.counts() | counts), found.bad


def joined(sources: Collection[Source]) -> tuple[list, list]:
  """Returns the training and the validation records of all sources."""
  if len(sources) == 1:
    (source,) = sources
    return source.train, source.valid
  return (
    [row for source in sources for row in source.train],
    [row for source in sources for row in source.valid],
  )


def mixed(parts: Sequence[loader.Rows], seed: int) -> loader.Rows:
  """Returns all encoded rows in one drawn order; {} if there are none.

  Validation takes the first so many: none of the files is to go first.
  """
  if not any(len(next(iter(part.values()), ())) for part in parts):
    return {}
  rows = loader.joined(loader.Parts(parts, [1.0] * len(parts)))
  size = len(next(iter(rows.values())))
  order = np.random.default_rng(seed).permutation(size)
  return {name: array[order] for name, array in rows.items()}
