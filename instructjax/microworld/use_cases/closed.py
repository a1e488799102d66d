"""Questions about a text, and taking things out of it."""

from __future__ import annotations

import random
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base
from instructjax.microworld.use_cases import open_qa
from instructjax.microworld.use_cases import stories

# Told of in passages: nothing of which the web has myths.
_TOLD = (
  'works_as',
  'home',
  'likes',
  'animal_colour',
  'object_colour',
  'weather',
)
_CATEGORIES = {
  'people': 'person',
  'animals': 'animal',
  'objects': 'object',
  'foods': 'food',
  'towns': 'town',
}


def make_closed(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Tells two or three things, not of this world, and asks about one."""
  del world
  relation = draw.choice(_TOLD)
  subjects, values = (world_lib.SLOTS[s] for s in world_lib.RELATIONS[relation])
  count = draw.choice((2, 2, 3))
  told = dict(
    zip(
      draw.sample(subjects, count),
      draw.sample(values, count),
      strict=True,
    )
  )
  passage = ' '.join(language.say((relation, *pair)) for pair in told.items())
  subject = draw.choice(sorted(told))
  text = f'text: {passage} question: {language.ask(relation, subject)}'
  return text, {'relation': relation, 'subject': subject, 'told': told}


def answer_closed(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Says what the text says."""
  del world
  subject = spec['subject']
  claim = (spec['relation'], subject, spec['told'][subject])
  return language.say(claim) if draw.random() < 0.8 else base.short(claim)


def check_closed(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if it gives the text's value; other values are invented."""
  del world
  reading = base.read(text)
  relation, subject, told = spec['relation'], spec['subject'], spec['told']
  facts = [s.claim for s in reading.of('fact')]
  given = [c[2] for c in facts if c[:2] == (relation, subject)]
  short = open_qa.values(reading, relation)
  denied = [c for c in facts if c[0] != relation or told.get(c[1]) != c[2]]
  wrong = sum(value != told[subject] for value in short)
  values = given + short
  right = sum(value == told[subject] for value in values)
  return base.check(
    None,
    reading,
    bool(values or reading.of('unsure')),
    right / max(1, len(reading.sentences)),
    legal=lambda s: base.value_in(s, relation) is not None,
    claims=len(facts) + len(short),
    false_claims=len(denied) + wrong,
    invented=len(denied) + wrong,
  )


def make_extract(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Gives a text, and asks which things of a category are in it."""
  del world
  while True:
    cast = draw.sample(world_lib.PEOPLE, 2)
    cast += [draw.choice(world_lib.ANIMALS + world_lib.OBJECTS)]
    told: list[str] = []
    while len(told) < draw.choice((2, 3)):
      new = stories.happening(draw, cast, draw.random() < 0.5)
      told += [new] if new not in told else []
    there = [w for s in told for _, w in language.parse(s).slots]
    category = draw.choice(sorted(_CATEGORIES))
    slot = _CATEGORIES[category]
    wanted = [w for w in dict.fromkeys(there) if base.SLOT_OF.get(w) == slot]
    if wanted:
      break
  form = draw.choice(('list the {} in this text: {}', 'which {} are here? {}'))
  spec = {'slot': slot, 'wanted': wanted}
  return form.format(category, ' '.join(told)), spec


def answer_extract(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Lists them as they come."""
  del world, draw
  return base.listed(spec['wanted'])


def check_extract(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right by the share that is found, if little else is listed."""
  del world
  reading = base.read(text)
  pool = world_lib.SLOTS[spec['slot']]
  listed = [w for s in reading.sentences for w in base.items(s)]
  right = set(listed) & set(spec['wanted'])
  return base.check(
    None,
    reading,
    sum(w in pool for w in listed) * 2 > len(listed),
    base.list_score(len(right), len(spec['wanted']), len(listed)),
    legal=lambda s: any(w in pool for w in base.items(s)),
    claims=len(listed),
    false_claims=sum(w not in spec['wanted'] for w in listed),
  )


TASKS = (
  base.Task(
    'closed_qa',
    'closed_qa',
    2.6,
    make_closed,
    answer_closed,
    check_closed,
    closed_domain=True,
    constraints=('exactly', 'at_most', 'start', 'end'),
    max_words=8,
  ),
  base.Task(
    'extract',
    'extract',
    1.9,
    make_extract,
    answer_extract,
    check_extract,
    closed_domain=True,
    max_words=8,
  ),
)
