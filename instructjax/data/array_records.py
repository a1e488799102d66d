"""ArrayRecord files of JSON: one object a record, readable in any order.

The format of grain and TFDS; a record here is what a line is in JSON lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import json

from instructjax import errors

SUFFIXES = ('.array_record', '.arrayrecord')
_AT_ONCE = 1024


def read(path: str) -> Iterator[tuple[str, object]]:
  """Yields ('FILE:RECORD', decoded JSON) for every record, counted from 1.

  Raises:
    UserError: no whole ArrayRecord file; a record that is no JSON in UTF-8.
  """
  from array_record.python import array_record_module

  try:
    reader = array_record_module.ArrayRecordReader(path)
    for start in range(0, count := reader.num_records(), _AT_ONCE):
      wanted = list(range(start, min(start + _AT_ONCE, count)))
      for index, record in zip(wanted, reader.read(wanted), strict=True):
        yield f'{path}:{index + 1}', _decoded(path, index, record)
    reader.close()
  except (RuntimeError, ValueError, IndexError, OSError) as error:
    raise errors.UserError(
      f'{path}: needed a whole ArrayRecord file, got "{_line(error)}": write'
      ' or fetch it again.'
    ) from None


def write(path: str, rows: Iterable[object]) -> None:
  """Writes one JSON value a record, in groups of one for random access."""
  from array_record.python import array_record_module

  writer = array_record_module.ArrayRecordWriter(path, 'group_size:1')
  try:
    for row in rows:
      writer.write(json.dumps(row, ensure_ascii=False).encode())
  finally:
    writer.close()


def _decoded(path: str, index: int, record: bytes) -> object:
  try:
    return json.loads(record.decode('utf-8'))
  except (ValueError, RecursionError) as error:
    reason = getattr(error, 'msg', None) or type(error).__name__
    raise errors.UserError(
      f'{path}:{index + 1}: needed one JSON value in UTF-8, got {reason} in'
      f' {record[:40]!r}: write one JSON object a record.'
    ) from None


def _line(error: object) -> str:
  lines = str(error).strip().splitlines()
  return lines[0][:200] if lines else type(error).__name__
