"""Language-model training: what is learned, from which tokens."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from instructjax.data import packing
from instructjax.models import transformer
from instructjax.tasks import sft
from tests import reference
from tests import small
from tests.reference import language as language_twin

TASK = sft.SFT({'policy': small.CONFIG})
DROPPING = sft.SFT({'policy': dataclasses.replace(small.CONFIG, dropout=0.2)})


def _gradients(batch, task=TASK, **options):
  params = {'policy': small.policy()}
  return small.gradients(task, params, batch, **options)


def test_loss_equals_float64_twin():
  batch = small.language_rows(8)
  _, metrics = _gradients(batch)
  logits = transformer.logits(
    small.CONFIG, small.policy(), batch['tokens'], batch['mask']
  )
  logprobs = language_twin.token_logprobs(
    np.asarray(logits)[:, :-1], batch['tokens'][:, 1:]
  )
  weights = language_twin.normalized_weights(batch['loss_mask'][:, 1:])
  expected = language_twin.language_model_loss(logprobs, weights)[0]
  reference.assert_close(metrics['loss/language'], expected)
  reference.assert_close(metrics['loss/total'], expected)


def test_packing_changes_nothing():
  batch = small.language_rows(8)
  packed = packing.demonstrations(batch, 20)
  assert 2 <= len(packed['tokens']) < 8
  small.assert_trees_close(_gradients(packed), _gradients(batch))


def test_overfits_one_batch():
  params, frozen = TASK.init(jax.random.key(0), {'policy': small.policy()})
  state, step = small.state(TASK, params, frozen), small.train_step(TASK)
  batch, losses = small.language_rows(8), []
  for _ in range(60):
    state, metrics = step(state, batch, jax.random.key(0))
    losses.append(metrics['loss/language'])
  assert losses[0] > 3.0 and losses[-1] < 0.05


def test_microbatches_change_nothing_with_dropout_on():
  batch = small.language_rows(8)
  small.assert_trees_close(
    _gradients(batch, DROPPING, num_microbatches=4),
    _gradients(batch, DROPPING),
  )


def test_dropout_follows_its_key():
  batch = small.language_rows(8)
  loss = {
    seed: float(_gradients(batch, DROPPING, seed=seed)[1]['loss/total'])
    for seed in (0, 1)
  }
  again = float(_gradients(batch, DROPPING)[1]['loss/total'])
  plain = float(_gradients(batch)[1]['loss/total'])
  assert loss[0] == again and len({loss[0], loss[1], plain}) == 3


def test_every_row_drops_by_a_key_of_its_own():
  batch = DROPPING.normalize(small.language_rows(8), jax.random.key(0))
  bits = np.asarray(jax.random.key_data(batch['dropout_keys']))
  assert len(np.unique(bits, axis=0)) == 8


def test_padding_changes_nothing():
  batch = small.language_rows(8)
  other = dict(batch, tokens=np.where(batch['mask'], batch['tokens'], 31))
  small.assert_trees_close(_gradients(other), _gradients(batch), 1e-7)


def test_rows_without_targets_change_nothing():
  batch, other = small.language_rows(8), small.language_rows(8, seed=1)
  batch['loss_mask'][5:] = False
  changed = {k: np.concatenate([v[:5], other[k][5:]]) for k, v in batch.items()}
  changed['loss_mask'] = batch['loss_mask']
  small.assert_trees_close(_gradients(changed), _gradients(batch))


def test_only_targets_are_learned():
  """The loss is the mean over targets, however long the rows are."""
  batch = small.language_rows(8)
  batch['loss_mask'][:] = False
  batch['loss_mask'][0, 5] = True  # one token of all
  _, metrics = _gradients(batch)
  logprobs = sft.token_logprobs(
    small.CONFIG, small.policy(), batch['tokens'], batch['mask']
  )
  assert logprobs.shape == (8, small.T - 1)
  np.testing.assert_allclose(metrics['loss/total'], -logprobs[0, 4], rtol=1e-6)


def test_starts_from_what_it_is_given():
  given = small.policy()
  params, frozen = TASK.init(jax.random.key(0), {'policy': given})
  assert params['policy'] is given and frozen == {}
  drawn, _ = jax.eval_shape(TASK.init, jax.random.key(0), {'policy': None})
  assert jax.tree.map(jnp.shape, drawn['policy']) == jax.tree.map(
    jnp.shape, given
  )
  model = TASK.exports(small.state(TASK, params, frozen))['model']
  assert model.config == small.CONFIG
  jax.tree.map(np.testing.assert_array_equal, model.params, given)
