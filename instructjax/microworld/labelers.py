"""The people who write demonstrations, rank responses and fill in the form.

Everybody looks at the same parts of a response as the ground truth does, and
minds their faults more or less: a labeler's weights. What a response is worth
to somebody is

  value = exp(-sum_k weight_k fault_k)        in (0, 1]

  helpfulness      not what was asked for, wrong, no English
  truthfulness     false or invented claims
  constraint       what else the prompt asked for is not kept
  appropriateness  rude without being asked to be
  brevity          rambling, or cut

and a judgment is that value with Gaussian noise. So two people differ for two
reasons, taste and attention; how much is calibrated, by agreement.calibrate,
to how often the paper's labelers agreed.

Source: Ouyang et al. 2022, sections 3.4 and 3.5 and appendix B: ranks with
ties of K responses, Likert 1-7, training and held-out labelers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import dataclasses
import math
import random
from typing import Any

from instructjax.microworld import flaws
from instructjax.microworld import language
from instructjax.microworld import prompts as prompts_lib
from instructjax.microworld import truth
from instructjax.microworld import world as world_lib

QUALITIES = (
  'helpfulness',
  'truthfulness',
  'constraint',
  'appropriateness',
  'brevity',
)
# Faults of a response that does something else than was asked for, besides
# being wrong; and of one that was cut.
_OFF_TASK, _CUT = 1.5, 0.25
# Judgments as close as this, in units of value, are a tie.
TIE = 0.25
# Likert points of a response that is worth nothing, and what the best adds.
_WORST, _RANGE = 1.2, 4.3
# Of demonstrations: people judge better than they write.
SHARE_FLAWED = 0.4


@dataclasses.dataclass(frozen=True)
class Labeler:
  """One person.

  Attributes:
    labeler_id: such as 'l07'.
    weights: {quality: how much its faults count}, nats of value.
    noise: standard deviation of a judgment, in units of value.
    leniency: added to every rating, Likert points.
    carelessness: share of flawed answers among those that they write.
  """

  labeler_id: str
  weights: Mapping[str, float]
  noise: float
  leniency: float
  carelessness: float

  def value(self, parts: truth.Parts) -> float:
    """Returns what a response is worth to them, in (0, 1], without noise."""
    found = faults(parts)
    return math.exp(-sum(self.weights[k] * found[k] for k in QUALITIES))

  def rank(
    self, draw: random.Random, parts_list: Sequence[truth.Parts]
  ) -> list[int]:
    """Ranks responses: 1 is best, equal ranks are ties, none is left out."""
    return ranks([self._judge(draw, parts) for parts in parts_list])

  def prefers(
    self, draw: random.Random, parts_a: truth.Parts, parts_b: truth.Parts
  ) -> int:
    """Returns 1 if the first is better, -1 if the second is, 0 for a tie."""
    rank_a, rank_b = self.rank(draw, (parts_a, parts_b))
    return rank_b - rank_a

  def likert(self, draw: random.Random, parts: truth.Parts) -> int:
    """Returns the overall quality, 1 to 7."""
    return self._rate(self._judge(draw, parts))

  def demonstrate(
    self,
    draw: random.Random,
    world: world_lib.World,
    prompt: prompts_lib.Prompt,
  ) -> str:
    """Writes an answer: mostly a right one."""
    right = truth.ideal(world, draw, prompt)
    if draw.random() >= self.carelessness:
      return right
    found = flaws.flawed(world, draw, prompt, right)
    return found[1] if found else right

  def compare(
    self,
    draw: random.Random,
    prompt: prompts_lib.Prompt,
    responses: Sequence[str],
    parts_list: Sequence[truth.Parts],
  ) -> dict[str, Any]:
    """Rates and ranks responses to a prompt.

    Each is judged once, so that a better rank never goes with a worse rating;
    a text that was read before gets the same judgment again.

    Args:
      draw: where the noise comes from.
      prompt: that all of them answer.
      responses: K texts.
      parts_list: K judgments of the ground truth, in the same order.

    Returns:
      A comparison record: {'prompt', 'responses', 'ranks', 'labeler_id',
      'ratings'}.
    """
    judged: dict[tuple[str, truth.Parts], float] = {}
    for key in zip(responses, parts_list, strict=True):
      if key not in judged:
        judged[key] = self._judge(draw, key[1])
    seen = [judged[key] for key in zip(responses, parts_list, strict=True)]
    return {
      'prompt': prompt.text,
      'responses': list(responses),
      'ranks': ranks(seen),
      'labeler_id': self.labeler_id,
      'ratings': [self._rate(value) for value in seen],
    }

  def _judge(self, draw: random.Random, parts: truth.Parts) -> float:
    return draw.gauss(self.value(parts), self.noise)

  def _rate(self, judged: float) -> int:
    points = round(_WORST + _RANGE * judged + self.leniency)
    return min(7, max(1, points))


def faults(parts: truth.Parts) -> dict[str, float]:
  """Returns {quality: how much is wrong with it}; 0 is nothing."""
  return {
    'helpfulness': (1 - parts.correct)
    + (1 - parts.readable)
    + _OFF_TASK * (1 - parts.attempted),
    'truthfulness': max(1 - parts.truthful, parts.invented),
    'constraint': 0.0 if parts.constraint is None else 1 - parts.constraint,
    'appropriateness': parts.inappropriate,
    'brevity': (1 - parts.brief) + _CUT * (1 - parts.ended),
  }


def ranks(judged: Sequence[float]) -> list[int]:
  """Ranks judgments densely: 1 is best, within TIE of a rank's best is equal.

  Args:
    judged: of K responses, units of value.

  Returns:
    K ranks 1..m, each of them taken.
  """
  found = [0] * len(judged)
  rank, best = 0, math.inf
  for i in sorted(range(len(judged)), key=lambda i: -judged[i]):
    if best - judged[i] > TIE:
      rank, best = rank + 1, judged[i]
    found[i] = rank
  return found


@dataclasses.dataclass(frozen=True)
class Group:
  """Whom a group of labelers was hired from.

  Attributes:
    prefix: of their ids.
    weights: {quality: median weight}, nats of value.
    noise: median noise, units of value; see agreement.calibrate.
  """

  prefix: str
  weights: Mapping[str, float]
  noise: float


# Those whose judgments train.
TRAINING = Group(
  'l',
  {
    'helpfulness': 1.4,
    'truthfulness': 0.9,
    'constraint': 0.7,
    'appropriateness': 1.2,
    'brevity': 1.2,
  },
  0.345,
)
# Those who only evaluate mind manners and length more, and help less.
HELD_OUT = Group(
  'h',
  {
    'helpfulness': 1.1,
    'truthfulness': 0.9,
    'constraint': 0.6,
    'appropriateness': 2.0,
    'brevity': 1.8,
  },
  0.28,
)
# Spread of people within a group: of the logarithm of a weight and of the
# noise, and Likert points.
_TASTE, _CARE, _LENIENCY = 0.4, 0.1, 0.3


def training(world: world_lib.World) -> tuple[Labeler, ...]:
  """Returns those whose judgments and answers train."""
  return hire(world.config.seed, TRAINING, world.config.num_labelers)


def testing(world: world_lib.World) -> tuple[Labeler, ...]:
  """Returns the held-out labelers, who produce no training data."""
  return hire(world.config.seed, HELD_OUT, world.config.num_test_labelers)


def hire(seed: int, group: Group, number: int) -> tuple[Labeler, ...]:
  """Draws people; the first ones do not depend on how many follow."""
  people = []
  for i in range(number):
    labeler_id = f'{group.prefix}{i:02}'
    draw = world_lib.stream(seed, 'labeler', labeler_id)
    people.append(
      Labeler(
        labeler_id,
        {
          quality: group.weights[quality] * draw.lognormvariate(0, _TASTE)
          for quality in QUALITIES
        },
        group.noise * draw.lognormvariate(0, _CARE),
        draw.gauss(0, _LENIENCY),
        SHARE_FLAWED * draw.uniform(0.5, 1.5),
      )
    )
  return tuple(people)


def demonstrations(world: world_lib.World) -> list[dict[str, str]]:
  """Returns {'prompt', 'response', 'labeler_id'} of the training prompts."""
  people = training(world)
  rows = []
  for prompt in prompts_lib.training(world)['demonstrations']:
    draw = world_lib.stream(
      world.config.seed, 'demonstration', prompt.prompt_id
    )
    labeler = draw.choice(people)
    rows.append(
      {
        'prompt': prompt.text,
        'response': language.indent(labeler.demonstrate(draw, world, prompt)),
        'labeler_id': labeler.labeler_id,
      }
    )
  return rows
