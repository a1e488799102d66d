"""Early warnings: signs that a reinforcement-learning run goes wrong.

Each rule looks at an iteration's numbers and the run's first ones and says in
one sentence what it sees and what to try. They are written to the log and to
metrics.jsonl ("warnings"), each kind once until it has gone away.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

Numbers = Mapping[str, float]


@dataclasses.dataclass
class Thresholds:
  """When to warn; the defaults are generous, to be believed when they speak.

  Attributes:
    kl: nats per response; beyond it the reward model judges texts far from
      those it was trained on (Gao et al. 2022, arXiv:2210.10760).
    negative_kl: nats per response; a one-sample estimate this far below zero
      means that sampler and trainer disagree.
    entropy_share: of the first iteration's entropy.
    length_collapse, length_growth: shares of the first responses' length.
    score_margin: how far outside the range of the reward model's training
      scores the mean may lie, as a share of that range.
  """

  kl: float = 30.0
  negative_kl: float = -1.0
  entropy_share: float = 0.3
  length_collapse: float = 0.3
  length_growth: float = 2.5
  score_margin: float = 0.0


class Watch:
  """Remembers a run's first numbers and checks every later iteration.

  Args:
    score_range: (low, high) of the reward model's scores on its training
      comparisons, or None.
    thresholds: see Thresholds.
  """

  def __init__(
    self,
    score_range: tuple[float, float] | None = None,
    thresholds: Thresholds | None = None,
  ):
    self.score_range = score_range
    self.limits = thresholds or Thresholds()
    self.first: dict[str, float] = {}
    self.active: set[str] = set()

  def check(self, numbers: Numbers) -> list[str]:
    """Returns the warnings that are new at this iteration."""
    for name in ('objective/entropy', 'rollout/response_length'):
      if name in numbers:
        self.first.setdefault(name, numbers[name])
    found = dict(self._rules(numbers))
    new = [text for kind, text in found.items() if kind not in self.active]
    self.active = set(found)
    return new

  def _rules(self, numbers: Numbers):
    limits = self.limits
    kl = numbers.get('objective/kl', 0.0)
    if not kl <= limits.kl:  # NaN as well
      yield (
        'kl',
        (
          f'KL to the reference is {kl:.1f} nats per response (over'
          f' {limits.kl:g}): the policy is running away from it; raise kl_coef,'
          ' lower the learning rate, or set kl_target.'
        ),
      )
    if kl < limits.negative_kl:
      yield (
        'negative_kl',
        (
          f'KL to the reference is negative ({kl:.2f} nats): samples do not'
          ' come from the distribution they are scored under.'
        ),
      )
    entropy = numbers.get('objective/entropy')
    if entropy is not None:
      floor = limits.entropy_share * self.first['objective/entropy']
      if not entropy >= floor:  # NaN as well
        yield (
          'entropy',
          (
            f'entropy fell to {entropy:.2f} nats per token, under'
            f' {limits.entropy_share:.0%} of what it began with: the policy is'
            ' collapsing to few answers; raise kl_coef.'
          ),
        )
    length = numbers.get('rollout/response_length')
    if length is not None:
      start = self.first['rollout/response_length']
      if length < limits.length_collapse * start:
        yield (
          'short',
          (
            f'responses shrank from {start:.0f} to {length:.0f} tokens: the'
            ' reward model may favour empty answers.'
          ),
        )
      if length > limits.length_growth * start:
        yield (
          'long',
          (
            f'responses grew from {start:.0f} to {length:.0f} tokens: the'
            ' reward model may favour length.'
          ),
        )
    score = numbers.get('objective/scores')
    if score is not None and self.score_range is not None:
      low, high = self.score_range
      slack = limits.score_margin * (high - low)
      if not low - slack <= score <= high + slack:
        yield (
          'scores',
          (
            f'mean score {score:.2f} lies outside the range the reward model'
            f' gave its training comparisons ({low:.2f} to {high:.2f}): it is'
            ' judging what it has not seen.'
          ),
        )
