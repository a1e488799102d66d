"""Validation loss: a mean over tokens, whatever the batches."""

import numpy as np

from instructjax.evaluation import language
from instructjax.tasks import sft
from tests import small


def test_mean_is_over_tokens_not_batches():
  rows, params = small.language_rows(8), small.policy()
  loss = language.make_loss(small.CONFIG)
  first, second = np.arange(8) < 5, np.arange(8) >= 5
  found = loss(params, [(rows, first), (rows, second)])
  logprobs = sft.token_logprobs(
    small.CONFIG, params, rows['tokens'], rows['mask']
  )
  targets = rows['loss_mask'][:, 1:]
  np.testing.assert_allclose(
    found, -np.asarray(logprobs, np.float64)[targets].mean(), rtol=1e-6
  )
  # The two batches have unlike numbers of targets, so this differs:
  means = [loss(params, [(rows, keep)]) for keep in (first, second)]
  assert abs(np.mean(means) - found) > 1e-4
  assert isinstance(found, float)


def test_rows_without_targets_give_zero():
  rows = small.language_rows(8)
  loss = language.make_loss(small.CONFIG)
  assert loss(small.policy(), [(rows, np.zeros(8, bool))]) == 0.0
