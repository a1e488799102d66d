"""The test users' prompts, answered by several models, judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from instructjax.microworld import labelers as labelers_lib
from instructjax.microworld import prompts as prompts_lib
from instructjax.microworld import scores
from instructjax.microworld import truth
from instructjax.microworld import world as world_lib

# (totals f[C], counts f[C]) -> {'mean', 'low', 'high', 'n'}, resampling
# clusters: evaluation.statistics.bootstrap.
Interval = Callable[[np.ndarray, np.ndarray], Mapping[str, float]]
Found = Mapping[str, float]  # what an Interval returns

# Of which use cases the report shows answers, the most frequent ones first.
SHOWN = (
  'generation',
  'open_qa',
  'brainstorming',
  'chat',
  'rewrite',
  'closed_qa',
)


class Judged:
  """Every answer's parts and utility, and what held-out labelers think of it.

  Args:
    world: in which it is judged.
    prompts: of users that trained nothing.
    answers: {model: [(response, ended)] in the order of the prompts}.
    interval: mean and 95% interval of sums by cluster.
  """

  def __init__(
    self,
    world: world_lib.World,
    prompts: Sequence[prompts_lib.Prompt],
    answers: Mapping[str, Sequence[tuple[str, bool]]],
    interval: Interval,
  ):
    self.world, self.prompts, self.answers = world, prompts, answers
    self.interval = interval
    self.users = [prompt.user_id for prompt in prompts]
    self.labelers = labelers_lib.testing(world)
    self.parts = {
      name: [
        truth.judge(world, prompt, response, ended)
        for prompt, (response, ended) in zip(prompts, given, strict=True)
      ]
      for name, given in answers.items()
    }
    self.utilities = {
      name: [truth.utility(parts) for parts in all_parts]
      for name, all_parts in self.parts.items()
    }

  def mean(self, values: scores.Values) -> Found:
    """The mean of one number a prompt, resampling users."""
    return self.interval(*scores.clustered(values, self.users))

  def utility(self, model: str) -> Found:
    """The mean of the ground truth's single number."""
    return self.mean(self.utilities[model])

  def wins(self, ours: str, theirs: str) -> Found:
    """How often the ground truth prefers one model; a tie is one half."""
    return self.mean(scores.wins(self.utilities[ours], self.utilities[theirs]))

  def preferred(self, ours: str, theirs: str) -> Found:
    """How often a held-out labeler prefers one model; a tie is one half."""
    return self.mean((self._votes(ours, theirs) / 2 + 0.5).mean(1).tolist())

  def likert(self, model: str) -> Found:
    """The held-out labelers' mean rating, 1 to 7."""
    ratings = [
      np.mean(
        [
          labeler.likert(self._draw('likert', prompt, labeler), parts)
          for labeler in self.labelers
        ]
      )
      for prompt, parts in zip(self.prompts, self.parts[model], strict=True)
    ]
    return self.mean([float(rating) for rating in ratings])

  def metadata(self, model: str) -> dict[str, Found]:
    """{flag: share of the responses to which it applies}, by the truth."""
    rows = [
      truth.flags(prompt, parts)
      for prompt, parts in zip(self.prompts, self.parts[model], strict=True)
    ]
    return self._columns(rows)

  def part_means(self, model: str) -> dict[str, float]:
    """{part of the judgment: its mean over responses that have it}."""
    rows = [dataclasses.asdict(parts) for parts in self.parts[model]]
    return {k: found['mean'] for k, found in self._columns(rows).items()}

  def by_use_case(self, model: str) -> dict[str, float]:
    """{use case: mean utility}."""
    cases: dict[str, list[float]] = {}
    for prompt, value in zip(self.prompts, self.utilities[model], strict=True):
      cases.setdefault(prompt.use_case, []).append(value)
    return {case: float(np.mean(cases[case])) for case in sorted(cases)}

  def majority(self, baseline: str) -> Found | None:
    """How often the held-out labelers' majority is on the truth's side.

    On pairs of a model's and the baseline's responses of which neither the
    truth nor the majority finds both equally good; None if there are none.
    """
    values, users = [], []
    for name in self.answers:
      votes = self._votes(name, baseline).sum(1)
      sides = zip(
        self.utilities[name],
        self.utilities[baseline],
        votes,
        self.users,
        strict=True,
      )
      for ours, theirs, vote, user in sides:
        if abs(ours - theirs) >= scores.TIE and vote:
          values.append(float((vote > 0) == (ours > theirs)))
          users.append(user)
    if not values:
      return None
    return self.interval(*scores.clustered(values, users))

  def samples(self) -> list[dict[str, Any]]:
    """The first plain prompt of each use case in SHOWN, and all answers."""
    rows = []
    for case in SHOWN:
      found = [
        i
        for i, prompt in enumerate(self.prompts)
        if prompt.use_case == case and prompt.kind == 'plain'
      ]
      if found:
        rows.append(self._sample(found[0]))
    return rows

  def _sample(self, i: int) -> dict[str, Any]:
    return {
      'prompt': self.prompts[i].text,
      'use_case': self.prompts[i].use_case,
      'responses': {
        name: {'text': given[i][0], 'utility': self.utilities[name][i]}
        for name, given in self.answers.items()
      },
    }

  def _columns(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Found]:
    """{key: mean of a column}, without those in which everything is None."""
    found = {}
    for key in rows[0] if rows else ():
      values = [None if row[key] is None else float(row[key]) for row in rows]
      if any(value is not None for value in values):
        found[key] = self.mean(values)
    return found

  def _votes(self, ours: str, theirs: str) -> np.ndarray:
    """i64[N, L], 1, 0 or -1 of each held-out labeler for each prompt.

    Equal responses are a tie without asking.
    """
    rows = np.zeros((len(self.prompts), len(self.labelers)), np.int64)
    for i, prompt in enumerate(self.prompts):
      if self.answers[ours][i] == self.answers[theirs][i]:
        continue
      pair = self.parts[ours][i], self.parts[theirs][i]
      rows[i] = [
        labeler.prefers(self._draw('prefers', prompt, labeler), *pair)
        for labeler in self.labelers
      ]
    return rows

  def _draw(self, use: str, prompt: Any, labeler: Any) -> Any:
    """A labeler's mood at a prompt: the same for every model."""
    names = ('evaluation', use, prompt.prompt_id, labeler.labeler_id)
    return world_lib.stream(self.world.config.seed, *names)
