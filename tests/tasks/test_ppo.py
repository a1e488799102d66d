"""PPO-ptx: what an iteration learns from, and the update it makes of it."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax import errors
from instructjax import rewards
from instructjax import trainer
from instructjax.sampling import decode
from instructjax.tasks import ppo
from instructjax.tasks import sft
from tests import reference
from tests import small
from tests.reference import ppo as twin

B, MINIBATCHES, GAMMA = 8, 2, 27.8
MODELS = {'policy': small.CONFIG, 'reward_model': small.CONFIG}


@functools.cache
def make_task(**options):
  defaults = {
    'eos_id': small.EOS,
    'pad_id': small.PAD,
    'num_minibatches': MINIBATCHES,
    'max_response_length': small.R,
    'kl_coef': 0.1,
  }
  models = dict(options.pop('models', MODELS))
  return ppo.PPO(models, **defaults | options)


def start(task):
  params, frozen = task.init(
    jax.random.key(0),
    {'policy': small.policy(), 'reward_model': small.reward_model()},
  )
  return small.state(task, params, frozen)


def gradients(task, params, batch, **options):
  frozen = {'reference': small.policy(), 'reward_model': small.reward_model()}
  return small.gradients(task, params, batch, frozen=frozen, **options)


@functools.cache
def _moved():
  """Networks as they are some updates after the rollout."""
  rng = np.random.default_rng(0)
  params = {'policy': small.policy(), 'value': small.reward_model()}
  return jax.tree.map(
    lambda x: np.asarray(x + 0.02 * rng.normal(size=x.shape), np.float32),
    params,
  )


def moved():
  return jax.tree.map(jnp.array, _moved())


@functools.cache
def prepared(task):
  """(episodes and text, metrics) of the first iteration."""
  state = start(task)
  # The reference is the policy's start; away from it, KL is not zero.
  state = state.replace(frozen=state.frozen | {'reference': small.policy(2)})
  return task.prepare(state, small.ppo_rows(B), jax.random.key(0))


def first_minibatch(task):
  return next(task.minibatches(prepared(task)[0], jax.random.key(1)))


def without_ptx(batch):
  return batch | {'ptx': {}}


def test_rollouts_have_what_the_tests_need():
  """Responses that end early, at the last token and not at all."""
  episodes, _ = prepared(make_task())
  ended, mask = (
    episodes['episodes']['ended'],
    episodes['episodes']['response_mask'],
  )
  assert 0 < ended.sum() < B
  assert not mask.all() and mask[:, 0].all()
  assert abs(episodes['episodes']['kl']).mean() > 0.1


def test_phases_end_when_their_arrays_are_there():
  """And waiting for them changes nothing."""
  task, laps = make_task(), []

  def lap(phase, arrays):
    leaves = jax.tree.leaves(arrays)
    assert leaves and jax.block_until_ready(leaves)
    laps.append(phase)

  state = start(task)
  state = state.replace(frozen=state.frozen | {'reference': small.policy(2)})
  rows, key = small.ppo_rows(B), jax.random.key(0)
  found, wanted = task.prepare(state, rows, key, lap), prepared(task)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)
  # The updates before; a rollout and its scores; what sums them up.
  assert laps == ['train', 'rollout', 'score', 'score']


def test_ratio_is_one_before_the_first_update():
  """With the sampler's own log-probabilities, no forward pass between."""
  task = make_task()
  params = {'policy': small.policy(), 'value': small.reward_model()}
  minibatch = first_minibatch(task)
  _, metrics = gradients(task, params, minibatch)
  np.testing.assert_allclose(metrics['ppo/policy/ratio'], 1.0, atol=1e-6)
  assert metrics['ppo/policy/approxkl'] < 1e-12
  assert metrics['ppo/policy/clipfrac'] == 0
  assert metrics['ppo/val/clipfrac'] == 0
  # With a ratio of 1 the policy's loss is minus the mean advantage.
  rows = minibatch['episodes']
  mean = np.asarray(rows['advantages'])[rows['response_mask']].mean()
  np.testing.assert_allclose(metrics['loss/policy'], -mean, atol=2e-6)
  keys = decode.row_keys(jax.random.key(0), B)
  sampled = jax.jit(task.rollout)(small.policy(), small.prompt_rows(B), keys)
  np.testing.assert_array_equal(
    sampled['logprobs'], prepared(task)[0]['episodes']['logprobs']
  )


def test_old_logprobs_in_bfloat16_are_the_trainers():
  """A forward pass gives them: the sampler's own are off by more than what
  two passes over the same tokens differ by."""
  config = dataclasses.replace(small.CONFIG, dtype='bfloat16', num_layers=1)
  task = make_task(models=tuple({**MODELS, 'policy': config}.items()))
  policy = small.policy()
  policy['layers'] = jax.tree.map(lambda x: x[:1], policy['layers'])
  params = {'policy': policy, 'value': small.reward_model()}
  frozen = {'reference': policy, 'reward_model': small.reward_model()}
  state = small.state(task, params, frozen)
  batch, _ = task.prepare(state, small.ppo_rows(B), jax.random.key(0))
  rows = batch['episodes']
  again = jax.jit(task.policy_logprobs)(policy, rows)
  gap = np.where(rows['response_mask'], again - rows['logprobs'], 0.0)
  np.testing.assert_allclose(gap, 0.0, atol=1e-6)


@functools.cache
def _said(task):
  """What reference, reward model and moved networks say of the episodes."""
  rows = prepared(task)[0]['episodes']
  logprobs = jax.jit(task.policy_logprobs)
  score = rewards.from_model(small.CONFIG)(
    small.reward_model(),
    *(
      rows[name]
      for name in ('prompts', 'prompt_mask', 'responses', 'response_mask')
    ),
  )
  values = jax.jit(task.values)
  mask = np.asarray(rows['response_mask'])
  episodes = twin.by_token(
    mask,
    score=score,
    ended=(np.asarray(rows['responses']) == small.EOS).any(axis=1),
    logprobs=rows['logprobs'],
    ref_logprobs=logprobs(small.policy(2), rows),
    values=values(small.reward_model(), rows),
  )
  updated = twin.by_token(
    mask,
    logprobs=logprobs(moved()['policy'], rows),
    values=values(moved()['value'], rows),
  )
  return episodes, updated


def test_advantages_and_returns_equal_float64_twin():
  task = make_task()
  rows = prepared(task)[0]['episodes']
  advantages, returns = twin.experience(_said(task)[0], task.hyper)
  for b in range(B):
    keep = np.asarray(rows['response_mask'][b])
    reference.assert_close(rows['advantages'][b][keep], advantages[b], 5e-6)
    reference.assert_close(rows['returns'][b][keep], returns[b], 2e-6)


def test_loss_equals_float64_twin():
  task = make_task()
  batch, (episodes, updated) = prepared(task)[0], _said(task)
  order = jax.random.permutation(jax.random.fold_in(jax.random.key(1), 0), B)
  minibatch = first_minibatch(task)
  np.testing.assert_array_equal(
    minibatch['episodes']['responses'],
    batch['episodes']['responses'][order[: B // MINIBATCHES]],
  )
  text = minibatch['ptx']
  text_logprobs = jax.jit(functools.partial(sft.token_logprobs, small.CONFIG))(
    moved()['policy'], text['tokens'], text['mask']
  )
  expected = twin.minibatch_loss(
    episodes,
    updated,
    [
      row[np.asarray(keep)].tolist()
      for row, keep in zip(text_logprobs, text['loss_mask'][:, 1:], strict=True)
    ],
    order[: B // MINIBATCHES].tolist(),
    task.hyper,
  )
  _, metrics = gradients(task, moved(), minibatch)
  names = {
    'total': 'loss/total',
    'policy': 'loss/policy',
    'value': 'loss/value',
    'ptx': 'ptx/loss',
    'approxkl': 'ppo/policy/approxkl',
    'clipfrac': 'ppo/policy/clipfrac',
  }
  for name, metric in names.items():
    reference.assert_close(metrics[metric], expected[name], 5e-6)
  # Or a loss of zeros would pass.
  assert 0 < expected['clipfrac'] < 1 and expected['approxkl'] > 1e-3


def test_gradient_is_ppos_plus_gamma_times_the_language_models():
  task, plain = make_task(), make_task(ptx_coef=0.0)
  minibatch = first_minibatch(task)
  both, metrics = gradients(task, moved(), minibatch)
  alone, told = gradients(plain, moved(), without_ptx(minibatch))
  text, told_text = small.gradients(
    sft.SFT(MODELS), {'policy': moved()['policy']}, minibatch['ptx']
  )
  expected = jax.tree.map(
    lambda a, b: a + GAMMA * b, alone['policy'], text['policy']
  )
  small.assert_trees_close(both['policy'], expected, 2e-6)
  small.assert_trees_close(both['value'], alone['value'])
  total = told['loss/total'] + GAMMA * told_text['loss/total']
  np.testing.assert_allclose(metrics['loss/total'], total, rtol=1e-6)
  np.testing.assert_allclose(
    metrics['ptx/loss'], told_text['loss/total'], rtol=1e-6
  )


def test_without_gamma_there_is_no_text():
  plain = make_task(ptx_coef=0.0)
  state = start(plain)
  raw = {'prompts': small.prompt_rows(B)}
  batch, told = plain.prepare(state, raw, jax.random.key(0))
  assert batch['ptx'] == {}
  minibatch = next(plain.minibatches(batch, jax.random.key(1)))
  _, metrics = gradients(plain, moved(), minibatch)
  assert not any('ptx' in name for name in metrics | told)
  np.testing.assert_allclose(
    metrics['loss/total'],
    metrics['loss/policy'] + metrics['loss/value'],
    rtol=1e-6,
  )


def test_microbatches_change_nothing():
  task = make_task()
  minibatch = first_minibatch(task)
  cut = gradients(task, moved(), minibatch, num_microbatches=4)
  whole = gradients(task, moved(), minibatch)
  small.assert_trees_close(cut, whole, 2e-6)


@pytest.mark.parametrize('garbage', [np.nan, np.inf, -1e30])
def test_padding_changes_nothing(garbage):
  task = make_task()
  minibatch = first_minibatch(task)
  rows, text = minibatch['episodes'], minibatch['ptx']
  keep = np.asarray(rows['response_mask'])
  assert not keep.all()
  other = rows | {
    'responses': np.where(keep, rows['responses'], 31),
    'prompts': np.where(rows['prompt_mask'], rows['prompts'], 31),
  }
  for name in ('logprobs', 'advantages', 'values', 'returns'):
    other[name] = np.where(keep, rows[name], np.float32(garbage))
  text = text | {'tokens': np.where(text['mask'], text['tokens'], 31)}
  changed = gradients(task, moved(), {'episodes': other, 'ptx': text})
  small.assert_trees_close(changed, gradients(task, moved(), minibatch))


def test_values_are_of_the_state_before_each_token():
  """The first of the prompt alone; a token is seen by those after it."""
  task = make_task()
  values = jax.jit(task.values)
  rows = prepared(task)[0]['episodes']
  whole = np.asarray(values(small.reward_model(), rows))
  assert whole.shape == (B, small.R)
  for t in (0, 3, small.R - 1):
    other = np.array(rows['responses'])
    other[:, t] = (other[:, t] + 1) % small.V
    changed = values(small.reward_model(), rows | {'responses': other})
    seen = np.asarray(rows['response_mask'][:, t])
    np.testing.assert_array_equal(changed[:, : t + 1], whole[:, : t + 1])
    assert np.all((changed != whole)[seen, t + 1 :])


def test_score_lands_on_the_last_kept_token():
  """Without KL and lambda, a return is the reward plus the next value."""
  task = make_task(
    kl_coef=0.0, gae_lambda=0.0, whiten_advantages=False, missing_eos='replace'
  )
  rows = jax.tree.map(np.asarray, prepared(task)[0]['episodes'])
  np.testing.assert_array_equal(
    rows['final_scores'], np.where(rows['ended'], rows['scores'], 1.0)
  )
  for b in range(B):
    last = rows['response_mask'][b].sum() - 1
    returns, values = rows['returns'][b], rows['values'][b]
    np.testing.assert_allclose(returns[last], rows['final_scores'][b], 1e-5)
    np.testing.assert_allclose(returns[:last], values[1 : last + 1], atol=1e-6)
    assert (rows['responses'][b, last] == small.EOS) == rows['ended'][b]
    assert not returns[last + 1 :].any()


def test_missing_end_of_text():
  scores = jnp.array([1.0, 2.0, -3.0])
  ended = jnp.array([True, False, False])

  def ruled(rule):
    return ppo.penalize_missing_eos(scores, ended, rule, -1.5).tolist()

  assert ruled('keep') == [1.0, 2.0, -3.0]
  assert ruled('subtract') == [1.0, 3.5, -1.5]
  assert ruled('replace') == [1.0, -1.5, -1.5]
  with pytest.raises(errors.UserError, match="Did you mean 'replace'"):
    make_task(missing_eos='replaced')


def test_metrics_sum_the_episodes_up():
  batch, metrics = prepared(make_task())
  rows = jax.tree.map(lambda x: np.asarray(x, np.float64), batch['episodes'])
  mask = rows['response_mask'] > 0
  assert mask.sum() < mask.size
  lengths = mask.sum(axis=1)
  errors_ = (rows['returns'] - rows['values'])[mask]
  expected = {
    'objective/scores': rows['scores'].mean(),
    'objective/scores_std': rows['scores'].std(),
    'objective/scores_min': rows['scores'].min(),
    'objective/scores_max': rows['scores'].max(),
    'objective/kl': rows['kl'].mean(),
    'objective/kl_coef': 0.1,
    'objective/entropy': -rows['logprobs'][mask].mean(),
    'objective/rlhf_reward': (rows['final_scores'] - 0.1 * rows['kl']).mean(),
    'rollout/response_length': lengths.mean(),
    'rollout/eos_share': rows['ended'].mean(),
    'rollout/tokens': lengths.sum(),
    'rollout/episodes': B,
    'ppo/val/explained_variance': 1
    - errors_.var() / rows['returns'][mask].var(),
    'ppo/returns_mean': rows['returns'][mask].mean(),
    'ppo/values_mean': rows['values'][mask].mean(),
  }
  assert metrics.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(metrics[name], value, rtol=2e-5, err_msg=name)
  advantages = rows['advantages'][mask]
  np.testing.assert_allclose(advantages.mean(), 0.0, atol=1e-6)
  np.testing.assert_allclose(advantages.std(), 1.0, rtol=1e-5)


def test_answers_do_not_depend_on_how_many_at_a_time():
  whole, metrics = prepared(make_task())
  parts, told = prepared(make_task(rollout_batch_size=4))
  for name in ('prompts', 'responses', 'response_mask', 'ended'):
    np.testing.assert_array_equal(
      parts['episodes'][name], whole['episodes'][name]
    )
  small.assert_trees_close(parts['episodes'], whole['episodes'], 5e-6)
  small.assert_trees_close(told, metrics, 5e-6)


def test_minibatches_partition_the_episodes_in_every_epoch():
  task = make_task(inner_epochs=3, num_minibatches=4)
  batch = {
    'episodes': {'row': jnp.arange(8), 'twice': 2 * jnp.arange(8)},
    'ptx': {'row': jnp.arange(24)},
  }
  minibatches = list(task.minibatches(batch, jax.random.key(0)))
  assert len(minibatches) == 12
  epochs = []
  for epoch in range(3):
    mine = minibatches[4 * epoch : 4 * epoch + 4]
    for name, size in (('episodes', 2), ('ptx', 6)):
      rows = [m[name]['row'] for m in mine]
      assert [len(row) for row in rows] == [size] * 4
      np.testing.assert_array_equal(
        np.sort(np.concatenate(rows)), batch[name]['row']
      )
    for m in mine:
      assert (
        m['episodes']['twice'].tolist() == (2 * m['episodes']['row']).tolist()
      )
    epochs.append(np.concatenate([m['episodes']['row'] for m in mine]).tolist())
  assert len({tuple(order) for order in epochs}) == 3
  again = list(task.minibatches(batch, jax.random.key(0)))
  jax.tree.map(np.testing.assert_array_equal, again, minibatches)
  other = next(task.minibatches(batch, jax.random.key(1)))
  assert other['episodes']['row'].tolist() != epochs[0][:2]


@pytest.mark.parametrize(('kl', 'factor'), [(9.0, 1.1), (6.0, 1.0), (0.0, 0.9)])
def test_adaptive_coefficient_moves_towards_its_target(kl, factor):
  task = make_task(kl_target=6.0, kl_horizon=16.0)
  metrics = {
    'objective/kl': jnp.float32(kl),
    'rollout/episodes': jnp.float32(8),
  }
  extras = task.adapt(task.extras(), metrics)
  np.testing.assert_allclose(extras['kl_coef'], 0.1 * factor, rtol=1e-6)
  assert make_task().adapt(task.extras(), metrics) == task.extras()


def test_adapted_coefficient_arrives_in_the_next_iteration():
  """The first iteration's KL is zero, policy and reference being the same."""
  task, told = make_task(kl_target=6.0, kl_horizon=16.0), []
  state = start(task)
  before = jax.tree.map(np.asarray, (state.params, state.frozen))
  state = trainer.fit(
    state,
    task,
    small.train_step(task),
    [small.ppo_rows(B)] * 2,
    num_iterations=2,
    key=jax.random.key(0),
    hooks=[lambda i, s, m: told.append((m, s.extras['kl_coef'].item()))],
  )
  (first, coef), (second, _) = told
  np.testing.assert_allclose(first['objective/kl'], 0.0, atol=1e-5)
  np.testing.assert_allclose(first['objective/kl_coef'], 0.1, rtol=1e-6)
  np.testing.assert_allclose(coef, 0.1 * 0.9, rtol=1e-6)
  np.testing.assert_allclose(second['objective/kl_coef'], coef, rtol=1e-6)
  assert len(second['loss/policy']) == MINIBATCHES and state.step == 4
  # What is frozen stays, all that is trained has moved, one network has an EMA.
  jax.tree.map(np.testing.assert_array_equal, state.frozen, before[1])
  for name in ('policy', 'value'):
    changed = jax.tree.map(
      lambda a, b: np.any(a != b), state.params[name], before[0][name]
    )
    assert all(jax.tree.leaves(changed))
  assert state.ema.keys() == {'policy'}
  exports = task.exports(state)
  assert exports.keys() == {'model', 'value_model', 'model_ema'}
  assert exports['model_ema'].params is state.ema['policy']


def test_networks_start_where_they_should():
  given = {'policy': small.policy(), 'reward_model': small.reward_model()}
  params, frozen = make_task().init(jax.random.key(0), given)
  assert params == {'policy': given['policy'], 'value': given['reward_model']}
  assert frozen['reference'] is given['policy']
  assert frozen['reward_model'] is given['reward_model']
  # Without a reward model the value network grows from the policy.
  ruled = make_task(models=(('policy', small.CONFIG),), score=len)
  params, frozen = ruled.init(jax.random.key(0), {'policy': given['policy']})
  assert frozen.keys() == {'reference'}
  assert params['value']['transformer'] == given['policy']  # the same arrays
  assert params['value']['head']['kernel'].shape == (small.D,)


def _count_sevens(responses):
  return [text.count('7') for text in responses]


def _digits(ids):
  return ''.join('7' if i == 7 else '.' for i in ids)


def test_overfits_one_batch_of_prompts():
  """A Python rule stands in for the reward model: write the token 7."""
  task = make_task(
    score=rewards.from_python(_count_sevens, _digits),
    ptx_coef=0.0,
    missing_eos='keep',
    inner_epochs=2,
  )
  scores = []
  trainer.fit(
    start(task),
    task,
    small.train_step(task),
    [{'prompts': small.prompt_rows(B)}] * 60,
    num_iterations=60,
    key=jax.random.key(0),
    hooks=[lambda i, s, m: scores.append(float(m['objective/scores'][0]))],
  )
  assert np.mean(scores[:5]) < 1.0
  assert np.mean(scores[-5:]) > 5.0
