"""What files of text are made of: documents, or segments of a long one.

A piece lies at some bytes of its file: a line of JSON lines, a stretch of plain
text, and, in files of records, a record at the share of the bytes that its
number gives it. Pieces are found from any byte, without reading what lies
before it and without an index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import dataclasses
import json
import os
from typing import BinaryIO

from instructjax import errors
from instructjax.data import layouts

LINES = ('.jsonl',)
PLAIN = ('.txt', '.md')
SUFFIXES = LINES + PLAIN

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

  first: float
  last: float
  text: str
  ends: bool


OnBad = Callable[[str, int, str], None]


def refuse(path: str, position: int, reason: str) -> None:
  """Raises UserError with FILE:LINE for what lies at a byte of a file."""
  raise errors.UserError(f'{path}:{_line_number(path, position)}: {reason}')


def check(path: str) -> None:
  """Raises UserError for a file that cannot be read from any place."""
  if path.endswith(SUFFIXES):
    return
  how = 'decompress it' if path.endswith('.gz') else 'convert it'
  raise errors.UserError(
    f'{path}: needed {" ".join(SUFFIXES)} for text that is read from any'
    f' place, as there is too much to load: {how}, or raise'
    ' --config.data.stream_above_bytes.'
  )


def read(
  path: str, start: int, end: int, on_bad: OnBad = refuse
) -> Iterator[Piece]:
  """Yields the pieces of a file that lie at least partly in some bytes.

  Args:
    path: of a file that `check` lets pass, UTF-8.
    start, end: the bytes.
    on_bad: told the file, the byte and the reason of what is no text.

  Raises:
    UserError: the file cannot be read.
  """
  size = os.path.getsize(path)
  kind = _lines if path.endswith(LINES) else _segments
  try:
    with open(path, 'rb') as file:
      yield from kind(path, file, size, start, end, on_bad)
  except OSError as error:
    raise errors.UserError(
      f'{path}: needed it to be readable, got "{error.strerror or error}": '
      'check its permissions.'
    ) from None


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
      except ValueError as error:
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
  """Returns the text of a line of JSON; ValueError says why it has none."""
  try:
    text = json.loads(line.decode('utf-8-sig'))['text']
    if type(text) is str and text.encode() is not None:
      return text
    given = layouts.short(text)
  except (ValueError, TypeError, KeyError, RecursionError):
    given = layouts.short(line.decode(errors='replace').strip())
  raise ValueError(
    f"needed a JSON object with a 'text' of Unicode, got {given}: mend or"
    ' remove that line.'
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
