"""Float64 twins of losses.language, written as loops over single tokens."""

import math

import numpy as np


def token_logprobs(logits, targets):
  logits = np.asarray(logits, np.float64)
  batch, length, vocab = logits.shape
  logprobs = np.zeros((batch, length))
  for b in range(batch):
    for t in range(length):
      largest = max(logits[b, t])
      total = 0.0
      for v in range(vocab):
        total += math.exp(logits[b, t, v] - largest)
      target = logits[b, t, targets[b, t]]
      logprobs[b, t] = target - largest - math.log(total)
  return logprobs


def chunked_token_logprobs(hidden, embedding, targets, *, temperature=1.0):
  hidden = np.asarray(hidden, np.float64)
  embedding = np.asarray(embedding, np.float64)
  batch, length, _ = hidden.shape
  logits = np.zeros((batch, length, len(embedding)))
  for b in range(batch):
    for t in range(length):
      for v in range(len(embedding)):
        logits[b, t, v] = np.dot(embedding[v], hidden[b, t]) / temperature
  return token_logprobs(logits, targets)


def language_model_loss(logprobs, weights):
  loss = 0.0
  for b, t in np.ndindex(*np.shape(weights)):
    if weights[b, t]:
      loss -= float(weights[b, t]) * float(logprobs[b, t])
  return np.float64(loss), {'loss/language': np.float64(loss)}


def normalized_weights(mask):
  mask = np.asarray(mask)
  kept = sum(1 for m in mask.flat if m)
  return np.array([1.0 / kept if m else 0.0 for m in mask.flat]).reshape(
    mask.shape
  )
