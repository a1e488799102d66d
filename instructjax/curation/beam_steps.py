"""The steps of the Beam pipeline; each works on a prompt, or on some alike.

All of them are pickled and sent to workers, so they hold settings only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
import heapq
import json
import pickle
from typing import Any
import uuid
import zlib

import apache_beam as beam
from apache_beam.io import filesystems
from apache_beam.transforms import window
from apache_beam.utils import windowed_value

from instructjax import errors
from instructjax.curation import beam_inputs
from instructjax.curation import files
from instructjax.curation import finish as finish_lib
from instructjax.curation import settings as settings_lib
from instructjax.curation import spool
from instructjax.curation import stages

Settings = settings_lib.Settings
Line = tuple[spool.Entry, finish_lib.Finished]  # the entry without its key

# What steps put out beside what goes on, and results by these names.
READ, TOLD, DROPPED, UNCOUNTED = 'read', 'told', 'dropped', 'uncounted'


def _keyed_by(kind: type) -> Any:
  """Says of what type a step's keys are; Beam cannot see it."""
  return beam.typehints.with_output_types(tuple[kind, Any])


@_keyed_by(bytes)
class Read(beam.DoFn):
  """A numbered part of the input to prompts by their group."""

  def __init__(self, settings: Settings):
    self._settings = settings

  def process(self, numbered):
    number, part = numbered
    told: stages.Read | str = stages.Read()
    try:
      for prompt, entry in beam_inputs.prompts(part, self._settings, told):
        yield _key(entry.group), (entry, prompt)
    except errors.UserError as error:
      # The first of all parts is told; which worker comes first is chance.
      told = str(error)
    yield beam.pvalue.TaggedOutput(READ, (READ, (number, told)))


class _Step(beam.DoFn):
  """A step that tells what it does to prompts, a bundle at a time."""

  def __init__(self, settings: Settings):
    self._settings = settings

  def start_bundle(self):
    self._told = stages.Finished()

  def finish_bundle(self):
    world = window.GlobalWindow()
    value = windowed_value.WindowedValue(
      self._told, world.max_timestamp(), [world]
    )
    yield beam.pvalue.TaggedOutput(TOLD, value)


@_keyed_by(bytes)
class Deduplicate(_Step):
  """Prompts of a group to those without a twin, by their owner."""

  def process(self, grouped):
    items = list(grouped[1])
    entries = [entry for entry, _ in items]
    for item, of in zip(
      items, stages.twins(entries, self._settings), strict=True
    ):
      entry = item[0]
      if of >= 0:
        self._told.drop(entry, 'common_prefix', entries[of].location)
      elif entry.drawn is None:
        yield beam.pvalue.TaggedOutput(UNCOUNTED, item)
      else:
        yield _key(entry.owner), item


class Cap(_Step):
  """A user's prompts to those within the cap; they are read twice."""

  def process(self, owned):
    drawn = (entry.drawn for entry, _ in owned[1])
    last = heapq.nsmallest(self._settings.max_per_user, drawn)[-1]
    for item in owned[1]:
      if item[0].drawn <= last:
        yield item
      else:
        self._told.drop(item[0], 'user_cap')


@_keyed_by(str)
class Finish(_Step):
  """A prompt to its line, by file and partition."""

  def __init__(self, settings: Settings, partitions: int):
    super().__init__(settings)
    self._partitions = partitions

  def process(self, item):
    entry, prompt = item
    done = stages.judge(prompt, entry, self._settings, self._told)
    if not done.rule:
      partition = entry.group * self._partitions >> 64
      yield f'{done.file}/{partition:05}', (entry._replace(key=''), done)


@_keyed_by(str)
class Write(_Step):
  """Lines of a file and partition to their bytes, in order."""

  def process(self, named, limits):
    name, found = named
    file, told = name.partition('/')[0], self._told
    lines = []
    for line in sorted(found, key=_place):
      entry, done = line
      if file in limits and _rank(line) > limits[file]:
        told.drop(entry, 'size')
        continue
      lines.append(files.encode(done.row))
      told.written[file] += 1
      told.tally.add(file, done.row, done.num_tokens, done.num_response_tokens)
    yield name, b''.join(lines)


class Sum(beam.CombineFn):
  """What all steps told, added up."""

  def create_accumulator(self):
    return stages.Finished()

  def add_input(self, whole, told):
    whole.add(told)
    return whole

  def merge_accumulators(self, several):
    whole = stages.Finished()
    for told in several:
      whole.add(told)
    return whole

  def extract_output(self, whole):
    return whole


class Keep(beam.DoFn):
  """Named bytes to a file of their own and its name.

  A worker may be run twice, so only what is named in the end counts.
  """

  def __init__(self, between: str):
    self._between = between

  def process(self, named):
    name, data = named
    path = filesystems.FileSystems.join(self._between, uuid.uuid4().hex)
    with filesystems.FileSystems.create(path) as file:
      file.write(data)
    yield json.dumps([name, path])


def _key(digest: int) -> bytes:
  return digest.to_bytes(8)


def _place(line: Line) -> tuple[int, str]:
  return stages.place(line[0])


def _rank(line: Line) -> tuple[int, int, str]:
  """Returns what decides on who stays in a file of limited size."""
  return line[1].size_digest, *_place(line)


def ranks(
  named: tuple[str, Line], sizes: Mapping[str, int]
) -> list[tuple[str, tuple]]:
  """Returns (file, rank) of a line if its file's size is limited."""
  file = named[0].partition('/')[0]
  return [(file, _rank(named[1]))] if file in sizes else []


def last(
  ranked: tuple[str, list[tuple]], sizes: Mapping[str, int]
) -> tuple[str, tuple]:
  """Returns a file and the rank of the last line that stays in it."""
  file, smallest = ranked
  return file, max(heapq.nsmallest(sizes[file], smallest))


def in_order(
  name: str, numbered: Iterable[tuple[int, stages.Read | str]]
) -> tuple[str, bytes]:
  """Returns what the parts of the input hold, in their order, as a result."""
  ordered = sorted(numbered, key=lambda part: part[0])
  return name, pickle.dumps([told for _, told in ordered])


def of_sum(whole: stages.Finished) -> tuple[str, bytes]:
  """Returns what all steps told as a result."""
  return TOLD, pickle.dumps(whole)


def of_dropped(
  told: stages.Finished, partitions: int
) -> Iterator[tuple[str, files.Dropped]]:
  """Yields dropped prompts by the name of a result, spread over some."""
  for dropped in told.dropped:
    some = zlib.crc32(dropped.location.encode()) % partitions
    yield f'{DROPPED}/{some:05}', dropped


def as_list(name: str, values: Iterable[Any]) -> tuple[str, bytes]:
  """Returns values as a result."""
  return name, pickle.dumps(list(values))
