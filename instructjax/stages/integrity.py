"""What a run has read: the hash of every data file, and whether it is the same.

RUN/data.json holds what the stages read when they began:

  files    {name: {bytes, sha256, mtime_ns}}
  stages   {stage: {source, as the config names it: [names of its files]}}

A file whose size and time are as they were is taken to be the same; one with
another time is hashed again, and if only the time has changed it is accepted.
So a start costs a look at each file, and no file is read twice for its hash. A
stage that has begun goes on, and a stage begins, only if what is known of its
files still holds. Stages that are finished are not looked at, and those whose
folder was removed are forgotten.

Files of the run's own folder go by their name in it. A dataset of TFDS counts
as one file: see `tfds_source.fingerprint`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import hashlib
import json
import logging
import os
import pathlib
import time
from typing import Any

from instructjax import errors
from instructjax import rewards
from instructjax.checkpoints import orbax_io
from instructjax.data import feeds as feeds_lib
from instructjax.data import lines
from instructjax.data import tfds_source
from instructjax.data import vocabulary

FILE = 'data.json'
TOKENIZER = 'tokenizer'  # What it learned from, and what evaluation reads,
EVALUATION = 'evaluation'  # stand beside the stages.
_CHUNK = 2**24  # bytes read at a time
_EVERY_SECONDS = 5.0  # between two lines that tell how far hashing is
log = logging.getLogger('instructjax')
Sources = Mapping[str, Sequence[str]]
Plain = dict[str, Any]


def begin(root: pathlib.Path, config: Plain, feeds: feeds_lib.Feeds) -> None:
  """Writes down what a stage reads that begins, or checks it if it goes on.

  Args:
    root: the run's folder.
    config: of the stage.
    feeds: of which it has read what it needs.

  Raises:
    UserError: as `record`.
  """
  if feeds.learned:
    record(root, TOKENIZER, feeds.sources(feeds.learned), feeds)
  sources = feeds.sources(feeds.used)
  sources |= rewards.files(config.get('reward_function', ''))
  record(root, config['stage'], sources, feeds)


def check(
  root: pathlib.Path, configs: Iterable[Plain], feeds: feeds_lib.Feeds
) -> None:
  """Refuses files that have changed since a stage has read them.

  Args:
    root: the run's folder.
    configs: of the stages that are going to run.
    feeds: of which they have read what is there.

  Raises:
    UserError: names the first file that has changed, and how to mend it.
  """
  told, sources = _read(root), feeds.sources(feeds.files)
  for config in configs:
    sources |= rewards.files(config.get('reward_function', ''))
  known = [p for p in _paths(sources) if _name(root, p) in told['files']]
  if _look(root, told, known, feeds):
    _write(root, told)


def record(
  root: pathlib.Path, stage: str, sources: Sources, feeds: feeds_lib.Feeds
) -> None:
  """Writes down what a stage reads, or checks it against what is there.

  Args:
    root: the run's folder.
    stage: that begins or goes on.
    sources: {source: its files}.
    feeds: of the run.

  Raises:
    UserError: a file has changed, or a source names other files than before.
  """
  told = _read(root)
  named = {
    _name(root, source): [_name(root, path) for path in paths]
    for source, paths in sources.items()
  }
  for other, before in told['stages'].items():
    same = other == stage != EVALUATION
    common = before.keys() | named.keys() if same else before.keys() & named
    for source in sorted(common):
      files = before.get(source, []), named.get(source, [])
      _check_source(root, other, source, *files)
  _look(root, told, _paths(sources), feeds)
  told['stages'][stage] = told['stages'].get(stage, {}) | named
  _write(root, told)


def _look(
  root: pathlib.Path,
  told: Plain,
  paths: Iterable[str],
  feeds: feeds_lib.Feeds,
) -> bool:
  """Compares files with what is told of them; tells of new ones.

  Returns:
    Whether anything new was told.
  """
  changed = False
  for path in paths:
    name = _name(root, path)
    before = told['files'].get(name)
    now = _state(path, before, feeds.data['tfds_dir'])
    if before and before['sha256'] != now['sha256']:
      raise errors.UserError(
        f'{path}: needed the data that {_reader(told, name)} of this run has'
        f' read ({before["bytes"]} bytes, sha256 {before["sha256"][:12]}), it'
        f' has changed ({now["bytes"]} bytes, sha256 {now["sha256"][:12]}):'
        f' restore it, or start another --workdir.{_knowingly(root)}'
      )
    changed |= now != before
    told['files'][name] = now
  return changed


def _reader(told: Plain, name: str) -> str:
  """Returns the first of the stages that have read a file."""
  for stage, sources in told['stages'].items():
    if any(name in files for files in sources.values()):
      return stage
  raise ValueError(f'{name} was read by no stage')


def _paths(sources: Sources) -> list[str]:
  return list(dict.fromkeys(p for paths in sources.values() for p in paths))


def _state(path: str, before: Plain | None, tfds_dir: str) -> Plain:
  """Returns the size, the hash and the time of a file."""
  if tfds_source.is_spec(path):
    digest, size = tfds_source.fingerprint(path, tfds_dir)
    return {'bytes': size, 'sha256': digest}
  try:
    found = os.stat(path)
    state = {'bytes': found.st_size, 'mtime_ns': found.st_mtime_ns}
    if before and state.items() <= before.items():
      return state | {'sha256': before['sha256']}
    return state | {'sha256': _hash(path, found.st_size)}
  except OSError as error:
    raise lines.unreadable(path, error) from None


def _hash(path: str, size: int) -> str:
  """Returns the SHA-256 of a file, as `sha256sum` prints it."""
  digest, done, told = hashlib.sha256(), 0, time.monotonic()
  with open(path, 'rb') as file:
    while chunk := file.read(_CHUNK):
      digest.update(chunk)
      done += len(chunk)
      if time.monotonic() - told > _EVERY_SECONDS:
        told = time.monotonic()
        log.info('hashing %s: %d of %d MB', path, done // 10**6, size // 10**6)
  return digest.hexdigest()


def _check_source(
  root: pathlib.Path,
  stage: str,
  source: str,
  before: Sequence[str],
  now: Sequence[str],
) -> None:
  """Refuses a source that names other files than when a stage began."""
  for word, names in (
    ('new', sorted({*now} - {*before})),
    ('missing', sorted({*before} - {*now})),
  ):
    if names:
      raise errors.UserError(
        f'{names[0]}: needed the files that {source} named when {stage} of this'
        f' run read it ({len(before)}), this one is {word}: restore the data as'
        f' it was, or start another --workdir.{_knowingly(root)}'
      )


def _knowingly(root: pathlib.Path) -> str:
  return f' (Removing {root / FILE} makes the run forget what it has read.)'


def _name(root: pathlib.Path, path: str) -> str:
  """Returns what a file or a source is called in data.json."""
  try:
    return pathlib.PurePath(path).relative_to(root).as_posix()
  except ValueError:
    return path


def _read(root: pathlib.Path) -> Plain:
  """Returns what is told of the stages that are there, and of their files."""
  path = root / FILE
  try:
    told = json.loads(path.read_text()) if path.exists() else {}
    stages = {
      stage: sources
      for stage, sources in told.get('stages', {}).items()
      if (root / stage).is_dir()
      or (stage == TOKENIZER and vocabulary.find(root))
    }
    read = {n for x in stages.values() for files in x.values() for n in files}
    files = {n: x for n, x in told.get('files', {}).items() if n in read}
    return {'files': files, 'stages': stages}
  except (OSError, ValueError, AttributeError, TypeError) as error:
    raise errors.UserError(
      f'{path} is damaged ({error}): restore it from a backup, or remove it to'
      ' make the run forget what it has read.'
    ) from None


def _write(root: pathlib.Path, told: Plain) -> None:
  orbax_io.write_json(root / FILE, told)
