"""Texts with something personal in them and texts that only look as if.

`part_tune` is what was in view while the patterns were written. `part_held_out`
has other formats, countries and sentences; it was looked at once, and what it
showed was mended. `part_fresh`, again of others, was written after that and
measured once, with nothing changed since.
"""

from __future__ import annotations

import dataclasses
import random

from experiments.pii import part_fresh
from experiments.pii import part_held_out
from experiments.pii import part_tune

PARTS = {
  'tune': part_tune,
  'held_out': part_held_out,
  'fresh': part_fresh,
}
OPTIONAL = ('street_address', 'person')
# Formats that nobody could tell from other numbers without a word.
_NEEDS_A_WORD = {
  *('us_local', 'us_bare', 'pl', 'it', 'es', 'cn', 'grouped_pairs'),
  *('hk', 'no', 'dk', 'sg', 'cz', 'mx', 'gr', 'eight', 'bare'),
}


@dataclasses.dataclass(frozen=True)
class Row:
  """A text; what is planted in it, or None; and the format's name.

  `value` is what must not remain of it. `optional` rows are for the kinds that
  are off by default.
  """

  text: str
  kind: str | None
  value: str
  family: str
  optional: bool = False


def rows(part: str, seed: int = 0, count: int = 9) -> list[Row]:
  """Returns `count` texts of every format and family of a part."""
  return positives(part, seed, count) + negatives(part, seed, count)


def positives(part: str, seed: int, count: int) -> list[Row]:
  """Returns texts with something planted."""
  source = PARTS[part]
  draw = random.Random(f'{part}/{seed}')
  found = []
  for kind, formats in source.POSITIVES.items():
    for family, make in formats.items():
      for i in range(count):
        frames = source.SENTENCES[kind]
        untold = kind == 'phone' and family not in _NEEDS_A_WORD and i % 3 == 2
        if untold:
          frames = source.UNTOLD_PHONES
        value = make(draw)
        before, _, rest = value.rpartition('\u2039')
        core, _, after = rest.partition('\u203a')
        value = before + core + after
        text = frames[(i + len(found)) % len(frames)].format(value)
        name = f'{kind}/{family}' + ('/untold' if untold else '')
        found.append(Row(text, kind, core, name, kind in OPTIONAL))
  return found


def negatives(part: str, seed: int, count: int) -> list[Row]:
  """Returns texts with nothing personal."""
  source = PARTS[part]
  draw = random.Random(f'{part}/negatives/{seed}')
  found = []
  for family, make in source.NEGATIVES.items():
    for i in range(count):
      frames = source.QUESTIONS
      text = frames[(i + len(found)) % len(frames)].replace('{}', make(draw))
      found.append(Row(text, None, '', family))
  found += [
    Row(text, None, '', 'optional', True) for text in source.OPTIONAL_NEGATIVES
  ]
  return found
