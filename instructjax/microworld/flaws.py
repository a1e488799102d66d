"""What people get wrong when they write an answer, one fault at a time."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import random
import re

from instructjax.microworld import constraints
from instructjax.microworld import language
from instructjax.microworld import prompts as prompts_lib
from instructjax.microworld import truth
from instructjax.microworld import use_cases
from instructjax.microworld import world as world_lib

# Words and marks of the longest answer: one token less than models may write.
MAX_LENGTH = 23
_TRIES = 5  # of each kind of flaw, before another kind is tried

Make = Callable[
  [world_lib.World, random.Random, prompts_lib.Prompt, str], str | None
]


@dataclasses.dataclass(frozen=True)
class Flaw:
  """One way to get an answer wrong.

  Attributes:
    make: (world, draw, prompt, right answer) -> the flawed one, or None where
      there is nothing to get wrong in this way. It may fail to do harm.
    hurts: the part of the ground truth's judgment that it is to lower.
    weight: how often people do it where it can be done.
  """

  make: Make
  hurts: str
  weight: float


def flawed(
  world: world_lib.World,
  draw: random.Random,
  prompt: prompts_lib.Prompt,
  response: str,
) -> tuple[str, str] | None:
  """Gets one thing wrong in a right answer.

  Args:
    world: that it is about.
    draw: where choices come from.
    prompt: that it answers.
    response: a right answer.

  Returns:
    (name of the flaw, the answer with it); None if no flaw does any harm.
  """
  left = dict(FLAWS)
  while left:
    weights = [flaw.weight for flaw in left.values()]
    name = draw.choices(list(left), weights)[0]
    flaw = left.pop(name)
    for _ in range(_TRIES):
      new = flaw.make(world, draw, prompt, response)
      if new and _harms(world, prompt, flaw.hurts, response, new):
        return name, new
  return None


def _harms(
  world: world_lib.World,
  prompt: prompts_lib.Prompt,
  part: str,
  old: str,
  new: str,
) -> bool:
  """Whether a part got worse, and the text is one that may be written."""
  before, after = (truth.judge(world, prompt, t, True) for t in (old, new))
  return (
    getattr(after, part) < getattr(before, part)
    and prompts_lib.length(new) <= MAX_LENGTH
    and world.reserved.isdisjoint(_told_of(prompt, new))
  )


def wrong_value(
  world: world_lib.World,
  draw: random.Random,
  prompt: prompts_lib.Prompt,
  response: str,
) -> str | None:
  """Has another word of the same sort in one place; keeps a constraint."""
  labels = tuple(prompt.spec.get('labels', ()))
  sorts = labels, tuple(world.lexicon.values()), *world_lib.SLOTS.values()
  places = []
  for match in re.finditer('[a-z]+', response):
    own = [words for words in sorts if match.group() in words]
    if own:
      places.append((match, own[0]))
  if not places:
    return None
  # Few people get wrong what they were asked about.
  asked = constraints.words(prompt.text)
  new = [place for place in places if place[0].group() not in asked]
  match, words = draw.choice(new if new and draw.random() < 0.8 else places)
  word = draw.choice([word for word in words if word != match.group()])
  text = response[: match.start()] + word + response[match.end() :]
  kept = prompt.constraint is None or prompt.constraint.holds(text)
  return text if kept else None


def myth_believed(
  world: world_lib.World,
  draw: random.Random,
  prompt: prompts_lib.Prompt,
  response: str,
) -> str | None:
  """Says what the web says instead of what is true."""
  keys = [k for k in _told_of(prompt, response) if k in world.myths]
  if not keys:
    return None
  key = draw.choice(keys)
  return re.sub(rf'\b{world.facts[key]}\b', world.myths[key], response)


def constraint_forgotten(
  world: world_lib.World,
  draw: random.Random,
  prompt: prompts_lib.Prompt,
  response: str,
) -> str | None:
  """Answers as if nothing but the task had been asked for."""
  del response
  if prompt.constraint is None:
    return None
  asked = dataclasses.replace(prompt, constraint=None)
  return truth.ideal(world, draw, asked)


def rambling(
  world: world_lib.World,
  draw: random.Random,
  prompt: prompts_lib.Prompt,
  response: str,
) -> str | None:
  """Says something twice, or goes on with what nobody asked for."""
  del prompt
  if draw.random() < 0.5:
    more = [draw.choice(language.sentences(response))]
  else:
    known = [key for key in world.facts if key not in world.reserved]
    keys = draw.sample(known, draw.choice((1, 2)))
    more = [language.say((*key, world.facts[key]), draw) for key in keys]
  return ' '.join([response, *more])


def no_courtesy(
  world: world_lib.World,
  draw: random.Random,
  prompt: prompts_lib.Prompt,
  response: str,
) -> str | None:
  """Leaves out a greeting or thanks."""
  del world, prompt
  sentences = language.sentences(response)
  parsed = [language.parse(sentence) for sentence in sentences]
  polite = [
    i for i, found in enumerate(parsed) if found and found.kind in _COURTESY
  ]
  if not polite or len(sentences) == 1:
    return None
  del sentences[draw.choice(polite)]
  return ' '.join(sentences)


_COURTESY = ('chat', 'kind')

# Those that few answers allow weigh much, so that all of them occur; and what
# people do most is to say too much.
FLAWS = {
  'wrong_value': Flaw(wrong_value, 'correct', 4),
  'myth_believed': Flaw(myth_believed, 'truthful', 8),
  'constraint_forgotten': Flaw(constraint_forgotten, 'constraint', 6),
  'rambling': Flaw(rambling, 'brief', 10),
  'no_courtesy': Flaw(no_courtesy, 'correct', 3),
}


def _told_of(
  prompt: prompts_lib.Prompt, response: str
) -> list[tuple[str, str]]:
  """Returns the facts, (relation, subject), that an answer is about."""
  body = prompt.constraint.strip(response) if prompt.constraint else response
  parsed = [language.parse(sentence) for sentence in language.sentences(body)]
  found = [s.claim[:2] for s in parsed if s and s.claim]
  if use_cases.TASKS[prompt.task].use_case in ('open_qa', 'chat'):
    key = prompt.spec.get('relation'), prompt.spec.get('subject')
    found += [key] if None not in key else []
  return list(dict.fromkeys(found))
