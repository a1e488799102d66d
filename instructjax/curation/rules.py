"""The paper's rules on prompts, each a small pure function (section 3.2, A).

Every draw is a digest of what it is about under a salt, so it knows no order
and no generator: more data changes nothing that was decided before.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
import hashlib
import math
import re
import unicodedata

import numpy as np

from instructjax.curation import rows
from instructjax.curation import settings

_ONE = 2**64  # Digests are whole numbers below it.
# How `data.layouts` renders several messages.
_FIRST_TURN, _OPEN_TURN = re.compile('(^|\n\n)Human: '), '\n\nAssistant:'


def comparison_key(text: str) -> str:
  """Returns the text by which prompts are compared.

  Compatibility forms are unified (NFKC), cases folded, runs of white space
  become one space, none at the ends. Folding can undo NFKC, hence it twice.
  A rendered conversation loses the name of its first turn, which a prompt of
  that turn alone does not have: so it is a prefix of what it grew to.
  """
  if text.endswith(_OPEN_TURN):
    text = _FIRST_TURN.sub(r'\1', text, count=1)
  folded = unicodedata.normalize('NFKC', text).casefold()
  folded = unicodedata.normalize('NFKC', folded)
  # No white space but this one is printable: most texts need no more.
  if folded.isprintable() and '  ' not in folded:
    return folded.strip()
  return ' '.join(folded.split())


def digest(salt: str, use: str, *parts: str) -> int:
  """Returns a whole number in [0, 2^64), even over all that differs.

  Args:
    salt: of the config.
    use: what is drawn with it; uses are independent of one another.
    parts: what it is about.
  """
  told = '\0'.join((salt, use, *parts)).encode()
  return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest())


def group(key: str, min_chars: int) -> int:
  """Returns a number that twins share: a digest of the key's beginning.

  Twins are equal or share at least `min_chars` characters, so both have the
  same beginning of that length, or are the same and shorter.
  """
  told = key[:min_chars].encode()
  return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest())


def threshold(length: int, *, min_chars: int, min_share: float) -> int:
  """Returns how long a prefix a key of this length shares with a twin."""
  return max(min_chars, math.ceil(min_share * length))


def order(key: str, prompt: rows.RawPrompt) -> tuple:
  """Returns what sorts prompts by who stays: the longest key, the earliest.

  Prompts without a time come after those with one. The digest decides between
  what is alike so far; a location only between rows alike in everything.
  """
  time = math.inf if prompt.time is None else prompt.time
  return -len(key), time, prompt.content, prompt.location


def twins(
  keys: Sequence[str], ranks: Sequence[int], *, min_chars: int, min_share: float
) -> np.ndarray:
  """Finds for every prompt the one that it duplicates.

  x duplicates y if y comes before it in `order` and their keys are equal or
  share a prefix of at least max(min_chars, ceil(min_share len(x))) characters.
  Of several such y it is the first. That y duplicates nothing: what y would
  duplicate is longer and shares with y, hence with x, what x needs. So those
  that duplicate nothing are what stays, no two of them are twins, and neither
  depends on the order of the input.

  Prompts that share x's needed prefix are neighbours once keys are sorted; the
  first of a stretch is a minimum over a range, answered for all at once. Time
  is O(n log n) also if all begin alike.

  Args:
    keys: comparison keys; all of a `group` or any union of groups.
    ranks: of the prompts in `order`, a permutation.
    min_chars: least length of the prefix, in characters, at least 1.
    min_share: least share of the shorter key, in (0, 1].

  Returns:
    i64[n], the index of the prompt that each one duplicates, or -1.
  """
  by_key = sorted(range(len(keys)), key=keys.__getitem__)
  ordered = [keys[i] for i in by_key]
  starts, ends = [], []
  for i, key in enumerate(ordered):
    needed = threshold(len(key), min_chars=min_chars, min_share=min_share)
    start, end = _stretch(ordered, i, key, needed)
    starts.append(start)
    ends.append(end)
  ranked = np.asarray(ranks, np.int64)[by_key]
  least = _least(ranked, np.asarray(starts, int), np.asarray(ends, int))
  index_of = np.empty(len(keys), np.int64)
  index_of[np.asarray(ranks, np.int64)] = np.arange(len(keys))
  found = np.empty(len(keys), np.int64)
  found[by_key] = np.where(least < ranked, index_of[least], -1)
  return found


def _stretch(
  ordered: list[str], i: int, key: str, needed: int
) -> tuple[int, int]:
  """Returns [start, end) of the sorted keys that the i-th is a twin of."""
  if len(key) < needed:  # Too short for a prefix: only what is equal.
    start = bisect.bisect_left(ordered, key, 0, i)
    return start, bisect.bisect_right(ordered, key, i)
  prefix, start, end = key[:needed], i, i + 1
  if i and ordered[i - 1].startswith(prefix):
    start = bisect.bisect_left(ordered, prefix, 0, i)
  if end < len(ordered) and ordered[end].startswith(prefix):
    end = bisect.bisect_right(
      ordered, prefix, i, key=lambda other: other[:needed]
    )
  return start, end


def _least(
  values: np.ndarray, starts: np.ndarray, ends: np.ndarray
) -> np.ndarray:
  """Returns min(values[start:end]) of each range, none of them empty.

  A range is covered by two, at its ends, whose length is a power of two.
  """
  found = np.empty(len(starts), np.int64)
  lengths = ends - starts
  power, minima = 1, values  # minima[i] = min(values[i : i + power])
  while len(lengths) and power <= lengths.max():
    at = np.flatnonzero((lengths >= power) & (lengths < 2 * power))
    found[at] = np.minimum(minima[starts[at]], minima[ends[at] - power])
    minima = np.minimum(minima[:-power], minima[power:])
    power *= 2
  return found


def owner(prompt: rows.RawPrompt, key: str, by: str) -> str:
  """Returns who is counted as a prompt's user.

  That is its user ('user_id') or organisation ('organization_id'), as `by`
  says; without the one the other; without both it is a user of its own.
  """
  other = settings.OWNERS[by == settings.OWNERS[0]]
  for name in by, other:
    identity = getattr(prompt, name)
    if identity is not None:
      return f'{name} {identity}'
  return f'key {key}'


def under_cap(
  owners: np.ndarray, digests: np.ndarray, max_per_user: int
) -> np.ndarray:
  """Marks the prompts that stay when no user may have more than so many.

  Args:
    owners: u64[n], a number for each prompt's user.
    digests: u64[n], drawn for each prompt; the smallest of a user stay.
    max_per_user: how many of a user.

  Returns:
    bool[n], True for what stays.
  """
  by_owner = np.lexsort((digests, owners))
  ordered = owners[by_owner]
  first = np.searchsorted(ordered, ordered, side='left')
  stays = np.empty(len(owners), bool)
  stays[by_owner] = np.arange(len(owners)) - first < max_per_user
  return stays


def smallest(digests: np.ndarray, size: int) -> np.ndarray:
  """Marks the `size` smallest of u64[n] as bool[n]; all if size is 0."""
  stays = np.ones(len(digests), bool)
  if 0 < size < len(digests):
    stays[np.argsort(digests, kind='stable')[size:]] = False
  return stays


def split(salt: str, user: str, shares: Mapping[str, float]) -> str:
  """Returns 'train', 'valid' or 'test': by the user and nothing else."""
  return _draw(digest(salt, 'split', user), shares, settings.SPLITS)


def dataset(salt: str, key: str, shares: Mapping[str, float]) -> str:
  """Returns 'sft', 'rm' or 'ppo' for a prompt, by its key and nothing else."""
  return _draw(digest(salt, 'dataset', key), shares, settings.DATASETS)


def _draw(
  drawn: int, shares: Mapping[str, float], names: tuple[str, ...]
) -> str:
  """Returns the name in whose part of [0, 1) a digest lies."""
  present = [name for name in names if shares.get(name)]
  total = 0.0
  for name in present[:-1]:
    total += shares[name]
    if drawn < total * _ONE:
      return name
  return present[-1]
