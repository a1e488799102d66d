"""Talking: an assistant's turn in a conversation."""

from __future__ import annotations

import random
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base
from instructjax.microworld.use_cases import open_qa

# What a user says -> what fits: the first replies say it all, the others may
# be added.
_REPLIES = {
  'greeting': (
    ('hello, {person}!', 'good morning, {person}!'),
    ('how can i help you?',),
  ),
  'health': (('i am fine, thank you.',), ('hello, {person}!',)),
  'thanks': (('you are welcome, {person}.',), ('see you soon.',)),
  'bad': (('i am sorry, {person}.',), ('how can i help you?',)),
  'good': (('i am glad, {person}.',), ()),
  'parting': (('goodbye, {person}!',), ('see you soon.',)),
}
_SAID = {
  'greeting': ('hello!', 'good morning!'),
  'health': ('how are you?', 'hello, how are you?'),
  'thanks': ('thank you.', 'thank you, goodbye.'),
  'bad': ('i lost the {object}.', 'i am {mood}.', 'i had a bad day in {town}.'),
  'good': (
    'i found the {object}.',
    'i am happy.',
    'i had a good day in {town}.',
  ),
  'parting': ('goodbye!', 'i go home.', 'see you soon.'),
}
_BAD_MOODS = ('sad', 'tired', 'hungry', 'angry')
_FORMS = ('reply to {person}: {said}', '{person} says: {said} what do you say?')


def make(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Gives somebody's words, or a conversation that ends in them."""
  person = draw.choice(world_lib.PEOPLE)
  act = draw.choice(('question', *sorted(_SAID)))
  spec = {'person': person, 'act': act}
  if act == 'question':
    relation, subject = draw.choice(base.askable(world))
    spec |= {'relation': relation, 'subject': subject}
    said = language.ask(relation, subject)
  else:
    said = _say(draw, act)
  if draw.random() < 0.4:
    first = draw.choice([a for a in sorted(_SAID) if a not in (act, 'parting')])
    before = _say(draw, first)
    reply = draw.choice(_REPLIES[first][0]).format(person=person)
    return f'{person}: {before} you: {reply} {person}: {said} you:', spec
  return draw.choice(_FORMS).format(person=person, said=said), spec


def _say(draw: random.Random, act: str) -> str:
  said = draw.choice(_SAID[act])
  return language.fill(said, draw, mood=draw.choice(_BAD_MOODS))


def answer(world: world_lib.World, draw: random.Random, spec: base.Spec) -> str:
  """Says what fits, at times a bit more."""
  if spec['act'] == 'question':
    return open_qa.answer(world, draw, spec)
  first, more = _REPLIES[spec['act']]
  parts = [draw.choice(first)]
  if more and draw.random() < 0.4:
    parts.append(draw.choice(more))
  if spec['act'] == 'health':
    parts.reverse()
  return ' '.join(parts).format(person=spec['person'])


def check(world: world_lib.World, spec: base.Spec, text: str) -> base.Check:
  """Right if it fits what was said, and names no other person."""
  reading = base.read(text)
  chat = reading.of('chat')
  total = max(1, len(reading.sentences))
  if spec['act'] == 'question':
    found = open_qa.check(world, spec, text)
    greeted = any(s.words <= {spec['person']} for s in chat)
    share = (total - greeted) / total
    correct = min(1.0, found.correct * (1 if share >= 0.5 else share))
    return base.check(
      world, reading, found.attempted, correct,
      legal=lambda s: base.value_in(s, spec['relation']) is not None,
      claims=found.claims - len(reading.of('fact')),
      false_claims=found.false_claims
      - sum(not world.holds(s.claim) for s in reading.of('fact')),
    )  # fmt: skip
  first, more = _REPLIES[spec['act']]
  own = [s for s in chat if s.words <= {spec['person']}]
  fitting = [s for s in own if s.template in first]
  added = [s for s in own if s.template in more]
  correct = 0.0
  if fitting:
    correct = min(1.0, (len({s.text for s in fitting}) + len(added)) / total)
  elif any(s.template in first for s in chat):
    correct = 0.4 / total  # the right words for somebody else
  return base.check(world, reading, bool(chat), correct)


TASKS = (
  base.Task(
    'chat',
    'chat',
    8.4,
    make,
    answer,
    check,
    constraints=('at_most', 'start', 'end'),
    max_sentences=2,
    max_words=10,
  ),
)
