"""Float64 twins of losses.policy_gradient, written as loops over tokens."""

import math

import numpy as np


def _kept(mask_row):
  """Indices of the response's tokens."""
  return [t for t in range(len(mask_row)) if mask_row[t]]


def kl_penalized_rewards(scores, logprobs, ref_logprobs, mask, *, kl_coef):
  rewards = np.zeros(np.shape(mask))
  for b in range(len(mask)):
    kept = _kept(mask[b])
    for t in kept:
      kl = float(logprobs[b, t]) - float(ref_logprobs[b, t])
      rewards[b, t] = -kl_coef * kl
    if kept:
      rewards[b, kept[-1]] += float(scores[b])
  return rewards


def gae(rewards, values, mask, *, discount, gae_lambda):
  """A_t = sum_l (discount lambda)^l delta_{t+l}: no recursion to share."""
  advantages = np.zeros(np.shape(mask))
  returns = np.zeros(np.shape(mask))
  for b in range(len(mask)):
    kept = _kept(mask[b])
    reward = [float(rewards[b, t]) for t in kept]
    value = [float(values[b, t]) for t in kept] + [0.0]
    deltas = [
      reward[i] + discount * value[i + 1] - value[i] for i in range(len(kept))
    ]
    for i, t in enumerate(kept):
      for step, delta in enumerate(deltas[i:]):
        advantages[b, t] += (discount * gae_lambda) ** step * delta
      returns[b, t] = advantages[b, t] + value[i]
  return advantages, returns


def whiten(x, mask, *, shift_mean=True):
  entries = [(b, t) for b in range(len(mask)) for t in _kept(mask[b])]
  whitened = np.zeros(np.shape(mask))
  if not entries:
    return whitened
  mean = sum(float(x[e]) for e in entries) / len(entries)
  variance = sum((float(x[e]) - mean) ** 2 for e in entries) / len(entries)
  for e in entries:
    whitened[e] = (float(x[e]) - mean) / math.sqrt(variance + 1e-8)
    if not shift_mean:
      whitened[e] += mean
  return whitened


def clipped_policy_loss(
  logprobs, old_logprobs, advantages, weights, *, clip_eps
):
  loss = approxkl = clipfrac = mean_ratio = 0.0
  for b, t in np.ndindex(*np.shape(weights)):
    weight = float(weights[b, t])
    if not weight:
      continue
    log_ratio = float(logprobs[b, t]) - float(old_logprobs[b, t])
    ratio = math.exp(log_ratio)
    near = min(max(ratio, 1.0 - clip_eps), 1.0 + clip_eps)
    unclipped = -float(advantages[b, t]) * ratio
    clipped = -float(advantages[b, t]) * near
    loss += weight * max(unclipped, clipped)
    approxkl += 0.5 * weight * log_ratio**2
    clipfrac += weight * (clipped > unclipped)
    mean_ratio += weight * ratio
  return np.float64(loss), {
    'loss/policy': np.float64(loss),
    'ppo/policy/approxkl': np.float64(approxkl),
    'ppo/policy/clipfrac': np.float64(clipfrac),
    'ppo/policy/ratio': np.float64(mean_ratio),
  }


def clipped_value_loss(values, old_values, returns, weights, *, clip_eps):
  loss = clipfrac = 0.0
  for b, t in np.ndindex(*np.shape(weights)):
    weight = float(weights[b, t])
    if not weight:
      continue
    value, old_value = float(values[b, t]), float(old_values[b, t])
    near = min(max(value, old_value - clip_eps), old_value + clip_eps)
    unclipped = (value - float(returns[b, t])) ** 2
    clipped = (near - float(returns[b, t])) ** 2
    loss += 0.5 * weight * max(unclipped, clipped)
    clipfrac += weight * (clipped > unclipped)
  return np.float64(loss), {
    'loss/value': np.float64(loss),
    'ppo/val/clipfrac': np.float64(clipfrac),
  }


def adaptive_kl_coef(kl_coef, observed_kl, *, target, horizon, num_episodes):
  error = min(max(float(observed_kl) / target - 1.0, -0.2), 0.2)
  return np.float64(float(kl_coef) * (1.0 + error * num_episodes / horizon))
