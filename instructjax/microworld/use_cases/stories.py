"""Stories, and what comes next in them."""

from __future__ import annotations

import random
import re
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base

_HAPPENS = ('event', 'past')
_HOME = ('they go home.', 'they went home.')
_SLOT = re.compile(r'\{(\w+)\}')


def happening(
  draw: random.Random, cast: list[str], past: bool, about: str | None = None
) -> str:
  """Returns an event in which only the cast acts.

  Args:
    draw: where choices come from.
    cast: people, animals or objects of the story.
    past: whether it is over.
    about: one of the cast that the sentence has to mention; None for any.
  """
  people = [w for w in cast if base.SLOT_OF[w] == 'person']
  while True:
    template = draw.choice(language.EVENTS)[past]
    slots = _SLOT.findall(template)
    if not slots or slots.count('person') > len(people):
      continue
    used: list[str] = []
    for slot in slots:
      own = [w for w in cast if base.SLOT_OF[w] == slot and w not in used]
      # The story's fox stays that fox, and what else there is comes at random.
      pool = own or [w for w in world_lib.SLOTS[slot] if w not in used]
      used.append(draw.choice(pool))
    if about is None and set(used) & set(cast) or about in used:
      words = iter(used)
      return _SLOT.sub(lambda match, words=words: next(words), template)


def deed(sentence: str) -> str:
  """Returns what happens, whoever does it, and whenever.

  To be happy and to be sad, or to buy rice and to buy milk, are the same deed.
  """
  template = language.parse(language.past(sentence) or sentence).template
  return 'mood' if '{mood}' in template else template


def make_story(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks for a story about somebody and somebody or something."""
  del world
  slot = draw.choice(('person', 'animal', 'animal', 'object'))
  one = draw.choice(world_lib.PEOPLE)
  two = draw.choice([w for w in world_lib.SLOTS[slot] if w != one])
  both = f'{base.noun(one)} and {base.noun(two)}'
  form = draw.choice(('write a story about {}.', 'tell me a story about {}.'))
  return form.format(both), {'topics': [one, two]}


def answer_story(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Lets two or three things happen to them."""
  del world
  cast, past = list(spec['topics']), draw.random() < 0.6
  count = draw.choice((2, 2, 3))
  told: list[str] = []
  while len(told) < count:
    about = cast[len(told)] if len(told) < 2 else None
    new = happening(draw, cast, past, about)
    if deed(new) not in map(deed, told):
      told.append(new)
  if count == 2 and draw.random() < 0.3 and base.SLOT_OF[cast[1]] != 'object':
    told.append(_HOME[past])
  return ' '.join(told)


def check_story(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if both are in it, two things happen, and all is one story."""
  reading = base.read(text)
  topics = set(spec['topics'])
  events = reading.of(*_HAPPENS)
  about = [s for s in events if s.words & topics or s.text in _HOME]
  there = set().union(*(s.words for s in events)) & topics
  distinct = {deed(s.text) for s in about}
  length = min(1.0, len(distinct) / 2)
  relevant = len(distinct) / max(1, len(reading.sentences))
  one_tense = len({s.kind for s in events}) < 2
  correct = (len(there) / 2) ** 2 * length * relevant * (0.8 + 0.2 * one_tense)
  return base.check(world, reading, bool(there), correct)


def make_continue(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Gives a story's beginning."""
  del world
  cast, past = [draw.choice(world_lib.PEOPLE)], draw.random() < 0.6
  if draw.random() < 0.5:
    cast.append(draw.choice(world_lib.ANIMALS))
  given = [happening(draw, cast, past, cast[0])]
  while draw.random() < 0.4 and len(given) < 2:
    new = happening(draw, cast, past, cast[-1])
    given += [new] if new not in given else []
  form = draw.choice(('continue the story: {}', 'what happens next? {}'))
  acting = sorted(
    word
    for word in set().union(*(language.parse(s).words for s in given))
    if base.SLOT_OF.get(word) in ('person', 'animal', 'object')
  )
  spec = {'given': given, 'cast': acting, 'past': past}
  return form.format(' '.join(given)), spec


def answer_continue(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Lets one or two more things happen to the same people."""
  del world
  told: list[str] = []
  count = draw.choice((1, 2))
  while len(told) < count:
    new = happening(draw, list(spec['cast']), spec['past'])
    if deed(new) not in map(deed, [*told, *spec['given']]):
      told.append(new)
  return ' '.join(told)


def check_continue(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if something new happens to those it began with, at that time."""
  reading = base.read(text)
  cast, given = set(spec['cast']), set(spec['given'])
  given |= {language.past(s) or s for s in given}
  events = [
    s
    for s in reading.of(*_HAPPENS)
    if (language.past(s.text) or s.text) not in given
  ]
  about = [s for s in events if s.words & cast or s.text in _HOME]
  fitting = sum(
    1.0 if (s.kind == 'past') == spec['past'] else 0.6 for s in about
  )
  correct = fitting / max(1, len(reading.sentences))
  return base.check(world, reading, bool(events), correct)


TASKS = (
  base.Task(
    'story',
    'generation',
    10.0,
    make_story,
    answer_story,
    check_story,
    constraints=('with', 'without', 'at_most', 'start', 'end'),
    max_sentences=4,
    max_words=24,
  ),
  base.Task(
    'continue',
    'generation',
    5.6,
    make_continue,
    answer_continue,
    check_continue,
    constraints=('with', 'without', 'at_most', 'end'),
    max_sentences=3,
    max_words=20,
  ),
)
