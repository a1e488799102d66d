"""Saying several sentences in one."""

from __future__ import annotations

import random
import re
from typing import Any

from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base

# (what somebody does, with which article, what it takes)
_DEEDS = (
  ('finds', 'a ', 'object'),
  ('found', 'a ', 'object'),
  ('sees', 'a ', 'animal'),
  ('saw', 'a ', 'animal'),
  ('buys', '', 'food'),
  ('bought', '', 'food'),
  ('makes', '', 'food'),
  ('made', '', 'food'),
  ('goes to', '', 'town'),
  ('went to', '', 'town'),
)
_DEED = re.compile(
  f'({"|".join(world_lib.PEOPLE)}) ({"|".join(d for d, _, _ in _DEEDS)}) (.+)'
)


def make_summary(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Gives two or three sentences that one can say."""
  del world
  person = draw.choice(world_lib.PEOPLE)
  deed, article, slot = draw.choice(_DEEDS)
  items = draw.sample(world_lib.SLOTS[slot], draw.choice((2, 3)))
  text = ' '.join(f'{person} {deed} {article}{item}.' for item in items)
  form = draw.choice(('summarize: {}', 'say this in one sentence: {}'))
  spec = {'person': person, 'deed': deed, 'article': article, 'items': items}
  return form.format(text), spec


def answer_summary(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Says 'ben buys bread, corn and milk.'"""
  del world, draw
  items = [spec['article'] + item for item in spec['items']]
  return f'{spec["person"]} {spec["deed"]} {base.joined(items)}.'


def check_summary(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if one sentence holds all of it and nothing else."""
  del world
  reading = base.read(text)
  best = 0.0
  summaries = [s for s in map(_summary, reading.sentences) if s]
  for person, deed, items in summaries:
    right = len(set(items) & set(spec['items']))
    share = right / max(len(spec['items']), len(items))
    best = max(
      best,
      share**2  # one of the sentences, copied, is no summary
      * (1.0 if person == spec['person'] else 0.3)
      * (1.0 if deed == spec['deed'] else 0.5),
    )
  correct = best / max(1, len(reading.sentences))
  return base.check(
    None,
    reading,
    best > 0,
    correct,
    legal=lambda s: _summary(s) is not None,
  )


def _summary(sentence: str) -> tuple[str, str, list[str]] | None:
  """Returns who does what to which things; None if it is not of that form."""
  match = _DEED.fullmatch(sentence.rstrip('.'))
  items = base.items(match.group(3)) if match else []
  known = items and all(item in base.SLOT_OF for item in items)
  return (match.group(1), match.group(2), items) if known else None


TASKS = (
  base.Task(
    'summarize',
    'summarization',
    4.2,
    make_summary,
    answer_summary,
    check_summary,
    closed_domain=True,
    max_words=13,
  ),
)
