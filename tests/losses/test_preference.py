"""The ranking loss: numbers by hand, ties, prompts without pairs."""

from __future__ import annotations

import math

from absl.testing import parameterized
import chex
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax.losses import preference
from tests import reference


def _nll(margin):
  return math.log(1 + math.exp(-margin))


class RankingLossTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(2, 4, 9)
  def test_zero_margin_gives_ln_2(self, count):
    rewards = np.full((3, count), 1.7)
    ranks = np.tile(np.arange(1, count + 1), (3, 1))
    loss = self.variant(preference.ranking_loss)(
      rewards, ranks, np.ones((3, count), bool)
    )
    reference.assert_close(loss, math.log(2))

  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    rewards = np.array([[2.0, 0.5, 0.0], [1.0, 3.0, np.nan], [4.0, 5.0, 6.0]])
    # Three pairs; one pair, that the rewards get wrong; only ties.
    ranks = np.array([[1, 2, 3], [1, 2, 1], [2, 2, 2]])
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1]])
    loss = self.variant(preference.ranking_loss)(rewards, ranks, mask)
    first = (_nll(1.5) + _nll(2.0) + _nll(0.5)) / 3
    reference.assert_close(loss, (first + _nll(-2.0)) / 2)

  @chex.variants(with_jit=True, without_jit=True)
  def test_ties_make_no_pair(self):
    ranks = np.array([[1, 2, 2]])
    mask = np.ones((1, 3), bool)
    weights = self.variant(preference.pair_weights)(ranks, mask)
    expected = np.zeros((1, 3, 3))
    expected[0, 0, 1] = expected[0, 0, 2] = 0.5
    reference.assert_close(weights, expected)
    loss = self.variant(preference.ranking_loss)
    reference.assert_close(
      loss(np.array([[1.0, 0.0, -1.0]]), ranks, mask),
      (_nll(1.0) + _nll(2.0)) / 2,
    )

  @chex.variants(with_jit=True, without_jit=True)
  def test_no_pairs_give_zero_loss_and_gradient(self):
    rewards = np.array([[0.3, np.nan], [1.0, 1.0]], np.float32)
    ranks = np.array([[1, 2], [1, 1]])
    mask = np.array([[1, 0], [1, 1]])
    value_and_gradient = self.variant(
      jax.value_and_grad(preference.ranking_loss)
    )
    loss, gradient = value_and_gradient(rewards, ranks, mask)
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros((2, 2)))

  @chex.variants(with_jit=True, without_jit=True)
  def test_wide_margins_stay_finite(self):
    rewards = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    ranks = np.array([[1, 2], [1, 2]])
    value_and_gradient = self.variant(
      jax.value_and_grad(preference.ranking_loss)
    )
    loss, gradient = value_and_gradient(rewards, ranks, np.ones((2, 2)))
    reference.assert_close(loss, 1e4)
    reference.assert_close(gradient, [[0.0, 0.0], [-0.5, 0.5]])


def test_a_prompt_without_pairs_weighs_nothing():
  rewards = np.array([[1.0, 0.2], [0.4, 0.9]], np.float32)
  alone = preference.ranking_loss(
    rewards[:1], np.array([[1, 2]]), np.ones((1, 2))
  )
  beside = preference.ranking_loss(
    rewards, np.array([[1, 2], [1, 1]]), np.ones((2, 2))
  )
  assert alone == beside


def test_metrics_by_hand():
  ranks = np.array([[1, 2, 3], [1, 2, 2]])
  weights = preference.pair_weights(ranks, np.ones((2, 3)))
  rewards = np.array([[3.0, 1.0, 1.0], [0.0, 0.0, 4.0]])
  _, metrics = preference.weighted_ranking_loss(rewards, weights)
  # Right, right, tie; tie, wrong.
  reference.assert_close(
    metrics['reward_model/accuracy'], (2.5 / 3 + 0.5 / 2) / 2
  )
  reference.assert_close(
    metrics['reward_model/margin'], ((2 + 2 + 0) / 3 + (0 - 4) / 2) / 2
  )


@st.composite
def rankings(draw):
  """Rewards, ranks and mask of 1 to 3 prompts with 2 to 4 responses."""
  shape = draw(st.sampled_from([(1, 2), (1, 4), (3, 3)]))
  rng = np.random.default_rng(draw(st.integers(0, 10**6)))
  rewards = rng.normal(size=shape).astype(np.float32)
  ranks = rng.integers(1, shape[1] + 1, shape)
  return rewards, ranks, rng.random(shape) < 0.8


LOSS = jax.jit(preference.ranking_loss)
WEIGHTS = jax.jit(preference.pair_weights)


@given(rankings(), st.integers(0, 10**6))
@settings(max_examples=30)
def test_order_of_responses_and_offset_of_a_prompt_do_not_matter(case, seed):
  rng = np.random.default_rng(seed)
  expected = LOSS(*case)
  order = np.argsort(rng.random(case[0].shape), axis=1)
  permuted = [np.take_along_axis(x, order, axis=1) for x in case]
  reference.assert_close(LOSS(*permuted), expected)
  rewards, ranks, mask = case
  offset = rng.normal(size=(len(rewards), 1)).astype(np.float32)
  reference.assert_close(LOSS(rewards + offset, ranks, mask), expected)


@given(rankings())
@settings(max_examples=30)
def test_pair_weights_sum_to_one_and_micro_batches_add_up(case):
  rewards, ranks, mask = case
  weights = np.asarray(WEIGHTS(ranks, mask))
  any_pair = any(
    len(set(row[kept])) > 1 for row, kept in zip(ranks, mask, strict=True)
  )
  reference.assert_close(weights.sum(), 1.0 if any_pair else 0.0)
  parts = sum(
    preference.weighted_ranking_loss(rewards[i : i + 1], weights[i : i + 1])[0]
    for i in range(len(rewards))
  )
  reference.assert_close(parts, LOSS(*case))


def test_learned_scores_are_not_truncated():
  rewards = jnp.array([[0.4, 0.1]], jnp.bfloat16)
  loss = preference.ranking_loss(rewards, np.array([[1, 2]]), np.ones((1, 2)))
  assert float(loss) == pytest.approx(_nll(0.3), abs=2e-3)
  assert loss.dtype == jnp.float32
