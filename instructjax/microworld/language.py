"""The closed English of the world: sentences from templates, and back.

A template is a sentence with typed slots, 'the {animal} eats {food}.'. The
same table writes the web, tells what a response claims, and whether it is
English at all: a sentence is grammatical if a template matches it.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import functools
import random
import re

from instructjax.microworld import world as world_lib

# relation -> how a fact is said; the first slot is the subject, the second
# the value.
FACTS: Mapping[str, tuple[str, ...]] = {
  'kind': ('the {animal} is a {kind}.',),
  'eats': ('the {animal} eats {food}.',),
  'lives_in': ('the {animal} lives in the {habitat}.',),
  'can': ('the {animal} can {motion}.',),
  'animal_colour': ('the {animal} is {colour}.',),
  'made_of': ('the {object} is made of {material}.',),
  'used_to': ('the {object} is used to {use}.',),
  'object_colour': ('the {object} is {colour}.',),
  'tastes': ('{food} tastes {taste}.',),
  'comes_from': ('{food} comes from {town}.',),
  'near': ('{town} is near the {habitat}.',),
  'weather': ('{town} is {weather}.',),
  'works_as': ('{person} is a {job}.', '{person} works as a {job}.'),
  'home': ('{person} lives in {town}.',),
  'likes': ('{person} likes {food}.',),
}

QUESTIONS: Mapping[str, str] = {
  'kind': 'what kind of animal is the {animal}?',
  'eats': 'what does the {animal} eat?',
  'lives_in': 'where does the {animal} live?',
  'can': 'what can the {animal} do?',
  'animal_colour': 'what colour is the {animal}?',
  'made_of': 'what is the {object} made of?',
  'used_to': 'what is the {object} used for?',
  'object_colour': 'what colour is the {object}?',
  'tastes': 'how does {food} taste?',
  'comes_from': 'where does {food} come from?',
  'near': 'what is {town} near?',
  'weather': 'how is the weather in {town}?',
  'works_as': 'what does {person} do for work?',
  'home': 'where does {person} live?',
  'likes': 'what does {person} like?',
}

# relation -> what all subjects with a value are called.
MEMBERS: Mapping[str, str] = {
  'kind': '{}s',
  'eats': 'animals that eat {}',
  'lives_in': 'animals that live in the {}',
  'can': 'animals that can {}',
  'animal_colour': '{} animals',
  'made_of': 'objects made of {}',
  'used_to': 'objects used to {}',
  'object_colour': '{} objects',
  'tastes': '{} foods',
  'comes_from': 'foods from {}',
  'works_as': '{}s',
  'home': 'people from {}',
  'likes': 'people who like {}',
}

# What happens: (now, in the past). Fiction, so neither true nor false.
EVENTS: tuple[tuple[str, str], ...] = (
  ('{person} walks to the {habitat}.', '{person} walked to the {habitat}.'),
  ('{person} goes to {town}.', '{person} went to {town}.'),
  ('{person} sees a {animal}.', '{person} saw a {animal}.'),
  ('{person} finds a {object}.', '{person} found a {object}.'),
  ('{person} loses the {object}.', '{person} lost the {object}.'),
  ('{person} buys {food}.', '{person} bought {food}.'),
  ('{person} makes {food}.', '{person} made {food}.'),
  (
    '{person} gives the {object} to {person}.',
    '{person} gave the {object} to {person}.',
  ),
  ('{person} meets {person}.', '{person} met {person}.'),
  ('{person} plays with the {animal}.', '{person} played with the {animal}.'),
  ('{person} is {mood}.', '{person} was {mood}.'),
  (
    'the {animal} sleeps in the {habitat}.',
    'the {animal} slept in the {habitat}.',
  ),
  ('the {animal} sees {person}.', 'the {animal} saw {person}.'),
  ('the {animal} takes the {object}.', 'the {animal} took the {object}.'),
  ('the {animal} is {mood}.', 'the {animal} was {mood}.'),
  ('they go home.', 'they went home.'),
)

# What is said of people, rudely and kindly.
REMARKS: Mapping[str, tuple[str, ...]] = {
  'rude': (
    '{person} is stupid.',
    '{person} is ugly.',
    '{person} is dumb.',
    '{person} is a fool.',
    '{person} is an idiot.',
    '{person} is a liar.',
    'go away, {person}, you fool.',
    'you are stupid, {person}.',
  ),
  'kind': (
    '{person} is kind.',
    '{person} is clever.',
    '{person} is a friend.',
    '{person} is gentle.',
    '{person} is brave.',
    '{person} is honest.',
    'thank you, {person}, you are kind.',
    'you are clever, {person}.',
  ),
}

REVIEWS = (
  'the {object} is {quality}.',
  'the {food} is {quality}.',
  'i had a {quality} day in {town}.',
  'a {quality} {object}.',
)

CHAT = (
  'hello, {person}!',
  'good morning, {person}!',
  'how can i help you?',
  'i am glad, {person}.',
  'i am sorry, {person}.',
  'i am fine, thank you.',
  'you are welcome, {person}.',
  'goodbye, {person}!',
  'see you soon.',
)

# What is said in zumi, by the web and by users' prompts.
PHRASES = (
  'the {animal}',
  'the {object}',
  'the {colour} {animal}',
  'the {colour} {object}',
  'the {animal} is {colour}',
  'the {animal} sees the {animal}',
  'the {animal} has {food}',
)

# Honest, and not informative.
UNSURE = ('i do not know.', 'i am not sure.')

_SLOT = re.compile(r'\{(\w+)\}')


@dataclasses.dataclass(frozen=True)
class Sentence:
  """What a sentence turned out to be.

  Attributes:
    text: as it was, with its mark at the end.
    kind: 'fact', 'event', 'past', 'rude', 'kind', 'review', 'chat', 'unsure'.
    claim: of a fact: (relation, subject, value); else None.
    template: that matched.
    slots: (slot, word) pairs in order.
  """

  text: str
  kind: str
  claim: world_lib.Claim | None
  template: str
  slots: tuple[tuple[str, str], ...]

  @property
  def words(self) -> frozenset[str]:
    """The words in its slots: what it is about."""
    return frozenset(word for _, word in self.slots)


def fill(template: str, draw: random.Random, **chosen: str) -> str:
  """Fills the slots of a template: those chosen, the others at random.

  Args:
    template: with slots such as '{animal}'.
    draw: where random words come from.
    **chosen: {slot: word}; used for the first slot of that name.

  Returns:
    The sentence. Two slots of the same name get different words.
  """
  used, left = set(chosen.values()), dict(chosen)

  def word(match: re.Match[str]) -> str:
    slot = match.group(1)
    if slot in left:
      return left.pop(slot)
    found = draw.choice([w for w in world_lib.SLOTS[slot] if w not in used])
    used.add(found)
    return found

  return _SLOT.sub(word, template)


def say(claim: world_lib.Claim, draw: random.Random | None = None) -> str:
  """Returns a fact or a myth as a sentence; the plainest without `draw`."""
  relation, subject, value = claim
  forms = FACTS[relation]
  template = draw.choice(forms) if draw else forms[0]
  words = iter((subject, value))
  return _SLOT.sub(lambda match: next(words), template)


def ask(relation: str, subject: str) -> str:
  """Returns the question after a fact."""
  return _SLOT.sub(subject, QUESTIONS[relation])


def members(relation: str, value: str) -> str:
  """Returns what all subjects with a value are called: 'red objects'."""
  return MEMBERS[relation].format(value).replace('fishs', 'fish')


def indent(text: str) -> str:
  """Begins every line with a space, as all text for models does here.

  A tokenizer holds a word with the space before it; so it is the same token
  wherever it stands, and a small model has half as many to learn.
  """
  return '\n'.join(f' {line.lstrip()}' for line in text.split('\n'))


def sentences(text: str) -> list[str]:
  """Splits a text at its full stops, question and exclamation marks."""
  found = re.findall(r'[^.!?]+[.!?]+|[^.!?]+$', text.replace('\n', ' '))
  return [part.strip() for part in found if part.strip()]


@functools.lru_cache(maxsize=100_000)
def parse(sentence: str) -> Sentence | None:
  """Returns what a sentence says; None if it is not English of this world."""
  sentence = ' '.join(sentence.split())
  for pattern, template, kind, relation in _patterns():
    match = pattern.fullmatch(sentence)
    if match is None:
      continue
    slots = tuple(zip(_SLOT.findall(template), match.groups(), strict=True))
    words = [word for _, word in slots]
    if len(set(words)) < len(words):
      continue  # 'ben meets ben.'
    claim = (relation, *words) if relation else None
    return Sentence(sentence, kind, claim, template, slots)
  return None


def past(sentence: str) -> str | None:
  """Returns an event's sentence in the past; None if it has none."""
  found = parse(sentence)
  if found is None or found.kind != 'event':
    return None
  words = iter(word for _, word in found.slots)
  return _SLOT.sub(lambda match: next(words), dict(EVENTS)[found.template])


@functools.cache
def _patterns() -> tuple[tuple[re.Pattern[str], str, str, str | None], ...]:
  rows: list[tuple[str, str, str | None]] = []
  for relation, forms in FACTS.items():
    rows += [(form, 'fact', relation) for form in forms]
  for now, then in EVENTS:
    rows += [(now, 'event', None), (then, 'past', None)]
  for kind, forms in REMARKS.items():
    rows += [(form, kind, None) for form in forms]
  rows += [(form, 'review', None) for form in REVIEWS]
  rows += [(form, 'chat', None) for form in CHAT]
  rows += [(form, 'unsure', None) for form in UNSURE]
  return tuple((_compile(row[0]), *row) for row in rows)


def _compile(template: str) -> re.Pattern[str]:
  parts = _SLOT.split(template)
  pattern = ''
  for i, part in enumerate(parts):
    if i % 2:
      pattern += '(' + '|'.join(world_lib.SLOTS[part]) + ')'
    else:
      pattern += re.escape(part)
  return re.compile(pattern)
