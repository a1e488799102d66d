"""The rules over whole logs, on one machine, in bounded memory.

  read          a part of the input -> prompts in partitions on disk    workers
  deduplicate   a partition -> which of its prompts have no twin        workers
  cap           on a few numbers of every prompt                        here
  finish        a partition -> its lines of every output file           workers
  assemble      the partitions' lines in order -> files                 here

Nothing depends on which worker did what, or on where the input was cut.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Sequence
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

Counter = collections.Counter
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
  """Cuts the files of the input into parts."""
  total = sum(map(os.path.getsize, paths))
  size = max(part_bytes, total // _MOST)
  return [parts_lib.scan(path, size) for path in paths]


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
    workers: processes beside this one; 1 does everything here.
    partition_bytes: of the input in a partition.

  Raises:
    UserError: a bad row that may not be skipped, or no prompt at all.
  """
  parts = [part for file in scanned for part in file.parts]
  paths = list(dict.fromkeys(part.path for part in parts))
  unpacked = sum(file.unpacked_bytes for file in scanned)
  partitions = min(_MOST, 1 + unpacked // partition_bytes)
  spooled = folder / 'spool'
  spooled.mkdir()
  with _pool(min(workers, max(len(parts), partitions))) as pool:
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
  dropped = [*read.dropped, *(d for u in unique for d in u.dropped)]
  dropped += [d for f in finished for d in f.dropped]
  tally, sized, written = _assemble(finished, folders, folder, settings)
  files.write_dropped(
    folder / files.DROPPED,
    itertools.chain(dropped, (d for d, _ in sized)),
    paths,
  )
  counts = _counts(read, unique, finished)
  counts.update(('size', split) for _, split in sized)
  shutil.rmtree(spooled)
  _log.info('%d prompts are written', written.total())
  extras = _extras(read, finished)
  return Result(files.ledger(read.rows, counts, extras, written), tally)


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
  whole = stages.Read()
  for part in pool(read, parts):
    for name in 'rows', 'prompts', 'added', 'changed', 'bad':
      setattr(whole, name, getattr(whole, name) + getattr(part, name))
    whole.why = whole.why or part.why
    whole.dropped += part.dropped
    whole.blocks += part.blocks
  _log.info('%d rows hold %d prompts', whole.rows, whole.prompts)
  if whole.bad > settings.max_bad_share * whole.rows:
    raise errors.UserError(
      f'{whole.why} It is the first of {whole.bad} bad rows of {whole.rows}, '
      f'more than the share of max_bad_share={settings.max_bad_share}: mend '
      'them, or raise --config.max_bad_share.'
    )
  if not whole.prompts:
    raise errors.UserError(
      f'{parts[0].path}:1: needed at least one prompt, got none in '
      f'{whole.rows} rows: name another file.'
    )
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
) -> tuple[stats.Tally, list[tuple[files.Dropped, str]], Counter[str]]:
  """Puts the partitions' lines together.

  Returns:
    The tally of all lines, what a file's size left no room for with its
    split, and the number of lines by file.
  """
  tally, sized, written = stats.Tally(), [], Counter()
  for part in finished:
    tally.merge(part.tally)
    written.update(part.written)
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
              lengths = candidate.num_tokens, candidate.num_response_tokens
              tally.add(name, json.loads(line), *lengths)
            else:
              dropped = files.Dropped(candidate.location, 'size')
              sized.append((dropped, candidate.split))
              written[name] -= 1
  return tally, sized, written


def _counts(
  read: stages.Read,
  unique: Sequence[stages.Unique],
  finished: Sequence[stages.Finished],
) -> Counter[tuple[str, str]]:
  """Returns the dropped prompts by (rule, split)."""
  counts = Counter({('valid_row', ''): len(read.dropped)})
  for part in unique:
    for split, count in part.by_split.items():
      counts['common_prefix', split] += count
  for part in finished:
    counts.update(part.counts)
  return counts


def _extras(
  read: stages.Read, finished: Sequence[stages.Finished]
) -> dict[str, dict[str, Any]]:
  """Returns what rules tell of themselves besides what they dropped."""
  found: Counter[str] = Counter()
  for part in finished:
    found.update(part.pii)
  return {
    'few_shot': {'added': read.added},
    'normalization': {'changed': read.changed},
    'pii': {
      'by_kind': dict(sorted(found.items())),
      'redacted': sum(part.redacted for part in finished),
    },
  }
