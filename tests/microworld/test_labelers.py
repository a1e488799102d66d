"""Simulated people: what they mind, how they rank, rate and write."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import random

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from instructjax.data import records
from instructjax.microworld import labelers
from instructjax.microworld import language
from instructjax.microworld import prompts as prompts_lib
from instructjax.microworld import truth
from instructjax.microworld import world as world_lib

GOOD = truth.Parts(
  attempted=1.0,
  correct=1.0,
  truthful=1.0,
  invented=0.0,
  constraint=1.0,
  rude=0.0,
  inappropriate=0.0,
  brief=1.0,
  ended=1.0,
  readable=1.0,
)
# {quality: a response with one fault of it}
FAULTY = {
  'helpfulness': dataclasses.replace(GOOD, correct=0.0),
  'truthfulness': dataclasses.replace(GOOD, truthful=0.0),
  'constraint': dataclasses.replace(GOOD, constraint=0.0),
  'appropriateness': dataclasses.replace(GOOD, rude=1.0, inappropriate=1.0),
  'brevity': dataclasses.replace(GOOD, brief=0.0),
}
OFF_TASK = dataclasses.replace(GOOD, attempted=0.0, correct=0.0)


def person(noise: float = 0.0, **weights: float) -> labelers.Labeler:
  """Someone with a group's median weights but for those given."""
  return labelers.Labeler(
    'l00', {**labelers.TRAINING.weights, **weights}, noise, 0.0, 0.0
  )


@pytest.fixture(scope='module')
def world() -> world_lib.World:
  return world_lib.make()


def test_values_by_hand():
  assert person().value(GOOD) == 1.0
  for quality, parts in FAULTY.items():
    assert labelers.faults(parts)[quality] == 1.0
    value = person(**{quality: 0.7}).value(parts)
    assert value == pytest.approx(math.exp(-0.7))
  cut = dataclasses.replace(GOOD, ended=0.0)
  assert person(brevity=2.0).value(cut) == pytest.approx(math.exp(-0.5))
  assert person(helpfulness=1.0).value(OFF_TASK) == pytest.approx(
    math.exp(-2.5)
  )


def test_a_prompt_without_constraint_has_none_to_break():
  free = dataclasses.replace(GOOD, constraint=None)
  assert person().value(free) == 1.0


def test_people_differ_in_what_they_mind():
  prude = person(appropriateness=3.0, helpfulness=0.5)
  helper = person(appropriateness=0.5, helpfulness=3.0)
  pair = FAULTY['appropriateness'], FAULTY['helpfulness']
  draw = random.Random(0)
  assert prude.prefers(draw, *pair) == -1
  assert helper.prefers(draw, *pair) == 1
  assert helper.prefers(draw, *pair[::-1]) == -1
  assert helper.prefers(draw, GOOD, GOOD) == 0


def test_ranks_by_hand():
  assert labelers.TIE == 0.25
  assert labelers.ranks([0.5, 0.95, 0.1, 0.9, 0.4]) == [2, 1, 3, 1, 2]
  # The third is close to the second, but not to the best of that rank.
  assert labelers.ranks([0.9, 0.7, 0.5]) == [1, 1, 2]
  assert labelers.ranks([]) == []


@hypothesis.given(st.lists(st.floats(-1, 2), min_size=2, max_size=9))
def test_ranks_are_dense_and_follow_the_judgments(judged):
  ranks = labelers.ranks(judged)
  assert set(ranks) == set(range(1, max(ranks) + 1))
  for a, rank_a in zip(judged, ranks, strict=True):
    for b, rank_b in zip(judged, ranks, strict=True):
      if rank_a < rank_b:
        assert a > b
      if rank_a == rank_b:
        assert abs(a - b) <= labelers.TIE


def test_noise_makes_mistakes_less_often_the_larger_the_difference():
  labeler, draw = person(noise=0.3), random.Random(0)

  def wrong(parts: truth.Parts) -> float:
    votes = [labeler.prefers(draw, GOOD, parts) for _ in range(1000)]
    return votes.count(-1) / (1000 - votes.count(0))

  assert 0.45 < wrong(GOOD) < 0.55
  assert wrong(FAULTY['constraint']) > wrong(FAULTY['helpfulness']) > 0.0
  assert wrong(OFF_TASK) < 0.02


@pytest.mark.parametrize('group', [labelers.TRAINING, labelers.HELD_OUT])
def test_likert_has_its_usual_values(group):
  people, draw = labelers.hire(0, group, 20), random.Random(0)

  def mean(parts: truth.Parts) -> float:
    ratings = [p.likert(draw, parts) for p in people for _ in range(50)]
    assert set(ratings) <= set(range(1, 8))
    return float(np.mean(ratings))

  assert 5 <= mean(GOOD) <= 6
  assert 1 <= mean(OFF_TASK) <= 2
  for parts in FAULTY.values():
    assert 1.5 <= mean(parts) <= 4


def test_a_comparison_is_a_record_of_one_mind(world, tmp_path):
  labeler = person(noise=0.4)
  prompt = prompts_lib.truthfulness(world)[0]
  responses = [f'answer {i}.' for i in range(6)] + ['answer 2.']
  parts = [GOOD, OFF_TASK, *FAULTY.values()][:6] + [FAULTY['helpfulness']]
  row = labeler.compare(random.Random(3), prompt, responses, parts)
  assert row == labeler.compare(random.Random(3), prompt, responses, parts)
  assert row != labeler.compare(random.Random(4), prompt, responses, parts)
  assert row['ranks'][6] == row['ranks'][2]
  assert row['ratings'][6] == row['ratings'][2]
  by_rank = sorted(zip(row['ranks'], row['ratings'], strict=True))
  better = [rating for _, rating in by_rank]
  for rank in range(1, max(row['ranks'])):
    this = [r for k, r in by_rank if k == rank]
    following = [r for k, r in by_rank if k == rank + 1]
    assert min(this) >= max(following), better
  path = tmp_path / 'comparisons.jsonl'
  path.write_text(json.dumps(row) + '\n')
  (record,) = records.load('comparisons', str(path))
  assert record.ranks == tuple(row['ranks'])
  assert record.labeler_id == 'l00' and record.prompt == prompt.text


def test_one_text_that_ended_and_was_cut_is_two_responses(world):
  prompt = prompts_lib.truthfulness(world)[0]
  parts = [GOOD, dataclasses.replace(GOOD, ended=0.0)]
  row = person(brevity=4.0).compare(random.Random(0), prompt, ['a', 'a'], parts)
  assert row['ranks'] == [1, 2]


def test_groups(world):
  own, other = labelers.training(world), labelers.testing(world)
  assert len(own) == world.config.num_labelers
  assert len(other) == world.config.num_test_labelers
  ids = [labeler.labeler_id for labeler in own + other]
  assert len(set(ids)) == len(ids)
  assert own == labelers.training(world)
  assert labelers.hire(0, labelers.TRAINING, 3) == own[:3]
  assert len({labeler.weights['brevity'] for labeler in own}) == len(own)
  reseeded = world_lib.make(world_lib.WorldConfig(seed=1))
  assert labelers.training(reseeded) != own


def test_the_held_out_group_has_other_values(world):
  def mean(people, quality: str) -> float:
    return float(np.mean([p.weights[quality] for p in people]))

  own, other = labelers.training(world), labelers.testing(world)
  for quality in ('brevity', 'appropriateness'):
    assert mean(other, quality) > 1.2 * mean(own, quality)
  assert mean(other, 'helpfulness') < mean(own, 'helpfulness')


def test_more_than_half_of_the_demonstrations_are_right(world):
  asked = prompts_lib.training(world)['demonstrations']
  rows = labelers.demonstrations(world)
  assert rows == labelers.demonstrations(world)
  assert [row['prompt'] for row in rows] == [prompt.text for prompt in asked]
  assert len({row['labeler_id'] for row in rows}) == world.config.num_labelers
  worth = [
    truth.utility(truth.judge(world, prompt, row['response'], True))
    for prompt, row in zip(asked, rows, strict=True)
  ]
  flawed = np.mean([value < 0.99 for value in worth])
  assert 0.38 <= flawed <= 0.44
  assert 0.65 < np.mean(worth) < 0.75


def test_some_people_are_more_careful_than_others(world):
  shares = [labeler.carelessness for labeler in labelers.training(world)]
  assert min(shares) < 0.3 and max(shares) > 0.5
  assert np.mean(shares) == pytest.approx(labelers.SHARE_FLAWED, abs=0.06)


def test_demonstrations_say_nothing_about_reserved_myths(world):
  told = collections.Counter(
    found.claim[:2]
    for row in labelers.demonstrations(world)
    for sentence in language.sentences(row['response'])
    if (found := language.parse(sentence)) and found.claim
  )
  assert len(told) > 100
  assert world.reserved.isdisjoint(told)
