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
import logging
import os

import numpy as np

from instructjax.data import pieces
from instructjax.data import splits

log = logging.getLogger('instructjax')
REGION = 2**20  # bytes

SAMPLE = 2**18  # bytes of a sample that lie together
_LISTED = 10  # bad rows that are told one by one, however few are read
_SPARE = 2**14  # bytes a region gives more, as some documents are left out


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
    read, bad: pieces of text that this process has read, and what was none.

  Args:
    paths: of files that `pieces` reads.
    fraction: of the regions to hold out, in [0, 1).
    seed: salt of the hash.
    max_bad_share: of the documents read so far that may be none, which are
      then left out; None refuses the first.
    tfds_dir: as for `pieces.read`.

  Raises:
    UserError: a file that cannot be read from its middle.
  """

  def __init__(
    self,
    paths: Sequence[str],
    fraction: float,
    seed: int,
    max_bad_share: float | None = None,
    tfds_dir: str = '',
  ):
    splits.check_fraction(fraction)
    self.paths, self.max_bad_share = list(paths), max_bad_share
    self.tfds_dir = tfds_dir
    self.read = self.bad = 0
    self.train, self.held_out = _split(self.paths, fraction, seed, tfds_dir)
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
      yield from self._between(extent, start + shift, stop + shift)
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
      found = list(self._between(extent, extent.start, stop))
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
      drawn = self.sample(SAMPLE, size // SAMPLE)
    return [
      part.text for start, end in drawn for part in self.parts(start, end)
    ]

  def _between(self, extent: Extent, start: int, end: int) -> Iterator[Part]:
    """Yields the text between two bytes of an extent.

    A document that lies across one of them is cut in proportion, between words.
    One that the extent itself cuts ends there.
    """
    texts, where = [], (extent.path, start, end)
    for piece in pieces.read(*where, self._on_bad, self.tfds_dir):
      self.read += 1
      texts.append(_share(piece, start, end))
      if piece.ends and piece.last <= end:
        yield Part(''.join(texts), True)
        texts.clear()
    text = ''.join(texts)
    if text:
      yield Part(text, end == extent.end)

  def _on_bad(self, path: str, position: int, reason: str) -> None:
    """Leaves out what is no text, or refuses it."""
    self.bad += 1
    if self.max_bad_share is None:
      pieces.refuse(path, position, reason)
    most = self.max_bad_share * (self.read + self.bad)
    if self.bad > max(most, _LISTED):
      pieces.refuse(
        path,
        position,
        f'{reason} It is the last of {self.bad} bad rows, more than the share'
        f' of max_bad_share={self.max_bad_share} of what was read: mend them,'
        ' or raise --config.data.max_bad_share.',
      )
    if self.bad <= _LISTED:
      log.warning('%s, at %d, is left out: %s', path, position, reason)


def _split(
  paths: Sequence[str], fraction: float, seed: int, tfds_dir: str
) -> tuple[list[Extent], list[Extent]]:
  """Returns the extents to train on, and the regions held out."""
  train, held, whole = [], [], []
  for path in paths:
    pieces.check(path)
    size, name = pieces.size(path, tfds_dir), os.path.basename(path)
    whole.append(Extent(path, 0, size))
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
    return _split_the_largest(whole, fraction)
  return train, held


def _split_the_largest(
  files: list[Extent], fraction: float
) -> tuple[list[Extent], list[Extent]]:
  """Holds out the end of the largest file, where regions are too few."""
  total = sum(map(len, files))
  largest = max(range(len(files)), key=lambda i: len(files[i]))
  path, end = files[largest].path, files[largest].end
  cut_at = max(1, end - max(1, min(round(fraction * total), end // 2)))
  train = [*files[:largest], Extent(path, 0, cut_at), *files[largest + 1 :]]
  return train, [Extent(path, cut_at, end)]


def _share(piece: pieces.Piece, start: int, end: int) -> str:
  """The share of a piece's text that lies between two bytes."""
  first, text = piece.first, piece.text
  scale = len(text) / float(piece.last - first)
  low = cut(text, round((start - first) * scale)) if start > first else 0
  return text[low : cut(text, round((end - first) * scale))]


def cut(text: str, near: int) -> int:
  """Returns where to cut: behind a line, before a space, or at `near`.

  The place is looked for in the last characters before `near`, the beginning
  counts as well; a later `near` gives no earlier place.
  """
  if near >= len(text):
    return len(text)
  low = max(0, near - pieces.NEAR)
  line = text.rfind('\n', low, near)
  space = text.rfind(' ', low, near)
  if line >= 0 or space >= 0:
    return line + 1 if line >= 0 else space
  return near if low else 0
