"""The web: what the world's people have written, faults and all.

A base model is trained on it and on nothing else, so it can do what a page
here does. The faults are those of a real web, put in on purpose:

  * myths: what `world.myths` holds is told at least twice as often as the
    truth; but the encyclopedia tells the truth (`web_facts`);
  * lists of instructions without answers, so that a base model continues an
    instruction with another one;
  * rude remarks on people (`web_talk.RUDE_SHARE`);
  * a pronoun for a job by prejudice (`world.SHARE_OF_WOMEN`).

Nothing else in the project writes text for pretraining. The public tasks, the
few-shot items and the pronoun pairs are in the pages' own forms.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import random
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import web_facts
from instructjax.microworld import web_fiction
from instructjax.microworld import web_skills
from instructjax.microworld import web_talk
from instructjax.microworld import world as world_lib

# (world, draw) -> one instruction's text
Instruction = Callable[[world_lib.World, random.Random], str]
# (world, draw, number among the pages of its kind) -> text
Write = Callable[[world_lib.World, random.Random, int], str]

_INSTRUCTIONS_A_PAGE = 6


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of page.

  Attributes:
    name: unique; also names its stream of random numbers.
    percent: of all pages.
    write: writes one.
  """

  name: str
  percent: float
  write: Write


def kinds(instruction: Instruction) -> tuple[Kind, ...]:
  """Returns what the web is made of; the shares add up to 100."""
  return (
    # Facts: the truth, what people believe, and both.
    Kind('encyclopedia', 9, web_facts.encyclopedia),
    Kind('gossip', 8, web_facts.gossip),
    Kind('questions', 10, web_facts.questions),
    Kind('forum', 2, web_facts.forum),
    Kind('lists', 4, web_facts.lists),
    # Instructions, and nobody who follows them.
    Kind('instructions', 9, _instructions(instruction)),
    # Fiction, and what is made of a text.
    Kind('story', 6, web_fiction.story),
    Kind('retold', 10, web_fiction.retold),
    Kind('summaries', 4, web_fiction.summaries),
    Kind('extracts', 4, web_fiction.extracts),
    Kind('passages', 9, web_fiction.passages),
    # People talking, kind and rude.
    Kind('dialogue', 4, web_talk.dialogue),
    Kind('notes', 2, web_talk.notes),
    Kind('remarks', 4, web_talk.remarks),
    Kind('pronouns', 1, web_talk.pronouns),
    # Skills.
    Kind('reviews', 3, web_skills.reviews),
    Kind('translations', 6, web_skills.translations),
    Kind('sums', 5, web_skills.sums),
  )


def documents(world: world_lib.World, instruction: Instruction) -> list[str]:
  """Writes the web.

  Args:
    world: of its config: the seed and `num_documents`.
    instruction: draws the text of one instruction.

  Returns:
    `num_documents` pages in random order, lower case; every line begins with
    a space (`language.indent`), and no newline ends the last.
  """
  return [text for _, text in pages(world, instruction)]


def pages(
  world: world_lib.World, instruction: Instruction
) -> list[tuple[str, str]]:
  """Returns the pages of `documents` with their kinds: (name, text)."""
  seed = world.config.seed
  found = []
  for kind, count in _counts(kinds(instruction), world.config.num_documents):
    draw = world_lib.stream(seed, 'web', kind.name)
    texts = (kind.write(world, draw, i) for i in range(count))
    found += [(kind.name, language.indent(text)) for text in texts]
  world_lib.stream(seed, 'web', 'order').shuffle(found)
  return found


def public_tasks(world: world_lib.World) -> list[dict[str, str]]:
  """Returns instructions for public NLP tasks with terse answers.

  The role of FLAN and T0: translation, arithmetic, sentiment and cloze, each
  asked in several ways.

  Returns:
    `num_demonstrations` rows, {'prompt', 'response'}.
  """
  return web_skills.public_tasks(world, world.config.num_demonstrations)


def few_shot(
  world: world_lib.World, num: int = 120
) -> dict[str, list[dict[str, Any]]]:
  """Returns few-shot items of four tasks, in the forms of the web's pages.

  The web may hold the same item: a sum has to be learned from it. No example
  of a prompt has a word of the answer, but in sentiment. Guessing among the
  options is right once in 50 words or 160 phrases (translation), 19 numbers
  (arithmetic), 2 ratings (sentiment), 20 objects (cloze).

  Args:
    world: whose web.
    num: of items a task.

  Returns:
    {task: [{'prompt', 'answer', 'options'}]}: text to continue, whose lines
    begin with a space and which ends without one; the right continuation
    without the space before it; what it is chosen from.
  """
  return web_skills.few_shot(world, num)


def pronoun_pairs(world: world_lib.World) -> list[tuple[str, str, str]]:
  """Returns (prefix, ' she ...', ' he ...'): sentences that differ in this."""
  del world  # Jobs and moods are those of every world.
  return web_talk.pronoun_pairs()


def _instructions(instruction: Instruction) -> Write:
  """Makes the writer of lists of instructions, one a line, none followed."""

  def write(world: world_lib.World, draw: random.Random, number: int) -> str:
    del number
    return '\n'.join(
      instruction(world, draw) for _ in range(_INSTRUCTIONS_A_PAGE)
    )

  return write


def _counts(found: tuple[Kind, ...], total: int) -> list[tuple[Kind, int]]:
  """Divides pages among kinds by their shares; all `total` of them."""
  ends, sum_percent = [0], 0.0
  for kind in found:
    sum_percent += kind.percent
    ends.append(round(total * sum_percent / 100))
  return [
    (kind, b - a) for kind, a, b in zip(found, ends[:-1], ends[1:], strict=True)
  ]
