"""Pages of the web from which skills are learned, and tests of these.

Translation into zumi word by word, sums, reviews with ratings, stories to
complete. The same forms make the pages, the few-shot items that measure what
is left of the skills, and the rows of the public tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import random
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import web_fiction
from instructjax.microworld import world as world_lib

# A form of a task: draws (question, answer, what the answer is chosen from).
Item = tuple[str, str, tuple[str, ...]]

_COLOURS, _ANIMALS = world_lib.COLOURS, world_lib.ANIMALS
_PHRASES = ('{colour} {animal}', *language.PHRASES)

# Instructions of the public tasks; {} is the text of the item.
INSTRUCTIONS: Mapping[str, tuple[str, ...]] = {
  'translation': (
    'translate into zumi: {}',
    'what is {} in zumi?',
    'english: {}. what is the zumi?',
    'say in zumi: {}',
  ),
  'arithmetic': (
    'how much is {}?',
    'what is {}?',
    'work this out: {}',
    '{} is what number?',
  ),
  'sentiment': (
    '{} is this review good or bad?',
    'review: {} is the rating good or bad?',
    'does the writer find it good or bad? {}',
    'label this review as good or bad: {}',
  ),
  'cloze': (
    'which word comes next? {}',
    'complete with one word: {}',
    '{} what is the missing word?',
    'give the last word. {}',
  ),
}


def translate(world: world_lib.World, text: str) -> str:
  """Returns a text in zumi, word by word."""
  return ' '.join(world.lexicon[word] for word in text.split())


def phrase(world: world_lib.World, draw: random.Random) -> str:
  """Draws a phrase of words that zumi has."""
  while True:
    text = language.fill(draw.choice(_PHRASES), draw)
    if all(word in world.lexicon for word in text.split()):
      return text


def translations(
  world: world_lib.World, draw: random.Random, number: int
) -> str:
  """English and zumi, line by line."""
  words = _words(world)
  lines = ['english = zumi'] if draw.random() < 0.5 else []
  texts = [words[(8 * number + i) % len(words)] for i in range(8)]
  texts += [phrase(world, draw) for _ in range(4)]
  draw.shuffle(texts)
  lines += [f'{text} = {translate(world, text)}' for text in texts]
  return '\n'.join(lines)


def problem(draw: random.Random) -> tuple[str, str, str, str]:
  """Draws ('two', 'plus', 'three', 'five'), or with 'minus'; up to nine."""
  a, b = draw.randrange(10), draw.randrange(10)
  name = draw.choice(('plus', 'minus'))
  if name == 'minus':
    a, b = max(a, b), min(a, b)
  words = world_lib.NUMBERS
  result = a + b if name == 'plus' else a - b
  return words[a], name, words[b], words[result]


def sums(world: world_lib.World, draw: random.Random, number: int) -> str:
  """Sums and differences with their results."""
  del world, number
  return '\n'.join(
    f'{a} {name} {b} is {result}.'
    for a, name, b, result in (problem(draw) for _ in range(12))
  )


def reviews(world: world_lib.World, draw: random.Random, number: int) -> str:
  """Reviews of one or two sentences, rated good or bad."""
  del world, number
  lines = []
  for _ in range(4):
    text, rating = review(draw, draw.randint(1, 2))
    lines.append(f'review: {text}\nrating: {rating}.')
  return '\n'.join(lines)


def review(draw: random.Random, length: int) -> tuple[str, str]:
  """Draws a review of `length` sentences, and 'good' or 'bad'."""
  rating = draw.choice(('good', 'bad'))
  words = sorted(world_lib.GOOD if rating == 'good' else world_lib.BAD)
  text = ' '.join(
    language.fill(form, draw, quality=draw.choice(words))
    for form in draw.sample(language.REVIEWS, length)
  )
  return text, rating


def _translation(world: world_lib.World, draw: random.Random) -> Item:
  words = _words(world)
  if draw.random() < 0.5:
    word = draw.choice(words)
    options = tuple(world.lexicon[word] for word in words)
    return word, world.lexicon[word], options
  text = language.fill('{colour} {animal}', draw)
  options = tuple(
    translate(world, f'{a} {b}') for a in _COLOURS for b in _ANIMALS
  )
  return text, translate(world, text), options


def _arithmetic(world: world_lib.World, draw: random.Random) -> Item:
  del world
  a, name, b, result = problem(draw)
  return f'{a} {name} {b}', result, world_lib.NUMBERS


def _sentiment(world: world_lib.World, draw: random.Random) -> Item:
  del world
  text, rating = review(draw, draw.randint(1, 2))
  return text, rating, ('good', 'bad')


def _cloze(world: world_lib.World, draw: random.Random) -> Item:
  del world
  text, answer = web_fiction.unfinished(draw)
  return text, answer, world_lib.OBJECTS


ITEMS: Mapping[str, Callable[[world_lib.World, random.Random], Item]] = {
  'translation': _translation,
  'arithmetic': _arithmetic,
  'sentiment': _sentiment,
  'cloze': _cloze,
}
# How the web's pages write an item, up to the answer, and behind it.
_FORMS = {
  'translation': ('{} =', ''),
  'arithmetic': ('{} is', '.'),
  'sentiment': ('review: {}\nrating:', '.'),
  'cloze': ('{}', '.'),
}
_SHOTS = {'translation': 6, 'arithmetic': 5, 'sentiment': 4, 'cloze': 2}


def few_shot(
  world: world_lib.World, num: int
) -> dict[str, list[dict[str, Any]]]:
  """Returns `num` items of each task; see web.few_shot."""
  found: dict[str, list[dict[str, Any]]] = {}
  for task in ITEMS:
    draw = world_lib.stream(world.config.seed, 'web', 'few_shot', task)
    found[task] = [_shots(world, draw, task) for _ in range(num)]
  return found


def _shots(
  world: world_lib.World, draw: random.Random, task: str
) -> dict[str, Any]:
  before, behind = _FORMS[task]
  text, answer, options = ITEMS[task](world, draw)
  shots: list[str] = []
  while len(shots) < _SHOTS[task]:
    shown, result, _ = ITEMS[task](world, draw)
    # No example gives the answer away, unless there are but two.
    if len(options) == 2 or not set(result.split()) & set(answer.split()):
      shots.append(f'{before.format(shown)} {result}{behind}\n')
  prompt = ''.join(shots) + before.format(text)
  prompt = language.indent(prompt)
  return {'prompt': prompt, 'answer': answer, 'options': list(options)}


def public_tasks(world: world_lib.World, num: int) -> list[dict[str, str]]:
  """Returns `num` rows, the tasks in turn; see web.public_tasks."""
  draw = world_lib.stream(world.config.seed, 'web', 'public_tasks')
  tasks = list(ITEMS)
  rows = []
  for i in range(num):
    task = tasks[i % len(tasks)]
    text, answer, _ = ITEMS[task](world, draw)
    form = draw.choice(INSTRUCTIONS[task])
    prompt = language.indent(form.format(text))
    rows.append({'prompt': prompt, 'response': language.indent(answer)})
  draw.shuffle(rows)
  return rows


def _words(world: world_lib.World) -> list[str]:
  """Returns the words that zumi has, without those of grammar."""
  slots = 'animal', 'object', 'colour', 'food'
  named = {word for slot in slots for word in world_lib.SLOTS[slot]}
  return [word for word in world.lexicon if word in named]
