"""Parquet files to rows, a few at a time, as Hugging Face writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from instructjax import errors

SUFFIX = '.parquet'
_BATCH = 256  # rows that are Python objects at a time


def read_rows(
  path: str, on_broken: Callable[[str, str], None]
) -> Iterator[tuple[str, dict[str, object]]]:
  """Yields ('FILE:ROW', row) for every row of one file, counted from 1.

  A null is an absent key, as a table has every column in every row.

  Args:
    path: of the file.
    on_broken: told ('FILE:ROW', why) of a row whose text is not UTF-8.

  Raises:
    UserError: it is no Parquet file, or a damaged one.
  """
  # Importing it takes longer than many a run reads.
  import pyarrow
  from pyarrow import parquet

  number = 0
  try:
    with parquet.ParquetFile(path) as file:
      for batch in file.iter_batches(batch_size=_BATCH):
        batch = _in_microseconds(batch)
        for location, row in _objects(path, number, batch, on_broken):
          yield location, {k: v for k, v in row.items() if v is not None}
        number += batch.num_rows
  except (pyarrow.ArrowException, OSError) as error:
    said = ' '.join(str(error).split())
    said = said if len(said) <= 120 else said[:117] + '...'
    raise errors.UserError(
      f'{path}:{number + 1}: needed a whole Parquet file, got "{said}": '
      'fetch or write it again.'
    ) from None


def _in_microseconds(batch: Any) -> Any:
  """Returns a batch whose times have no nanoseconds, as Python's have none."""
  import pyarrow
  from pyarrow import types

  for i, field in enumerate(batch.schema):
    kind = field.type
    if types.is_timestamp(kind) and kind.unit == 'ns':
      kind = pyarrow.timestamp('us', kind.tz)
    elif types.is_duration(kind) and kind.unit == 'ns':
      kind = pyarrow.duration('us')
    elif types.is_time64(kind) and kind.unit == 'ns':
      kind = pyarrow.time64('us')
    if kind != field.type:
      column = batch.column(i).cast(kind, safe=False)
      batch = batch.set_column(i, field.with_type(kind), column)
  return batch


def _objects(
  path: str, before: int, batch: Any, on_broken: Callable[[str, str], None]
) -> Iterator[tuple[str, dict[str, object]]]:
  try:
    rows = batch.to_pylist()
  except (ValueError, OverflowError):
    rows = []
    for i in range(batch.num_rows):
      try:
        rows += batch.slice(i, 1).to_pylist()
      except (ValueError, OverflowError) as error:
        rows.append(error)
  for number, row in enumerate(rows, before + 1):
    if isinstance(row, UnicodeDecodeError):
      byte = row.object[row.start]
      reason = f'needed UTF-8 text, got byte 0x{byte:02x}: write it anew.'
      on_broken(f'{path}:{number}', reason)
    elif isinstance(row, Exception):
      reason = f'needed values that Python has, got "{row}": mend that row.'
      on_broken(f'{path}:{number}', reason)
    else:
      yield f'{path}:{number}', row
