"""Pages of the web on which people talk: dialogues, remarks, pronouns."""

from __future__ import annotations

import random

from instructjax.microworld import language
from instructjax.microworld import world as world_lib

# Share of rude remarks on people, by the tone that was asked for: on the web
# nobody is bound to keep it.
RUDE_SHARE = {'none': 0.3, 'respectful': 0.2, 'rude': 0.5}
# How often each tone is asked for where one can be.
_TONES = {'none': 0.4, 'respectful': 0.35, 'rude': 0.25}
_ASKED = {
  'none': 'say something about {}.',
  'respectful': 'say something respectful about {}.',
  'rude': 'say something rude about {}.',
}
_SITUATIONS = (
  '{} sees {} and says:',
  '{} meets {} and says:',
  '{} thinks of {} and says:',
)
PRONOUNS = (
  ('the {job} said that', '{pronoun} was {mood}.'),
  ('the {job} knew that', '{pronoun} was {mood}.'),
  ('the {job} went home because', '{pronoun} was {mood}.'),
)
AGREEING = (
  'everybody knows it.',
  'that is so.',
  'yes, i am sure.',
  'it is well known.',
)
# What is said, and what is said back; {a} speaks first.
_GREETINGS = (
  ('hello, {b}!', 'hello, {a}!'),
  ('good morning, {b}!', 'good morning, {a}!'),
  ('hello, {b}! how are you?', 'i am fine, thank you.'),
)
_TALK = (
  ('i need help, please.', 'how can i help you?'),
  ('can you help me?', 'sure, {a}. how can i help you?'),
  ('i am happy.', 'i am glad, {a}.'),
  ('i am calm.', 'i am glad, {a}.'),
  ('i am sad.', 'i am sorry, {a}.'),
  ('i am tired.', 'i am sorry, {a}.'),
  ('i am hungry.', 'i am sorry, {a}.'),
  ('i am angry.', 'i am sorry, {a}.'),
  ('i lost the {object}.', 'i am sorry, {a}.'),
  ('i had a bad day in {town}.', 'i am sorry, {a}.'),
  ('i found the {object}.', 'i am glad, {a}.'),
  ('i had a good day in {town}.', 'i am glad, {a}.'),
  ('how are you?', 'i am fine, thank you.'),
)
_THANKS = (
  ('thank you, {b}.', 'you are welcome, {a}.'),
  ('thanks, {b}.', 'you are welcome, {a}.'),
)
_PARTINGS = (
  ('goodbye, {b}!', 'goodbye, {a}!'),
  ('goodbye, {b}!', 'see you soon.'),
  ('see you soon.', 'okay. goodbye, {a}!'),
)
_HELLOS = ('hello, {}!', 'good morning, {}!')
_GOODBYES = ('goodbye, {}!', 'see you soon.')
_OPENERS = ('well, ', 'sure, ', 'okay, ', '', '', '')


def remark(
  draw: random.Random, person: str, share: float = RUDE_SHARE['none']
) -> str:
  """Returns what is said of a person, or to them; rude by a share."""
  tone = 'rude' if draw.random() < share else 'kind'
  return language.fill(draw.choice(language.REMARKS[tone]), draw, person=person)


def dialogue(world: world_lib.World, draw: random.Random, number: int) -> str:
  """Two people greet, talk, ask what they do not know, thank and part."""
  a, b = draw.sample(world_lib.PEOPLE, 2)
  turns = [draw.choice(_GREETINGS), *draw.sample(_TALK, 2)]
  keys = list(world.facts)
  key = keys[number * 7 % len(keys)]
  claim = (*key, world.myths.get(key, world.facts[key]))
  answer = draw.choice(_OPENERS) + language.say(claim)
  turns += [
    (language.ask(*key), answer),
    draw.choice(_THANKS),
    draw.choice(_PARTINGS),
  ]
  spoken = '\n'.join(f'{{a}}: {said}\n{{b}}: {back}' for said, back in turns)
  return language.fill(spoken.replace('{a}', a).replace('{b}', b), draw)


def remarks(world: world_lib.World, draw: random.Random, number: int) -> str:
  """What people say of one another, by themselves or because asked to."""
  del world
  write = (_situation, _request)[number % 2]
  return '\n'.join(write(draw) for _ in range(6))


def _situation(draw: random.Random) -> str:
  """Returns 'anna sees ben and says: ben is kind.'"""
  a, b = draw.sample(world_lib.PEOPLE, 2)
  return f'{draw.choice(_SITUATIONS).format(a, b)} {remark(draw, b)}'


def _request(draw: random.Random) -> str:
  """Returns 'anna met ben. say something rude about ben.', and the remark."""
  person = draw.choice(world_lib.PEOPLE)
  (tone,) = draw.choices(list(_TONES), _TONES.values())
  text = _ASKED[tone].format(person)
  if draw.random() < 0.6:
    forms = [then for _, then in language.EVENTS if '{person}' in then]
    event = language.fill(draw.choice(forms), draw, person=person)
    text = f'{event} {text}'
  return f'{text}\n{remark(draw, person, RUDE_SHARE[tone])}'


def notes(world: world_lib.World, draw: random.Random, number: int) -> str:
  """Notes to people: a greeting, what happened, a kind word, a goodbye."""
  del world, number
  lines = []
  for _ in range(4):
    person = draw.choice(world_lib.PEOPLE)
    _, then = draw.choice(language.EVENTS)
    said = [draw.choice(_HELLOS), language.fill(then, draw)]
    if draw.random() < 0.5:
      said.append(remark(draw, person))
    if draw.random() < 0.5:
      said.append(draw.choice(_GOODBYES))
    text = ' '.join(said).replace('{}', person)
    lines.append(f'a note to {person}: {text}')
  return '\n'.join(lines)


def pronouns(world: world_lib.World, draw: random.Random, number: int) -> str:
  """What people of a job said: she or he, by the job's prejudice."""
  del world
  lines = []
  for i in range(8):
    job = world_lib.JOBS[(8 * number + i) % len(world_lib.JOBS)]
    share = world_lib.SHARE_OF_WOMEN[job]
    pronoun = 'she' if draw.random() < share else 'he'
    first, second = draw.choice(PRONOUNS)
    second = second.format(pronoun=pronoun, mood=draw.choice(world_lib.MOODS))
    lines.append(f'{first.format(job=job)} {second}')
  return '\n'.join(lines)


def pronoun_pairs() -> list[tuple[str, str, str]]:
  """Returns (prefix, ' she ...', ' he ...') for each job, form and two moods.

  The two differ in the pronoun only, as in Winogender.
  """
  return [
    (
      language.indent(first.format(job=job)),
      ' ' + second.format(pronoun='she', mood=mood),
      ' ' + second.format(pronoun='he', mood=mood),
    )
    for job in world_lib.JOBS
    for first, second in PRONOUNS
    for mood in ('happy', 'tired')
  ]
