"""What a worker does: a part of the input, or a partition, at a time."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np

from instructjax import errors
from instructjax.curation import files
from instructjax.curation import finish as finish_lib
from instructjax.curation import parts
from instructjax.curation import rows
from instructjax.curation import rules
from instructjax.curation import settings as settings_lib
from instructjax.curation import spool
from instructjax.curation import stats

Counter = collections.Counter
Settings = settings_lib.Settings


@dataclasses.dataclass
class Read:
  """What a part of the input holds.

  Attributes:
    rows: good and bad ones.
    prompts: of them.
    added: prompts beyond one a row.
    changed: prompts whose comparison key is not their text.
    bad: rows that are no prompt.
    why: the first of them and what is wrong with it.
    dropped: the bad rows, and those that hold no prompt on purpose.
    blocks: where the prompts are.
  """

  rows: int = 0
  prompts: int = 0
  added: int = 0
  changed: int = 0
  bad: int = 0
  why: str = ''
  dropped: list[files.Dropped] = dataclasses.field(default_factory=list)
  blocks: list[spool.Block] = dataclasses.field(default_factory=list)


def read(
  part: parts.Part, settings: Settings, folder: pathlib.Path, partitions: int
) -> Read:
  """Spools the prompts of a part of the input.

  Raises:
    UserError: a bad row, if they are to be refused.
  """
  told, writer = Read(), spool.Writer(folder, partitions)
  for prompt, entry in prompts(part, settings, told):
    writer.add(prompt, entry)
  writer.flush()
  told.blocks = writer.blocks
  return told


def prompts(
  part: parts.Part, settings: Settings, told: Read
) -> Iterator[tuple[rows.RawPrompt, spool.Entry]]:
  """Reads, checks and expands rows; yields prompts with their entries.

  Args:
    part: of the input.
    settings: of all rules.
    told: is told what the part holds, while it is read.

  Raises:
    UserError: a bad row, if they are to be refused.
  """

  def on_bad(location: str, reason: str) -> None:
    if settings.on_bad_row == 'refuse':
      raise errors.UserError(f'{location}: {reason}')
    told.bad += 1
    told.why = told.why or f'{location}: {reason}'
    told.dropped.append(files.Dropped(location, 'valid_row'))

  def on_broken(location: str, reason: str) -> None:
    told.rows += 1
    on_bad(location, reason)

  for location, row in parts.read(part, on_broken):
    told.rows += 1
    try:
      found = rows.parse(row, location)
    except ValueError as error:
      on_bad(location, str(error))
      continue
    if not found:
      told.dropped.append(files.Dropped(location, 'valid_row'))
    told.prompts += len(found)
    told.added += max(0, len(found) - 1)
    for prompt in found:
      entry = assign(prompt, settings)
      told.changed += entry.key != prompt.text
      yield prompt, entry


def assign(prompt: rows.RawPrompt, settings: Settings) -> spool.Entry:
  """Returns a prompt's key, and what is decided by it and its user alone."""
  key = rules.comparison_key(prompt.text)
  capped = rules.owner(prompt, key, settings.cap_by)
  user = rules.owner(prompt, key, settings.split_by)
  counts = settings.cap_labelers or prompt.source != 'labeler'
  return spool.Entry(
    key,
    rules.group(key, settings.min_chars),
    prompt.time,
    prompt.content,
    prompt.location,
    rules.digest(settings.salt, 'owner', capped),
    rules.digest(settings.salt, 'cap', key) if counts else None,
    rules.split(settings.salt, user, settings.splits),
  )


def place(entry: spool.Entry) -> tuple[int, str]:
  """Returns what the lines of an output file are sorted by."""
  return entry.group, entry.content


class Unique(NamedTuple):
  """A partition without twins.

  Attributes:
    kept: i64[n], which of the partition's entries, in the order of the output.
    counted: bool[n], whether the cap counts it.
    owners: u64[n], whom it counts it for.
    drawn: u64[n], the digest by which the cap chooses.
    told: of the others.
  """

  kept: np.ndarray
  counted: np.ndarray
  owners: np.ndarray
  drawn: np.ndarray
  told: Finished


def twins(entries: Sequence[spool.Entry], settings: Settings) -> list[int]:
  """Returns for each entry the index of the one it duplicates, or -1."""
  count = len(entries)
  keys = [entry.key for entry in entries]
  ranks = np.empty(count, np.int64)
  by_rank = sorted(range(count), key=lambda i: rules.order(keys[i], entries[i]))
  ranks[by_rank] = np.arange(count)
  return rules.twins(
    keys, ranks, min_chars=settings.min_chars, min_share=settings.min_share
  ).tolist()


def deduplicate(places: Sequence[spool.Place], settings: Settings) -> Unique:
  """Finds twins in a partition."""
  entries, _ = spool.entries(places)
  told, kept = Finished(), []
  of_entries = zip(entries, twins(entries, settings), strict=True)
  for i, (entry, of) in enumerate(of_entries):
    if of < 0:
      kept.append(i)
    else:
      told.drop(entry, 'common_prefix', entries[of].location)
  kept.sort(key=lambda i: place(entries[i]))
  chosen = [entries[i] for i in kept]
  return Unique(
    np.array(kept, np.int64),
    np.array([entry.drawn is not None for entry in chosen], bool),
    np.array([entry.owner for entry in chosen], np.uint64),
    np.array([entry.drawn or 0 for entry in chosen], np.uint64),
    told,
  )


class Candidate(NamedTuple):
  """A prompt of a file whose size is limited, as written but not yet chosen."""

  digest: int
  location: str
  split: str
  num_tokens: int
  num_response_tokens: int | None


@dataclasses.dataclass
class Finished:
  """What became of prompts, of a partition or of all.

  Attributes:
    counts: dropped prompts by (rule, split).
    dropped: where they stand.
    pii: prompts by kind of what was found in them.
    redacted: prompts that are written or dropped later without it.
    written: prompts by file; those of files whose size is limited, and their
      tally, come when they are chosen.
    tally: of those written.
    candidates: by file whose size is limited, in the order of its lines.
  """

  counts: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
  dropped: list[files.Dropped] = dataclasses.field(default_factory=list)
  pii: Counter[str] = dataclasses.field(default_factory=Counter)
  redacted: int = 0
  written: Counter[str] = dataclasses.field(default_factory=Counter)
  tally: stats.Tally = dataclasses.field(default_factory=stats.Tally)
  candidates: dict[str, list[Candidate]] = dataclasses.field(
    default_factory=dict
  )

  def drop(
    self, entry: spool.Entry | Candidate, rule: str, of: str | None = None
  ) -> None:
    """Tells that a rule dropped a prompt, as a duplicate of a location."""
    self.counts[rule, entry.split] += 1
    self.dropped.append(files.Dropped(entry.location, rule, of))

  def add(self, other: Finished) -> None:
    """Adds the counts of another one; not its lists."""
    self.redacted += other.redacted
    for name in 'counts', 'pii', 'written':
      getattr(self, name).update(getattr(other, name))
    self.tally.merge(other.tally)


def finish(
  places: Sequence[spool.Place],
  kept: np.ndarray,
  stays: np.ndarray,
  settings: Settings,
  folder: pathlib.Path,
) -> Finished:
  """Applies what is left of the rules to a partition; writes its lines.

  Args:
    places: of the partition's entries.
    kept: i64[n], the unique ones in the order of the output.
    stays: bool[n], whether the cap lets it stay.
    settings: of all rules.
    folder: exists; gets a file for each output file that has lines.
  """
  entries, of_prompts = spool.entries(places)
  spooled = spool.prompts(of_prompts[i] for i in kept)
  told = Finished()
  with contextlib.ExitStack() as stack:
    outputs = {}
    for prompt, i, stay in zip(spooled, kept, stays, strict=True):
      entry = entries[i]
      if not stay:
        told.drop(entry, 'user_cap')
        continue
      done = judge(prompt, entry, settings, told)
      if done.rule:
        continue
      if done.file not in outputs:
        outputs[done.file] = stack.enter_context(open(folder / done.file, 'wb'))
      outputs[done.file].write(files.encode(done.row))
      _count(told, entry, done, settings)
  return told


def judge(
  prompt: rows.RawPrompt,
  entry: spool.Entry,
  settings: Settings,
  told: Finished,
) -> finish_lib.Finished:
  """Applies what is left of the rules to one prompt, and tells what came."""
  done = finish_lib.finish(prompt, entry.key, entry.split, settings)
  told.pii.update(done.pii_kinds)
  told.redacted += bool(done.pii_kinds) and done.rule != 'pii'
  if done.rule:
    told.drop(entry, done.rule)
  return done


def _count(
  told: Finished,
  entry: spool.Entry,
  done: finish_lib.Finished,
  settings: Settings,
) -> None:
  lengths = done.num_tokens, done.num_response_tokens
  if settings.sizes.get(done.file):
    candidate = Candidate(
      done.size_digest, entry.location, entry.split, *lengths
    )
    told.candidates.setdefault(done.file, []).append(candidate)
  else:
    told.written[done.file] += 1
    told.tally.add(done.file, done.row, *lengths)
