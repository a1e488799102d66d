"""Rewards, advantages and clipped losses: numbers by hand and properties."""

from __future__ import annotations

import math

from absl.testing import parameterized
import chex
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from instructjax.losses import policy_gradient
from tests import reference


def _response_mask(lengths, size):
  return np.arange(size) < np.asarray(lengths)[:, None]


class KlPenalizedRewardsTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_score_lands_on_the_last_kept_token(self):
    mask = np.array(
      [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]]
    )
    scores = np.array([1.0, 2.0, 3.0, np.nan, 5.0])
    zeros = np.zeros(mask.shape)
    expected = np.array(
      [[0, 0, 0, 1], [0, 2, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0], [0, 0, 5, 0]]
    )
    rewards = self.variant(policy_gradient.kl_penalized_rewards)
    for kind in (bool, np.float32, np.int32):
      result = rewards(scores, zeros, zeros, mask.astype(kind), kl_coef=0.1)
      np.testing.assert_array_equal(result, expected)

  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    rewards = self.variant(policy_gradient.kl_penalized_rewards)(
      np.array([2.0]),
      np.array([[-1.0, -2.0, np.nan]]),
      np.array([[-1.5, -1.0, np.inf]]),
      np.array([[True, True, False]]),
      kl_coef=0.1,
    )
    reference.assert_close(rewards, [[-0.05, 2.1, 0.0]])

  def test_whole_numbers_as_scores_keep_the_penalty_fractional(self):
    rewards = policy_gradient.kl_penalized_rewards(
      np.array([2]),
      np.array([[-1.0, -2.0]]),
      np.array([[-1.5, -1.0]]),
      np.ones((1, 2), bool),
      kl_coef=0.1,
    )
    reference.assert_close(rewards, [[-0.05, 2.1]])


class GaeTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    advantages, returns = self.variant(policy_gradient.gae)(
      np.array([[1.0, 0.0, 2.0, 9.0]]),
      np.array([[0.5, 1.0, -1.0, 9.0]]),
      np.array([[1, 1, 1, 0]]),
      discount=0.5,
      gae_lambda=0.5,
    )
    # Deltas are 1 + 0.5 - 0.5 = 1, 0 - 0.5 - 1 = -1.5 and 2 - (-1) = 3.
    expected = np.array([[1 + 0.25 * -0.75, -1.5 + 0.25 * 3, 3.0, 0.0]])
    reference.assert_close(advantages, expected)
    reference.assert_close(
      returns, expected + np.array([[0.5, 1.0, -1.0, 0.0]])
    )

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(np.nan, np.inf, 7.0)
  def test_values_beyond_the_last_kept_token_count_as_zero(self, beyond):
    values = np.array([[1.0, 2.0, beyond], [beyond, beyond, beyond]])
    advantages, returns = self.variant(policy_gradient.gae)(
      np.array([[0.0, 5.0, beyond], [beyond, beyond, beyond]]),
      values,
      np.array([[1, 1, 0], [0, 0, 0]]),
      discount=1.0,
      gae_lambda=0.0,
    )
    reference.assert_close(advantages, [[1.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
    reference.assert_close(returns, [[2.0, 5.0, 0.0], [0.0, 0.0, 0.0]])

  @chex.variants(with_jit=True, without_jit=True)
  def test_lambda_one_gives_the_reward_to_go(self):
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 3, 6)).astype(np.float32)
    mask = _response_mask([6, 3, 1], 6)
    _, returns = self.variant(policy_gradient.gae)(
      rewards, values, mask, discount=1.0, gae_lambda=1.0
    )
    to_go = np.cumsum((rewards * mask)[:, ::-1], axis=1)[:, ::-1]
    reference.assert_close(returns, np.where(mask, to_go, 0.0))


GAE = jax.jit(policy_gradient.gae, static_argnames=('discount', 'gae_lambda'))


@given(st.lists(st.booleans(), min_size=6, max_size=6), st.integers(0, 10**6))
@settings(max_examples=25)
def test_masked_tokens_inside_a_response_are_as_if_cut_out(bits, seed):
  mask = np.array([bits])
  kept = sum(bits)
  rewards, values = np.random.default_rng(seed).normal(size=(2, 1, 6))
  compact = np.zeros((2, 1, 6))
  compact[0, 0, :kept] = rewards[mask]
  compact[1, 0, :kept] = values[mask]
  options = {'discount': 0.9, 'gae_lambda': 0.8}
  actual = GAE(rewards, values, mask, **options)
  expected = GAE(*compact, _response_mask([kept], 6), **options)
  for a, e in zip(actual, expected, strict=True):
    reference.assert_close(a[mask], e[0, :kept])
    np.testing.assert_array_equal(a[~mask], 0)


class WhitenTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_variance_is_biased_with_epsilon_under_the_root(self):
    x = np.array([[1.0, 3.0, np.nan]])
    mask = np.array([[1, 1, 0]])
    # Mean 2 and biased variance 1 (unbiased would be 2).
    scale = 1 / math.sqrt(1 + 1e-8)
    whiten = self.variant(policy_gradient.whiten)
    reference.assert_close(whiten(x, mask), [[-scale, scale, 0.0]])
    small = np.array([[1e-4, 3e-4, 0.0]])  # biased variance 1e-8
    half = 1 / math.sqrt(2)
    reference.assert_close(whiten(small, mask), [[-half, half, 0.0]])

  @chex.variants(with_jit=True, without_jit=True)
  def test_mean_can_be_kept(self):
    whiten = self.variant(
      lambda x, mask: policy_gradient.whiten(x, mask, shift_mean=False)
    )
    result = whiten(np.array([[4.0, 8.0, np.inf]]), np.array([[1, 1, 0]]))
    reference.assert_close(result, [[5.0, 7.0, 0.0]])

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters(0.1, -1234.567, 1e6)
  def test_equal_entries_give_zero_not_rounding_errors(self, value):
    x = np.full((3, 7), value, np.float32)
    mask = _response_mask([7, 4, 2], 7)
    result = self.variant(policy_gradient.whiten)(x, mask)
    reference.assert_close(result, np.zeros((3, 7)))

  @chex.variants(with_jit=True, without_jit=True)
  def test_single_kept_entry_gives_zero(self):
    x, mask = np.array([[5.0, 1.0]]), np.array([[0, 1]])
    result = self.variant(policy_gradient.whiten)(x, mask)
    np.testing.assert_array_equal(result, np.zeros((1, 2)))


WHITEN = jax.jit(policy_gradient.whiten)


@given(st.integers(0, 10**6), st.floats(0.1, 1e3), st.floats(-1e3, 1e3))
@settings(max_examples=25)
def test_whitened_entries_have_mean_zero_and_variance_one(seed, scale, shift):
  rng = np.random.default_rng(seed)
  x = (scale * rng.normal(size=(3, 5)) + shift).astype(np.float32)
  mask = _response_mask(rng.integers(1, 6, 3), 5)
  kept = np.asarray(WHITEN(x, mask), np.float64)[mask]
  variance = np.var(x[mask].astype(np.float64))
  assert abs(kept.mean()) < 1e-6
  assert np.var(kept) == pytest.approx(variance / (variance + 1e-8), abs=1e-5)


def _losses():
  return (
    ('policy', policy_gradient.clipped_policy_loss),
    ('value', policy_gradient.clipped_value_loss),
  )


class ClippedPolicyLossTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_before_the_first_update_nothing_is_clipped(self):
    rng = np.random.default_rng(0)
    logprobs, advantages = rng.normal(size=(2, 3, 4)).astype(np.float32)
    weights = np.full((3, 4), 1 / 12, np.float32)
    loss, metrics = self.variant(policy_gradient.clipped_policy_loss)(
      logprobs, logprobs, advantages, weights, clip_eps=0.2
    )
    assert metrics['ppo/policy/approxkl'] == 0
    assert metrics['ppo/policy/clipfrac'] == 0
    reference.assert_close(metrics['ppo/policy/ratio'], 1.0)
    reference.assert_close(loss, -advantages.mean())

  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    ratios = np.array([[1.5, 1.5, 0.5, 0.5, 1.1]])
    advantages = np.array([[2.0, -2.0, 2.0, -2.0, 1.0]])
    loss, metrics = self.variant(policy_gradient.clipped_policy_loss)(
      np.log(ratios) - 3,
      np.full((1, 5), -3.0),
      advantages,
      np.full((1, 5), 0.2),
      clip_eps=0.2,
    )
    # Gains are cut at 1.2 and 0.8, losses are not.
    terms = [-2 * 1.2, 2 * 1.5, -2 * 0.5, 2 * 0.8, -1.1]
    expected = {
      'loss/policy': np.mean(terms),
      'ppo/policy/approxkl': 0.5 * np.mean(np.log(ratios) ** 2),
      'ppo/policy/clipfrac': 0.4,
      'ppo/policy/ratio': np.mean(ratios),
    }
    reference.assert_close(loss, np.mean(terms))
    reference.assert_close(metrics, expected)

  @chex.variants(with_jit=True, without_jit=True)
  def test_gradient_vanishes_where_the_clipped_term_decides(self):
    ratios = np.array([[1.5, 1.5, 0.5, 0.5, 1.0]], np.float32)
    advantages = np.array([[2.0, -2.0, 2.0, -2.0, 1.0]], np.float32)

    def loss(logprobs):
      zeros, weights = np.zeros((1, 5)), np.full((1, 5), 0.2)
      return policy_gradient.clipped_policy_loss(
        logprobs, zeros, advantages, weights, clip_eps=0.2
      )[0]

    gradient = self.variant(jax.grad(loss))(np.log(ratios))
    # At ratio 1 it is the plain policy gradient.
    reference.assert_close(gradient, 0.2 * np.array([[0, 3, -1, 0, -1]]))


class ClippedValueLossTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    values = np.array([[1.0, 1.0, 1.0, 0.1]])
    returns = np.array([[1.0, -1.0, 0.5, 0.0]])
    loss, metrics = self.variant(policy_gradient.clipped_value_loss)(
      values, np.zeros((1, 4)), returns, np.full((1, 4), 0.25), clip_eps=0.2
    )
    # The value 1 counts as 0.2 where that is further from the return.
    expected = np.mean([0.8**2, 2.0**2, 0.5**2, 0.1**2]) / 2
    reference.assert_close(loss, expected)
    reference.assert_close(
      metrics, {'loss/value': expected, 'ppo/val/clipfrac': 0.25}
    )

  @chex.variants(with_jit=True, without_jit=True)
  def test_before_the_first_update_nothing_is_clipped(self):
    values = np.array([[1.0, -2.0]], np.float32)
    returns = np.array([[3.0, 0.0]], np.float32)
    loss, metrics = self.variant(policy_gradient.clipped_value_loss)(
      values, values, returns, np.full((1, 2), 0.5), clip_eps=0.2
    )
    reference.assert_close(loss, 2.0)
    assert metrics['ppo/val/clipfrac'] == 0

  @chex.variants(with_jit=True, without_jit=True)
  def test_infinite_interval_is_plain_squared_error(self):
    def loss(values):
      return policy_gradient.clipped_value_loss(
        values,
        np.array([[9.0, np.nan]]),
        np.array([[1.0, np.nan]]),
        np.array([[1.0, 0.0]]),
        clip_eps=float('inf'),
      )[0]

    values = np.array([[3.0, np.nan]], np.float32)
    reference.assert_close(self.variant(loss)(values), 2.0)
    reference.assert_close(self.variant(jax.grad(loss))(values), [[2.0, 0.0]])


class ClippedLossesTest(chex.TestCase):
  @parameterized.named_parameters(*_losses())
  def test_only_the_first_argument_has_a_gradient(self, loss):
    arrays = np.random.default_rng(0).normal(size=(3, 2, 3)).astype(np.float32)
    weights = np.full((2, 3), 1 / 6, np.float32)

    def value(*arrays):
      return loss(*arrays, weights, clip_eps=0.2)[0]

    gradients = jax.jit(jax.grad(value, (0, 1, 2)))(*arrays)
    assert np.any(gradients[0] != 0)
    for gradient in gradients[1:]:
      np.testing.assert_array_equal(gradient, np.zeros((2, 3)))

  @parameterized.named_parameters(*_losses())
  def test_micro_batches_add_up(self, loss):
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(3, 4, 3)).astype(np.float32)
    weights = rng.random((4, 3)).astype(np.float32)
    weights /= weights.sum()
    whole = loss(*arrays, weights, clip_eps=0.2)
    halves = [
      loss(*arrays[:, rows], weights[rows], clip_eps=0.2)
      for rows in (slice(0, 2), slice(2, 4))
    ]
    reference.assert_close(jax.tree.map(lambda a, b: a + b, *halves), whole)


@given(
  lengths=st.lists(st.integers(0, 4), min_size=3, max_size=3),
  seed=st.integers(0, 10**6),
)
@settings(max_examples=20)
def test_rewards_of_a_response_sum_to_score_minus_penalty(lengths, seed):
  rng = np.random.default_rng(seed)
  mask = _response_mask(lengths, 4)
  scores = rng.normal(size=3)
  logprobs, ref_logprobs = rng.normal(size=(2, 3, 4))
  rewards = policy_gradient.kl_penalized_rewards(
    scores, logprobs, ref_logprobs, mask, kl_coef=0.05
  )
  kl = ((logprobs - ref_logprobs) * mask).sum(axis=1)
  expected = np.where(mask.any(axis=1), scores - 0.05 * kl, 0.0)
  reference.assert_close(rewards.sum(axis=1), expected)


@pytest.mark.parametrize(
  ('observed', 'factor'),
  [
    (6.0, 1.0),
    (6.6, 1 + 0.1 * 0.05),
    (60.0, 1 + 0.2 * 0.05),
    (0.0, 1 - 0.2 * 0.05),
  ],
)
def test_adaptive_kl_coef_by_hand(observed, factor):
  coefficient = policy_gradient.adaptive_kl_coef(
    0.15, observed, target=6.0, horizon=10_000, num_episodes=500
  )
  reference.assert_close(coefficient, 0.15 * factor)
