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
import glob
import json
import pathlib
import pickle
import shutil
from typing import Any
import uuid

import apache_beam as beam
from apache_beam.io import filesystems
from apache_beam.options import pipeline_options

from instructjax import errors
from instructjax.curation import beam_steps as steps
from instructjax.curation import parts as parts_lib
from instructjax.curation import pipeline
from instructjax.curation import settings as settings_lib

FileSystems = filesystems.FileSystems
Settings = settings_lib.Settings

# Beam's own name for running in this process looks for another runner first,
# a program that it would download.
_DIRECT = 'apache_beam.runners.portability.fn_api_runner.FnApiRunner'
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
  graph = _pipeline(flags)
  between = _between(graph.options, folder)
  parts = [part for file in scanned for part in file.parts]
  partitions = pipeline.count_partitions(scanned, partition_bytes)
  try:
    with graph as root:
      _build(root, parts, settings, between, partitions)
    names = _names(between)
    reads = _load(names[steps.READ])
    for told in reads:
      if isinstance(told, str):
        raise errors.UserError(told)
    read = pipeline.together(reads, settings, parts[0].path)
    for file in settings_lib.FILES:
      _concatenate(folder / f'{file}.jsonl', names, f'{file}/')
    told = _load(names[steps.TOLD])
    told.dropped += read.dropped
    for name, path in names.items():
      if name.startswith(f'{steps.DROPPED}/'):
        told.dropped += _load(path)
  finally:
    _remove(between)
  paths = list(dict.fromkeys(part.path for part in parts))
  return pipeline.conclude(read, told, folder, paths)


def _pipeline(flags: Sequence[str]) -> beam.Pipeline:
  """Returns an empty pipeline; refuses flags that its runner cannot use."""
  options = pipeline_options.PipelineOptions(list(flags))
  standard = options.view_as(pipeline_options.StandardOptions)
  name = standard.runner
  if name.lower() in ('directrunner', 'direct'):
    standard.runner = _DIRECT
    known = pipeline_options.PipelineOptions([]).get_all_options()
    given = options.get_all_options(retain_unknown_options=True)
    for flag in sorted(set(given) - set(known)):
      raise errors.UserError(
        f'unknown flag --{flag}.{errors.nearest(flag, known)} It is none of'
        ' prepare and none of Beam.'
      )
  try:
    return beam.Pipeline(options=options)
  except (AttributeError, ImportError, ValueError) as error:
    raise errors.UserError(
      f'--runner={name}: needed a runner of Apache Beam and its flags, got '
      f'"{error}" Mend the flags, or install what is missing.'
    ) from None


def _between(
  options: pipeline_options.PipelineOptions, folder: pathlib.Path
) -> str:
  """Returns a new folder that the workers and this process see."""
  cloud = options.view_as(pipeline_options.GoogleCloudOptions)
  name = f'instructjax-{uuid.uuid4().hex}'
  place = cloud.temp_location or str(folder.resolve())
  if glob.has_magic(place):  # Beam lists what lies there by patterns.
    raise errors.UserError(
      f'{place}: needed a folder without * ? [ in its name for Beam: set'
      ' --temp_location to another, which all workers see.'
    )
  found = FileSystems.join(place, name)
  FileSystems.mkdirs(found)
  return found


def _remove(between: str) -> None:
  """Removes the folder; some file systems have files only."""
  (found,) = FileSystems.match([FileSystems.join(between, '**')])
  if found.metadata_list:
    FileSystems.delete([file.path for file in found.metadata_list])
  if FileSystems.exists(between):
    FileSystems.delete([between])


def _build(
  root: beam.Pipeline,
  parts: Sequence[parts_lib.Part],
  settings: Settings,
  between: str,
  partitions: int,
) -> None:
  """Makes the pipeline's graph."""

  def step(do: beam.DoFn, *beside: str, given: Any = None) -> beam.PTransform:
    side = () if given is None else (given,)
    return beam.ParDo(do, *side).with_outputs(*beside, main='main')

  read = (
    root
    | 'parts' >> beam.Create(list(enumerate(parts)))
    | 'spread' >> beam.Reshuffle()
    | 'read' >> step(steps.Read(settings), steps.READ)
  )
  unique = (
    read.main
    | 'alike' >> beam.GroupByKey()
    | 'deduplicate'
    >> step(steps.Deduplicate(settings), steps.TOLD, steps.UNCOUNTED)
  )
  capped = (
    unique.main
    | 'of a user' >> beam.GroupByKey()
    | 'cap' >> step(steps.Cap(settings), steps.TOLD)
  )
  lines = (
    (unique.uncounted, capped.main)
    | 'those left' >> beam.Flatten()
    | 'finish' >> step(steps.Finish(settings, partitions), steps.TOLD)
  )
  limits = _limits(lines.main, settings)
  written = (
    lines.main
    | 'pieces' >> beam.GroupByKey()
    | 'write' >> step(steps.Write(settings), steps.TOLD, given=limits)
  )
  told = (
    unique.told,
    capped.told,
    lines.told,
    written.told,
  ) | 'all told' >> beam.Flatten()
  _ = (
    (written.main, _reads(read.read), *_counts(told, partitions))
    | 'results' >> beam.Flatten()
    | 'keep' >> beam.ParDo(steps.Keep(between))
    | 'names' >> beam.io.WriteToText(FileSystems.join(between, _NAMES))
  )


def _limits(lines: beam.PCollection, settings: Settings) -> Any:
  """Returns {file: rank of the last line that stays}, if sizes are limited."""
  sizes = {file: size for file, size in settings.sizes.items() if size}
  if not sizes:
    return {}
  last = (
    lines
    | 'ranks' >> beam.FlatMap(steps.ranks, sizes)
    | 'smallest' >> beam.combiners.Top.SmallestPerKey(max(sizes.values()))
    | 'last' >> beam.Map(steps.last, sizes)
  )
  return beam.pvalue.AsDict(last)


def _reads(read: beam.PCollection) -> beam.PCollection:
  """Returns what the parts hold, as one result."""
  return (
    read
    | 'all read' >> beam.GroupByKey()
    | 'in order' >> beam.MapTuple(steps.in_order)
  )


def _counts(
  told: beam.PCollection, partitions: int
) -> tuple[beam.PCollection, beam.PCollection]:
  """Returns what all steps told: the sum, and lists of what they dropped."""
  whole = (
    told
    | 'add up' >> beam.CombineGlobally(steps.Sum())
    | 'sum' >> beam.Map(steps.of_sum)
  )
  dropped = (
    told
    | 'dropped' >> beam.FlatMap(steps.of_dropped, partitions)
    | 'some dropped' >> beam.GroupByKey()
    | 'list' >> beam.MapTuple(steps.as_list)
  )
  return whole, dropped


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
