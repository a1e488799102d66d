"""The reward model's loss: all pairs of a prompt's ranked responses at once."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def pair_weights(ranks: chex.Array, mask: chex.Array) -> chex.Array:
  """Weight of every ordered pair (row beats column), summing to 1.

  w_bij = [rank_bi < rank_bj] / pairs_b / prompts,  where pairs_b counts the
  pairs of prompt b and prompts the prompts that have any.

  Pairs are weighted before micro-batches are cut, so that cutting changes
  nothing. The paper divides a prompt's loss by C(K, 2) and drops ties; it does
  not say whether dropped pairs still count in C(K, 2). We count kept pairs, so
  each prompt with any preference weighs the same.

  Args:
    ranks: i32[B, K], 1 is best; equal ranks are ties and make no pair.
    mask: bool or f32[B, K], 1 = there is such a response.

  Returns:
    f32[B, K, K]; all 0 if no prompt has a pair.

  Raises:
    AssertionError: while tracing, if shapes differ.

  Source: Ouyang et al. 2022 (arXiv:2203.02155), equation 1 and appendix C.2.
  """
  ranks, kept = jnp.asarray(ranks), jnp.asarray(mask) != 0
  chex.assert_rank(ranks, 2)
  chex.assert_equal_shape([ranks, kept])
  beats = ranks[:, :, None] < ranks[:, None, :]  # bool[B, K, K]
  beats &= kept[:, :, None] & kept[:, None, :]
  beats = beats.astype(jnp.float32)
  pairs = jnp.sum(beats, axis=(1, 2), keepdims=True)  # f32[B, 1, 1]
  prompts = jnp.sum((pairs > 0).astype(jnp.float32))
  return beats / jnp.maximum(pairs, 1.0) / jnp.maximum(prompts, 1.0)


def weighted_ranking_loss(
  rewards: chex.Array, pair_weights: chex.Array
) -> tuple[chex.Array, dict[str, chex.Array]]:
  """Negative log-likelihood of the preferences under Bradley-Terry.

  loss = -sum_bij w_bij log sigmoid(r_bi - r_bj)

  Args:
    rewards: f32[B, K]; anything where a response is in no pair.
    pair_weights: f32[B, K, K] of "row beats column", from `pair_weights`.

  Returns:
    f32[] loss (nats a pair), and sums over the weighted pairs:
    {'loss/ranking', 'reward_model/accuracy' (equal rewards count 1/2),
    'reward_model/margin' (reward units)}, f32[] each.

  Raises:
    AssertionError: while tracing, if shapes differ.

  Source: Ouyang et al. 2022 (arXiv:2203.02155), equation 1.
  """
  rewards = jnp.asarray(rewards, jnp.float32)
  weights = jnp.asarray(pair_weights, jnp.float32)
  chex.assert_rank(rewards, 2)
  chex.assert_shape(weights, rewards.shape + rewards.shape[1:])
  margins = rewards[:, :, None] - rewards[:, None, :]
  margins = jnp.where(weights != 0, margins, 0.0)  # f32[B, K, K]
  loss = -jnp.sum(weights * jax.nn.log_sigmoid(margins))
  correct = (jnp.sign(margins) + 1.0) / 2.0
  return loss, {
    'loss/ranking': loss,
    'reward_model/accuracy': jnp.sum(weights * correct),
    'reward_model/margin': jnp.sum(weights * margins),
  }


def ranking_loss(
  rewards: chex.Array, ranks: chex.Array, mask: chex.Array
) -> chex.Array:
  """Pairwise ranking loss of K ranked responses a prompt.

  loss = -mean_b 1 / pairs_b sum_{i beats j} log sigmoid(r_bi - r_bj), the mean
  over prompts that have pairs; 0 if none has.

  Args:
    rewards: f32[B, K], the reward model's scores; anything where masked.
    ranks: i32[B, K], 1 is best; equal ranks are ties and make no pair.
    mask: bool or f32[B, K], 1 = there is such a response.

  Returns:
    f32[] loss (nats a pair).

  Raises:
    AssertionError: while tracing, if shapes differ.

  Source: Ouyang et al. 2022 (arXiv:2203.02155), equation 1.
  """
  return weighted_ranking_loss(rewards, pair_weights(ranks, mask))[0]
