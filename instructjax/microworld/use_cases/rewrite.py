"""Saying the same otherwise: in the past, of another person, kindly."""

from __future__ import annotations

import random
import re
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base
from instructjax.microworld.use_cases import stories


def make_past(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Gives one or two things that happen."""
  del world
  given = _happenings(draw, 1 if draw.random() < 0.6 else 2)
  form = draw.choice(('put this in the past: {}', 'say this in the past: {}'))
  target = [language.past(sentence) for sentence in given]
  return form.format(' '.join(given)), {'target': target, 'given': given}


def _happenings(draw: random.Random, count: int) -> list[str]:
  cast = draw.sample(world_lib.PEOPLE, 2)
  given: list[str] = []
  while len(given) < count:
    new = stories.happening(draw, cast, False, draw.choice(cast))
    given += [new] if new not in given else []
  return given


def make_name(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Gives what somebody does, to be told of somebody else."""
  del world
  one, two = draw.sample(world_lib.PEOPLE, 2)
  given = [stories.happening(draw, [one], draw.random() < 0.5, one)]
  if draw.random() < 0.4:
    new = stories.happening(draw, [one], draw.random() < 0.5, one)
    given += [new] if new not in given else []
  target = [re.sub(rf'\b{one}\b', two, sentence) for sentence in given]
  text = f'change {one} to {two}: {" ".join(given)}'
  return text, {'target': target, 'given': given}


def answer(world: world_lib.World, draw: random.Random, spec: base.Spec) -> str:
  """Says it as wanted; there is one way."""
  del world, draw
  return ' '.join(spec['target'])


def check(world: world_lib.World, spec: base.Spec, text: str) -> base.Check:
  """Right by the share of sentences that are as they should be, in order.

  A sentence that is English and close counts for less; what the prompt had
  already, unchanged, for nothing.
  """
  del world
  reading = base.read(text)
  new = [s for s in reading.sentences if s not in spec['given']]
  credit = 0.0
  for i, target in enumerate(spec['target']):
    if i < len(reading.sentences):
      credit += _likeness(reading.sentences[i], target, spec['given'])
  correct = credit / max(len(spec['target']), len(reading.sentences))
  attempted = bool(new) and credit > 0
  return base.check(None, reading, attempted, correct)


def _likeness(sentence: str, target: str, given: list[str]) -> float:
  if sentence == target:
    return 1.0
  found, wanted = language.parse(sentence), language.parse(target)
  if found is None or sentence in given:
    return 0.0
  if found.template == wanted.template:
    same = sum(a == b for a, b in zip(found.slots, wanted.slots, strict=True))
    return 0.5 * same / max(1, len(wanted.slots))
  return 0.1 * (found.kind == wanted.kind and bool(found.words & wanted.words))


def make_kind(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Gives a rude remark, to be made a kind one."""
  del world
  person = draw.choice(world_lib.PEOPLE)
  rude = draw.choice(language.REMARKS['rude']).format(person=person)
  form = draw.choice(('make this kind: {}', 'say this in a kind way: {}'))
  return form.format(rude), {'person': person, 'given': [rude]}


def answer_kind(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Says something kind of the same person."""
  del world
  remark = draw.choice(language.REMARKS['kind'])
  return remark.format(person=spec['person'])


def check_kind(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if it is a kind remark on that person."""
  del world
  reading = base.read(text)
  kind = reading.of('kind')
  fitting = [s for s in kind if spec['person'] in s.words]
  correct = len(fitting) / max(1, len(reading.sentences))
  return base.check(None, reading, bool(kind), correct)


TASKS = (
  base.Task(
    'rewrite_past',
    'rewrite',
    3.2,
    make_past,
    answer,
    check,
    closed_domain=True,
    max_sentences=2,
    max_words=18,
    few_shot=True,
  ),
  base.Task(
    'rewrite_name',
    'rewrite',
    2.2,
    make_name,
    answer,
    check,
    closed_domain=True,
    max_sentences=2,
    max_words=18,
  ),
  base.Task(
    'rewrite_kind',
    'rewrite',
    1.2,
    make_kind,
    answer_kind,
    check_kind,
    closed_domain=True,
    constraints=('without', 'start', 'end'),
  ),
)
