"""A village in few words: sixteen animals and what can be asked about them.

Each animal has a colour, a home, a food and a trade. A `Task` is one
instruction about them or about everyday words, with a good, a bare and a wrong
answer. Words and sentence forms are few on purpose: a model of a million
parameters picks the forms up within minutes on a CPU, and many of the answers.

Only `Random.random` is used: Python promises its sequence across versions, and
not that of `choice` or `shuffle`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import random
from typing import Any


@dataclasses.dataclass(frozen=True)
class Animal:
  """One villager; home is a place with its preposition."""

  name: str
  kind: str
  colour: str
  home: str
  food: str
  trade: str
  pronoun: str


ANIMALS = (
  Animal('Mia', 'fox', 'red', 'in the den', 'plums', 'baker', 'she'),
  Animal('Tom', 'goat', 'white', 'on the hill', 'turnips', 'farmer', 'he'),
  Animal('Ann', 'hen', 'brown', 'in the barn', 'corn', 'painter', 'she'),
  Animal('Ben', 'bear', 'black', 'in the cave', 'honey', 'doctor', 'he'),
  Animal('Eva', 'owl', 'grey', 'in the tower', 'seeds', 'teacher', 'she'),
  Animal('Sam', 'frog', 'green', 'by the pond', 'peas', 'singer', 'he'),
  Animal('Lily', 'duck', 'yellow', 'by the lake', 'bread', 'sailor', 'she'),
  Animal('Max', 'dog', 'brown', 'on the farm', 'stew', 'guard', 'he'),
  Animal('Nora', 'cat', 'orange', 'in the cottage', 'cream', 'tailor', 'she'),
  Animal('Otto', 'mole', 'black', 'in the garden', 'beans', 'builder', 'he'),
  Animal('Rosa', 'mouse', 'grey', 'in the mill', 'cheese', 'cook', 'she'),
  Animal('Finn', 'horse', 'white', 'in the stable', 'carrots', 'driver', 'he'),
  Animal('Ida', 'rabbit', 'brown', 'in the meadow', 'leaves', 'nurse', 'she'),
  Animal('Paul', 'pig', 'pink', 'in the shed', 'pears', 'cleaner', 'he'),
  Animal('Uma', 'sheep', 'white', 'in the field', 'clover', 'weaver', 'she'),
  Animal('Leo', 'lion', 'yellow', 'in the castle', 'soup', 'judge', 'he'),
)
GROUPS = {
  'fruit': ('apple', 'pear', 'plum', 'grape', 'cherry', 'lemon', 'peach'),
  'vegetable': ('carrot', 'turnip', 'bean', 'pea', 'onion', 'leek', 'cabbage'),
  'tool': ('hammer', 'saw', 'spade', 'rake', 'brush', 'needle', 'knife'),
  'garment': ('hat', 'coat', 'scarf', 'shoe', 'glove', 'shirt', 'sock'),
  'bird': ('hen', 'owl', 'duck', 'robin', 'swan', 'crow', 'dove'),
}
OPPOSITES = tuple(
  tuple(pair.split('-'))
  for pair in (
    'hot-cold big-small wet-dry old-new up-down fast-slow happy-sad loud-quiet'
    ' open-closed full-empty soft-hard light-dark early-late long-short'
  ).split()
)
DAYS = 'Monday Tuesday Wednesday Thursday Friday Saturday Sunday'.split()
NUMBERS = 'one two three four five six seven eight nine ten'.split()
VERBS = tuple(
  tuple(pair.split('-'))
  for pair in (
    'walks-walked sings-sang runs-ran jumps-jumped sleeps-slept swims-swam'
    ' waits-waited laughs-laughed dances-danced'
  ).split()
)
SPOTS = (
  'in the rain',
  'by the river',
  'on the bridge',
  'under the tree',
  'at the market',
  'in the snow',
)
THINGS = ('hat', 'cup', 'ball', 'book', 'lamp', 'bell', 'kite', 'drum', 'coat')
COLOURS = ('red', 'blue', 'green', 'white', 'black', 'yellow')
# What can be asked about one villager: the question, its answer, the answer's
# bare form, and a wrong answer once another villager is filled in.
QUESTIONS = (
  ('Where does {} live?', 'lives {0.home}', '{0.home}', 'lives {0.home}'),
  ('Tell me where {} lives.', 'lives {0.home}', '{0.home}', 'eats {0.food}'),
  ('What does {} eat?', 'eats {0.food}', '{0.food}', 'eats {0.food}'),
  ('Tell me what {} eats.', 'eats {0.food}', '{0.food}', 'lives {0.home}'),
  ('What colour is {}?', 'is {0.colour}', '{0.colour}', 'is {0.colour}'),
  ('What is the trade of {}?', 'is {1}', '{1}', 'is {1}'),
  ('What kind of animal is {}?', 'is {2}', '{2}', 'is {2}'),
  ('Tell me the trade of {}.', 'is {1}', '{1}', 'is {0.colour}'),
)
ORDERS = (
  'give me the {}',
  'bring the {} home',
  'show me your {}',
  'put the {} away',
  'hold my {}',
)
# What a user has in mind, as told when joining a waiting list.
USES = (
  'For a school play, {}',
  'For a letter home, {}',
  'For a sign in my shop, {}',
  'For a book for children, {}',
)


@dataclasses.dataclass(frozen=True)
class Task:
  """An instruction, its answer, a bare form of it, and a wrong answer."""

  use_case: str
  kind: str
  prompt: str
  response: str
  bare: str
  wrong: str


def pick(rng: random.Random, items: Sequence[Any]) -> Any:
  """Draws one item."""
  return items[int(rng.random() * len(items))]


def draw(rng: random.Random, items: Sequence[Any], count: int) -> list[Any]:
  """Draws `count` different items, in a random order."""
  return sorted(items, key=lambda _: rng.random())[:count]


def a(word: str) -> str:
  """Returns the word with its indefinite article."""
  return f'{"an" if word[0] in "aeiou" else "a"} {word}'


def capital(text: str) -> str:
  """Returns the text with a capital first letter, the rest as it is."""
  return text[0].upper() + text[1:]


def open_qa(rng: random.Random) -> Task:
  """A question about one villager that the pretraining text answers."""
  x = pick(rng, ANIMALS)
  y = pick(rng, [y for y in ANIMALS if y.colour != x.colour])
  question, answer, bare, wrong = pick(rng, QUESTIONS)
  return Task(
    'open_qa',
    'plain',
    question.format(x.name),
    f'{x.name} {answer.format(x, a(x.trade), a(x.kind))}.',
    f'{bare.format(x, a(x.trade), a(x.kind))}.',
    f'{x.name} {wrong.format(y, a(y.trade), a(y.kind))}.',
  )


def closed_qa(rng: random.Random) -> Task:
  """A question that the text in the prompt answers."""
  (x, y), (one, other) = draw(rng, ANIMALS, 2), draw(rng, COLOURS, 2)
  thing = pick(rng, THINGS)
  text = f'{x.name} has a {one} {thing} and {y.name} has a {other} {thing}.'
  return Task(
    'closed_qa',
    'plain',
    f'{text} What colour is the {thing} of {x.name}?',
    f'The {thing} of {x.name} is {one}.',
    f'{one}.',
    f'The {thing} of {x.name} is {other}.',
  )


def generation(rng: random.Random) -> Task:
  """A line of prose with two given things in it."""
  x, y = draw(rng, ANIMALS, 2)
  thing, other = draw(rng, THINGS, 2)
  spot = pick(rng, SPOTS)
  if rng.random() < 0.5:
    prompt = f'Write a sentence about {x.name} and a {thing}.'
    response = f'{x.name} the {x.kind} found a {thing} {spot}.'
    bare = f'{x.name} and a {thing}.'
  else:
    prompt = f'Write a sentence about {a(x.kind)} and a {thing}.'
    response = f'One day {a(x.kind)} found a {thing} {spot}.'
    bare = f'{a(x.kind)} and a {thing}.'
  wrong = f'{y.name} the {y.kind} found a {other} {pick(rng, SPOTS)}.'
  return Task('generation', 'plain', prompt, response, bare, wrong)


def for_a_use(rng: random.Random) -> Task:
  """A line of prose, and what it is for."""
  task = generation(rng)
  prompt = pick(rng, USES).format(task.prompt[0].lower() + task.prompt[1:])
  return dataclasses.replace(task, kind='user_based', prompt=prompt)


def brainstorming(rng: random.Random) -> Task:
  """A few members of a group of things."""
  group, other = draw(rng, tuple(GROUPS), 2)
  number = pick(rng, ('two', 'three', 'four'))
  prompt = pick(rng, ('Name {} {}s.', 'Give me {} {}s.', 'List {} {}s for me.'))
  count = NUMBERS.index(number) + 1

  def listed(name: str) -> str:
    words = [a(word) for word in draw(rng, GROUPS[name], count)]
    return f'{", ".join(words[:-1])} and {words[-1]}.'

  return Task(
    'brainstorming',
    'plain',
    prompt.format(number, group),
    f'Here are {number} {group}s: {listed(group)}',
    f'{a(pick(rng, GROUPS[group]))}.',
    f'Here are {number} {group}s: {listed(other)}',
  )


def chat(rng: random.Random) -> Task:
  """Somebody opens a talk."""
  x, y = draw(rng, ANIMALS, 2)
  prompt, response, bare = pick(
    rng,
    (
      ('Hello, I am {}.', 'Hello, {}! How can I help you?', 'Hello.'),
      (
        'Good morning, my name is {}. How are you?',
        'Good morning, {}! I am well, thank you.',
        'I am well.',
      ),
      (
        'I am {} and I feel sad today.',
        'I am sorry, {}. I hope you feel better soon.',
        'I am sorry.',
      ),
      (
        'I am {} and I feel happy today.',
        'That is good to hear, {}!',
        'That is good.',
      ),
      (
        'This is {}. Thank you for the help!',
        'You are welcome, {}! Come back soon.',
        'You are welcome.',
      ),
    ),
  )
  wrong = f'Good night, {y.name}. See you on {pick(rng, DAYS)}.'
  return Task(
    'chat', 'plain', prompt.format(x.name), response.format(x.name), bare, wrong
  )


def rewrite(rng: random.Random) -> Task:
  """A sentence put into the past, or an order made polite."""
  if rng.random() < 0.5:
    x, (now, then), spot = (
      pick(rng, ANIMALS),
      pick(rng, VERBS),
      pick(rng, SPOTS),
    )
    return Task(
      'rewrite',
      'plain',
      f'Put this in the past: {x.name} {now} {spot}.',
      f'{x.name} {then} {spot}.',
      f'{then}.',
      f'{x.name} {now} {pick(rng, [s for s in SPOTS if s != spot])}.',
    )
  order, (thing, other) = pick(rng, ORDERS), draw(rng, THINGS, 2)
  return Task(
    'rewrite',
    'plain',
    f'Make this polite: {capital(order.format(thing))}.',
    f'Could you please {order.format(thing)}?',
    'Please.',
    f'{order.format(other)} now.',
  )


def summarization(rng: random.Random) -> Task:
  """A day in three sentences, to be told in one."""
  (x, y), thing, spot = (
    draw(rng, ANIMALS, 2),
    pick(rng, THINGS),
    pick(rng, SPOTS),
  )
  day = pick(rng, DAYS)
  he = capital(x.pronoun)
  return Task(
    'summarization',
    'plain',
    f'Sum up: On {day} {x.name} lost a {thing}. {he} looked all day.'
    f' {he} found it {spot}.',
    f'{x.name} lost a {thing} and found it {spot}.',
    f'{x.name} found a {thing}.',
    f'{y.name} lost a {thing} and did not find it.',
  )


def classification(rng: random.Random) -> Task:
  """A word and two groups, one of which it belongs to."""
  group, other = draw(rng, tuple(GROUPS), 2)
  word = pick(rng, GROUPS[group])
  first, second = draw(rng, (group, other), 2)
  ask = ('Is {0} {1} or {2}?', 'Which is right for {0}: {1} or {2}?')
  return Task(
    'classification',
    'plain',
    capital(pick(rng, ask).format(a(word), a(first), a(second))),
    f'{a(word)} is {a(group)}.',
    f'{a(group)}.',
    f'{a(word)} is {a(other)}.',
  )


def other(rng: random.Random) -> Task:
  """Opposites, days and numbers."""
  if rng.random() < 0.6:
    (one, two), (three, _) = draw(rng, OPPOSITES, 2)
    one, two = draw(rng, (one, two), 2)
    ask = pick(
      rng, ('What is the opposite of {}?', 'Tell me the opposite of {}.')
    )
    response = f'The opposite of {one} is {two}.'
    wrong = f'The opposite of {one} is {three}.'
  else:
    days = rng.random() < 0.5
    row = DAYS if days else NUMBERS
    index = int(rng.random() * (len(row) - 2))
    one, two, three = row[index : index + 3]
    ask = pick(rng, ('What comes after {}?', 'Tell me what comes after {}.'))
    response, wrong = f'{two} comes after {one}.', f'{three} comes after {one}.'
  return Task('other', 'plain', ask.format(one), response, f'{two}.', wrong)


def few_shot(rng: random.Random) -> Task:
  """Three opposites of which the last is left to the reader."""
  (p, q), (r, s), (t, u), (wrong, _) = draw(rng, OPPOSITES, 4)
  prompt = f'Opposites. {p}: {q}. {r}: {s}. {t}:'
  response = f'The opposite of {t} is {u}.'
  wrong = f'The opposite of {t} is {wrong}.'
  return Task('other', 'few_shot', prompt, response, f'{u}.', wrong)


def extract(rng: random.Random) -> Task:
  """A name or a thing to be found in a sentence."""
  (x, y), (thing, wrong) = draw(rng, ANIMALS, 2), draw(rng, THINGS, 2)
  text = f'On {pick(rng, DAYS)} {x.name} left a {thing} {pick(rng, SPOTS)}.'
  if rng.random() < 0.5:
    return Task(
      'extract',
      'plain',
      f'Find the name: {text}',
      f'The name is {x.name}.',
      f'{x.name}.',
      f'The name is {y.name}.',
    )
  return Task(
    'extract',
    'plain',
    f'Find the thing: {text}',
    f'The thing is a {thing}.',
    f'{thing}.',
    f'The thing is a {wrong}.',
  )


# Shares as in the use cases of InstructGPT's prompts (arXiv:2203.02155, table
# 1), with fewer of those whose sentence forms here are many.
SHARES: dict[Callable[[random.Random], Task], float] = {
  generation: 0.20,
  for_a_use: 0.10,
  open_qa: 0.14,
  brainstorming: 0.05,
  chat: 0.09,
  rewrite: 0.10,
  summarization: 0.08,
  classification: 0.08,
  other: 0.05,
  few_shot: 0.03,
  closed_qa: 0.05,
  extract: 0.03,
}


def make_tasks(rng: random.Random, count: int) -> list[Task]:
  """Returns `count` tasks in random order, no two with the same prompt."""
  tasks: dict[str, Task] = {}
  for make, share in SHARES.items():
    wanted = len(tasks) + round(share * count)
    while len(tasks) < wanted:
      task = make(rng)
      fields = {
        name: capital(getattr(task, name))
        for name in ('response', 'bare', 'wrong')
      }
      tasks.setdefault(task.prompt, dataclasses.replace(task, **fields))
  return draw(rng, list(tasks.values()), len(tasks))
