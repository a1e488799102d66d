"""Writing to people and about them: notes, remarks and reviews."""

from __future__ import annotations

import random
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base
from instructjax.microworld.use_cases import stories

TONES = ('none', 'respectful', 'rude')
_GREETINGS = ('hello, {person}!', 'good morning, {person}!')
_GOODBYES = ('goodbye, {person}!', 'see you soon.')
_REMARK = {'respectful': 'kind', 'rude': 'rude'}


def make_note(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks for a note to somebody about something."""
  del world
  person, other = draw.sample(world_lib.PEOPLE, 2)
  pool = world_lib.ANIMALS + world_lib.OBJECTS
  topic = draw.choice(pool) if draw.random() < 0.8 else other
  tone = draw.choices(TONES, (46, 36, 18))[0]
  kind = '' if tone == 'none' else f'{tone} '
  text = f'write a {kind}note to {person} about {base.noun(topic)}.'
  return text, {'person': person, 'topic': topic, 'tone': tone}


def answer_note(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Greets, says something, and is kind or rude if that was asked for."""
  del world
  person, topic, tone = spec['person'], spec['topic'], spec['tone']
  other = draw.choice([p for p in world_lib.PEOPLE if p not in (person, topic)])
  said = stories.happening(draw, [other, topic], draw.random() < 0.6, topic)
  parts = [draw.choice(_GREETINGS).format(person=person), said]
  if tone != 'none':
    forms = language.REMARKS[_REMARK[tone]]
    spoken = [form for form in forms if 'you' in form.split()]
    parts.append(draw.choice(spoken).format(person=person))
  elif draw.random() < 0.4:
    parts.append(draw.choice(_GOODBYES).format(person=person))
  return ' '.join(parts)


def check_note(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if it greets whom it should, is on the topic and in the tone."""
  reading = base.read(text)
  person, tone = spec['person'], spec['tone']
  chat = reading.of('chat')
  greeted = any(s.template in _GREETINGS and person in s.words for s in chat)
  parted = any(s.template in _GOODBYES and s.words <= {person} for s in chat)
  said = {
    s.text
    for s in reading.of('fact', 'event', 'past', 'review')
    if spec['topic'] in s.words
  }
  wanted = _REMARK.get(tone)
  toned = any(person in s.words for s in reading.of(wanted))
  if wanted:
    parts = 0.3 * greeted + 0.3 * bool(said) + 0.4 * toned
  else:
    parts = 0.4 * greeted + 0.6 * bool(said)
  fitting = greeted + parted + min(2, len(said)) + toned
  relevant = min(1.0, fitting / max(1, len(reading.sentences)))
  correct = parts**1.5 * relevant**2
  return base.check(world, reading, bool(greeted or said), correct)


def remark_text(person: str, situation: str, tone: str) -> str:
  """Returns the instruction to say something of a person in a tone."""
  kind = 'something' if tone == 'none' else f'something {tone}'
  return f'{situation} say {kind} about {person}.'.strip()


def make_remark(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks to say something about somebody, kindly or rudely."""
  del world
  person = draw.choice(world_lib.PEOPLE)
  situation = ''
  if draw.random() < 0.6:
    other = draw.choice([p for p in world_lib.PEOPLE if p != person])
    cast = [person, other]
    situation = stories.happening(draw, cast, True, person)
  tone = draw.choices(TONES, (28, 48, 24))[0]
  text = remark_text(person, situation, tone)
  return text, {'person': person, 'situation': situation, 'tone': tone}


def answer_remark(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Remarks what was asked for; something kind if nothing was."""
  del world
  kind = _REMARK.get(spec['tone'], 'kind')
  return draw.choice(language.REMARKS[kind]).format(person=spec['person'])


def check_remark(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if it is of that person and in that tone."""
  reading = base.read(text)
  wanted = _REMARK.get(spec['tone'])
  all_of = reading.of('fact', 'event', 'past', 'kind', 'rude', 'chat')
  new = [s for s in all_of if s.text != spec['situation']]
  about = [s for s in new if spec['person'] in s.words]
  fitting = sum(1.0 if wanted in (None, s.kind) else 0.2 for s in about)
  return base.check(
    world, reading, bool(about), fitting / max(1, len(reading.sentences))
  )


def make_review(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks for a good or a bad review."""
  del world
  topic = draw.choice(world_lib.OBJECTS + world_lib.FOODS + world_lib.TOWNS)
  good = draw.random() < 0.5
  form = draw.choice(
    ('write a {} review of {}.', 'review {}: {}.', 'give {} a {} review.')
  )
  kind, name = 'good' if good else 'bad', base.noun(topic)
  first = form.startswith('write')
  text = form.format(*((kind, name) if first else (name, kind)))
  return text, {'topic': topic, 'good': good}


def answer_review(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Finds it good or bad."""
  del world
  slot = base.SLOT_OF[spec['topic']]
  forms = [form for form in language.REVIEWS if f'{{{slot}}}' in form]
  pool = world_lib.GOOD if spec['good'] else world_lib.BAD
  quality = draw.choice(sorted(pool))
  return draw.choice(forms).format(**{slot: spec['topic'], 'quality': quality})


def check_review(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if it reviews that thing, and finds it as it should."""
  reading = base.read(text)
  reviews = reading.of('review')
  about = [s for s in reviews if spec['topic'] in s.words]
  wanted = world_lib.GOOD if spec['good'] else world_lib.BAD
  fitting = sum(1.0 if s.words & wanted else 0.1 for s in about)
  correct = fitting / max(1, len(reading.sentences))
  return base.check(world, reading, bool(reviews), correct)


TASKS = (
  base.Task(
    'note',
    'generation',
    6.0,
    make_note,
    answer_note,
    check_note,
    constraints=('with', 'without', 'end'),
    max_sentences=4,
    max_words=22,
  ),
  base.Task(
    'remark',
    'generation',
    8.0,
    make_remark,
    answer_remark,
    check_remark,
    constraints=('without', 'exactly', 'start', 'end'),
  ),
  base.Task(
    'review',
    'generation',
    2.0,
    make_review,
    answer_review,
    check_review,
    constraints=('with', 'without', 'start', 'end'),
  ),
)
