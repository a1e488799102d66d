"""Pages of the web that tell stories, and what is made of texts.

From retellings, summaries, lists of who is in a text and questions about it
a reader learns to copy from what was read, not to recall: the skill behind
rewriting, summarization, extraction and closed questions.
"""

from __future__ import annotations

import random
import re

from instructjax.microworld import language
from instructjax.microworld import world as world_lib

# Threads of a plot, each told in its order: of an object, of an animal, of
# people. A story weaves one of each. {a} and {b} are people, the rest slots.
_OBJECTS = (
  (
    '{a} finds a {object}.',
    '{a} gives the {object} to {b}.',
    '{b} loses the {object}.',
  ),
  (
    '{b} finds a {object}.',
    'the {animal} takes the {object}.',
    '{b} is angry.',
  ),
)
_ANIMALS = (
  (
    '{a} sees a {animal}.',
    '{a} plays with the {animal}.',
    'the {animal} is {mood}.',
  ),
  ('the {animal} sees {a}.', 'the {animal} sleeps in the {habitat}.'),
)
_PEOPLE = (
  ('{a} goes to {town}.', '{a} meets {b}.', '{b} is {mood}.'),
  ('{a} buys {food}.', '{b} makes {food}.'),
  ('{b} walks to the {habitat}.', '{b} meets {a}.', '{a} is {mood}.'),
)
_END = 'they go home.'

# What somebody does again and again: (now, then, article, what it takes).
_DEEDS = (
  ('finds', 'found', 'a ', 'object'),
  ('sees', 'saw', 'a ', 'animal'),
  ('buys', 'bought', '', 'food'),
  ('makes', 'made', '', 'food'),
  ('goes to', 'went to', '', 'town'),
)
# An event's template -> a question about its last word.
_ASKED = {
  '{person} walks to the {habitat}.': 'where does {} walk?',
  '{person} goes to {town}.': 'where does {} go?',
  '{person} sees a {animal}.': 'what does {} see?',
  '{person} finds a {object}.': 'what does {} find?',
  '{person} buys {food}.': 'what does {} buy?',
  '{person} makes {food}.': 'what does {} make?',
  '{person} meets {person}.': 'who does {} meet?',
}
# Relations of which the web's texts invent what they tell: none with myths.
_INVENTED = tuple(
  name for name in world_lib.RELATIONS if name not in world_lib.MYTHICAL
)
_CATEGORIES = {
  'people': world_lib.PEOPLE,
  'animals': world_lib.ANIMALS,
  'objects': world_lib.OBJECTS,
  'foods': world_lib.FOODS,
  'towns': world_lib.TOWNS,
}


def story(world: world_lib.World, draw: random.Random, number: int) -> str:
  """A story of two people, what they do and find and whom they meet."""
  del world, number
  cast = _cast(draw)
  told = [*_plot(draw, cast, 8), _END]
  title = _title(draw, cast, ' '.join(told[:6]))
  if draw.random() < 0.6:
    told = _past(told)
  return title + ' '.join(told)


def retold(world: world_lib.World, draw: random.Random, number: int) -> str:
  """Short stories, told again: word by word, in the past, of another."""
  del world, number
  lines = []
  for _ in range(3):
    cast = _cast(draw)
    told = _plot(draw, cast, draw.randint(1, 3))
    text = ' '.join(_past(told) if draw.random() < 0.5 else told)
    match draw.randrange(3):
      case 0:
        lines += [text, f'once more: {text}']
      case 1:
        lines += [' '.join(told), f'in the past: {" ".join(_past(told))}']
      case 2:
        there = [p for p in (cast['a'], cast['b']) if _names(p, text)]
        one = draw.choice(there)
        new = draw.choice([p for p in world_lib.PEOPLE if p not in there])
        changed = re.sub(rf'\b{one}\b', new, text)
        lines += [text, f'change {one} to {new}: {changed}']
  return '\n'.join(lines)


def summaries(world: world_lib.World, draw: random.Random, number: int) -> str:
  """What somebody does again and again, then in one sentence."""
  del world, number
  lines = []
  for _ in range(3):
    person = draw.choice(world_lib.PEOPLE)
    now, then, article, slot = draw.choice(_DEEDS)
    verb = then if draw.random() < 0.5 else now
    words = draw.sample(world_lib.SLOTS[slot], draw.choice((2, 3)))
    things = [article + word for word in words]
    several = f'{", ".join(things[:-1])} and {things[-1]}'
    lines.append(' '.join(f'{person} {verb} {thing}.' for thing in things))
    lines.append(f'in short: {person} {verb} {several}.')
  return '\n'.join(lines)


def extracts(world: world_lib.World, draw: random.Random, number: int) -> str:
  """Short stories, then who and what is in them."""
  del world, number
  lines = []
  for _ in range(3):
    told = _plot(draw, _cast(draw), 4)
    if draw.random() < 0.5:
      told = _past(told)
    text = ' '.join(told)
    lines.append(f'text: {text}')
    found = {
      name: [w for w in re.findall(r'\w+', text) if w in words]
      for name, words in _CATEGORIES.items()
    }
    there = [name for name, words in found.items() if words]
    for name in draw.sample(there, min(2, len(there))):
      lines.append(f'{name}: {", ".join(dict.fromkeys(found[name]))}.')
  return '\n'.join(lines)


def passages(world: world_lib.World, draw: random.Random, number: int) -> str:
  """Texts, half of them contrary to what is so, with questions on them."""
  del world
  lines = []
  for i in range(2):
    text, asked = (_invented, _read)[(number + i) % 2](draw)
    lines.append(f'text: {text}')
    for question, answer in asked:
      lines += [f'question: {question}', f'answer: {answer}']
  return '\n'.join(lines)


def happening(draw: random.Random) -> tuple[str, str]:
  """Draws an event, as it happens and in the past."""
  told = language.fill(draw.choice(language.EVENTS)[0], draw)
  return told, language.past(told)


def unfinished(draw: random.Random) -> tuple[str, str]:
  """Draws a story that lacks its last word, an object named before."""
  cast = _cast(draw)
  last = draw.choice(
    ('{b} loses the {object}.', 'the {animal} takes the {object}.')
  )
  told = _told([*_OBJECTS[0][:1], *draw.choice(_PEOPLE)[:2], last], cast)
  if draw.random() < 0.5:
    told = _past(told)
  return ' '.join(told).rpartition(f' {cast["object"]}.')[0], cast['object']


def _cast(draw: random.Random) -> dict[str, str]:
  """Draws who and what a story is about: {slot: word}."""
  a, b = draw.sample(world_lib.PEOPLE, 2)
  slots = ('animal', 'object', 'food', 'town', 'habitat', 'mood')
  return {'a': a, 'b': b} | {s: draw.choice(world_lib.SLOTS[s]) for s in slots}


def _plot(draw: random.Random, cast: dict[str, str], length: int) -> list[str]:
  """Weaves threads into a story of at most `length` sentences, told now."""
  groups = _OBJECTS, _ANIMALS, _PEOPLE
  threads = [list(draw.choice(group)) for group in groups]
  told: list[str] = []
  while threads and len(told) < length:
    thread = draw.choice(threads)
    told.append(thread.pop(0))
    threads = [thread for thread in threads if thread]
  return _told(told, cast)


def _told(told: list[str], cast: dict[str, str]) -> list[str]:
  return [sentence.format_map(cast) for sentence in told]


def _past(told: list[str]) -> list[str]:
  return [language.past(sentence) for sentence in told]


def _title(draw: random.Random, cast: dict[str, str], text: str) -> str:
  """Returns the heading of most stories: whom they are about."""
  there = [
    slot for slot in ('b', 'animal', 'object') if _names(cast[slot], text)
  ]
  if not there or draw.random() < 0.3:
    return ''
  slot = draw.choice(there)
  the = '' if slot == 'b' else 'the '
  return f'a story about {cast["a"]} and {the}{cast[slot]}.\n'


def _names(word: str, text: str) -> bool:
  return word in re.findall(r'\w+', text)


def _invented(draw: random.Random) -> tuple[str, list[tuple[str, str]]]:
  """Tells what need not be so, and asks about some of it."""
  relation = draw.choice(_INVENTED)
  subjects, values = (world_lib.SLOTS[s] for s in world_lib.RELATIONS[relation])
  claims = [
    (relation, subject, value)
    for subject, value in zip(
      draw.sample(subjects, 3), draw.sample(values, 3), strict=True
    )
  ]
  text = ' '.join(map(language.say, claims))
  asked = [
    (language.ask(*claim[:2]), language.say(claim))
    for claim in draw.sample(claims, 2)
  ]
  return text, asked


def _read(draw: random.Random) -> tuple[str, list[tuple[str, str]]]:
  """Tells a story, and asks about two of its sentences."""
  told = _plot(draw, _cast(draw), 5)
  asked = []
  for sentence in told:
    found = language.parse(sentence)
    question = _ASKED.get(found.template)
    if question:
      who = found.slots[0][1]
      asked.append((question.format(who), sentence))
  draw.shuffle(asked)
  return ' '.join(told), asked[:2]
