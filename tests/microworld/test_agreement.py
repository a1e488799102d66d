"""Labelers agree with each other as the paper's did, and with the truth."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from instructjax.microworld import agreement
from instructjax.microworld import labelers
from instructjax.microworld import truth
from instructjax.microworld import world as world_lib

SEEDS = 0, 1, 2


@pytest.fixture(scope='module')
def worlds() -> list[world_lib.World]:
  return [world_lib.make(world_lib.WorldConfig(seed=seed)) for seed in SEEDS]


@pytest.fixture(scope='module')
def pools(worlds) -> list[list[list[truth.Parts]]]:
  return [agreement.reference_pool(world) for world in worlds]


def hire(noise: float, number: int = 6) -> tuple[labelers.Labeler, ...]:
  group = dataclasses.replace(labelers.TRAINING, noise=noise)
  return labelers.hire(0, group, number)


def test_measure_against_counting(pools):
  people, judged = hire(0.3), pools[0][:12]
  agreed = total = 0
  for i, parts_list in enumerate(judged):
    ranks = {}
    for p in people:
      draw = world_lib.stream(7, 'agreement', p.labeler_id, i)
      ranks[p.labeler_id] = p.rank(draw, parts_list)
    for one, two in itertools.combinations(ranks.values(), 2):
      for a, b in itertools.combinations(range(len(parts_list)), 2):
        if one[a] != one[b] and two[a] != two[b]:
          total += 1
          agreed += (one[a] < one[b]) == (two[a] < two[b])
  found = agreement.measure(people, judged, 7)
  assert found['n'] == total
  assert found['mean'] == pytest.approx(agreed / total)
  assert found['low'] < found['mean'] < found['high']


def test_the_interval_is_narrower_with_more_prompts(pools):
  def width(judged) -> float:
    found = agreement.measure(hire(0.3), judged, 0)
    return found['high'] - found['low']

  assert width(pools[0][:160]) < 0.7 * width(pools[0][:40])


def test_extremes(pools):
  same = [dataclasses.replace(p, weights=labelers.TRAINING.weights, noise=0.0)
          for p in hire(0.0)]  # fmt: skip
  assert agreement.measure(same, pools[0], 0)['mean'] == 1.0
  assert agreement.measure(hire(0.0), pools[0], 0)['mean'] > 0.95
  noisy = agreement.measure(hire(50.0), pools[0], 0)['mean']
  assert noisy == pytest.approx(0.5, abs=0.02)


def test_training_labelers_agree_as_often_as_the_papers(worlds):
  found = [agreement.of_groups(world) for world in worlds]
  for groups in found:
    assert groups['agreement']['mean'] == pytest.approx(0.726, abs=0.015)
    assert groups['agreement_heldout']['mean'] == pytest.approx(0.773, abs=0.02)


def test_the_noise_is_what_calibration_finds(worlds):
  for group, number, target in (
    (labelers.TRAINING, 20, agreement.TARGET),
    (labelers.HELD_OUT, 10, agreement.TARGET_HELD_OUT),
  ):
    noise = agreement.calibrate(worlds[:2], group, number, target)
    assert noise == pytest.approx(group.noise, abs=0.02)


def test_the_majority_is_on_the_truths_side(worlds, pools):
  """Where the ground truth sees a difference, twenty people see it too."""
  for group in (labelers.TRAINING, labelers.HELD_OUT):
    people, right = labelers.hire(0, group, 20), []
    for i, parts_list in enumerate(pools[0]):
      worth = [truth.utility(parts) for parts in parts_list]
      for a, b in itertools.combinations(range(len(worth)), 2):
        if abs(worth[a] - worth[b]) <= 0.15:
          continue
        votes = 0
        for labeler in people:
          draw = world_lib.stream(0, 'majority', labeler.labeler_id, i, a, b)
          votes += labeler.prefers(draw, parts_list[a], parts_list[b])
        right.append(votes * (worth[a] - worth[b]) > 0)
    assert len(right) > 500
    assert np.mean(right) >= 0.9


def test_the_pool_is_always_the_same_and_mixed(worlds, pools):
  pool = pools[0]
  assert pool == agreement.reference_pool(worlds[0])
  assert sum(agreement.MIXTURE.values()) == pytest.approx(1)
  worth = np.array([truth.utility(parts) for row in pool for parts in row])
  assert 0.1 < np.mean(worth > 0.99) < 0.3
  assert 0.2 < np.mean(worth < 0.15) < 0.6
  assert np.mean([len(row) for row in pool]) > 4
