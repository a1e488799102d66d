"""Accuracy on comparisons, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from instructjax.evaluation import comparisons
from tests import small

# Three prompts: all of 3 pairs right; 1 pair of 2, one score tied, one rank
# tied; one pair that is wrong, its third response missing.
SCORED = {
  'scores': np.array(
    [[3.0, 2.0, 1.0], [1.0, 1.0, 2.0], [0.0, 5.0, 9.0]], np.float32
  ),
  'ranks': np.array([[1, 2, 3], [2, 2, 1], [1, 2, 1]]),
  'mask': np.array([[1, 1, 1], [1, 1, 1], [1, 1, 0]], bool),
  'labeler': np.array([0, 1, -1]),
}


def test_pairs_by_hand():
  right, count = comparisons.pairs(SCORED)
  np.testing.assert_array_equal(count, [3, 2, 1])
  np.testing.assert_array_equal(right, [3, 2, 0])
  tied = dict(SCORED, scores=np.ones((3, 3), np.float32))
  np.testing.assert_array_equal(comparisons.pairs(tied)[0], [1.5, 1, 0.5])
  equal = dict(SCORED, ranks=np.ones((3, 3), int))
  np.testing.assert_array_equal(comparisons.pairs(equal), np.zeros((2, 3)))


def test_missing_responses_may_score_anything():
  other = SCORED['scores'].copy()
  other[2, 2] = np.nan
  found = comparisons.pairs(dict(SCORED, scores=other))
  np.testing.assert_array_equal(found, comparisons.pairs(SCORED))


def test_summary_by_hand():
  found = comparisons.summarize(SCORED, ['ann', 'bob', 'eve'])
  assert found['accuracy']['mean'] == pytest.approx(5 / 6)
  assert (found['accuracy']['pairs'], found['accuracy']['n']) == (6, 3)
  assert found['accuracy']['low'] < 5 / 6 < found['accuracy']['high']
  assert found['by_k'].keys() == {'2', '3'}
  assert found['by_k']['2']['mean'] == 0.0
  assert found['by_k']['3']['mean'] == 1.0
  assert found['by_k']['3']['pairs'] == 5
  # Row 2 is nobody's, and eve has ranked nothing.
  assert found['by_labeler'].keys() == {'ann', 'bob'}
  assert found['by_labeler']['bob']['pairs'] == 2
  again = comparisons.summarize(SCORED, ['ann', 'bob', 'eve'])
  assert again == found


def test_scores_are_those_of_the_model_without_the_repeats():
  scores = comparisons.make_scores(small.CONFIG)
  rows = small.comparison_rows(8)
  whole = scores(small.reward_model(), [(rows, np.ones(8, bool))])
  assert whole['scores'].shape == (8, small.K)
  for name in ('ranks', 'mask', 'labeler'):
    np.testing.assert_array_equal(whole[name], rows[name])
  some = scores(
    small.reward_model(),
    [(rows, np.arange(8) < 6), (rows, np.arange(8) < 1)],
  )
  for name, array in whole.items():
    np.testing.assert_array_equal(some[name], array[[0, 1, 2, 3, 4, 5, 0]])
