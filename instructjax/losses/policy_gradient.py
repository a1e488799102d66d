"""PPO on responses: rewards, advantages and the two clipped losses.

A response is an episode, a token an action. Padding (mask or weight 0) may
hold anything, NaN included: it is replaced before any arithmetic, so that it
reaches neither the values nor the gradients.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def _zero_padding(x: chex.Array, kept: chex.Array) -> chex.Array:
  return jnp.where(kept, jnp.asarray(x, jnp.float32), 0.0)


def kl_penalized_rewards(
  scores: chex.Array,
  logprobs: chex.Array,
  ref_logprobs: chex.Array,
  mask: chex.Array,
  *,
  kl_coef: chex.Numeric,
) -> chex.Array:
  """Per-token rewards: a KL penalty everywhere, the score on the last token.

  r_t = -kl_coef (logp_t - ref_logp_t) + [t is the last kept token] score

  Args:
    scores: f32[B], the reward model's score of each response.
    logprobs: f32[B, R], of the sampled tokens under the policy.
    ref_logprobs: f32[B, R], the same under the frozen reference.
    mask: bool or f32[B, R], 1 = response token. A row without any is 0.
    kl_coef: the paper's beta, reward units a nat.

  Returns:
    f32[B, R] rewards, 0 on padding.

  Raises:
    AssertionError: while tracing, if shapes differ.

  Source: Ouyang et al. 2022 (arXiv:2203.02155), equation 2; Ziegler et al.
  2019 (arXiv:1909.08593).
  """
  kept = jnp.asarray(mask) != 0
  chex.assert_rank(kept, 2)
  chex.assert_equal_shape([logprobs, ref_logprobs, kept])
  chex.assert_shape(scores, kept.shape[:1])
  kl = _zero_padding(logprobs, kept) - _zero_padding(ref_logprobs, kept)
  kept_from_here = jnp.cumsum(kept[:, ::-1], axis=1)[:, ::-1]
  is_last = kept & (kept_from_here == 1)
  scores = jnp.asarray(scores)[:, None]
  return -kl_coef * kl + _zero_padding(scores, is_last)


def gae(
  rewards: chex.Array,
  values: chex.Array,
  mask: chex.Array,
  *,
  discount: float,
  gae_lambda: float,
) -> tuple[chex.Array, chex.Array]:
  """Generalised advantage estimates and the returns they imply.

  delta_t = r_t + discount V_{t+1} - V_t
  A_t = delta_t + discount gae_lambda A_{t+1},  returns_t = A_t + V_t

  t + 1 is the next kept token; after the last one V and A are 0, the episode
  being over. Masked tokens inside a response are stepped over, as if cut out.

  Args:
    rewards: f32[B, R], from `kl_penalized_rewards`.
    values: f32[B, R], V of the state before each token (reward units).
    mask: bool or f32[B, R], 1 = response token.
    discount: per token; 1 in the paper.
    gae_lambda: 0 gives one-step, 1 gives Monte-Carlo advantages.

  Returns:
    f32[B, R] advantages and f32[B, R] returns, both 0 on padding.

  Raises:
    AssertionError: while tracing, if shapes differ.

  Source: Schulman et al. 2016 (arXiv:1506.02438), equation 16.
  """
  kept = jnp.asarray(mask) != 0
  chex.assert_rank(kept, 2)
  chex.assert_equal_shape([rewards, values, kept])
  rewards = _zero_padding(rewards, kept)
  values = _zero_padding(values, kept)

  def step(carry, inputs):
    next_value, next_advantage = carry
    reward, value, kept = inputs
    delta = reward + discount * next_value - value
    advantage = delta + discount * gae_lambda * next_advantage
    carry = (
      jnp.where(kept, value, next_value),
      jnp.where(kept, advantage, next_advantage),
    )
    return carry, jnp.where(kept, advantage, 0.0)

  zeros = jnp.zeros_like(rewards[:, 0])
  _, advantages = jax.lax.scan(
    step, (zeros, zeros), (rewards.T, values.T, kept.T), reverse=True
  )
  advantages = advantages.T
  return advantages, advantages + values


def whiten(
  x: chex.Array, mask: chex.Array, *, shift_mean: bool = True
) -> chex.Array:
  """Scales the kept entries to variance 1, and shifts them to mean 0.

  y = (x - mean) rsqrt(var + 1e-8) [+ mean unless shift_mean]

  Mean and biased variance are taken over all kept entries of the batch.

  Args:
    x: f32[B, R].
    mask: bool or f32[B, R], 1 = keep.
    shift_mean: False keeps the mean, as for rewards.

  Returns:
    f32[B, R], 0 on padding.

  Raises:
    AssertionError: while tracing, if shapes differ.

  Source: Ziegler et al. 2019 (arXiv:1909.08593), its published code.
  """
  kept = jnp.asarray(mask) != 0
  chex.assert_equal_shape([x, kept])
  x = _zero_padding(x, kept)
  count = jnp.maximum(jnp.sum(kept.astype(jnp.float32)), 1.0)
  mean = jnp.sum(x) / count
  centered = _zero_padding(x - mean, kept)
  # The mean's own rounding error would come out up to 1e4 times larger where
  # the variance vanishes, so it is removed as well.
  centered = _zero_padding(centered - jnp.sum(centered) / count, kept)
  variance = jnp.sum(centered**2) / count
  whitened = centered * jax.lax.rsqrt(variance + 1e-8)
  return whitened if shift_mean else _zero_padding(whitened + mean, kept)


def clipped_policy_loss(
  logprobs: chex.Array,
  old_logprobs: chex.Array,
  advantages: chex.Array,
  weights: chex.Array,
  *,
  clip_eps: float,
) -> tuple[chex.Array, dict[str, chex.Array]]:
  """PPO's clipped surrogate: no gain from leaving the trust interval.

  loss = sum_t w_t max(-A_t rho_t, -A_t clip(rho_t, 1 - eps, 1 + eps)),
  rho_t = exp(logp_t - logp_old_t)

  Args:
    logprobs: f32[B, R], of the sampled tokens under the policy being trained.
    old_logprobs: f32[B, R], the same at rollout time; no gradient.
    advantages: f32[B, R], whitened or not; no gradient.
    weights: f32[B, R], >= 0, sum to 1 over the global minibatch; 0 on padding.
    clip_eps: half-width of the trust interval of the ratio.

  Returns:
    f32[] loss, and weighted sums: {'loss/policy', 'ppo/policy/approxkl' (half
    the squared log-ratio, nats), 'ppo/policy/clipfrac' (where the clipped term
    decides), 'ppo/policy/ratio'}, f32[] each.

  Raises:
    AssertionError: while tracing, if shapes differ.

  Source: Schulman et al. 2017 (arXiv:1707.06347), equation 7.
  """
  weights = jnp.asarray(weights, jnp.float32)
  chex.assert_rank(weights, 2)
  chex.assert_equal_shape([logprobs, old_logprobs, advantages, weights])
  kept = weights != 0
  old_logprobs = jax.lax.stop_gradient(_zero_padding(old_logprobs, kept))
  advantages = jax.lax.stop_gradient(_zero_padding(advantages, kept))
  log_ratio = _zero_padding(logprobs, kept) - old_logprobs
  ratio = jnp.exp(log_ratio)
  unclipped = -advantages * ratio
  clipped = -advantages * jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
  loss = jnp.sum(weights * jnp.maximum(unclipped, clipped))
  return loss, {
    'loss/policy': loss,
    'ppo/policy/approxkl': 0.5 * jnp.sum(weights * log_ratio**2),
    'ppo/policy/clipfrac': jnp.sum(weights * (clipped > unclipped)),
    'ppo/policy/ratio': jnp.sum(weights * ratio),
  }


def clipped_value_loss(
  values: chex.Array,
  old_values: chex.Array,
  returns: chex.Array,
  weights: chex.Array,
  *,
  clip_eps: float,
) -> tuple[chex.Array, dict[str, chex.Array]]:
  """Squared error of the value function, clipped around the rollout's values.

  loss = 1/2 sum_t w_t max((V_t - R_t)^2, (clip(V_t, Vold_t - eps,
                                                Vold_t + eps) - R_t)^2)

  Args:
    values: f32[B, R], V of the state before each token (reward units).
    old_values: f32[B, R], the same at rollout time; no gradient.
    returns: f32[B, R], GAE advantage plus old value; no gradient.
    weights: f32[B, R], >= 0, sum to 1 over the global minibatch; 0 on padding.
    clip_eps: half-width of the trust interval, reward units; inf for none.

  Returns:
    f32[] loss, and weighted sums: {'loss/value', 'ppo/val/clipfrac' (where the
    clipped term decides)}, f32[] each.

  Raises:
    AssertionError: while tracing, if shapes differ.

  Source: Schulman et al. 2017 (arXiv:1707.06347); clipping as in the code of
  Ziegler et al. 2019 (arXiv:1909.08593). The paper does not print it.
  """
  weights = jnp.asarray(weights, jnp.float32)
  chex.assert_rank(weights, 2)
  chex.assert_equal_shape([values, old_values, returns, weights])
  kept = weights != 0
  values = _zero_padding(values, kept)
  old_values = jax.lax.stop_gradient(_zero_padding(old_values, kept))
  returns = jax.lax.stop_gradient(_zero_padding(returns, kept))
  near = jnp.clip(values, old_values - clip_eps, old_values + clip_eps)
  unclipped = (values - returns) ** 2
  clipped = (near - returns) ** 2
  loss = 0.5 * jnp.sum(weights * jnp.maximum(unclipped, clipped))
  return loss, {
    'loss/value': loss,
    'ppo/val/clipfrac': jnp.sum(weights * (clipped > unclipped)),
  }


def adaptive_kl_coef(
  kl_coef: chex.Numeric,
  observed_kl: chex.Numeric,
  *,
  target: float,
  horizon: float,
  num_episodes: int,
) -> chex.Array:
  """Next KL coefficient of a proportional controller that aims at a target.

  kl_coef (1 + clip(KL / target - 1, -0.2, 0.2) num_episodes / horizon)

  Args:
    kl_coef: the present coefficient.
    observed_kl: mean KL of the responses to the reference (nats a response).
    target: KL to aim at, same units.
    horizon: episodes over which a full-scale error would change by 20%.
    num_episodes: episodes since the last update, i.e. the batch size.

  Returns:
    f32[] new coefficient.

  Source: Ziegler et al. 2019 (arXiv:1909.08593), section 2.2; InstructGPT
  itself keeps the coefficient fixed.
  """
  kl_coef = jnp.asarray(kl_coef, jnp.float32)
  observed_kl = jnp.asarray(observed_kl, jnp.float32)
  error = jnp.clip(observed_kl / target - 1.0, -0.2, 0.2)
  return kl_coef * (1.0 + error * num_episodes / horizon)
