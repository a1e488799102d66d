"""ArrayRecord files of JSON: one object a record, readable in any order.

The format of grain and TFDS; a record here is what a line is in JSON lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import json

from array_record.python import array_record_module

from instructjax import errors
from instructjax.data import lines

SUFFIXES = ('.array_record', '.arrayrecord')
_AT_ONCE = 1024


def read(
  path: str, on_broken: Callable[[str, str], None] = lines.refuse
) -> Iterator[tuple[str, object]]:
  """Yields ('FILE:RECORD', decoded JSON) for every record, counted from 1.

  Args:
    path: of the file.
    on_broken: told the location and the reason of a record that is no JSON.

  Raises:
    UserError: no whole ArrayRecord file.
  """
  try:
    reader = array_record_module.ArrayRecordReader(path)
    for start in range(0, count := reader.num_records(), _AT_ONCE):
      wanted = list(range(start, min(start + _AT_ONCE, count)))
      for index, record in zip(wanted, reader.read(wanted), strict=True):
        location = f'{path}:{index + 1}'
        try:
          value = json.loads(record.decode('utf-8'))
        except (ValueError, RecursionError) as error:
          reason = getattr(error, 'msg', None) or type(error).__name__
          on_broken(
            location,
            f'needed one JSON value in UTF-8, got {reason} in'
            f' {record[:40]!r}: write one JSON object a record.',
          )
          continue
        yield location, value
    reader.close()
  except (RuntimeError, ValueError, IndexError, OSError) as error:
    raise errors.UserError(
      f'{path}: needed a whole ArrayRecord file, got'
      f' "{errors.first_line(error)}": write or fetch it again.'
    ) from None


def write(path: str, rows: Iterable[object]) -> None:
  """Writes one JSON value a record."""
  write_bytes(path, (json.dumps(x, ensure_ascii=False).encode() for x in rows))


def write_bytes(path: str, records: Iterable[bytes]) -> None:
  """Writes records in groups of one, so that each can be fetched by itself."""
  writer = array_record_module.ArrayRecordWriter(path, 'group_size:1')
  try:
    for record in records:
      writer.write(record)
  finally:
    writer.close()
