"""Prompts on disk between the stages, by partition, so that memory is bounded.

A partition is a range of `rules.group`, so twins share one, and partitions in
order are prompts in order. Each worker appends blocks to a file of its own:
for every partition the prompts, then an entry for each of them with what
decides who stays, which is all that de-duplication has to hold in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
import marshal
import operator
import os
import pathlib
from typing import NamedTuple

from instructjax.curation import rows

_FIELDS = operator.attrgetter(*rows.RawPrompt.__slots__)
BUFFER_BYTES = 1 << 23


class Entry(NamedTuple):
  """What decides whether a prompt stays.

  Attributes:
    key: comparison key.
    group: digest of the key's beginning, see `rules.group`.
    time, content, location: of the prompt.
    owner: digest of whom the cap counts.
    drawn: digest by which the cap chooses; None if it does not count this one.
    split: of the prompt's user.
  """

  key: str
  group: int
  time: float | None
  content: str
  location: str
  owner: int
  drawn: int | None
  split: str


class Place(NamedTuple):
  """Bytes [start, stop) of a spool file."""

  path: str
  start: int
  stop: int


class Block(NamedTuple):
  """Where in a spool file the entries of each partition lie."""

  path: str
  places: tuple[tuple[int, int], ...]


class Writer:
  """Appends prompts to this process's spool file, a block at a time."""

  def __init__(self, folder: pathlib.Path, partitions: int):
    self.blocks: list[Block] = []
    self._path = str(folder / f'{os.getpid()}.spool')
    self._partitions = partitions
    self._clear()

  def add(self, prompt: rows.RawPrompt, entry: Entry) -> None:
    """Adds a prompt with its entry."""
    data = marshal.dumps(_FIELDS(prompt))
    partition = entry.group * self._partitions >> 64
    self._held[partition].append((entry, data))
    self._bytes += len(data)
    if self._bytes >= BUFFER_BYTES:
      self.flush()

  def flush(self) -> None:
    """Writes what is held as a block."""
    places = []
    with open(self._path, 'ab') as file:
      at = file.seek(0, os.SEEK_END)
      for held in self._held:
        entries = []
        for entry, data in held:
          entries.append((*entry, at, at + len(data)))
          at += len(data)
        told = marshal.dumps(entries)
        file.write(b''.join([data for _, data in held]))
        file.write(told)
        places.append((at, at + len(told)))
        at += len(told)
    self.blocks.append(Block(self._path, tuple(places)))
    self._clear()

  def _clear(self) -> None:
    self._held: list[list] = [[] for _ in range(self._partitions)]
    self._bytes = 0


def places(blocks: Sequence[Block], partition: int) -> list[Place]:
  """Returns where the blocks have a partition's entries."""
  return [Place(block.path, *block.places[partition]) for block in blocks]


def entries(given: Sequence[Place]) -> tuple[list[Entry], list[Place]]:
  """Returns the entries at these places, and where the prompt of each is."""
  found: list[Entry] = []
  of_prompts: list[Place] = []
  for path, start, stop in given:
    with open(path, 'rb') as file:
      file.seek(start)
      told = marshal.loads(file.read(stop - start))
    for *entry, begin, end in told:
      found.append(Entry(*entry))
      of_prompts.append(Place(path, begin, end))
  return found, of_prompts


def prompts(given: Iterable[Place]) -> Iterator[rows.RawPrompt]:
  """Yields the prompts at these places; none of them stays in memory."""
  files: dict[str, int] = {}
  try:
    for path, start, stop in given:
      if path not in files:
        files[path] = os.open(path, os.O_RDONLY)
      data = os.pread(files[path], stop - start, start)
      yield rows.RawPrompt(*marshal.loads(data))
  finally:
    for descriptor in files.values():
      os.close(descriptor)
