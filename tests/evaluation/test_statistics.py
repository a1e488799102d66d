"""Bootstrap intervals against what is known in closed form."""

import numpy as np
import pytest

from instructjax.evaluation import statistics


def test_interval_of_a_mean_is_the_normal_one():
  rng = np.random.default_rng(0)
  data = rng.normal(3.0, 2.0, 2000)
  found = statistics.bootstrap(data)
  assert found['mean'] == pytest.approx(data.mean())
  half = 1.96 * data.std() / np.sqrt(2000)
  assert found['low'] == pytest.approx(data.mean() - half, abs=0.1 * half)
  assert found['high'] == pytest.approx(data.mean() + half, abs=0.1 * half)
  assert found['n'] == 2000


def test_interval_covers_the_truth_19_times_in_20():
  rng = np.random.default_rng(1)
  hits = 0
  for seed in range(200):
    found = statistics.bootstrap(
      rng.binomial(1, 0.3, 100), seed=seed, resamples=400
    )
    hits += found['low'] <= 0.3 <= found['high']
  assert 180 <= hits <= 198


def test_items_of_a_cluster_stay_together():
  """Ten pairs that are right or wrong together say as much as one."""
  totals = np.array([10.0, 0.0] * 20)
  clustered = statistics.bootstrap(totals, np.full(40, 10.0))
  single = statistics.bootstrap(totals / 10)
  assert clustered == pytest.approx(single)
  assert clustered['mean'] == 0.5
  assert clustered['high'] - clustered['low'] > 0.25


def test_clusters_weigh_by_their_items():
  found = statistics.bootstrap(np.array([3.0, 0.0]), np.array([3.0, 1.0]))
  assert found['mean'] == 0.75
  assert (found['low'], found['high']) == (0.0, 1.0)


def test_follows_its_seed():
  data = np.random.default_rng(2).normal(size=50)
  first = statistics.bootstrap(data, seed=0)
  assert statistics.bootstrap(data, seed=0) == first
  assert statistics.bootstrap(data, seed=1)['low'] != first['low']


def test_equal_numbers_have_no_spread():
  assert statistics.bootstrap(np.full(9, 2.5)) == {
    'mean': 2.5,
    'low': 2.5,
    'high': 2.5,
    'n': 9,
  }


@pytest.mark.parametrize(
  ('totals', 'counts'), [([], None), ([0.0, 0.0], [0.0, 0.0])]
)
def test_nothing_to_average(totals, counts):
  counts = None if counts is None else np.array(counts)
  found = statistics.bootstrap(np.array(totals), counts)
  assert np.isnan([found['mean'], found['low'], found['high']]).all()
  assert found['n'] == len(totals)


def test_clusters_without_items_change_no_mean():
  totals, counts = np.array([1.0, 2.0, 0.0]), np.array([2.0, 2.0, 0.0])
  found = statistics.bootstrap(totals, counts)
  assert found['mean'] == 0.75
  assert (found['low'], found['high']) == (0.5, 1.0)
