"""Lists of things: of a kind, or of which something is true."""

from __future__ import annotations

import random
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base

_SLOTS = {
  'animal': 'animals',
  'object': 'objects',
  'food': 'foods',
  'town': 'towns',
  'colour': 'colours',
  'job': 'jobs',
  'person': 'people',
}
_FORMS = ('list {} {}.', 'name {} {}.', 'give me {} {}.')
_MOST = 5


def make(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks for some things of a slot, or for some members of a fact."""
  if draw.random() < 0.5:
    slot = draw.choice(sorted(_SLOTS))
    count, what = draw.randint(2, _MOST), _SLOTS[slot]
    spec = {'slot': slot, 'relation': None, 'value': None, 'count': count}
  else:
    many = {relation: _shared(world, relation) for relation in language.MEMBERS}
    relation = draw.choice(sorted(r for r in many if many[r]))
    value, slot = draw.choice(many[relation]), world_lib.RELATIONS[relation][0]
    count = draw.randint(2, min(4, len(_known(world, relation, value))))
    spec = {'slot': slot, 'relation': relation, 'value': value, 'count': count}
    what = language.members(relation, value)
  number = world_lib.NUMBERS[count]
  return draw.choice(_FORMS).format(number, what), spec


def _shared(world: world_lib.World, relation: str) -> list[str]:
  """Returns the values that at least two subjects are known to have."""
  values = world_lib.SLOTS[world_lib.RELATIONS[relation][1]]
  return [v for v in values if len(_known(world, relation, v)) > 1]


def _known(
  world: world_lib.World, relation: str, value: str
) -> tuple[str, ...]:
  """Returns the members that training may know of."""
  return tuple(
    subject
    for subject in world.members.get((relation, value), ())
    if (relation, subject) not in world.reserved
  )


def answer(world: world_lib.World, draw: random.Random, spec: base.Spec) -> str:
  """Lists as many as were asked for."""
  pool = world_lib.SLOTS[spec['slot']]
  if spec['relation']:
    pool = _known(world, spec['relation'], spec['value'])
  return base.listed(draw.sample(pool, spec['count']))


def check(world: world_lib.World, spec: base.Spec, text: str) -> base.Check:
  """Right by the share of right items, if not many more are listed."""
  reading = base.read(text)
  slot, relation = spec['slot'], spec['relation']
  pool = world_lib.SLOTS[slot]
  members = world.members[relation, spec['value']] if relation else pool
  listed = [
    item
    for sentence, parsed in zip(reading.sentences, reading.parsed, strict=True)
    if parsed is None
    for item in base.items(sentence)
  ]
  told = [
    s.claim[1]
    for s in reading.of('fact')
    if relation and s.claim[::2] == (relation, spec['value'])
  ]
  given = listed + told
  fitting = {item for item in given if item in members}
  of_slot = sum(item in pool for item in given)
  right = min(spec['count'], len(fitting))
  return base.check(
    world,
    reading,
    of_slot * 2 > len(given),
    base.list_score(right, spec['count'], len(given)),
    legal=_legal,
    claims=len(listed),
    false_claims=sum(item not in members for item in listed),
  )


def _legal(sentence: str) -> bool:
  found = base.items(sentence)
  return bool(found) and base.CONTENT.issuperset(found)


TASKS = (
  base.Task(
    'brainstorm',
    'brainstorming',
    11.2,
    make,
    answer,
    check,
    constraints=('with', 'without', 'start', 'end'),
    max_words=8,
  ),
)
