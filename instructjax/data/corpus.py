"""Text files of any size as one long run of bytes, read a part at a time.

Nothing is scanned and no index is kept: lines and words are looked for around
the two ends of a part when it is read, by the same rule from both sides, so
that neighbouring parts make up the whole. Opening a corpus asks the files for
their sizes and reads none of them.

Files are cut into regions of REGION bytes, and a salted hash of a region's name
(the file's and its number) says whether it is held out for validation. Adding
files, or adding to one, moves no whole region from one side to the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import json
import os
from typing import BinaryIO

import numpy as np

from instructjax import errors
from instructjax.data import layouts
from instructjax.data import splits

REGION = 2**20  # bytes
# What a line may hold: it is read whole for each part of it.
MAX_LINE = 2**28  # bytes

LINES = ('.jsonl',)
PLAIN = ('.txt', '.md')

_CHUNK = 2**16  # bytes read at a time to find a line
SEGMENT = 2**18  # bytes of plain text read at a time
_SPARE = 2**14  # bytes a region gives more, as some documents are left out
_NEAR = 256  # how far before a cut a better place is looked for


@dataclasses.dataclass(frozen=True)
class Part:
  """Text of one document, or of a part of it.

  Attributes:
    text: never empty unless it ends a document.
    ends: whether the document ends here.
  """

  text: str
  ends: bool


@dataclasses.dataclass(frozen=True)
class Extent:
  """Bytes `start` to `end` of a file, and their place in their side's run."""

  path: str
  start: int
  end: int

  def __len__(self) -> int:
    return self.end - self.start


class Corpus:
  """Pretraining text as two runs of bytes: to train on, and held out.

  Attributes:
    paths: the files, in order.
    train: the extents to train on, in order.
    held_out: the regions to validate on, in the order of their hashes.
    size: bytes to train on.

  Args:
    paths: of `LINES` files (JSON lines with a 'text' each) or `PLAIN` ones (a
      document each), UTF-8.
    fraction: of the regions to hold out, in [0, 1).
    seed: salt of the hash.

  Raises:
    UserError: a file that cannot be read from its middle.
  """

  def __init__(self, paths: Sequence[str], fraction: float, seed: int):
    splits.check_fraction(fraction)
    self.paths = list(paths)
    self.train, self.held_out = _split(self.paths, fraction, seed)
    self._ends = np.cumsum([len(extent) for extent in self.train])
    self.size = int(self._ends[-1])

  def parts(self, start: int, end: int) -> Iterator[Part]:
    """Yields the text to train on between two of its bytes, in order.

    Raises:
      UserError: with FILE:LINE, for what is no text.
    """
    index = int(np.searchsorted(self._ends, start, side='right'))
    while start < end:
      extent = self.train[index]
      shift = extent.end - int(self._ends[index])
      stop = min(end, int(self._ends[index]))
      yield from read(extent, start + shift, stop + shift)
      start, index = stop, index + 1

  def held_out_parts(self, size: int) -> Iterator[Part]:
    """Yields `size` bytes or some more of documents that are held out.

    They are taken from the beginnings of many regions. What a region cuts is
    left out, where it is not all there is: its other half is trained on.
    """
    regions = self.held_out[:64]
    for extent in regions:
      needed = size // len(regions) + _SPARE
      stop = min(extent.end, extent.start + needed)
      found = list(read(extent, extent.start, stop))
      whole = [part for part in found[1:] if part.ends]
      yield from whole[:-1] or found

  def sample(self, size: int, count: int) -> list[tuple[int, int]]:
    """Returns up to `count` stretches of `size` bytes, the same each time."""
    whole = max(1, self.size // size)
    rng = np.random.default_rng((whole, count))
    if whole <= 4 * count:
      drawn = rng.permutation(whole)[:count]
    else:
      drawn = rng.integers(whole, size=count)
    starts = np.unique(drawn).tolist()
    return [(i * size, min(self.size, (i + 1) * size)) for i in starts]

  def texts(self, size: int) -> list[str]:
    """Returns a sample of about `size` bytes, or all there is of less."""
    if self.size <= size:
      drawn = [(0, self.size)]
    else:
      drawn = self.sample(SEGMENT, size // SEGMENT)
    return [
      part.text for start, end in drawn for part in self.parts(start, end)
    ]


def _split(
  paths: Sequence[str], fraction: float, seed: int
) -> tuple[list[Extent], list[Extent]]:
  """Returns the extents to train on, and the regions held out."""
  train, held = [], []
  for path in paths:
    _check_ending(path)
    size, name = os.path.getsize(path), os.path.basename(path)
    first = 0
    for start in range(0, size, REGION):
      value = splits.uniform(seed, 'region', f'{name}\0{start // REGION}')
      if value >= fraction:
        continue
      held.append((value, Extent(path, start, min(size, start + REGION))))
      train.append(Extent(path, first, start))
      first = start + REGION
    train.append(Extent(path, first, max(first, size)))
  train = [extent for extent in train if len(extent)]
  held = [extent for _, extent in sorted(held, key=lambda pair: pair[0])]
  if fraction and not (train and held):
    return _split_the_largest(paths, fraction)
  return train, held


def _split_the_largest(
  paths: Sequence[str], fraction: float
) -> tuple[list[Extent], list[Extent]]:
  """Holds out the end of the largest file, where regions are too few."""
  train = [Extent(path, 0, os.path.getsize(path)) for path in paths]
  largest = max(range(len(train)), key=lambda i: len(train[i]))
  path, end = train[largest].path, train[largest].end
  total = sum(map(len, train))
  cut = max(1, end - max(1, min(round(fraction * total), end // 2)))
  train[largest] = Extent(path, 0, cut)
  return train, [Extent(path, cut, end)]


def _check_ending(path: str) -> None:
  if path.endswith(LINES + PLAIN):
    return
  how = 'decompress it' if path.endswith('.gz') else 'convert it'
  raise errors.UserError(
    f'{path}: needed {" ".join(LINES + PLAIN)} for text that is read from any'
    f' place, as there is too much to load: {how}, or raise'
    ' --config.data.stream_above_bytes.'
  )


def read(extent: Extent, start: int, end: int) -> Iterator[Part]:
  """Yields the text between two bytes of an extent.

  A document that lies across one of them is cut in proportion, between words.
  One that the extent itself cuts ends there.
  """
  size = os.path.getsize(extent.path)
  kind = _lines if extent.path.endswith(LINES) else _segments
  try:
    with open(extent.path, 'rb') as file:
      text = []
      for first, last, whole, ends in kind(extent.path, file, size, start, end):
        text.append(_between(whole, first, last, start, end))
        if ends and last <= end:
          yield Part(''.join(text), True)
          text.clear()
      text = ''.join(text)
      if text:
        yield Part(text, end == extent.end)
  except OSError as error:
    raise errors.UserError(
      f'{extent.path}: needed it to be readable, got "{error.strerror}".'
    ) from None


def _between(text: str, first: int, last: int, start: int, end: int) -> str:
  """The share of a text, bytes first to last, that lies in start to end."""
  scale = len(text) / (last - first)
  low = cut(text, round((start - first) * scale)) if start > first else 0
  return text[low : cut(text, round((end - first) * scale))]


def cut(text: str, near: int) -> int:
  """Returns where to cut: behind a line, before a space, or at `near`.

  The place is looked for in the last characters before `near`, the beginning
  counts as well; a later `near` gives no earlier place.
  """
  if near >= len(text):
    return len(text)
  low = max(0, near - _NEAR)
  line = text.rfind('\n', low, near)
  space = text.rfind(' ', low, near)
  if line >= 0 or space >= 0:
    return line + 1 if line >= 0 else space
  return near if low else 0


def _lines(path: str, file: BinaryIO, size: int, start: int, end: int):
  """Yields (first byte, last, text, True) of the lines in start to end."""
  del size
  first = _line_start(file, start)
  file.seek(first)
  while first < end and (line := file.readline(MAX_LINE + 1)):
    if len(line) > MAX_LINE:
      raise errors.UserError(
        f'{path}:{_line_number(path, first)}: needed lines of at most'
        f' {MAX_LINE} bytes, got more: write such documents as .txt.'
      )
    last = first + len(line)
    if line.strip():
      yield first, last, _text_of(path, first, line), True
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


def _text_of(path: str, first: int, line: bytes) -> str:
  """Returns the text of a line of JSON."""
  try:
    text = json.loads(line.decode('utf-8-sig'))['text']
    if type(text) is str and text.encode() is not None:
      return text
    given = layouts.short(text)
  except (ValueError, TypeError, KeyError, RecursionError):
    given = layouts.short(line.decode(errors='replace').strip())
  raise errors.UserError(
    f"{path}:{_line_number(path, first)}: needed a JSON object with a 'text'"
    f' of Unicode, got {given}: mend or remove that line.'
  )


def _segments(path: str, file: BinaryIO, size: int, start: int, end: int):
  """Yields (first byte, last, text, whether the file ends) of plain text."""
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
        raise errors.UserError(
          f'{path}:{_line_number(path, first + error.start)}: needed UTF-8'
          f' text, got byte 0x{error.object[error.start]:02x}: convert the'
          ' file to UTF-8.'
        ) from None
      text = text.removeprefix('\ufeff') if not first else text
      yield first, last, text, last == size
    first = last


def _byte_cut(file: BinaryIO, size: int, near: int) -> int:
  """Returns where to cut a file, as `cut`, and never inside a character."""
  if near >= size:
    return size
  low = max(0, near - _NEAR)
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
