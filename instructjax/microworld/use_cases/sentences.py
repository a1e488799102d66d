"""Sentences about things, and what is known of them."""

from __future__ import annotations

import random
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base
from instructjax.microworld.use_cases import stories

_SAYS = ('fact', 'event', 'past', 'rude', 'kind', 'review')


def make_sentence(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks for a sentence with one or two things in it."""
  del world
  one = draw.choice(sorted(base.SLOT_OF))
  topics = [one]
  if draw.random() < 0.5:
    person = draw.choice([p for p in world_lib.PEOPLE if p != one])
    topics = [person, one]
  if base.SLOT_OF[one] in ('food', 'town') and len(topics) == 2:
    topics = [person, draw.choice(world_lib.FOODS + world_lib.TOWNS)]
  both = ' and '.join(base.noun(word) for word in topics)
  form = draw.choice(('write a sentence about {}.', 'make a sentence with {}.'))
  return form.format(both), {'topics': topics}


def answer_sentence(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Says something that is true, or that happens."""
  topics = list(spec['topics'])
  known = [
    (relation, subject, value)
    for (relation, subject), value in world.facts.items()
    if subject == topics[0] and (relation, subject) not in world.reserved
  ]
  if len(topics) == 1 and known and draw.random() < 0.4:
    return language.say(draw.choice(known), draw)
  people = [w for w in topics if base.SLOT_OF[w] == 'person']
  cast = topics if people else [*topics, draw.choice(world_lib.PEOPLE)]
  while True:
    found = stories.happening(draw, cast, draw.random() < 0.5, topics[-1])
    if set(topics) <= language.parse(found).words:
      return found


def check_sentence(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if one sentence holds all that was named, and is not false."""
  reading = base.read(text)
  topics = set(spec['topics'])
  said = reading.of(*_SAYS)
  best = max((len(s.words & topics) for s in said), default=0)
  correct = (best / len(topics)) ** 2 / max(1, len(reading.sentences))
  return base.check(world, reading, best > 0, correct)


def make_describe(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks for what is known of one thing, or of two."""
  keys = base.askable(world)
  number = {}
  for _, subject in keys:
    number[subject] = number.get(subject, 0) + 1
  many = [subject for subject, count in number.items() if count > 1]
  if draw.random() < 0.3:
    one, two = draw.sample(many, 2)
    text = f'tell me about {base.noun(one)} and {base.noun(two)}.'
    return text, {'wanted': {one: 1, two: 1}}
  subject = draw.choice(many)
  form, count = draw.choice(
    (
      ('describe {}.', 2),
      ('what do you know about {}?', 2),
      ('tell me two facts about {}.', 2),
      ('write two facts about {}.', 2),
      ('tell me a fact about {}.', 1),
    )
  )
  return form.format(base.noun(subject)), {'wanted': {subject: count}}


def answer_describe(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Says as many facts as are wanted, none of them a reserved myth's."""
  told = []
  for subject, count in spec['wanted'].items():
    keys = [key for key in base.askable(world) if key[1] == subject]
    for relation, name in draw.sample(keys, count):
      told.append(language.say((relation, name, world.truth(relation, name))))
  return ' '.join(told)


def check_describe(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if as many different facts as wanted are said, and all are true."""
  reading = base.read(text)
  wanted = spec['wanted']
  said = {s.claim for s in reading.of('fact')}
  about = [claim for claim in said if claim[1] in wanted]
  right = 0
  for subject, count in wanted.items():
    true = sum(world.holds(claim) for claim in about if claim[1] == subject)
    right += min(count, true)
  correct = right / max(sum(wanted.values()), len(reading.sentences))
  attempted = bool(about or reading.of('unsure'))
  return base.check(world, reading, attempted, correct)


TASKS = (
  base.Task(
    'sentence',
    'generation',
    7.0,
    make_sentence,
    answer_sentence,
    check_sentence,
    constraints=('exactly', 'with', 'without', 'start', 'end'),
  ),
  base.Task(
    'describe',
    'generation',
    7.0,
    make_describe,
    answer_describe,
    check_describe,
    constraints=('without', 'start', 'end'),
    max_sentences=2,
    max_words=16,
  ),
)
