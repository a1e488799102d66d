"""Answers to held-out prompts, the same however they are batched."""

from __future__ import annotations

import functools

import jax
import numpy as np

from instructjax import rewards
from instructjax.data import loader
from instructjax.evaluation import rollouts
from instructjax.sampling import logprobs
from tests import small


@functools.cache
def _rollouts(seed=0):
  return rollouts.make_rollouts(
    small.CONFIG,
    eos_id=small.EOS,
    pad_id=small.PAD,
    max_response_length=small.R,
    score=rewards.from_model(small.CONFIG),
    seed=seed,
  )


@functools.cache
def _answers(size, seed=0):
  return _rollouts(seed)(
    small.policy(),
    loader.eval_batches(small.prompt_rows(11), size),
    reward_params=small.reward_model(),
    reference=small.policy(2),
  )


def test_every_prompt_has_its_numbers():
  found, rows = _answers(8), small.prompt_rows(11)
  assert {k: v.shape for k, v in found.items()} == {
    'responses': (11, small.R),
    'response_mask': (11, small.R),
    'ended': (11,),
    'length': (11,),
    'scores': (11,),
    'kl': (11,),
  }
  mask = found['response_mask']
  np.testing.assert_array_equal(found['length'], mask.sum(axis=1))
  np.testing.assert_array_equal(
    found['ended'], (found['responses'] == small.EOS).any(axis=1)
  )
  assert 0 < found['ended'].sum() < 11
  rows |= {'responses': found['responses'], 'response_mask': mask}
  of = jax.jit(logprobs.response_logprobs, static_argnums=0)
  gap = [
    of(small.CONFIG, params, rows)
    for params in (small.policy(), small.policy(2))
  ]
  kl = np.where(mask, gap[0] - gap[1], 0).sum(axis=1)
  np.testing.assert_allclose(found['kl'], kl, atol=2e-5)


def test_answers_do_not_depend_on_the_batches():
  """A limit on evaluated rows, or a larger mesh, changes the batch."""
  whole, parts = _answers(8), _answers(4)
  for name in ('responses', 'response_mask', 'ended', 'length'):
    np.testing.assert_array_equal(parts[name], whole[name])
  np.testing.assert_allclose(parts['scores'], whole['scores'], atol=1e-5)
  other = _answers(8, seed=1)
  assert np.any(other['responses'] != whole['responses'])


def test_same_model_has_no_divergence_from_itself():
  found = _rollouts()(
    small.policy(),
    loader.eval_batches(small.prompt_rows(8), 8),
    reward_params=small.reward_model(),
    reference=small.policy(),
  )
  np.testing.assert_allclose(found['kl'], 0.0, atol=1e-5)


def test_asks_for_no_more_than_is_wanted():
  plain = rollouts.make_rollouts(
    small.CONFIG,
    eos_id=small.EOS,
    pad_id=small.PAD,
    max_response_length=small.R,
  )
  found = plain(small.policy(), loader.eval_batches(small.prompt_rows(8), 8))
  assert found.keys() == {'responses', 'response_mask', 'ended', 'length'}


def test_texts_are_the_kept_tokens():
  result = {
    'responses': np.array([[5, 6, 2], [7, 2, 0]]),
    'response_mask': np.array([[True, True, True], [True, True, False]]),
  }
  assert rollouts.texts(result, str) == ['[5, 6, 2]', '[7, 2]']
