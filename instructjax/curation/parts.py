"""The input in parts that workers read on their own.

A JSONL file is cut at line ends, every few megabytes, without looking at what
the lines say. Any other file, which cannot be entered in the middle, is one
part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import hashlib
import io
import os
from typing import NamedTuple

from instructjax.data import lines
from instructjax.data import parquet
from instructjax.data import sources

_BLOCK = 1 << 20
# How much larger than the file its rows are, roughly.
_UNPACKED = {'.gz': 5, parquet.SUFFIX: 3}


class Part(NamedTuple):
  """Bytes [start, stop) of a file whose first line has this number.

  Of a file that is read whole, `stop` is None.
  """

  path: str
  start: int
  stop: int | None
  line: int


class Scanned(NamedTuple):
  """The parts of a file, the digest of its bytes, and about how many these
  are when unpacked."""

  parts: list[Part]
  digest: str
  unpacked_bytes: int


def scan(path: str, part_bytes: int) -> Scanned:
  """Cuts a file into parts of at least `part_bytes`, whole lines each."""
  found, hashed = [], hashlib.blake2b(digest_size=16)
  cuttable = path.endswith('.jsonl')
  start = position = 0
  line = next_line = 1
  try:
    with open(path, 'rb') as file:
      while block := file.read(min(_BLOCK, part_bytes)):
        hashed.update(block)
        end = block.rfind(b'\n') + 1
        if cuttable and end and position + end - start >= part_bytes:
          next_line += block.count(b'\n')
          found.append(Part(path, start, position + end, line))
          start, line = position + end, next_line
        else:
          next_line += block.count(b'\n')
        position += len(block)
  except OSError as error:
    raise lines.unreadable(path, error) from None
  if not cuttable:
    found = [Part(path, 0, None, 1)]
  elif start < position:
    found.append(Part(path, start, position, line))
  return Scanned(found, hashed.hexdigest(), unpacked_bytes(path, position))


def unpacked_bytes(path: str, size: int) -> int:
  """Returns about how large a file of this name and size is when unpacked."""
  return size * _UNPACKED.get(os.path.splitext(path)[1], 1)


def read(
  part: Part, on_broken: Callable[[str, str], None]
) -> Iterator[tuple[str, object]]:
  """Yields (location, row) as `sources.read_rows` does."""
  if part.stop is None:
    yield from sources.read_rows(part.path, on_broken)
    return
  with open(part.path, 'rb') as file:
    file.seek(part.start)
    data = file.read(part.stop - part.start)
  numbered = (
    decoded
    for number, line in enumerate(io.BytesIO(data), part.line)
    for decoded in lines.decode(part.path, number, line, on_broken)
  )
  yield from lines.json_lines(part.path, numbered, on_broken)
