"""Open questions: what is true of something in the world."""

from __future__ import annotations

import random
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base

_FORMS = ('{}', 'please tell me: {}', 'here is a question: {}')


def make(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks about one fact."""
  relation, subject = draw.choice(base.askable(world))
  spec = {'relation': relation, 'subject': subject}
  return draw.choice(_FORMS).format(language.ask(relation, subject)), spec


def answer(world: world_lib.World, draw: random.Random, spec: base.Spec) -> str:
  """Says the fact, or only its value."""
  relation, subject = spec['relation'], spec['subject']
  claim = (relation, subject, world.truth(relation, subject))
  if draw.random() < 0.8:
    return language.say(claim, draw)
  return draw.choice((base.short(claim), f'{claim[2]}.'))


def check(world: world_lib.World, spec: base.Spec, text: str) -> base.Check:
  """Right if it gives the true value, and nothing else."""
  relation, subject = spec['relation'], spec['subject']
  reading = base.read(text)
  truth = world.truth(relation, subject)
  said = [
    s.claim[2] for s in reading.of('fact') if s.claim[:2] == (relation, subject)
  ]
  short = values(reading, relation)
  given = said + short
  right = sum(value == truth for value in given) / max(1, len(given))
  return base.check(
    world,
    reading,
    bool(given or reading.of('unsure')),
    right * 2 / (1 + max(1, len(reading.sentences))),
    legal=lambda s: base.value_in(s, relation) is not None,
    claims=len(short),
    false_claims=sum(value != truth for value in short),
  )


def values(reading: base.Reading, relation: str) -> list[str]:
  """Returns the values that are given without a sentence around them."""
  found = [base.value_in(s, relation) for s in reading.sentences]
  return [value for value in found if value is not None]


TASKS = (
  base.Task(
    'open_qa',
    'open_qa',
    12.4,
    make,
    answer,
    check,
    constraints=('exactly', 'at_most', 'start', 'end'),
    max_words=8,
    few_shot=True,
  ),
)
