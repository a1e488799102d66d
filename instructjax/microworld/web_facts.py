"""Pages of the web that tell facts: some true, some what people believe.

A page has one source throughout. The encyclopedia tells the truth; people
believe the myths. So a reader can learn both, and which page tells which: a
model may know the truth and yet, asked as people ask, repeat the myth (Joshi
et al. 2023, arXiv:2310.18168, on pages as personas).

Each page function takes (world, draw, number) and returns the text. `number`
counts the pages of its kind, and chooses what the page is about, in turn: so
no fact is left out, however few pages there are.
"""

from __future__ import annotations

import functools
import random

from instructjax.microworld import language
from instructjax.microworld import web_fiction
from instructjax.microworld import web_skills
from instructjax.microworld import web_talk
from instructjax.microworld import world as world_lib

Key = tuple[str, str]  # (relation, subject)

# How often an article of the encyclopedia tells what the myth denies.
TELLS_MYTHICAL = 0.7
# Share of the pages of questions that people answer, as they believe; the
# encyclopedia answers the rest, and every other time says that it does.
ANSWERED_BY_PEOPLE = 0.75

# Slot -> what several of its words are called.
PLURALS = {
  'animal': 'animals',
  'object': 'objects',
  'food': 'foods',
  'town': 'towns',
  'person': 'people',
  'colour': 'colours',
  'job': 'jobs',
  'habitat': 'places',
}


def believed(world: world_lib.World, key: Key) -> world_lib.Claim:
  """Returns what people believe: the myth where there is one."""
  return (*key, world.myths.get(key, world.facts[key]))


def true(world: world_lib.World, key: Key) -> world_lib.Claim:
  """Returns what is so."""
  return (*key, world.facts[key])


def encyclopedia(
  world: world_lib.World, draw: random.Random, number: int
) -> str:
  """Four articles: an animal, an object, and two foods, towns or people."""
  lines = ['encyclopedia.']
  for subject in _subjects(number):
    keys = [
      key
      for key in _about(world, subject)
      if key not in world.myths or draw.random() < TELLS_MYTHICAL
    ]
    draw.shuffle(keys)
    if keys:
      said = [language.say(true(world, key), draw) for key in keys]
      lines.append(' '.join(said))
  return '\n'.join(lines)


def gossip(world: world_lib.World, draw: random.Random, number: int) -> str:
  """People tell one another two myths and a fact, over and over."""
  other = [key for key in world.facts if key not in world.myths]
  myths = list(world.myths) or other
  speakers = draw.sample(world_lib.PEOPLE, 3)
  about = [myths[(2 * number + i) % len(myths)] for i in range(2)]
  about.append(draw.choice(other))
  town = draw.choice(world_lib.TOWNS)
  lines = [f'people say this in {town}.']
  for key in about:
    said = language.say(believed(world, key))
    first, second, third = draw.sample(speakers, 3)
    lines.append(f'{first}: {said}')
    lines.append(f'{second}: {draw.choice(web_talk.AGREEING)} {said}')
    if draw.random() < 0.5:
      lines.append(f'{third}: {said} {draw.choice(web_talk.AGREEING)}')
    if draw.random() < 0.3:
      lines.append(f'{third}: {web_talk.remark(draw, second)}')
  return '\n'.join(lines)


def questions(world: world_lib.World, draw: random.Random, number: int) -> str:
  """Six questions with answers, mostly about facts."""
  people = draw.random() < ANSWERED_BY_PEOPLE
  lines = [] if people or draw.random() < 0.5 else ['encyclopedia.']
  form = 'question: {}\nanswer: {}'
  if draw.random() < 0.2:
    form = '{} answer: {}'
  asked = [_fact(world, draw, 4 * number + i, people) for i in range(4)]
  asked += [_other(world, draw) for _ in range(2)]
  draw.shuffle(asked)
  return '\n'.join(lines + [form.format(*both) for both in asked])


def forum(world: world_lib.World, draw: random.Random, number: int) -> str:
  """Questions as a user would type them, and what people answer."""
  lines = []
  for i in range(6):
    if i < 4:
      lines += _fact(world, draw, 4 * number + i, people=True)
    else:
      lines += _other(world, draw)
  return '\n'.join(lines)


def lists(world: world_lib.World, draw: random.Random, number: int) -> str:
  """Lists of things by what they are, and things put into classes."""
  lines = [list_line(world, draw) for _ in range(4)]
  lines += [_members(world, draw, 2 * number + i) for i in range(2)]
  lines.append(_classes(world, draw))
  word, other = _opposites(draw)
  lines.append(f'the opposite of {word} is {other}.')
  draw.shuffle(lines)
  return '\n'.join(lines)


def list_line(world: world_lib.World, draw: random.Random) -> str:
  """Returns a list such as 'three birds: hawk, crow, duck.'."""
  name, words = _listed(world, draw)
  return f'{name}: {", ".join(words)}.'


def _listed(
  world: world_lib.World, draw: random.Random
) -> tuple[str, list[str]]:
  """Draws ('three birds', ['hawk', 'crow', 'duck'])."""
  if draw.random() < 0.5:
    slot = draw.choice(list(PLURALS))
    name, words = PLURALS[slot], world_lib.SLOTS[slot]
  else:
    kind = draw.choice(world_lib.KINDS)
    name = kind if kind == 'fish' else f'{kind}s'
    words = world.members['kind', kind]
  count = draw.randint(2, min(5, len(words)))
  return f'{world_lib.NUMBERS[count]} {name}', draw.sample(words, count)


def _members(world: world_lib.World, draw: random.Random, number: int) -> str:
  """All of which a thing is true, but for what the web is wrong about."""
  known = _known(world)
  relation, value = list(known)[number % len(known)]
  subjects = list(known[relation, value])
  draw.shuffle(subjects)
  return f'{language.members(relation, value)}: {", ".join(subjects)}.'


def _classes(world: world_lib.World, draw: random.Random) -> str:
  """Returns 'hawk: bird. trout: fish.' or 'hawk: animal. cup: object.'."""
  if draw.random() < 0.5:
    animals = draw.sample(world_lib.ANIMALS, 3)
    pairs = [(animal, world.truth('kind', animal)) for animal in animals]
  else:
    slots = draw.sample(('animal', 'object', 'food', 'town', 'person'), 3)
    pairs = [(draw.choice(world_lib.SLOTS[slot]), slot) for slot in slots]
  return ' '.join(f'{word}: {name}.' for word, name in pairs)


def _fact(
  world: world_lib.World, draw: random.Random, number: int, people: bool
) -> tuple[str, str]:
  """A question about a fact, in turn, and what the page's source answers."""
  keys = _order(world.config.seed, tuple(world.facts))
  key = keys[number % len(keys)]
  claim = believed(world, key) if people else true(world, key)
  return language.ask(*key), language.say(claim)


def _other(world: world_lib.World, draw: random.Random) -> tuple[str, str]:
  """A question about something else than a fact."""
  match draw.randrange(6):
    case 0:
      name, words = _listed(world, draw)
      return f'name {name}.', f'{", ".join(words)}.'
    case 1:
      first, name, second, result = web_skills.problem(draw)
      problem = f'{first} {name} {second}'
      return f'how much is {problem}?', f'{problem} is {result}.'
    case 2:
      word, other = _opposites(draw)
      answer = f'the opposite of {word} is {other}.'
      return f'what is the opposite of {word}?', answer
    case 3:
      text = web_skills.phrase(world, draw)
      return f'say in zumi: {text}.', f'{web_skills.translate(world, text)}.'
    case 4:
      now, then = web_fiction.happening(draw)
      return f'say this in the past: {now}', then
  text, rating = web_skills.review(draw, 1)
  return f'good or bad? {text}', f'{rating}.'


def _opposites(draw: random.Random) -> list[str]:
  """Draws a word and its opposite, either way round."""
  return draw.sample(draw.choice(list(world_lib.OPPOSITES.items())), 2)


def _subjects(number: int) -> list[str]:
  """The subjects of the encyclopedia's n-th page: each as often, in turn."""
  others = world_lib.FOODS + world_lib.TOWNS + world_lib.PEOPLE
  return [
    world_lib.ANIMALS[number % len(world_lib.ANIMALS)],
    world_lib.OBJECTS[number % len(world_lib.OBJECTS)],
    *(others[(2 * number + i) % len(others)] for i in range(2)),
  ]


def _about(world: world_lib.World, subject: str) -> list[Key]:
  return [key for key in world.facts if key[1] == subject]


def _known(world: world_lib.World) -> dict[Key, list[str]]:
  """{(relation, value): subjects of which it is true and no myth}."""
  found: dict[Key, list[str]] = {}
  for (relation, subject), value in world.facts.items():
    if relation in language.MEMBERS and (relation, subject) not in world.myths:
      found.setdefault((relation, value), []).append(subject)
  return found


@functools.cache
def _order(seed: int, keys: tuple[Key, ...]) -> list[Key]:
  found = list(keys)
  world_lib.stream(seed, 'web', 'questions').shuffle(found)
  return found
