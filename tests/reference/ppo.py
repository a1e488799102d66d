"""Float64 twin of one PPO-ptx iteration, from numbers to the minibatch's loss.

Written from Ouyang et al. 2022, section 3.5 and appendix C.4, with Schulman et
al. 2016 for the advantages and 2017 for the clipping. It takes what networks
say about the episodes (log-probabilities, values, scores), not the networks.
"""

import math

import numpy as np


def rewards_of_episode(score, ended, logprobs, ref_logprobs, hyper):
  """r_t of one episode's tokens: KL penalty, and the score at the end."""
  if not ended and hyper.missing_eos == 'subtract':
    score = score - hyper.missing_eos_value
  if not ended and hyper.missing_eos == 'replace':
    score = hyper.missing_eos_value
  rewards = []
  for t in range(len(logprobs)):
    rewards.append(-hyper.kl_coef * (logprobs[t] - ref_logprobs[t]))
  rewards[-1] += score
  return rewards


def advantages_of_episode(rewards, values, hyper):
  """A_t = sum_l (discount lambda)^l (r_{t+l} + discount V_{t+l+1} - V_{t+l})"""
  n = len(rewards)
  values = [*values, 0.0]  # nothing comes after the last token
  advantages = []
  for t in range(n):
    total = 0.0
    for i in range(t, n):
      delta = rewards[i] + hyper.discount * values[i + 1] - values[i]
      total += (hyper.discount * hyper.gae_lambda) ** (i - t) * delta
    advantages.append(total)
  return advantages


def experience(episodes, hyper):
  """Advantages (whitened over all tokens, if so asked) and returns.

  Args:
    episodes: list of dicts with 'score', 'ended', and per kept token
      'logprobs', 'ref_logprobs', 'values', of the policy that answered.
    hyper: tasks.ppo.Hyperparameters.

  Returns:
    Lists of lists, one entry per episode and token.
  """
  advantages, returns = [], []
  for e in episodes:
    rewards = rewards_of_episode(
      e['score'], e['ended'], e['logprobs'], e['ref_logprobs'], hyper
    )
    found = advantages_of_episode(rewards, e['values'], hyper)
    advantages.append(found)
    returns.append([a + v for a, v in zip(found, e['values'], strict=True)])
  if hyper.whiten_advantages:
    everything = [a for row in advantages for a in row]
    mean = sum(everything) / len(everything)
    variance = sum((a - mean) ** 2 for a in everything) / len(everything)
    advantages = [
      [(a - mean) / math.sqrt(variance + 1e-8) for a in row]
      for row in advantages
    ]
  return advantages, returns


def minibatch_loss(episodes, updated, ptx_logprobs, minibatch, hyper):
  """The loss of some of an iteration's episodes and of pretraining text.

  Args:
    episodes: all the iteration's, see `experience`.
    updated: list of dicts of per-token 'logprobs' and 'values', by the networks
      that are being trained.
    ptx_logprobs: list over pretraining rows of lists over target tokens.
    minibatch: indices of the episodes.
    hyper: tasks.ppo.Hyperparameters.

  Returns:
    {'total', 'policy', 'value', 'ptx', 'approxkl', 'clipfrac'}, floats.
  """
  advantages, returns = experience(episodes, hyper)
  policy = value = approxkl = clipped = 0.0
  tokens = sum(len(episodes[b]['logprobs']) for b in minibatch)
  for b in minibatch:
    for t in range(len(episodes[b]['logprobs'])):
      log_ratio = updated[b]['logprobs'][t] - episodes[b]['logprobs'][t]
      ratio, a = math.exp(log_ratio), advantages[b][t]
      near = min(max(ratio, 1 - hyper.clip_eps), 1 + hyper.clip_eps)
      policy -= min(ratio * a, near * a) / tokens
      approxkl += 0.5 * log_ratio**2 / tokens
      clipped += (near * a < ratio * a) / tokens
      v, old, target = (
        updated[b]['values'][t],
        episodes[b]['values'][t],
        returns[b][t],
      )
      eps = hyper.value_clip_eps
      v_near = min(max(v, old - eps), old + eps)
      worse = max((v - target) ** 2, (v_near - target) ** 2)
      value += 0.5 * worse / tokens
  targets = [logp for row in ptx_logprobs for logp in row]
  ptx = -sum(targets) / len(targets) if targets else 0.0
  return {
    'total': policy + value + hyper.ptx_coef * ptx,
    'policy': policy,
    'value': value,
    'ptx': ptx,
    'approxkl': approxkl,
    'clipfrac': clipped,
  }


def by_token(mask, **arrays):
  """Cuts f[B, R] arrays into lists of dicts of float lists, kept tokens only;
  f[B] arrays give one number each."""
  rows = []
  for b in range(len(mask)):
    row = {}
    for name, array in arrays.items():
      array = np.asarray(array)
      if array.ndim == 1:
        row[name] = array[b].item()
      else:
        row[name] = [float(x) for x in array[b][np.asarray(mask[b])]]
    rows.append(row)
  return rows
