"""The rules on prompts as slow, obvious loops."""

from __future__ import annotations

import math

from instructjax.curation import finish
from instructjax.curation import rules
from instructjax.curation import settings as settings_lib


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


def prepared(prompts: list, settings) -> tuple[dict, list]:
  """All rules on prompts in memory, one after another.

  Args:
    prompts: as `rows.parse` returns them.
    settings: of the rules.

  Returns:
    {file: [output rows]} and [(location, rule, location of the twin or None)].
  """
  keys = [rules.comparison_key(prompt.text) for prompt in prompts]
  order = sorted(
    range(len(prompts)), key=lambda i: rules.order(keys[i], prompts[i])
  )
  ranks = [order.index(i) for i in range(len(prompts))]
  twin_of = twins(keys, ranks, settings.min_chars, settings.min_share)
  gone = [
    (prompts[i].location, 'common_prefix', prompts[of].location)
    for i, of in enumerate(twin_of)
    if of >= 0
  ]
  left = [i for i, of in enumerate(twin_of) if of < 0]
  counted = [
    i for i in left if settings.cap_labelers or prompts[i].source != 'labeler'
  ]
  within = under_cap(
    [rules.owner(prompts[i], keys[i], settings.cap_by) for i in counted],
    [rules.digest(settings.salt, 'cap', keys[i]) for i in counted],
    settings.max_per_user,
  )
  capped = {i for i, stays in zip(counted, within, strict=True) if not stays}
  files = {name: [] for name in settings_lib.FILES}
  for i in left:
    location = prompts[i].location
    if i in capped:
      gone.append((location, 'user_cap', None))
      continue
    user = rules.owner(prompts[i], keys[i], settings.split_by)
    split = rules.split(settings.salt, user, settings.splits)
    done = finish.finish(prompts[i], keys[i], split, settings)
    if done.rule:
      gone.append((location, done.rule, None))
    else:
      place = rules.group(keys[i], settings.min_chars), prompts[i].content
      files[done.file].append((done.size_digest, location, place, done.row))
  for name, found in files.items():
    size = settings.sizes[name] or len(found)
    by_digest = sorted(found, key=lambda one: one[0])
    gone += [(location, 'size', None) for _, location, *_ in by_digest[size:]]
    by_place = sorted(by_digest[:size], key=lambda one: one[2])
    files[name] = [row for *_, row in by_place]
  return files, gone
