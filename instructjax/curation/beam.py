"""The rules as an Apache Beam pipeline, for logs that one machine cannot hold.

  read          a part of the input -> prompts with what decides on them
  deduplicate   prompts that begin alike -> those without a twin
  cap           a user's prompts -> those within the cap
  finish        a prompt -> a line of an output file, or none
  write         lines of a file in a range of groups -> them, sorted

and at last, here, the pieces in order -> files. The rules are those of
`stages`, so the bytes are those of `pipeline`, whatever the runner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import heapq
import json
import pathlib
import pickle
import shutil
from typing import Any
import uuid
import zlib

import apache_beam as beam
from apache_beam.io import filesystems
from apache_beam.options import pipeline_options
from apache_beam.runners import runner as runner_lib
from apache_beam.transforms import window
from apache_beam.utils import windowed_value

from instructjax import errors
from instructjax.curation import files
from instructjax.curation import finish as finish_lib
from instructjax.curation import parts as parts_lib
from instructjax.curation import pipeline
from instructjax.curation import settings as settings_lib
from instructjax.curation import spool
from instructjax.curation import stages

FileSystems = filesystems.FileSystems
Settings = settings_lib.Settings
Line = tuple[spool.Entry, finish_lib.Finished]  # the entry without its key
Limits = Mapping[str, tuple]  # {file: `_rank` of the last line that stays}

# Beam's own name for running in this process looks for another runner first,
# a program that it would download.
_DIRECT = 'apache_beam.runners.portability.fn_api_runner.FnApiRunner'
_READ, _TOLD, _DROPPED, _UNCOUNTED = 'read', 'told', 'dropped', 'uncounted'
_NAMES = 'names'


def run(
  scanned: Sequence[parts_lib.Scanned],
  settings: Settings,
  folder: pathlib.Path,
  flags: Sequence[str],
  partition_bytes: int = pipeline.PARTITION_BYTES,
) -> pipeline.Result:
  """Writes the prompts' files and dropped.jsonl, as `pipeline.run` does.

  Args:
    scanned: the files of the input, in order.
    settings: of all rules.
    folder: exists; on this machine.
    flags: of Beam, '--runner=NAME' among them. What workers leave for this
      process goes to --temp_location, or to `folder` without one.
    partition_bytes: of the input in a piece of an output file.

  Raises:
    UserError: no such runner, a bad row that may not be skipped, or no prompt
      at all; of rows only when the pipeline has ended.
  """
  options = _options(flags)
  between = _between(options, folder)
  parts = [part for file in scanned for part in file.parts]
  partitions = pipeline.count_partitions(scanned, partition_bytes)
  try:
    with beam.Pipeline(options=options) as root:
      _build(root, parts, settings, between, partitions)
    names = _names(between)
    reads = _load(names[_READ])
    for told in reads:
      if isinstance(told, str):
        raise errors.UserError(told)
    read = pipeline.together(reads, settings, parts[0].path)
    for file in settings_lib.FILES:
      _concatenate(folder / f'{file}.jsonl', names, f'{file}/')
    told = _load(names[_TOLD])
    told.dropped += read.dropped
    for name, path in names.items():
      if name.startswith(f'{_DROPPED}/'):
        told.dropped += _load(path)
  finally:
    if FileSystems.exists(between):
      FileSystems.delete([between])
  paths = list(dict.fromkeys(part.path for part in parts))
  return pipeline.conclude(read, told, folder, paths)


def _options(flags: Sequence[str]) -> pipeline_options.PipelineOptions:
  """Returns Beam's options; refuses what its own runner does not know."""
  options = pipeline_options.PipelineOptions(list(flags))
  standard = options.view_as(pipeline_options.StandardOptions)
  name = standard.runner or 'DirectRunner'
  if name.lower() in ('directrunner', 'direct'):
    standard.runner = _DIRECT
    everything = options.get_all_options(retain_unknown_options=True)
    for flag in sorted(set(everything) - set(options.get_all_options())):
      hint = errors.nearest(flag, options.get_all_options())
      raise errors.UserError(
        f'--{flag}: needed a flag of prepare or of Beam. See --help.{hint}'
      )
  try:
    runner_lib.create_runner(standard.runner)
  except (AttributeError, ImportError, ValueError) as error:
    raise errors.UserError(
      f'--runner={name}: needed a runner of Apache Beam ('
      f'{", ".join(pipeline_options.StandardOptions.KNOWN_RUNNER_NAMES)}), got '
      f'"{error}": name another, or install what it needs.'
    ) from None
  return options


def _between(
  options: pipeline_options.PipelineOptions, folder: pathlib.Path
) -> str:
  """Returns a new folder that the workers and this process see."""
  cloud = options.view_as(pipeline_options.GoogleCloudOptions)
  name = f'instructjax-{uuid.uuid4().hex}'
  found = FileSystems.join(cloud.temp_location or str(folder.resolve()), name)
  FileSystems.mkdirs(found)
  return found


def _build(
  root: beam.Pipeline,
  parts: Sequence[parts_lib.Part],
  settings: Settings,
  between: str,
  partitions: int,
) -> None:
  """Makes the pipeline's graph."""
  read = (
    root
    | 'parts' >> beam.Create(list(enumerate(parts)))
    | 'spread' >> beam.Reshuffle()
    | 'read' >> beam.ParDo(_Read(settings)).with_outputs(_READ, main='main')
  )
  unique = (
    read.main
    | 'alike' >> beam.GroupByKey()
    | 'deduplicate'
    >> beam.ParDo(_Deduplicate(settings)).with_outputs(
      _TOLD, _UNCOUNTED, main='counted'
    )
  )
  capped = (
    unique.counted
    | 'of a user' >> beam.GroupByKey()
    | 'cap' >> beam.ParDo(_Cap(settings)).with_outputs(_TOLD, main='main')
  )
  lines = (
    (unique.uncounted, capped.main)
    | 'those left' >> beam.Flatten()
    | 'finish'
    >> beam.ParDo(_Finish(settings, partitions)).with_outputs(
      _TOLD, main='main'
    )
  )
  written = (
    lines.main
    | 'pieces' >> beam.GroupByKey()
    | 'write'
    >> beam.ParDo(_Write(settings), _limits(lines.main, settings)).with_outputs(
      _TOLD, main='main'
    )
  )
  told = (
    unique.told,
    capped.told,
    lines.told,
    written.told,
  ) | 'all told' >> beam.Flatten()
  reads = (
    read.read
    | 'all read' >> beam.GroupByKey()
    | 'in order' >> beam.MapTuple(_in_order)
  )
  counts = (
    told
    | 'add up' >> beam.CombineGlobally(_Sum())
    | 'counts' >> beam.Map(_of_counts)
  )
  dropped = (
    told
    | 'dropped' >> beam.FlatMap(_of_dropped, partitions)
    | 'some dropped' >> beam.GroupByKey()
    | 'list' >> beam.MapTuple(_as_list)
  )
  _ = (
    (reads, counts, dropped, written.main)
    | 'results' >> beam.Flatten()
    | 'keep' >> beam.ParDo(_Keep(between))
    | 'names' >> beam.io.WriteToText(FileSystems.join(between, _NAMES))
  )


def _keyed_by(kind: type) -> Any:
  """Says of what type a step's keys are; Beam cannot see it."""
  return beam.typehints.with_output_types(tuple[kind, Any])


@_keyed_by(bytes)
class _Read(beam.DoFn):
  """A numbered part of the input to prompts by their group."""

  def __init__(self, settings: Settings):
    self._settings = settings

  def process(self, numbered):
    number, part = numbered
    told: stages.Read | str = stages.Read()
    try:
      for prompt, entry in stages.prompts(part, self._settings, told):
        yield _key(entry.group), (entry, prompt)
    except errors.UserError as error:
      # The first of all parts is told; which worker comes first is chance.
      told = str(error)
    yield beam.pvalue.TaggedOutput(_READ, (_READ, (number, told)))


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
    yield beam.pvalue.TaggedOutput(_TOLD, value)


@_keyed_by(bytes)
class _Deduplicate(_Step):
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
        yield beam.pvalue.TaggedOutput(_UNCOUNTED, item)
      else:
        yield _key(entry.owner), item


class _Cap(_Step):
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
class _Finish(_Step):
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
class _Write(_Step):
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


class _Sum(beam.CombineFn):
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


class _Keep(beam.DoFn):
  """Named bytes to a file of their own and its name.

  A worker may be run twice, so only what is named in the end counts.
  """

  def __init__(self, between: str):
    self._between = between

  def process(self, named):
    name, data = named
    path = FileSystems.join(self._between, uuid.uuid4().hex)
    with FileSystems.create(path) as file:
      file.write(data)
    yield json.dumps([name, path])


def _key(digest: int) -> bytes:
  return digest.to_bytes(8)


def _place(line: Line) -> tuple[int, str]:
  return stages.place(line[0])


def _rank(line: Line) -> tuple[int, int, str]:
  """Returns what decides on who stays in a file of limited size."""
  return line[1].size_digest, *_place(line)


def _limits(lines: beam.PCollection, settings: Settings) -> Any:
  """Returns {file: rank of the last line that stays}, if sizes are limited."""
  sizes = {file: size for file, size in settings.sizes.items() if size}
  if not sizes:
    return {}
  last = (
    lines
    | 'ranks' >> beam.FlatMap(_ranks, sizes)
    | 'smallest' >> beam.combiners.Top.SmallestPerKey(max(sizes.values()))
    | 'last' >> beam.Map(_last, sizes)
  )
  return beam.pvalue.AsDict(last)


def _ranks(named: tuple[str, Line], sizes: Mapping[str, int]):
  file = named[0].partition('/')[0]
  return [(file, _rank(named[1]))] if file in sizes else []


def _last(ranked: tuple[str, list], sizes: Mapping[str, int]):
  file, ranks = ranked
  return file, max(heapq.nsmallest(sizes[file], ranks))


def _in_order(name: str, numbered):
  ordered = sorted(numbered, key=lambda part: part[0])
  return name, pickle.dumps([told for _, told in ordered])


def _of_counts(whole: stages.Finished):
  return _TOLD, pickle.dumps(whole)


def _of_dropped(told: stages.Finished, partitions: int):
  for dropped in told.dropped:
    some = zlib.crc32(dropped.location.encode()) % partitions
    yield f'{_DROPPED}/{some:05}', dropped


def _as_list(name: str, values):
  return name, pickle.dumps(list(values))


def _names(between: str) -> dict[str, str]:
  """Returns {name of a result: its path}."""
  pattern = FileSystems.join(between, f'{_NAMES}*')
  (found,) = FileSystems.match([pattern])
  named = {}
  for metadata in found.metadata_list:
    with FileSystems.open(metadata.path) as file:
      named.update(json.loads(line) for line in file.read().splitlines())
  return named


def _load(path: str) -> Any:
  with FileSystems.open(path) as file:
    return pickle.loads(file.read())


def _concatenate(
  target: pathlib.Path, names: Mapping[str, str], prefix: str
) -> None:
  """Writes what is named so, in the order of the names."""
  with open(target, 'wb') as whole:
    for name in sorted(names):
      if name.startswith(prefix):
        with FileSystems.open(names[name]) as piece:
          shutil.copyfileobj(piece, whole)
