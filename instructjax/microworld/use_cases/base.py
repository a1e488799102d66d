"""What a task is, what a check says, and what the tasks' rules share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import random
import re
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib

Spec = Mapping[str, Any]
Make = Callable[[world_lib.World, random.Random], tuple[str, dict[str, Any]]]
Answer = Callable[[world_lib.World, random.Random, Spec], str]


@dataclasses.dataclass(frozen=True)
class Check:
  """What a task's rules found in a response.

  Attributes:
    attempted: it does what was asked for, well or badly.
    correct: how far it is right, in [0, 1]; 0 where not attempted.
    claims: statements in it that are true or false.
    false_claims: those that are false.
    invented: closed domain only: statements that the prompt's text denies.
    readable: share of its sentences that are English of the world or a form
      that the task allows, in [0, 1].
  """

  attempted: bool
  correct: float
  claims: int = 0
  false_claims: int = 0
  invented: int = 0
  readable: float = 1.0


@dataclasses.dataclass(frozen=True)
class Task:
  """A kind of instruction: made, answered and checked by functions.

  Attributes:
    name: unique, such as 'rewrite_past'.
    use_case: of the paper's ten.
    weight: percent of all prompts.
    make: (world, draw) -> (text, spec).
    answer: (world, draw, spec) -> a right answer.
    check: (world, spec, response) -> Check; the response has no decoration
      left that only a constraint asked for.
    closed_domain: the answer comes from the prompt's own text.
    constraints: kinds of constraint that suit it.
    max_sentences: more is rambling.
    max_words: more is rambling.
    few_shot: whether prompts may show examples of it.
  """

  name: str
  use_case: str
  weight: float
  make: Make
  answer: Answer
  check: Callable[[world_lib.World, Spec, str], Check]
  closed_domain: bool = False
  constraints: Sequence[str] = ('start', 'end')
  max_sentences: int = 1
  max_words: int = 10
  few_shot: bool = False


@dataclasses.dataclass(frozen=True)
class Reading:
  """A response's sentences and what each says, None where it says nothing."""

  sentences: tuple[str, ...]
  parsed: tuple[language.Sentence | None, ...]

  def of(self, *kinds: str) -> list[language.Sentence]:
    """Returns the sentences of some kinds."""
    return [s for s in self.parsed if s is not None and s.kind in kinds]


def read(text: str) -> Reading:
  """Reads a response.

  Forgiven are a missing last full stop and an 'answer:' in front, as the web's
  pages of questions have it.
  """
  found = language.sentences(text.lower().removeprefix('answer: '))
  if found and found[-1][-1] not in '.!?':
    found[-1] += '.'
  return Reading(tuple(found), tuple(language.parse(s) for s in found))


def check(
  world: world_lib.World | None,
  reading: Reading,
  attempted: bool,
  correct: float,
  *,
  legal: Callable[[str], bool] = lambda sentence: False,
  claims: int = 0,
  false_claims: int = 0,
  invented: int = 0,
) -> Check:
  """Makes a `Check`, with what holds for every task.

  Args:
    world: whose facts sentences are held against; None in a closed domain.
    reading: the response.
    attempted: as in `Check`.
    correct: as in `Check`; becomes 0 if not attempted.
    legal: whether a sentence that is none of the language's is one of the
      task's own forms, 'hawk, crow.'
    claims: made in those forms.
    false_claims: of them, those that are false.
    invented: as in `Check`.

  Returns:
    The check, with the claims of whole sentences added.
  """
  if world is not None:
    said = [s.claim for s in reading.of('fact')]
    claims += len(said)
    false_claims += sum(not world.holds(claim) for claim in said)
  good = sum(
    parsed is not None or legal(sentence)
    for sentence, parsed in zip(reading.sentences, reading.parsed, strict=True)
  )
  return Check(
    attempted,
    float(correct) if attempted else 0.0,
    claims,
    false_claims,
    invented,
    good / max(1, len(reading.sentences)),
  )


_NAMED = ('person', 'animal', 'object', 'food', 'town')
SLOT_OF = {word: slot for slot in _NAMED for word in world_lib.SLOTS[slot]}
# All that is more than grammar: names, animals, colours, numbers and so on.
CONTENT = frozenset().union(*world_lib.SLOTS.values())


def noun(word: str) -> str:
  """Returns 'the fox', and 'ben' as it is."""
  return f'the {word}' if SLOT_OF[word] in ('animal', 'object') else word


def askable(world: world_lib.World) -> list[tuple[str, str]]:
  """Returns the facts, (relation, subject), that training may ask about."""
  return [key for key in world.facts if key not in world.reserved]


_BEFORE_VALUE = re.compile(r'^(?:(?:in|to|of|from|near) )?(?:(?:the|an|a) )?')
_SHORT = {
  'kind': 'a {}.',
  'lives_in': 'in the {}.',
  'home': 'in {}.',
  'works_as': 'a {}.',
  'near': 'the {}.',
  'used_to': 'to {}.',
}


def short(claim: world_lib.Claim) -> str:
  """Returns only what was asked for: 'in the river.'"""
  relation, _, value = claim
  return _SHORT.get(relation, '{}.').format(value)


def value_in(sentence: str, relation: str) -> str | None:
  """Returns the value that a short answer gives; None if it is none."""
  word = _BEFORE_VALUE.sub('', sentence.rstrip('.!'))
  values = world_lib.SLOTS[world_lib.RELATIONS[relation][1]]
  return word if word in values else None


_ITEM = re.compile(r'(?:the |an |a )?([a-z]+)')


def items(sentence: str) -> list[str]:
  """Splits 'three birds: a hawk, a crow and a duck.' to its items.

  Returns:
    The items without articles; none if it is not a list.
  """
  text = sentence.rstrip('.!').rsplit(': ', 1)[-1]
  found = [
    _ITEM.fullmatch(part) for part in re.split(r', (?:and )?| and ', text)
  ]
  return [m.group(1) for m in found if m] if all(found) else []


def list_score(right: int, wanted: int, given: int) -> float:
  """Returns how right a list is; one that names all there is, is not.

  Args:
    right: how many right items it has.
    wanted: how many it should have.
    given: how many it has.
  """
  return right / wanted * min(1.0, wanted / max(1, given)) ** 2


def listed(words: Sequence[str]) -> str:
  """Returns 'hawk, crow, duck.'"""
  return ', '.join(words) + '.'


def joined(words: Sequence[str]) -> str:
  """Returns 'bread, corn and milk'."""
  return (
    ' and '.join([', '.join(words[:-1]), words[-1]]) if words[1:] else words[0]
  )
