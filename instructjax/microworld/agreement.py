"""How often labelers agree, and the noise that makes them agree so often.

The paper's training labelers preferred the same response in 72.6 +- 1.5% of
cases and its held-out labelers in 77.3 +- 1.3% (section 3.4). Ours reach this
on a fixed pool of responses that needs no model.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import itertools
import random
import re

import numpy as np

from instructjax.microworld import flaws
from instructjax.microworld import labelers as labelers_lib
from instructjax.microworld import prompts as prompts_lib
from instructjax.microworld import truth
from instructjax.microworld import world as world_lib

TARGET, TARGET_HELD_OUT = 0.726, 0.773
NUM_PROMPTS, NUM_RESPONSES = 200, 6

# What the pool's responses are: as good and as bad as those of a model of a
# million parameters after SFT, which labelers get to rank.
MIXTURE = {
  'right': 0.10,
  'swapped': 0.70,  # a right answer in which some words became others
  'flawed': 0.08,  # by one of flaws.FLAWS
  'cut': 0.02,  # a right answer's first words
  'off_task': 0.08,  # a right answer to another prompt
  'instruction': 0.02,  # another prompt, as a base model would go on
}
SHARE_SWAPPED = 0.7  # of the words of the world's slots


def measure(
  labelers: Sequence[labelers_lib.Labeler],
  judged: Sequence[Sequence[truth.Parts]],
  seed: int,
) -> dict[str, float]:
  """How often two labelers who prefer one of two responses prefer the same.

  Over all pairs of labelers, and all pairs of responses to a prompt that
  neither of the two calls a tie.

  Args:
    labelers: at least two.
    judged: for each of N prompts, its responses' parts.
    seed: of the labelers' noise.

  Returns:
    {'mean', 'low', 'high', 'n'}: the share, its 95% interval by the jackknife
    over prompts, and the number of pairs.
  """
  totals, counts = np.zeros((2, len(judged)))
  for i, parts_list in enumerate(judged):
    signs = np.array([_signs(p, parts_list, seed, i) for p in labelers])
    # i64[L, L]: agreements less disagreements, and both of them together.
    balance, both = signs @ signs.T, np.abs(signs) @ np.abs(signs).T
    pairs = np.triu_indices(len(labelers), 1)
    counts[i] = both[pairs].sum()
    totals[i] = (balance[pairs].sum() + counts[i]) / 2
  mean = totals.sum() / counts.sum()
  without = (totals.sum() - totals) / (counts.sum() - counts)
  spread = (without - without.mean()) ** 2
  error = 1.96 * np.sqrt((len(judged) - 1) * spread.mean())
  return {
    'mean': float(mean),
    'low': float(mean - error),
    'high': float(mean + error),
    'n': int(counts.sum()),
  }


def _signs(
  labeler: labelers_lib.Labeler,
  parts_list: Sequence[truth.Parts],
  seed: int,
  item: int,
) -> list[int]:
  """1, -1 or 0 for each pair of responses, as `Labeler.prefers`."""
  draw = world_lib.stream(seed, 'agreement', labeler.labeler_id, item)
  ranks = labeler.rank(draw, parts_list)
  return [(a < b) - (a > b) for a, b in itertools.combinations(ranks, 2)]


def of_groups(world: world_lib.World) -> dict[str, dict[str, float]]:
  """Returns {'agreement', 'agreement_heldout'} on the reference pool."""
  judged, seed = reference_pool(world), world.config.seed
  return {
    'agreement': measure(labelers_lib.training(world), judged, seed),
    'agreement_heldout': measure(labelers_lib.testing(world), judged, seed),
  }


def reference_pool(world: world_lib.World) -> list[list[truth.Parts]]:
  """Judges different responses of the MIXTURE to the test users' prompts."""
  asked = prompts_lib.testing(world)[:NUM_PROMPTS]
  pool = []
  for prompt in asked:
    draw = world_lib.stream(world.config.seed, 'reference', prompt.prompt_id)
    kinds = draw.choices(list(MIXTURE), list(MIXTURE.values()), k=NUM_RESPONSES)
    other = draw.choice(asked)
    right = {
      'off_task': truth.ideal(world, draw, other),
      'instruction': other.text,
    }
    judged = {}
    for kind in kinds:
      text = right.get(kind) or truth.ideal(world, draw, prompt)
      if kind == 'flawed':
        _, text = flaws.flawed(world, draw, prompt, text) or ('', text)
      if kind == 'swapped':
        text = _swapped(draw, text)
      if kind == 'cut':
        words = text.split()
        text = ' '.join(words[: draw.randrange(len(words))])
      ended = kind != 'cut'
      judged[text, ended] = truth.judge(world, prompt, text, ended)
    pool.append(list(judged.values()))
  return pool


def _swapped(draw: random.Random, text: str) -> str:
  """Replaces words by others of their slot, as a model that mixes them up."""

  def word(match: re.Match[str]) -> str:
    found = match.group()
    slots = [words for words in world_lib.SLOTS.values() if found in words]
    if not slots or draw.random() >= SHARE_SWAPPED:
      return found
    return draw.choice(slots[0])

  return re.sub('[a-z]+', word, text)


def calibrate(
  worlds: Sequence[world_lib.World],
  group: labelers_lib.Group,
  number: int,
  target: float,
) -> float:
  """Returns the group's noise at which its labelers agree as often as wanted.

  By bisection, as agreement falls with noise. The noise in `labelers` is this
  function's for the worlds of seeds 0 to 5, to two digits.

  Args:
    worlds: in whose reference pools they agree so often on average.
    group: whose weights they have; its own noise does not matter.
    number: of labelers in each world.
    target: share of pairs, in (0.5, 1).
  """
  pools = [(world.config.seed, reference_pool(world)) for world in worlds]
  low, high = 0.0, 1.0
  while high - low > 0.002:
    noise = (low + high) / 2
    noisy = dataclasses.replace(group, noise=noise)
    agreed = [
      measure(labelers_lib.hire(seed, noisy, number), pool, seed)['mean']
      for seed, pool in pools
    ]
    low, high = (noise, high) if np.mean(agreed) > target else (low, noise)
  return (low + high) / 2
