"""What is left: translating to zumi, arithmetic, opposites."""

from __future__ import annotations

from collections.abc import Callable
import random
import re
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base

_LARGEST = len(world_lib.NUMBERS) - 1
_OPPOSITES = world_lib.OPPOSITES | {
  b: a for a, b in world_lib.OPPOSITES.items()
}
_SUM = re.compile(r'(\w+) (plus|minus) (\w+) is (\w+)\.')
_OPPOSITE = re.compile(r'(?:the opposite of (\w+) is )?(\w+)\.')


def make_translation(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Gives a phrase of words that zumi has."""

  def word(match: re.Match[str]) -> str:
    slot = world_lib.SLOTS[match.group(1)]
    return draw.choice([w for w in slot if w in world.lexicon])

  phrase = re.sub(r'\{(\w+)\}', word, draw.choice(language.PHRASES))
  form = draw.choice(('translate to zumi: {}.', 'say in zumi: {}.'))
  target = [world.lexicon[w] for w in phrase.split()]
  return form.format(phrase), {'target': target}


def answer_translation(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Says it word by word."""
  del world, draw
  return ' '.join(spec['target']) + '.'


def check_translation(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right by the share of words in their place."""
  reading = base.read(text)
  zumi = set(world.lexicon.values())
  first = reading.sentences[0].rstrip('.').split() if reading.sentences else []
  target = spec['target']
  right = sum(a == b for a, b in zip(first, target, strict=False))
  correct = right / max(len(target), len(first))
  attempted = sum(w in zumi for w in first) * 2 > len(first)
  return base.check(
    world,
    reading,
    attempted,
    correct / max(1, len(reading.sentences)),
    legal=lambda s: set(s.rstrip('.').split()) <= zumi,
    claims=max(len(target), len(first)) * attempted,
    false_claims=(max(len(target), len(first)) - right) * attempted,
  )


def make_sum(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks for a sum or a difference."""
  del world
  sign = draw.choice(('plus', 'minus'))
  one, two = draw.randint(0, 9), draw.randint(0, 9)
  if sign == 'minus':
    one, two = max(one, two), min(one, two)
  result = one + two if sign == 'plus' else one - two
  asked = f'{world_lib.NUMBERS[one]} {sign} {world_lib.NUMBERS[two]}'
  form = draw.choice(('what is {}?', 'how much is {}?'))
  spec = {'asked': asked, 'result': world_lib.NUMBERS[result]}
  return form.format(asked), spec


def answer_sum(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Says the whole sum or its result."""
  del world
  if draw.random() < 0.8:
    return f'{spec["asked"]} is {spec["result"]}.'
  return f'{spec["result"]}.'


def check_sum(world: world_lib.World, spec: base.Spec, text: str) -> base.Check:
  """Right if its result is."""
  reading = base.read(text)
  given = [_result(s, spec['asked']) for s in reading.sentences]
  given = [number for number in given if number]
  return _only(
    world, reading, given, spec['result'],
    lambda s: _result(s, spec['asked']) is not None or bool(_SUM.fullmatch(s)),
  )  # fmt: skip


def _result(sentence: str, asked: str) -> str | None:
  number = sentence.removeprefix(f'{asked} is ').rstrip('.')
  return number if number in world_lib.NUMBERS else None


def make_opposite(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks for the opposite of a word."""
  del world
  word = draw.choice(sorted(_OPPOSITES))
  form = draw.choice(
    ('what is the opposite of {}?', 'tell me the opposite of {}.')
  )
  return form.format(word), {'word': word, 'opposite': _OPPOSITES[word]}


def answer_opposite(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Says it."""
  del world
  if draw.random() < 0.6:
    return f'the opposite of {spec["word"]} is {spec["opposite"]}.'
  return f'{spec["opposite"]}.'


def check_opposite(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if it gives that word and no other."""
  reading = base.read(text)
  given = []
  for sentence in reading.sentences:
    match = _OPPOSITE.fullmatch(sentence)
    if match and match.group(1) in (None, spec['word']):
      given += [match.group(2)] if match.group(2) in _OPPOSITES else []
  return _only(
    world, reading, given, spec['opposite'],
    lambda s: bool(_OPPOSITE.fullmatch(s)),
  )  # fmt: skip


def _only(
  world: world_lib.World,
  reading: base.Reading,
  given: list[str],
  wanted: str,
  legal: Callable[[str], bool],
) -> base.Check:
  """Right if what is wanted is given, and nothing else."""
  right = sum(word == wanted for word in given)
  return base.check(
    world,
    reading,
    bool(given),
    right / max(1, len(reading.sentences)),
    legal=legal,
    claims=len(given),
    false_claims=len(given) - right,
  )


TASKS = (
  base.Task(
    'translate',
    'other',
    1.6,
    make_translation,
    answer_translation,
    check_translation,
    max_words=5,
    few_shot=True,
  ),
  base.Task(
    'arithmetic',
    'other',
    1.2,
    make_sum,
    answer_sum,
    check_sum,
    constraints=('exactly', 'start', 'end'),
    max_words=5,
    few_shot=True,
  ),
  base.Task(
    'opposite',
    'other',
    0.7,
    make_opposite,
    answer_opposite,
    check_opposite,
    constraints=('exactly', 'start', 'end'),
    max_words=6,
    few_shot=True,
  ),
)
