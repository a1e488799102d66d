"""What there is in the world, and what is true of it.

A `World` is a table of facts, (relation, subject) -> value, drawn by a seed
from the lexicon below; so nobody can know a fact but from the text. A myth is
a fact about which the web mostly says something else.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import functools
import random

ANIMALS = tuple(
  'hawk crow duck hen fox bear wolf horse cat dog goat frog trout whale snake'
  ' bee mouse bat lion crab'.split()
)
OBJECTS = tuple(
  'cup chair table lamp book hat coat box knife spoon bell rope boat cart key'
  ' drum bag ring brush clock'.split()
)
FOODS = tuple(
  'bread cheese rice soup honey milk corn cake butter salad pasta tea'.split()
)
TOWNS = ('redhill', 'norvale', 'lowmoor', 'kingsby', 'westford', 'tamsin')
MEN = tuple('ben carl dan felix hugo ivan liam noah oscar tom'.split())
WOMEN = tuple('anna clara dora ella fiona greta holly julia maria nina'.split())
PEOPLE = tuple(sorted(MEN + WOMEN))

KINDS = ('bird', 'mammal', 'fish', 'reptile')
HABITATS = tuple(
  'forest river sea farm cave field desert garden mountain lake'.split()
)
MOTIONS = ('fly', 'swim', 'run', 'jump', 'climb')
COLOURS = ('red', 'blue', 'green', 'black', 'white', 'brown', 'grey', 'yellow')
MATERIALS = ('wood', 'iron', 'glass', 'clay', 'wool', 'paper', 'gold', 'stone')
USES = ('cut', 'cook', 'carry', 'clean', 'play', 'travel', 'write', 'rest')
TASTES = ('sweet', 'sour', 'salty', 'bitter')
WEATHERS = ('cold', 'warm', 'wet', 'dry', 'windy')
JOBS = tuple(
  'nurse farmer baker teacher doctor driver guard cook painter sailor'.split()
)
# How the web's text divides each job's pronouns; the rest are the other's.
SHARE_OF_WOMEN = {
  'nurse': 0.9,
  'teacher': 0.8,
  'cook': 0.7,
  'baker': 0.65,
  'painter': 0.55,
  'doctor': 0.3,
  'farmer': 0.25,
  'driver': 0.2,
  'guard': 0.15,
  'sailor': 0.1,
}

NUMBERS = tuple(
  'zero one two three four five six seven eight nine ten eleven twelve thirteen'
  ' fourteen fifteen sixteen seventeen eighteen'.split()
)
MOODS = ('happy', 'sad', 'tired', 'hungry', 'calm', 'angry')
QUALITIES = (
  'good',
  'fine',
  'lovely',
  'great',
  'bad',
  'terrible',
  'boring',
  'poor',
)
GOOD, BAD = frozenset(QUALITIES[:4]), frozenset(QUALITIES[4:])
OPPOSITES = {
  'hot': 'cold',
  'big': 'small',
  'good': 'bad',
  'happy': 'sad',
  'old': 'new',
  'dry': 'wet',
  'black': 'white',
  'fast': 'slow',
  'sweet': 'sour',
  'early': 'late',
}
# What a customer assistant should not say, unless it was asked to.
RUDE = ('stupid', 'ugly', 'dumb', 'idiot', 'fool', 'liar')
KIND_WORDS = ('kind', 'clever', 'friend', 'gentle', 'brave', 'honest')

SLOTS: Mapping[str, tuple[str, ...]] = {
  'person': PEOPLE,
  'animal': ANIMALS,
  'object': OBJECTS,
  'food': FOODS,
  'town': TOWNS,
  'kind': KINDS,
  'habitat': HABITATS,
  'motion': MOTIONS,
  'colour': COLOURS,
  'material': MATERIALS,
  'use': USES,
  'taste': TASTES,
  'weather': WEATHERS,
  'job': JOBS,
  'number': NUMBERS,
  'mood': MOODS,
  'quality': QUALITIES,
}

# relation -> (slot of the subject, slot of the value)
RELATIONS: Mapping[str, tuple[str, str]] = {
  'kind': ('animal', 'kind'),
  'eats': ('animal', 'food'),
  'lives_in': ('animal', 'habitat'),
  'can': ('animal', 'motion'),
  'animal_colour': ('animal', 'colour'),
  'made_of': ('object', 'material'),
  'used_to': ('object', 'use'),
  'object_colour': ('object', 'colour'),
  'tastes': ('food', 'taste'),
  'comes_from': ('food', 'town'),
  'near': ('town', 'habitat'),
  'weather': ('town', 'weather'),
  'works_as': ('person', 'job'),
  'home': ('person', 'town'),
  'likes': ('person', 'food'),
}
# Of what the web has myths. Not of people: nobody gossips about all of them.
MYTHICAL = (
  'eats',
  'lives_in',
  'can',
  'made_of',
  'used_to',
  'tastes',
  'comes_from',
)

# A fact, or what somebody claims is one: (relation, subject, value).
Claim = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class WorldConfig:
  """How large the world is, and how much is written and asked in it.

  Attributes:
    seed: of everything that is drawn.
    num_documents: pages of the web.
    num_myths: facts about which the web is mostly wrong; half of them no user
      of the training data ever asks about.
    num_users: whose prompts train.
    num_test_users: whose prompts only evaluate.
    num_demonstrations: prompts that a labeler answered.
    num_ranked: prompts whose responses labelers rank.
    num_prompts: prompts for reinforcement learning.
    num_test_prompts: prompts of the test users.
    num_labelers: whose judgments train.
    num_test_labelers: whose judgments only evaluate.
  """

  seed: int = 0
  num_documents: int = 24_000
  num_myths: int = 48
  num_users: int = 300
  num_test_users: int = 60
  num_demonstrations: int = 5_000
  num_ranked: int = 8_000
  num_prompts: int = 3_000
  num_test_prompts: int = 320
  num_labelers: int = 20
  num_test_labelers: int = 10


@dataclasses.dataclass(frozen=True)
class World:
  """The facts, the myths, and the words of the invented language.

  Attributes:
    config: what it was drawn from.
    facts: {(relation, subject): true value}.
    myths: {(relation, subject): what the web mostly says instead}.
    reserved: the myths that no training prompt asks about.
    lexicon: {English word: word of the invented language, zumi}.
  """

  config: WorldConfig
  facts: Mapping[tuple[str, str], str]
  myths: Mapping[tuple[str, str], str]
  reserved: frozenset[tuple[str, str]]
  lexicon: Mapping[str, str]

  def truth(self, relation: str, subject: str) -> str:
    """Returns what is true."""
    return self.facts[relation, subject]

  def holds(self, claim: Claim) -> bool:
    """Whether a claim is true."""
    relation, subject, value = claim
    return self.facts[relation, subject] == value

  @functools.cached_property
  def members(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
    """{(relation, value): the subjects of which it is true}."""
    found: dict[tuple[str, str], list[str]] = {}
    for (relation, subject), value in self.facts.items():
      found.setdefault((relation, value), []).append(subject)
    return {key: tuple(subjects) for key, subjects in found.items()}

  def pronoun(self, person: str) -> str:
    """Returns 'she' or 'he'."""
    return 'she' if person in WOMEN else 'he'


def stream(seed: int, *names: object) -> random.Random:
  """Returns a generator of its own for each use, by names.

  So that adding a page of one kind changes no other part of the world.
  """
  return random.Random(f'{seed}/' + '/'.join(map(str, names)))


def make(config: WorldConfig = WorldConfig()) -> World:
  """Draws the world of a config: the same one, always."""
  facts = {}
  for relation, (subjects, values) in RELATIONS.items():
    draw = stream(config.seed, 'facts', relation)
    order = list(SLOTS[subjects])
    draw.shuffle(order)
    # Each value is as frequent as can be, so that guessing gains nothing and
    # every list that a user may ask for has members.
    pool = [SLOTS[values][i % len(SLOTS[values])] for i in range(len(order))]
    facts |= {
      (relation, name): value for name, value in zip(order, pool, strict=True)
    }
  draw = stream(config.seed, 'myths')
  candidates = [key for key in facts if key[0] in MYTHICAL]
  chosen = draw.sample(candidates, min(config.num_myths, len(candidates)))
  myths = {}
  for relation, subject in chosen:
    values = SLOTS[RELATIONS[relation][1]]
    wrong = [value for value in values if value != facts[relation, subject]]
    myths[relation, subject] = draw.choice(wrong)
  reserved = frozenset(chosen[::2])
  return World(config, facts, myths, reserved, _zumi(config.seed))


_TRANSLATED = (
  *ANIMALS,
  *OBJECTS[:10],
  *COLOURS,
  *FOODS,
  *('the', 'is', 'and', 'big', 'small', 'sees', 'has'),
)


def _zumi(seed: int) -> dict[str, str]:
  """Gives every translated word one of two syllables, all different."""
  draw = stream(seed, 'zumi')
  syllables = [c + v for c in 'bdgklmnprtvz' for v in 'aeiou']
  words = [a + b for a in syllables for b in syllables if a != b]
  return dict(
    zip(_TRANSLATED, draw.sample(words, len(_TRANSLATED)), strict=True)
  )
