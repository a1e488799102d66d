"""The rules on prompts as slow, obvious loops."""

from __future__ import annotations

import math


def shares_prefix(a: str, b: str, min_chars: int, min_share: float) -> bool:
  """Whether two keys are twins: equal, or alike for long enough."""
  shorter, longer = sorted((a, b), key=len)
  common = 0
  while common < len(shorter) and shorter[common] == longer[common]:
    common += 1
  return a == b or common >= max(min_chars, math.ceil(min_share * len(shorter)))


def twins(
  keys: list[str], ranks: list[int], min_chars: int, min_share: float
) -> list[int]:
  """Goes from the first to the last; a prompt stays unless one that stayed is
  its twin. Compares every pair."""
  found, stayed = [-1] * len(keys), []
  for i in sorted(range(len(keys)), key=ranks.__getitem__):
    for other in stayed:
      if shares_prefix(keys[i], keys[other], min_chars, min_share):
        found[i] = other
        break
    else:
      stayed.append(i)
  return found


def under_cap(
  owners: list[int], digests: list[int], max_per_user: int
) -> list[bool]:
  """Counts for every prompt how many of the same user go before it."""
  return [
    sum(
      other == owner and drawn < digest
      for other, drawn in zip(owners, digests, strict=True)
    )
    < max_per_user
    for owner, digest in zip(owners, digests, strict=True)
  ]
