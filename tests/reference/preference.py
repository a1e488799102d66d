"""Float64 twins of losses.preference, written as loops over single pairs."""

import math

import numpy as np


def _pairs(ranks, mask):
  """The pairs (winner, loser) of one prompt."""
  pairs = []
  for i in range(len(ranks)):
    for j in range(len(ranks)):
      if mask[i] and mask[j] and ranks[i] < ranks[j]:
        pairs.append((i, j))
  return pairs


def _log_sigmoid(x):
  return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def pair_weights(ranks, mask):
  batch, count = np.shape(ranks)
  pairs = [_pairs(ranks[b], mask[b]) for b in range(batch)]
  prompts = sum(1 for p in pairs if p)
  weights = np.zeros((batch, count, count))
  for b in range(batch):
    for winner, loser in pairs[b]:
      weights[b, winner, loser] = 1.0 / len(pairs[b]) / prompts
  return weights


def weighted_ranking_loss(rewards, pair_weights):
  loss = accuracy = margin = 0.0
  for b, i, j in np.ndindex(*np.shape(pair_weights)):
    weight = float(pair_weights[b, i, j])
    if not weight:
      continue
    difference = float(rewards[b, i]) - float(rewards[b, j])
    loss -= weight * _log_sigmoid(difference)
    accuracy += weight * (0.5 if difference == 0 else difference > 0)
    margin += weight * difference
  return np.float64(loss), {
    'loss/ranking': np.float64(loss),
    'reward_model/accuracy': np.float64(accuracy),
    'reward_model/margin': np.float64(margin),
  }


def ranking_loss(rewards, ranks, mask):
  losses = []
  for b in range(len(rewards)):
    pairs = _pairs(ranks[b], mask[b])
    if not pairs:
      continue
    total = 0.0
    for winner, loser in pairs:
      difference = float(rewards[b, winner]) - float(rewards[b, loser])
      total += _log_sigmoid(difference)
    losses.append(-total / len(pairs))
  return np.float64(np.mean(losses)) if losses else np.float64(0.0)
