"""What an iteration's phases are counted to cost."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax.data import packing
from instructjax.models import flops
from instructjax.models import heads
from instructjax.models import transformer
from instructjax.tasks import base
from instructjax.tasks import ppo
from instructjax.tasks import reward_model
from instructjax.tasks import sft
from tests import dots
from tests import small

CONFIG = small.CONFIG
# One that differs, so that a count of the wrong network shows.
OTHER = dataclasses.replace(CONFIG, d_ff=96, attention='alternating', band=3)
B, P, R, T, K = 4, small.P, small.R, small.T, small.K
forward = functools.partial(flops.forward, batch=B)


def _full(rows):
  """The same rows without padding."""
  return {
    name: np.ones_like(x) if x.dtype == bool else x for name, x in rows.items()
  }


def _counted(task, batch):
  return jax.jit(task.flops)(batch)


def test_language_rows():
  task = sft.SFT({'policy': CONFIG})
  found = _counted(task, _full(small.language_rows(B)))
  assert found == {'train': 3 * forward(CONFIG, length=T, logits=T - 1)}
  # Of padded rows, what is there counts.
  rows = small.language_rows(B)
  lengths = rows['mask'].sum(axis=1).tolist()
  assert _counted(task, rows)['train'] == 3 * sum(
    flops.forward(CONFIG, batch=1, length=n, logits=n - 1) for n in lengths
  )


def test_packed_text_costs_what_its_sequences_cost():
  task = sft.SFT({'policy': OTHER})
  rows = small.language_rows(B)
  packed = packing.demonstrations(rows, 2 * T)
  assert len(packed['tokens']) < B
  found, wanted = (_counted(task, x)['train'] for x in (packed, rows))
  # Where two meet, one more token is predicted than is learned from.
  joints = B - len(packed['tokens'])
  assert found == wanted + 3 * joints * flops.per_logits(OTHER)


def test_comparisons_read_a_prompt_once():
  task = reward_model.RewardModel({'policy': OTHER})
  found = _counted(task, _full(small.comparison_rows(B)))
  responses = {'length': R, 'past': P, 'scalars': 1}
  once = forward(OTHER, length=P) + K * forward(OTHER, **responses)
  assert found == {'train': 3 * once}


def test_packed_comparisons_cost_the_same():
  task = reward_model.RewardModel({'policy': OTHER})
  rows = small.comparison_rows(8)
  packed = packing.comparisons(rows, P + K * R + 9)
  assert 'segments' in packed and len(packed['tokens']) < 8
  found, wanted = (_counted(task, x)['train'] for x in (packed, rows))
  np.testing.assert_allclose(found, wanted, rtol=1e-6)


def _ppo(config=CONFIG, **options):
  models = {'policy': config, 'reward_model': OTHER}
  options = {'eos_id': small.EOS, 'pad_id': small.PAD} | options
  options.setdefault('max_response_length', R)
  return ppo.PPO(models, **options)


def _batch(num_text=2):
  response = {
    'responses': np.ones((B, R), np.int32),
    'response_mask': np.ones((B, R), bool),
  }
  episodes = _full(small.prompt_rows(B)) | response
  return {'episodes': episodes, 'ptx': _full(small.language_rows(num_text))}


def test_phases_of_ppo():
  found = _counted(_ppo(inner_epochs=2), _batch())
  rows = {'length': P + R}
  policy = forward(CONFIG, **rows, logits=R)
  value = forward(OTHER, **rows, scalars=R)
  text = flops.forward(CONFIG, batch=2, length=T, logits=T - 1)
  # The last token that is drawn is not read.
  fed = {'length': R - 1, 'past': P, 'logits': R - 1}
  wanted = {
    'rollout': forward(CONFIG, length=P, logits=1) + forward(CONFIG, **fed),
    'score': policy + value + forward(OTHER, **rows, scalars=1),
    'train': 2 * 3 * (policy + value + text),
  }
  assert found.keys() == wanted.keys()
  for phase in wanted:
    np.testing.assert_allclose(found[phase], wanted[phase], rtol=1e-6)


def test_ppo_counts_only_what_it_does():
  full = _counted(_ppo(), _batch())
  plain = _counted(_ppo(), _batch() | {'ptx': {}})
  text = flops.forward(CONFIG, batch=2, length=T, logits=T - 1)
  np.testing.assert_allclose(full['train'] - plain['train'], 3 * text, 1e-5)
  ruled = ppo.PPO({'policy': CONFIG}, eos_id=3, pad_id=0, score=len)
  rows = {'length': P + R}
  wanted = forward(CONFIG, **rows, logits=R) + forward(
    CONFIG, **rows, scalars=R
  )
  np.testing.assert_allclose(_counted(ruled, _batch())['score'], wanted, 1e-6)
  # Short answers make short rollouts.
  batch = _batch()
  batch['episodes']['response_mask'][:, 1:] = False
  short = _counted(_ppo(), batch)
  assert short['rollout'] == forward(CONFIG, length=P, logits=1)
  assert short['train'] < full['train']


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_scores_are_these_products(dtype):
  """In bfloat16 the old policy is read once more, for its log-probabilities."""
  config = dataclasses.replace(CONFIG, dtype=dtype)
  task = _ppo(config)
  params = {'policy': small.policy(), 'value': _other()}
  frozen = {'reference': small.policy(), 'reward_model': _other()}
  rows = _batch()['episodes'] | {'logprobs': np.zeros((B, R), np.float32)}
  scores = np.zeros(B, np.float32)
  found = dots.flops(
    task.experience, params, frozen, task.extras(), rows, scores
  )
  passes = 2 if dtype == 'bfloat16' else 1
  computed = {'length': P + R, 'blocks': 1}
  wanted = passes * forward(config, **computed, logits=R)
  assert found == wanted + forward(OTHER, **computed, scalars=R)
  # The count has the same passes, and leaves hidden keys out.
  visible = _counted(task, _batch())['score']
  reward = forward(OTHER, length=P + R, scalars=1)
  policy = passes * forward(config, length=P + R, logits=R)
  value = forward(OTHER, length=P + R, scalars=R)
  np.testing.assert_allclose(visible, policy + value + reward, rtol=1e-6)


def _other():
  """Shapes of a value network."""

  def make(key):
    head = heads.init_scalar_head(key, OTHER.d_model)
    return heads.with_head(transformer.init(OTHER, key), head)

  return jax.eval_shape(make, jax.random.key(0))


def test_a_task_need_not_count():
  assert base.Task.flops(None, {'x': jnp.zeros(1)}) == {}
