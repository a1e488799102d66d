"""What files of text are made of: documents, or segments of a long one.

A piece lies at some bytes of its file: a line of JSON lines, a stretch of plain
text, and, in files of records and datasets of TFDS, a record at the share of
the bytes that its number gives it. Pieces are found from any byte, without
reading what lies before it and without an index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import fractions
import functools
import json
import os
from typing import BinaryIO

from instructjax import errors
from instructjax.data import array_records
from instructjax.data import layouts
from instructjax.data import lines
from instructjax.data import parquet as tables
from instructjax.data import tfds_source

LINES = ('.jsonl',)
PLAIN = ('.txt', '.md')
RECORDS = array_records.SUFFIXES
TABLES = (tables.SUFFIX,)
SUFFIXES = LINES + PLAIN + RECORDS + TABLES

# What a line may hold: it is read whole for each part of it.
MAX_LINE = 2**28  # bytes
SEGMENT = 2**18  # bytes of plain text read at a time
NEAR = 256  # how far before a cut a better place is looked for
_CHUNK = 2**16  # bytes read at a time to find a line


@dataclasses.dataclass(frozen=True)
class Piece:
  """A document, or a segment of one.

  Attributes:
    first, last: its bytes of the file, which need not be whole numbers.
    text: of it.
    ends: whether a document ends with it.
  """

  first: int | fractions.Fraction
  last: int | fractions.Fraction
  text: str
  ends: bool


class _NoText(Exception):
  """What was to be a document is none; says why."""


# Told the file, the byte or the number of the record, and what is wrong.
OnBad = Callable[[str, int, str], None]


def refuse(path: str, position: int, reason: str) -> None:
  """Raises UserError with FILE:LINE, or FILE:RECORD counted from 1."""
  number = position + 1
  if tfds_source.is_spec(path):
    number = position  # as TFDS counts
  elif path.endswith(LINES + PLAIN):
    number = _line_number(path, position)
  raise errors.UserError(f'{path}:{number}: {reason}')


def check(path: str) -> None:
  """Raises UserError for a file that cannot be read from any place."""
  if path.endswith(SUFFIXES) or tfds_source.is_spec(path):
    return
  how = 'decompress it' if path.endswith('.gz') else 'convert it'
  raise errors.UserError(
    f'{path}: needed {" ".join(SUFFIXES)} for text that is read from any'
    f' place, as there is too much to load: {how}, or raise'
    ' --config.data.stream_above_bytes.'
  )


def size(path: str, tfds_dir: str = '') -> int:
  """Returns the bytes of a file, or of a dataset of TFDS."""
  if tfds_source.is_spec(path):
    return _opened(path, tfds_dir)[1]
  return os.path.getsize(path)


def read(
  path: str, start: int, end: int, on_bad: OnBad = refuse, tfds_dir: str = ''
) -> Iterator[Piece]:
  """Yields the pieces of a file that lie at least partly in some bytes.

  Args:
    path: of a file that `check` lets pass, UTF-8.
    start, end: the bytes.
    on_bad: told of what is no text; it is left out.
    tfds_dir: where datasets of TFDS are; '' = where TFDS puts them.

  Raises:
    UserError: the file cannot be read.
  """
  if tfds_source.is_spec(path):
    dataset, total = _opened(path, tfds_dir)
    yield from _dataset(path, dataset, total, start, end, on_bad)
    return
  total = os.path.getsize(path)
  if path.endswith(RECORDS + TABLES):
    kind = _array_records if path.endswith(RECORDS) else _table
    try:
      yield from kind(path, total, start, end, on_bad)
    except (RuntimeError, ValueError, IndexError, OSError) as error:
      said = ' '.join(str(error).split())[:120]
      raise errors.UserError(
        f'{path}: needed a whole file, got "{said}": write or fetch it again.'
      ) from None
    return
  kind = _lines if path.endswith(LINES) else _segments
  try:
    with open(path, 'rb') as file:
      yield from kind(path, file, total, start, end, on_bad)
  except OSError as error:
    raise lines.unreadable(path, error) from None


def _lines(
  path: str, file: BinaryIO, size: int, start: int, end: int, on_bad: OnBad
) -> Iterator[Piece]:
  """Yields the documents of JSON lines."""
  del size
  first = _line_start(file, start)
  file.seek(first)
  while first < end and (line := file.readline(MAX_LINE + 1)):
    if len(line) > MAX_LINE:
      refuse(
        path,
        first,
        f'needed lines of at most {MAX_LINE} bytes, got more: write such'
        ' documents as .txt.',
      )
    last = first + len(line)
    if line.strip():
      try:
        yield Piece(first, last, _text(line), True)
      except _NoText as error:
        on_bad(path, first, str(error))
    first = last


def _line_start(file: BinaryIO, position: int) -> int:
  """Returns the first byte of the line that a byte lies in."""
  while position:
    low = max(0, position - _CHUNK)
    file.seek(low)
    found = file.read(position - low).rfind(b'\n')
    if found >= 0:
      return low + found + 1
    position = low
  return 0


def _text(line: bytes) -> str:
  """Returns the text of an object of JSON; NoText says why it has none."""
  try:
    text = json.loads(line.decode('utf-8-sig'))['text']
    if type(text) is str and text.encode() is not None:
      return text
    given = layouts.short(text)
  except (ValueError, TypeError, KeyError, RecursionError):
    given = layouts.short(line.decode(errors='replace').strip())
  raise _NoText(
    f"needed a JSON object with a 'text' of Unicode, got {given}: mend or"
    ' remove it.'
  )


def _segments(
  path: str, file: BinaryIO, size: int, start: int, end: int, on_bad: OnBad
) -> Iterator[Piece]:
  """Yields the segments of plain text, which is one document."""
  del on_bad  # of a document that is not Unicode none can be left out
  index = start // SEGMENT
  first = _byte_cut(file, size, index * SEGMENT)
  while first < min(end, size):
    index += 1
    last = _byte_cut(file, size, index * SEGMENT)
    if last > start:
      file.seek(first)
      try:
        text = file.read(last - first).decode()
      except UnicodeDecodeError as error:
        byte = error.object[error.start]
        refuse(
          path,
          first + error.start,
          f'needed UTF-8 text, got byte 0x{byte:02x}: convert the file to'
          ' UTF-8.',
        )
      text = text.removeprefix('\ufeff') if not first else text
      yield Piece(first, last, text, last == size)
    first = last


def _array_records(
  path: str, size: int, start: int, end: int, on_bad: OnBad
) -> Iterator[Piece]:
  """Yields the documents of an ArrayRecord file of JSON."""
  from array_record.python import array_record_module  # few runs need it

  reader = array_record_module.ArrayRecordReader(path)
  try:
    share = _Share(size, reader.num_records(), start, end)
    found = reader.read(list(share.numbers)) if share.numbers else []
  finally:
    reader.close()
  for number, record in zip(share.numbers, found, strict=True):
    try:
      yield share.piece(number, _text(record))
    except _NoText as error:
      on_bad(path, number, str(error))


def _table(
  path: str, size: int, start: int, end: int, on_bad: OnBad
) -> Iterator[Piece]:
  """Yields the documents of a Parquet file, whose row groups are read whole."""
  from pyarrow import parquet  # takes longer to import than many a run reads

  with parquet.ParquetFile(path) as file:
    if 'text' not in file.schema_arrow.names:
      names = ', '.join(map(repr, file.schema_arrow.names[:12]))
      raise errors.UserError(
        f"{path}: needed a column 'text', got {names}: rename it."
      )
    share = _Share(size, file.metadata.num_rows, start, end)
    before = 0
    for group in range(file.num_row_groups):
      numbers = range(before, before + file.metadata.row_group(group).num_rows)
      before = numbers.stop
      if not share.touches(numbers):
        continue
      column = file.read_row_group(group, columns=['text']).column('text')
      for number, value in zip(numbers, column.to_pylist(), strict=True):
        if number not in share.numbers:
          continue
        if isinstance(value, str):
          yield share.piece(number, value)
        else:
          given = layouts.short(value)
          on_bad(path, number, f"needed 'text' as text, got {given}: fill it.")


@functools.lru_cache(maxsize=16)
def _opened(spec: str, folder: str) -> tuple[tfds_source.Dataset, int]:
  """Returns a dataset and its bytes, which are those of all its shards."""
  dataset = tfds_source.open_dataset(spec, folder)
  return dataset, dataset.size()


def _dataset(
  spec: str,
  dataset: tfds_source.Dataset,
  size: int,
  start: int,
  end: int,
  on_bad: OnBad,
) -> Iterator[Piece]:
  """Yields the documents of a dataset of TFDS."""

  def number_of(location: str) -> int:
    return int(location.rpartition(':')[2])

  def on_broken(location: str, reason: str) -> None:
    on_bad(spec, number_of(location), reason)

  share = _Share(size, len(dataset), start, end)
  rows = dataset.rows(share.numbers, on_broken) if share.numbers else ()
  for location, row in rows:
    if isinstance(row.get('text'), str):
      yield share.piece(number_of(location), row['text'])
    else:
      names = ', '.join(map(repr, list(row)[:12]))
      on_broken(location, f"needed 'text' as text, got {names}.")


@dataclasses.dataclass(frozen=True)
class _Share:
  """The records that lie in some bytes of a file, were all of one size."""

  size: int
  count: int
  start: int
  end: int

  @property
  def numbers(self) -> range:
    """Of the records, counted from 0."""
    low = self.start * self.count // self.size
    return range(low, min(self.count, -(-self.end * self.count // self.size)))

  def touches(self, numbers: range) -> bool:
    return (
      numbers.start < self.numbers.stop and self.numbers.start < numbers.stop
    )

  def piece(self, number: int, text: str) -> Piece:
    unit = fractions.Fraction(self.size, self.count)
    return Piece(number * unit, (number + 1) * unit, text, True)


def _byte_cut(file: BinaryIO, size: int, near: int) -> int:
  """Returns where to cut a file, as `cut`, and never inside a character."""
  if near >= size:
    return size
  low = max(0, near - NEAR)
  file.seek(low)
  window = file.read(near - low + 1)
  before = window[:-1]
  line, space = before.rfind(b'\n'), before.rfind(b' ')
  if line >= 0 or space >= 0:
    return low + (line + 1 if line >= 0 else space)
  while near > low and 0x80 <= window[near - low] < 0xC0:
    near -= 1
  return near


def _line_number(path: str, position: int) -> int:
  """Returns the number of the line that a byte lies in; reads up to it."""
  number = 1
  with open(path, 'rb') as file:
    while position > 0 and (chunk := file.read(min(position, 2**24))):
      number += chunk.count(b'\n')
      position -= len(chunk)
  return number
