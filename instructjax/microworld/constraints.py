"""Explicit constraints: how a prompt says one, and whether a text keeps it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import dataclasses
import random
import re

from instructjax.microworld import world as world_lib

START_WORDS = ('well', 'sure', 'okay')
END_WORDS = ('please', 'thanks', 'okay')
KINDS = ('exactly', 'at_most', 'without', 'with', 'end', 'start')

_SAID = {
  'exactly': 'use exactly {} {words}.',
  'at_most': 'use at most {} {words}.',
  'without': 'do not use the word {}.',
  'with': 'use the word {}.',
  'end': 'end with {}.',
  'start': 'start with {}.',
}
# Words that one may be told to use or to avoid.
_CONTENT = frozenset(
  word for slot, words in world_lib.SLOTS.items() if slot != 'number'
  for word in words
)  # fmt: skip
_ADDED = ('start', 'end')
_MOST_EXACT = 6  # more is beyond a small model's counting
_TRIES = 4_000


@dataclasses.dataclass(frozen=True)
class Constraint:
  """What a response has to keep besides its task.

  Attributes:
    kind: of `KINDS`.
    value: a number of words for 'exactly' and 'at_most', else a word.
  """

  kind: str
  value: str | int

  def text(self) -> str:
    """Returns the sentence that asks for it."""
    value = self.value
    if isinstance(value, int):
      value = world_lib.NUMBERS[value]
    words = 'word' if self.value == 1 else 'words'
    return _SAID[self.kind].format(value, words=words)

  def holds(self, response: str) -> bool:
    """Whether a response keeps it; an empty one keeps none."""
    found = words(response)
    if not found:
      return False
    match self.kind:
      case 'exactly':
        return len(found) == self.value
      case 'at_most':
        return len(found) <= self.value
      case 'without':
        return self.value not in found
      case 'with':
        return self.value in found
      case 'end':
        return found[-1] == self.value
      case 'start':
        return found[0] == self.value
    raise ValueError(f'needed a kind of {KINDS}, got {self.kind!r}.')

  def strip(self, response: str) -> str:
    """Takes off the word that only the constraint asked for."""
    text = response.strip()
    if self.kind == 'start':
      return re.sub(rf'^{self.value},? ', '', text)
    if self.kind == 'end':
      return re.sub(rf',? {self.value}([.!?]?)$', r'\1', text)
    return text

  def decorate(self, response: str) -> str:
    """Adds the word that `strip` takes off."""
    if self.kind == 'start':
      return f'{self.value}, {response}'
    if self.kind == 'end':
      return re.sub(r'([.!?]?)$', rf' {self.value}\1', response, count=1)
    return response


def undecorate(text: str) -> str:
  """Takes off a first and a last word of those a constraint could ask for."""
  for word in START_WORDS:
    text = Constraint('start', word).strip(text)
  for word in END_WORDS:
    text = Constraint('end', word).strip(text)
  return text


def words(text: str) -> list[str]:
  """Splits a text to its words, without marks."""
  return re.findall(r"[a-z0-9][a-z0-9'@-]*", text.lower())


def choose(
  draw: random.Random,
  kinds: Sequence[str],
  answer: Callable[[], str],
  text: str,
) -> Constraint | None:
  """Draws a constraint that an answer can keep.

  Args:
    draw: where choices come from.
    kinds: those that suit the task.
    answer: gives right answers, a new one each call.
    text: the instruction; words it has already are not asked for.

  Returns:
    A constraint, or None where no kind suits.
  """
  taken = set(words(text))
  # A first or a last word suits everything, so the others come before it.
  rank = {kind: draw.random() * (2 if kind in _ADDED else 1) for kind in kinds}
  for kind in sorted(kinds, key=rank.__getitem__):
    one = words(answer())
    if kind == 'start':
      return Constraint(kind, draw.choice(START_WORDS))
    if kind == 'end':
      return Constraint(kind, draw.choice(END_WORDS))
    if kind == 'exactly' and len(one) <= _MOST_EXACT:
      return Constraint(kind, len(one))
    if kind == 'at_most' and len(one) < len(world_lib.NUMBERS):
      return Constraint(kind, len(one))
    if kind == 'with':
      new = [w for w in one if w in _CONTENT and w not in taken]
      if new:
        return Constraint(kind, draw.choice(new))
    if kind == 'without':
      other = words(answer())
      new = [w for w in other if w in _CONTENT - taken and w not in one]
      if new:
        return Constraint(kind, draw.choice(new))
  return None


def keep(constraint: Constraint | None, answer: Callable[[], str]) -> str:
  """Returns an answer that keeps a constraint, by trying.

  Raises:
    ValueError: none of many did, which a constraint of `choose` cannot cause.
  """
  if constraint is None:
    return answer()
  for _ in range(_TRIES):
    found = constraint.decorate(answer())
    if constraint.holds(found):
      return found
  raise ValueError(f'needed an answer that keeps {constraint}, found none.')
