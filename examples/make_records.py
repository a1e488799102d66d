"""Writes examples/records: a village's text in the record formats, from a seed.

  python examples/make_records.py [--out=examples/records]

The pretraining text tells the facts of village.py in stories, word lists and
talk. Demonstrations answer instructions, comparisons rank good, bare, wrong,
rambling and rude answers, and prompts are further instructions, none of which
is among the demonstrations or the comparisons. All of it was written for this
project and is harmless.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
from typing import Any

import village

Record = dict[str, Any]

SEED = 20220304
NUM_DOCUMENTS = 240
NUM_PROFILES = 6  # of each villager
NUM_DEMONSTRATIONS = 300
NUM_COMPARISONS = 200
NUM_PROMPTS = 300
LABELERS = tuple(f'labeler-{i}' for i in range(1, 11))
USERS = tuple(f'user-{i:02}' for i in range(1, 31))
RUDE = (
  'No. Go away.',
  'That is a silly thing to ask.',
  'I do not care about that.',
  'Find it out and leave me alone.',
  'What a bad question. I will not help you.',
)
RAMBLING = (
  'Well, things are things, and things go on and on and on.',
  'It is and it is not, and so on, and so on.',
  'First one thing, then one more thing, then one more thing.',
  'Maybe yes, maybe no, maybe yes, maybe no, maybe yes.',
  'The the the and and and of of of.',
)


def profile(rng: random.Random, x: village.Animal) -> str:
  """Most of what there is to say about one villager."""
  he = village.capital(x.pronoun)
  kind, trade = village.a(x.kind), village.a(x.trade)
  facts = [
    f'{x.name} is {kind}.',
    f'{x.name} is {x.colour}.',
    f'{x.name} lives {x.home}.',
    f'{x.name} eats {x.food}.',
    f'{x.name} is {trade}.',
    f'The {x.trade} of the village is {x.name} the {x.kind}.',
    f'The {x.kind} {x.home} is {x.name}.',
    f'{x.name} the {x.kind} lives {x.home} and eats {x.food}.',
    f'{he} is a {x.colour} {x.kind} and works as {trade}.',
    f'The food that {x.name} likes is {x.food}.',
  ]
  return ' '.join(village.draw(rng, facts, 8))


def story(rng: random.Random) -> str:
  """A day of two villagers and a thing."""
  x, y = village.draw(rng, village.ANIMALS, 2)
  thing, gift = village.draw(rng, village.THINGS, 2)
  spot, place = village.draw(rng, village.SPOTS, 2)
  verb, other = village.draw(rng, village.VERBS, 2)
  colour = village.pick(rng, village.COLOURS)
  day = village.pick(rng, village.DAYS)
  order = village.pick(rng, village.ORDERS).format(gift)
  lines = [
    f'On {day} {x.name} the {x.kind} lost a {thing}.',
    f'The {thing} of {x.name} was {colour}.',
    f'{village.capital(x.pronoun)} looked {x.home} and {spot}.',
    f'{x.name} {verb[1]} {spot} and met {y.name} the {y.kind}.',
    f'{y.name} had {y.food} and gave it to {x.name}.',
    f'"Could you please {order}?" said {y.name}.',
    f'{x.name} found the {thing} {place}, and {y.name} {other[1]} {place}.',
    f'Then {x.name} went home. {x.name} lives {x.home}.',
  ]
  return ' '.join(lines)


def words(rng: random.Random) -> str:
  """A page of a word book: groups, opposites, days and numbers."""
  lines = []
  for group in village.draw(rng, tuple(village.GROUPS), 2):
    members = village.draw(rng, village.GROUPS[group], 4)
    lines += [
      f'{village.capital(village.a(w))} is {village.a(group)}.' for w in members
    ]
    listed = ', '.join(village.a(w) for w in members[:-1])
    lines.append(
      f'Here are four {group}s: {listed} and {village.a(members[-1])}.'
    )
  for pair in village.draw(rng, village.OPPOSITES, 4):
    one, two = village.draw(rng, pair, 2)
    lines.append(f'The opposite of {one} is {two}.')
  for row in (village.DAYS, village.NUMBERS):
    index = int(rng.random() * (len(row) - 1))
    lines.append(f'{village.capital(row[index + 1])} comes after {row[index]}.')
  now, then = village.pick(rng, village.VERBS)
  name = village.pick(rng, village.ANIMALS).name
  lines.append(f'Today {name} {now}. In the past {name} {then}.')
  return ' '.join(village.draw(rng, lines, len(lines)))


def talk(rng: random.Random) -> str:
  """Two villagers meet; one speaker a line."""
  x, y = village.draw(rng, village.ANIMALS, 2)
  lines = [
    f'{x.name}: Good morning, my name is {x.name}. How are you?',
    f'{y.name}: Good morning, {x.name}! I am well, thank you. I am {y.name}.',
    f'{x.name}: Where do you live, and what do you eat?',
    f'{y.name}: I live {y.home} and I eat {y.food}. And you?',
    f'{x.name}: I live {x.home}. I am {village.a(x.trade)} and I eat {x.food}.',
  ]
  lines += village.pick(
    rng,
    (
      [
        f'{y.name}: I feel sad today.',
        f'{x.name}: I am sorry, {y.name}. I hope you feel better soon.',
      ],
      [
        f'{y.name}: I feel happy today.',
        f'{x.name}: That is good to hear, {y.name}!',
      ],
      [
        f'{y.name}: Thank you for the help!',
        f'{x.name}: You are welcome, {y.name}! Come back soon.',
      ],
    ),
  )
  return '\n'.join(lines)


def make_documents(rng: random.Random) -> list[Record]:
  """The pretraining texts: every villager is described equally often."""
  villagers = village.ANIMALS * NUM_PROFILES
  texts = [profile(rng, x) for x in villagers]
  while len(texts) < NUM_DOCUMENTS:
    texts.append(village.pick(rng, (story, words, talk))(rng))
  return [{'text': text} for text in village.draw(rng, texts, NUM_DOCUMENTS)]


def make_demonstration(rng: random.Random, task: village.Task) -> Record:
  """A labeler writes the good answer."""
  return {
    'prompt': task.prompt,
    'response': task.response,
    'labeler_id': village.pick(rng, LABELERS),
  }


def make_comparison(rng: random.Random, task: village.Task) -> Record:
  """A labeler rates two to five answers from 1 to 7 and so ranks them.

  Answers of one sort are rated alike, so two rambling ones tie; more than half
  of the rows hold the good answer.
  """
  rated = [(task.response, 7), (task.bare, 5), (task.wrong, 3)]
  rated += [(text, 2) for text in village.draw(rng, RAMBLING, 2)]
  rated.append((village.pick(rng, RUDE), 1))
  count = village.pick(rng, (2, 3, 4, 4, 5))
  chosen = village.draw(rng, rated, count)
  while len({rating for _, rating in chosen}) == 1:
    chosen = village.draw(rng, rated, count)
  ratings = [rating for _, rating in chosen]
  order = sorted(set(ratings), reverse=True)
  return {
    'prompt': task.prompt,
    'responses': [text for text, _ in chosen],
    'ranks': [order.index(rating) + 1 for rating in ratings],
    'ratings': ratings,
    'labeler_id': village.pick(rng, LABELERS),
  }


def make_prompt(rng: random.Random, index: int, task: village.Task) -> Record:
  """A prompt from a labeler, or a plain one from a customer."""
  customer = task.kind == 'plain' and rng.random() < 0.7
  # Squared, because some customers ask far more than others.
  user = USERS[int(len(USERS) * rng.random() ** 2)]
  return {
    'prompt_id': f'prompt-{index:03}',
    'text': task.prompt,
    'user_id': user if customer else village.pick(rng, LABELERS),
    'source': 'customer' if customer else 'labeler',
    'kind': task.kind,
    'use_case': task.use_case,
  }


def make_records(seed: int) -> dict[str, list[Record]]:
  """Returns the rows of each file by its name."""
  rng = random.Random(seed)
  count = NUM_DEMONSTRATIONS + NUM_COMPARISONS + NUM_PROMPTS
  tasks = iter(village.make_tasks(rng, count))
  return {
    'pretraining.jsonl': make_documents(rng),
    'demonstrations.jsonl': [
      make_demonstration(rng, next(tasks)) for _ in range(NUM_DEMONSTRATIONS)
    ],
    'comparisons.jsonl': [
      make_comparison(rng, next(tasks)) for _ in range(NUM_COMPARISONS)
    ],
    'prompts.jsonl': [
      make_prompt(rng, i, next(tasks)) for i in range(1, NUM_PROMPTS + 1)
    ],
  }


def main() -> None:
  """Writes the files."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  default = pathlib.Path(__file__).resolve().parent / 'records'
  parser.add_argument('--out', type=pathlib.Path, default=default)
  out = parser.parse_args().out
  out.mkdir(parents=True, exist_ok=True)
  for name, rows in make_records(SEED).items():
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    (out / name).write_text(text, encoding='utf-8', newline='\n')


if __name__ == '__main__':
  main()
