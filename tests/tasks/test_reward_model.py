"""The reward model: K ranked responses a prompt, and where its zero lies."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from instructjax import rewards
from instructjax.data import packing
from instructjax.tasks import reward_model
from tests import reference
from tests import small
from tests.reference import preference as preference_twin

TASK = reward_model.RewardModel({'policy': small.CONFIG})
SCORE = rewards.from_model(small.CONFIG)


def _gradients(batch, **options):
  params = {'reward_model': small.reward_model()}
  return small.gradients(TASK, params, batch, **options)


def _scores(batch):
  """Every response by itself, at K = 1."""
  columns = [
    SCORE(
      small.reward_model(),
      batch['prompts'],
      batch['prompt_mask'],
      batch['responses'][:, k],
      batch['response_mask'][:, k],
    )
    for k in range(batch['ranks'].shape[1])
  ]
  return np.stack(columns, axis=1)


def test_loss_equals_float64_twin():
  batch = small.comparison_rows(8)
  _, metrics = _gradients(batch)
  scores, ranks, mask = _scores(batch), batch['ranks'], batch['mask']
  expected = preference_twin.ranking_loss(scores, ranks, mask)
  reference.assert_close(metrics['loss/total'], expected)
  _, told = preference_twin.weighted_ranking_loss(
    scores, preference_twin.pair_weights(ranks, mask)
  )
  assert told.keys() < metrics.keys()
  for name, value in told.items():
    reference.assert_close(metrics[name], value, 2e-6)


def test_packing_changes_nothing():
  """Several prompts a row, each with its responses behind it."""
  batch = small.comparison_rows(8)
  batch['ranks'][3] = 2  # all tied: no pair
  packed = packing.comparisons(batch, 40)
  assert 2 <= len(packed['tokens']) < 8
  small.assert_trees_close(_gradients(packed), _gradients(batch))
  even = {name: rows[:2] for name, rows in packed.items()}
  small.assert_trees_close(
    _gradients(even, num_microbatches=2), _gradients(even)
  )


def test_overfits_one_batch():
  params, frozen = TASK.init(jax.random.key(0), {'policy': small.policy()})
  state, step = small.state(TASK, params, frozen), small.train_step(TASK)
  batch, seen = small.comparison_rows(8), []
  for _ in range(60):
    state, metrics = step(state, batch, jax.random.key(0))
    seen.append(metrics)
  assert 0.4 < seen[0]['loss/ranking'] < 1.5
  assert seen[-1]['loss/ranking'] < 0.02
  assert seen[-1]['reward_model/accuracy'] == pytest.approx(1.0)
  assert seen[-1]['reward_model/margin'] > 4.0


def test_microbatches_change_nothing():
  """However the prompts with and without pairs fall into them."""
  batch = small.comparison_rows(8)
  batch['ranks'][3] = 2  # all tied: no pair
  small.assert_trees_close(
    _gradients(batch, num_microbatches=4), _gradients(batch)
  )


def test_padding_changes_nothing():
  batch = small.comparison_rows(8)
  missing = ~batch['mask']
  other = dict(
    batch,
    responses=np.where(batch['response_mask'], batch['responses'], 31),
    prompts=np.where(batch['prompt_mask'], batch['prompts'], 31),
    ranks=np.where(missing, -7, batch['ranks']),
  )
  small.assert_trees_close(_gradients(other), _gradients(batch))
  # A response that is not there may even be kept by its own mask.
  other['response_mask'] = batch['response_mask'] | missing[:, :, None]
  small.assert_trees_close(_gradients(other), _gradients(batch))


def test_columns_without_responses_change_nothing():
  """However many the widest prompt of a data set asks for."""
  batch = small.comparison_rows(8)

  def widen(x):
    padding = np.zeros((8, 2, *x.shape[2:]), x.dtype)
    return np.concatenate([x, padding], axis=1)

  @jax.jit
  def loss(batch):
    params = {'reward_model': small.reward_model()}
    return TASK.loss(params, {}, TASK.normalize(batch, None), None)

  names = ('responses', 'response_mask', 'ranks', 'mask')
  wide = dict(batch, **{name: widen(batch[name]) for name in names})
  expected = _gradients(batch)[1]
  for name, value in loss(wide)[1].items():
    reference.assert_close(value, expected[name])


def test_prompts_without_pairs_change_nothing():
  batch, other = small.comparison_rows(8), small.comparison_rows(8, seed=1)
  batch['ranks'][5:] = 1
  changed = {k: np.concatenate([v[:5], other[k][5:]]) for k, v in batch.items()}
  changed['ranks'] = batch['ranks']
  small.assert_trees_close(_gradients(changed), _gradients(batch))


def test_grows_from_a_policy_with_a_new_head():
  policy = small.policy()
  params, frozen = TASK.init(jax.random.key(0), {'policy': policy})
  assert frozen == {}
  model = params['reward_model']
  assert model['transformer'] == policy  # the same arrays
  assert model['head']['bias'] == 0
  assert 0.5 < np.std(model['head']['kernel']) * np.sqrt(small.D + 1) < 1.5
  other, _ = TASK.init(jax.random.key(1), {'policy': policy})
  assert np.any(
    other['reward_model']['head']['kernel'] != model['head']['kernel']
  )
  exported = TASK.exports(small.state(TASK, params))['model']
  assert exported.config == small.CONFIG and exported.params is not params
  assert exported.params.keys() == {'transformer', 'head'}


def _answers(n, seed):
  rows = small.comparison_rows(n, seed, count=2)
  return small.prompt_rows(n, seed) | {
    name: rows[name][:, 0] for name in ('responses', 'response_mask')
  }


def test_calibration_puts_the_zero_at_the_demonstrations():
  params = small.reward_model()
  params['head']['bias'] += 3.0
  batches = [
    (_answers(8, 0), np.ones(8, bool)),
    (_answers(8, 1), np.arange(8) < 5),  # the last three are repeats
  ]

  def scores(params):
    found = [SCORE(params, *batch.values())[mask] for batch, mask in batches]
    return np.concatenate(found)

  before = scores(params)
  assert before.shape == (13,) and abs(before.mean()) > 1
  calibrated, stats = reward_model.calibrate(SCORE, params, batches)
  after = scores(calibrated)
  np.testing.assert_allclose(after.mean(), 0.0, atol=1e-6)
  np.testing.assert_allclose(after - before, -before.mean(), atol=1e-5)
  expected = {
    'demonstration_mean_before': before.mean(),
    'demonstration_std': after.std(),
    'demonstration_min': after.min(),
    'demonstration_max': after.max(),
  }
  assert stats == pytest.approx(expected, abs=1e-5)
  assert params['head']['bias'] == 3.0  # what was given stays
  again, stats = reward_model.calibrate(SCORE, calibrated, batches)
  assert abs(stats['demonstration_mean_before']) < 1e-6
