"""Which records validate: a function of a salted hash, never of an order.

The hash decides by user or labeler where records carry one, so that validation
asks about people unseen in training, and by prompt otherwise, so that the same
prompt falls on the same side in every kind of record. More data of the same
kind moves no record from one side to the other.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
import hashlib
import math

from instructjax import errors
from instructjax.data import records as record_lib

Records = list[record_lib.Record]


def split(
  records: Sequence[record_lib.Record], fraction: float, seed: int
) -> tuple[Records, Records, dict[str, int]]:
  """Splits records into train and validation.

  The group of a record is its user_id or labeler_id, else its prompt; a group
  validates if hash(seed, group) < fraction. With fewer than two ids, or where
  every training prompt would also stand in validation, all records go by
  prompt. A group of more than half the records trains; a side that would be
  empty gets the one group whose hash is nearest.
  Documents go by text; too few of them for `fraction` (fewer than 1/fraction)
  are cut instead, the end of each to validation.

  Args:
    records: of one kind.
    fraction: share of the groups to validate on, in [0, 1); 0 gives none.
    seed: salt of the hash.

  Returns:
    train, validation (empty if there is one group only), and the counts
    {'train', 'validation', 'dropped_prompt_in_validation'}.

  Raises:
    UserError: fraction out of range.
  """
  check_fraction(fraction)
  records = list(records)
  if fraction and records and isinstance(records[0], record_lib.Document):
    train, valid = _split_documents(records, fraction, seed)
    return train, valid, _counts(train, valid, 0)
  groups = [_group(record) for record in records]
  by_id = len({g for g in groups if g[0] == 'id'}) > 1
  if by_id:
    train, valid, dropped = _by_group(records, groups, fraction, seed)
  if not by_id or not train:
    groups = [('prompt', record_lib.prompt_of(record)) for record in records]
    train, valid, dropped = _by_group(records, groups, fraction, seed)
  return train, valid, _counts(train, valid, dropped)


def check_fraction(fraction: float) -> None:
  """Raises UserError for a share that leaves nothing to train on."""
  if not 0 <= fraction < 1:
    raise errors.UserError(
      f'needed a validation fraction in [0, 1), got {fraction}: take 0.1.'
    )


def _counts(train: Records, valid: Records, dropped: int) -> dict[str, int]:
  return {
    'train': len(train),
    'validation': len(valid),
    'dropped_prompt_in_validation': dropped,
  }


def _group(record: record_lib.Record) -> tuple[str, str]:
  name = 'user_id' if isinstance(record, record_lib.Prompt) else 'labeler_id'
  identity = getattr(record, name, None)
  if identity is not None:
    return 'id', identity
  return 'prompt', record_lib.prompt_of(record)


def _by_group(
  records: Records,
  groups: Sequence[tuple[str, str]],
  fraction: float,
  seed: int,
) -> tuple[Records, Records, int]:
  """Returns train, validation, and how many prompts of both left train."""
  sizes = collections.Counter(groups)
  hashes = {
    group: uniform(seed, *group)
    for group, size in sizes.items()
    if 2 * size <= len(records)
  }
  chosen = {group for group, value in hashes.items() if value < fraction}
  if fraction and hashes:
    ordered = sorted(hashes, key=hashes.__getitem__)
    chosen = chosen or {ordered[0]}
    chosen -= {ordered[-1]} if len(chosen) == len(sizes) else set()
  valid = [r for r, g in zip(records, groups, strict=True) if g in chosen]
  rest = [r for r, g in zip(records, groups, strict=True) if g not in chosen]
  seen = {record_lib.prompt_of(record) for record in valid}
  train = [r for r in rest if record_lib.prompt_of(r) not in seen]
  return train, valid, len(rest) - len(train)


def _split_documents(
  documents: Records, fraction: float, seed: int
) -> tuple[Records, Records]:
  groups = [('prompt', document.text) for document in documents]
  if len(set(groups)) >= math.ceil(1 / fraction):
    train, valid, _ = _by_group(documents, groups, fraction, seed)
    return train, valid
  # Few documents are long ones, books or corpora: hold out the end of each.
  train, valid = [], []
  for document in dict.fromkeys(documents):
    text = document.text
    cut = _boundary(text, round(len(text) * (1 - fraction)))
    for side, part in ((train, text[:cut]), (valid, text[cut:])):
      if part.strip():
        side.append(record_lib.Document(part, document.location))
  return train, valid


def _boundary(text: str, near: int) -> int:
  """Returns where to cut: behind a line, else a word, shortly before `near`."""
  for mark in ('\n', ' '):
    cut = text.rfind(mark, near - near // 20, near) + 1
    if cut:
      return cut
  return near


def uniform(seed: int, kind: str, text: str) -> float:
  """Returns a number in [0, 1) from a hash salted with the seed."""
  digest = hashlib.blake2b(
    f'{kind}\0{text}'.encode(), digest_size=8, salt=b'split', key=b'%d' % seed
  )
  return int.from_bytes(digest.digest(), 'big') / 2**64
