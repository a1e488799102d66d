"""The rules over whole logs, on one machine, in bounded memory.

  read          a part of the input -> prompts in partitions on disk    workers
  deduplicate   a partition -> which of its prompts have no twin        workers
  cap           on a few numbers of every prompt                        here
  finish        a partition -> its lines of every output file           workers
  assemble      the partitions' lines in order -> files                 here

Nothing depends on which worker did what, or on where the input was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
import concurrent.futures
import contextlib
import functools
import itertools
import json
import logging
import multiprocessing
import os
import pathlib
import shutil
import signal
import threading
from typing import Any, NamedTuple

import numpy as np

from instructjax import errors
from instructjax.curation import files
from instructjax.curation import parts as parts_lib
from instructjax.curation import rules
from instructjax.curation import settings as settings_lib
from instructjax.curation import spool
from instructjax.curation import stages
from instructjax.curation import stats
from instructjax.data import tfds_source

Settings = settings_lib.Settings
PART_BYTES = 1 << 22  # of the input, read by a worker at a time
PARTITION_BYTES = 1 << 25  # of the input, de-duplicated at a time
_MOST = 1024  # parts and partitions, beyond which they grow

_log = logging.getLogger('instructjax')


class Result(NamedTuple):
  """What a pipeline tells besides the files that it wrote."""

  ledger: dict[str, Any]
  tally: stats.Tally


def scan(
  paths: Sequence[str], part_bytes: int = PART_BYTES
) -> list[parts_lib.Scanned]:
  """Cuts the files of the input into parts.

  Raises:
    UserError: a file that cannot be read, or a dataset of TFDS.
  """
  for path in paths:
    if tfds_source.is_spec(path):
      raise errors.UserError(
        f'{path}: needed files of raw prompts, got a dataset of TFDS: write'
        ' its rows to a .jsonl file.'
      )
    if not _is_unicode(path):  # dropped.jsonl could not name it
      raise errors.UserError(
        f'{path!a}: needed a path of UTF-8, got other bytes: rename it.'
      )
  total = sum(map(os.path.getsize, paths))
  size = max(part_bytes, total // _MOST)
  return [parts_lib.scan(path, size) for path in paths]


def _is_unicode(path: str) -> bool:
  return path == path.encode('utf-8', 'ignore').decode()


def run(
  scanned: Sequence[parts_lib.Scanned],
  settings: Settings,
  folder: pathlib.Path,
  workers: int,
  partition_bytes: int = PARTITION_BYTES,
) -> Result:
  """Writes the prompts' files and dropped.jsonl.

  Args:
    scanned: the files of the input, in order.
    settings: of all rules.
    folder: exists; what is kept on disk meanwhile goes there and is removed.
    workers: at most so many processes beside this one, and one a partition;
      1 does everything here.
    partition_bytes: of the input in a partition.

  Raises:
    UserError: a bad row that may not be skipped, or no prompt at all.
  """
  parts = [part for file in scanned for part in file.parts]
  paths = list(dict.fromkeys(part.path for part in parts))
  partitions = count_partitions(scanned, partition_bytes)
  spooled = folder / 'spool'
  spooled.mkdir()
  # More than one a partition would only share the reading, a third of the work.
  with _pool(min(workers, partitions)) as pool:
    read = _read(pool, parts, settings, spooled, partitions)
    places = [spool.places(read.blocks, i) for i in range(partitions)]
    unique = list(
      pool(functools.partial(stages.deduplicate, settings=settings), places)
    )
    _log.info('%d prompts are unique', sum(len(u.kept) for u in unique))
    stays = _cap(unique, settings.max_per_user)
    folders = [spooled / f'{i:05}' for i in range(partitions)]
    for part in folders:
      part.mkdir()
    finished = list(
      pool(
        stages.finish,
        places,
        [u.kept for u in unique],
        stays,
        itertools.repeat(settings),
        folders,
      )
    )
  told = stages.Finished(dropped=list(read.dropped))
  for part in (*(u.told for u in unique), *finished):
    told.add(part)
    told.dropped += part.dropped
  _assemble(finished, folders, folder, settings, told)
  shutil.rmtree(spooled)
  return conclude(read, told, folder, paths)


def conclude(
  read: stages.Read,
  told: stages.Finished,
  folder: pathlib.Path,
  paths: Sequence[str],
) -> Result:
  """Writes dropped.jsonl, and returns what else there is to tell.

  Args:
    read: what the input holds.
    told: what became of all of its prompts, and all that was dropped.
    folder: for the file.
    paths: of the input, in order.
  """
  files.write_dropped(folder / files.DROPPED, told.dropped, paths)
  counts = told.counts | {('valid_row', ''): len(read.dropped)}
  extras = {
    'few_shot': {'added': read.added},
    'normalization': {'changed': read.changed},
    'pii': {
      'by_kind': dict(sorted(told.pii.items())),
      'redacted': told.redacted,
    },
  }
  _log.info('%d prompts are written', told.written.total())
  ledger = files.ledger(read.rows, counts, extras, told.written)
  return Result(ledger, told.tally)


def count_partitions(
  scanned: Sequence[parts_lib.Scanned], partition_bytes: int
) -> int:
  """Returns how many partitions have about so many bytes of the input."""
  unpacked = sum(file.unpacked_bytes for file in scanned)
  return min(_MOST, 1 + unpacked // partition_bytes)


Pool = Callable[..., Iterator]


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Pool]:
  """Gives a function like `map` that works in other processes."""
  if workers == 1:
    yield map
    return
  pool = concurrent.futures.ProcessPoolExecutor(
    workers, multiprocessing.get_context('spawn'), _begin
  )
  try:
    yield pool.map
  finally:
    pool.shutdown(cancel_futures=True)


def _begin() -> None:
  """Makes a worker leave Ctrl-C to its parent, and end when that is killed."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)

  def follow() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=follow, daemon=True).start()


def _read(
  pool: Pool,
  parts: Sequence[parts_lib.Part],
  settings: Settings,
  folder: pathlib.Path,
  partitions: int,
) -> stages.Read:
  """Returns what all parts hold together."""
  read = functools.partial(
    stages.read, settings=settings, folder=folder, partitions=partitions
  )
  return together(pool(read, parts), settings, parts[0].path)


def together(
  reads: Iterable[stages.Read], settings: Settings, path: str
) -> stages.Read:
  """Returns what the parts of the input hold together.

  Args:
    reads: of the parts, in order.
    settings: of all rules.
    path: of the first file, to name it.

  Raises:
    UserError: too many bad rows, or no prompt at all.
  """
  whole = stages.Read()
  for part in reads:
    for name in 'rows', 'prompts', 'added', 'changed', 'bad':
      setattr(whole, name, getattr(whole, name) + getattr(part, name))
    whole.why = whole.why or part.why
    whole.dropped += part.dropped
    whole.blocks += part.blocks
  if whole.bad > settings.max_bad_share * whole.rows:
    raise errors.UserError(
      f'{whole.why} It is the first of {whole.bad} bad rows of {whole.rows}, '
      f'more than the share of max_bad_share={settings.max_bad_share}: mend '
      'them, or raise --config.max_bad_share.'
    )
  if not whole.prompts:
    raise errors.UserError(
      f'{path}:1: needed at least one prompt, got none in '
      f'{whole.rows} rows: name another file.'
    )
  _log.info('%d rows hold %d prompts', whole.rows, whole.prompts)
  return whole


def _cap(
  unique: Sequence[stages.Unique], max_per_user: int
) -> list[np.ndarray]:
  """Returns for each partition which of its unique prompts stay, bool[n]."""
  counted = np.concatenate([part.counted for part in unique])
  owners = np.concatenate([part.owners for part in unique])
  drawn = np.concatenate([part.drawn for part in unique])
  stays = np.ones(len(counted), bool)
  stays[counted] = rules.under_cap(
    owners[counted], drawn[counted], max_per_user
  )
  return np.split(stays, np.cumsum([len(part.kept) for part in unique])[:-1])


def _assemble(
  finished: Sequence[stages.Finished],
  folders: Sequence[pathlib.Path],
  out: pathlib.Path,
  settings: Settings,
  told: stages.Finished,
) -> None:
  """Puts the partitions' lines together; tells for which there is no room."""
  for name in settings_lib.FILES:
    candidates = [c for part in finished for c in part.candidates.get(name, ())]
    digests = np.array([c.digest for c in candidates], np.uint64)
    stays = rules.smallest(digests, settings.sizes.get(name, 0))
    chosen = zip(candidates, stays, strict=True)
    with open(out / f'{name}.jsonl', 'wb') as target:
      for folder in folders:
        if not (folder / name).exists():
          continue
        with open(folder / name, 'rb') as source:
          if not candidates:
            shutil.copyfileobj(source, target)
            continue
          for line, (candidate, stay) in zip(source, chosen, strict=False):
            if stay:
              target.write(line)
              told.written[name] += 1
              lengths = candidate.num_tokens, candidate.num_response_tokens
              told.tally.add(name, json.loads(line), *lengths)
            else:
              told.drop(candidate, 'size')
