"""The loop and the train step: what they promise to every task."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from instructjax import trainer
from instructjax.tasks import base
from instructjax.tasks import ppo
from instructjax.tasks import reward_model
from instructjax.tasks import sft
from tests import small


class Line(base.Task):
  """Fits y = x . w by least squares; writes down how it is called."""

  init = exports = None  # the trainer calls neither

  def __init__(self):
    self.calls = []

  def prepare(self, state, batch, key, lap):
    lap('prepared')
    self.calls.append(('prepare', int(state.iteration), _bits(key)))
    return batch, {'seen': batch['x'].sum()}

  def flops(self, batch):
    return {'train': 6.0 * jnp.float32(batch['x'].size)}

  def minibatches(self, batch, key):
    self.calls.append(('minibatches', _bits(key)))
    half = len(batch['x']) // 2
    yield {k: v[:half] for k, v in batch.items()}
    yield {k: v[half:] for k, v in batch.items()}

  def normalize(self, batch, key):
    rows = batch['x'].shape[0]
    return dict(batch, weights=jnp.full(rows, 1 / rows))

  def loss(self, params, frozen, batch, key):
    error = batch['x'] @ params['line']['w'] + frozen['bias'] - batch['y']
    loss = jnp.sum(batch['weights'] * error**2)
    return loss, {'error': jnp.sum(batch['weights'] * jnp.abs(error))}

  def adapt(self, extras, metrics):
    return {'total': extras['total'] + metrics['seen']}


def _bits(key):
  return tuple(np.asarray(jax.random.key_data(key)).tolist())


def _batch(iteration, rows=8):
  rng = np.random.default_rng(iteration)
  x = rng.normal(size=(rows, 3)).astype(np.float32)
  return {'x': x, 'y': (x @ [1.0, -2.0, 0.5]).astype(np.float32)}


def _batches(start):
  iteration = start
  while True:
    yield _batch(iteration)
    iteration += 1


def _state(optimizer, ema_networks=()):
  return trainer.init_state(
    {'line': {'w': jnp.zeros(3)}},
    {'bias': jnp.float32(0.1)},
    optimizer,
    extras={'total': jnp.float32(0)},
    ema_networks=ema_networks,
  )


def _fit(task, state, num_iterations, **options):
  optimizer = optax.adam(0.1)
  step = trainer.make_train_step(
    task.loss, optimizer, normalize=task.normalize, ema_decay=0.9
  )
  return trainer.fit(
    _state(optimizer, ['line']) if state is None else state,
    task,
    step,
    _batches(0 if state is None else int(state.iteration)),
    num_iterations=num_iterations,
    key=jax.random.key(0),
    **options,
  )


def test_step_is_one_update_by_the_gradient_of_the_whole_batch():
  task, optimizer = Line(), optax.sgd(0.5)
  batch = _batch(0)
  state = _state(optimizer)
  step = trainer.make_train_step(task.loss, optimizer, normalize=task.normalize)
  new, metrics = step(state, batch, jax.random.key(0))
  error = 0.1 - batch['y']
  gradient = 2 * batch['x'].T @ error / 8
  np.testing.assert_allclose(new.params['line']['w'], -0.5 * gradient, 1e-5)
  np.testing.assert_allclose(metrics['loss/total'], np.mean(error**2), 1e-5)
  np.testing.assert_allclose(metrics['error'], np.abs(error).mean(), 1e-5)
  norm = metrics['optim/grad_norm/line']
  np.testing.assert_allclose(norm, np.linalg.norm(gradient), 1e-5)
  assert (new.step, new.iteration) == (1, 0)
  assert new.frozen['bias'] == np.float32(0.1)


def test_step_donates_its_state():
  task, optimizer = Line(), optax.adam(0.1)
  params = {'line': {'w': jnp.zeros(3)}}
  state = trainer.init_state(params, {'bias': jnp.float32(0)}, optimizer)
  step = trainer.make_train_step(task.loss, optimizer, normalize=task.normalize)
  step(state, _batch(0), jax.random.key(0))
  assert state.params['line']['w'].is_deleted()
  assert not params['line']['w'].is_deleted()  # the caller's were copied


@pytest.mark.parametrize('n', [2, 4, 8])
def test_microbatches_sum_to_the_whole(n):
  task = Line()
  params = {'line': {'w': jnp.arange(3.0)}}
  batch = task.normalize(_batch(0), None)
  run = functools.partial(
    trainer.accumulate_gradients, task.loss, params, {'bias': 0.1}, batch, None
  )
  small.assert_trees_close(run(n), run(1))

  def step(n):
    optimizer = optax.sgd(0.1)
    step = trainer.make_train_step(
      task.loss, optimizer, normalize=task.normalize, num_microbatches=n
    )
    return step(_state(optimizer), _batch(0), jax.random.key(0))

  small.assert_trees_close(step(n), step(1))


def test_every_microbatch_takes_every_nth_row():
  batch = jnp.arange(12).reshape(6, 2)
  slices = trainer._cut(batch, 3)
  np.testing.assert_array_equal(slices[1], [[2, 3], [8, 9]])
  assert slices.shape == (3, 2, 2)


def test_ema_equals_its_closed_form():
  seen = []
  state = _fit(
    Line(), None, 3, hooks=[lambda i, s, m: seen.append(s.params['line']['w'])]
  )
  # Two updates an iteration; replay them to have the parameters in between.
  optimizer = optax.adam(0.1)
  step = trainer.make_train_step(
    Line().loss, optimizer, normalize=Line().normalize
  )
  replay, history = _state(optimizer), []
  for i in range(3):
    for minibatch in Line().minibatches(_batch(i), jax.random.key(0)):
      replay, _ = step(replay, minibatch, jax.random.key(0))
      history.append(np.asarray(replay.params['line']['w'], np.float64))
  expected = 0.9**6 * np.zeros(3)
  for i, w in enumerate(history):
    expected += 0.1 * 0.9 ** (5 - i) * w
  np.testing.assert_allclose(state.ema['line']['w'], expected, rtol=1e-5)
  assert state.step == 6


def test_fit_calls_in_order_and_never_hands_out_a_key_twice():
  task, told, laps = Line(), [], []

  def hook(iteration, state, metrics):
    told.append((iteration, int(state.iteration), int(state.step)))
    lengths = {k: len(v) for k, v in metrics.items()}
    assert lengths['seen'] == 1 and lengths['loss/total'] == 2
    assert metrics['flops/train'] == [6 * 8 * 3]

  keys = []
  optimizer = optax.adam(0.1)
  jitted = trainer.make_train_step(
    task.loss, optimizer, normalize=task.normalize
  )

  def step(state, batch, key):
    keys.append(_bits(key))
    return jitted(state, batch, key)

  trainer.fit(
    _state(optimizer),
    task,
    step,
    _batches(0),
    num_iterations=3,
    key=jax.random.key(0),
    hooks=[hook],
    lap=laps.append,
  )
  assert laps == ['prepared'] * 3
  assert told == [(1, 1, 2), (2, 2, 4), (3, 3, 6)]
  assert [c[0] for c in task.calls] == ['prepare', 'minibatches'] * 3
  assert [c[1] for c in task.calls[::2]] == [0, 1, 2]
  keys += [c[-1] for c in task.calls]
  # Nor may one be derived from another by what tasks derive keys with.
  derived = [
    _bits(jax.random.fold_in(jax.random.wrap_key_data(jnp.uint32(key)), i))
    for key in keys
    for i in range(4)
  ]
  assert len(set(keys + derived)) == len(keys) * 5


def test_interrupted_equals_uninterrupted_to_the_bit():
  whole = _fit(Line(), None, 5)
  stopped = _fit(Line(), None, 5, should_stop=iter([False, True]).__next__)
  assert stopped.iteration == 2
  resumed = _fit(Line(), stopped, 5)
  jax.tree.map(np.testing.assert_array_equal, resumed, whole)
  assert resumed.iteration == 5 and resumed.step == 10


def test_what_a_task_adapts_arrives_in_the_extras():
  state = _fit(Line(), None, 2)
  expected = _batch(0)['x'].sum() + _batch(1)['x'].sum()
  np.testing.assert_allclose(state.extras['total'], expected, rtol=1e-5)


def test_every_runs_at_multiples_and_at_the_last():
  def runs(n, last):
    seen = []
    hook = trainer.every(n, lambda i, s, m: seen.append(i), last=last)
    for iteration in range(1, 8):
      hook(iteration, None, {})
    return seen

  assert runs(3, None) == [3, 6]
  assert runs(3, 7) == [3, 6, 7]
  assert runs(1, 7) == [1, 2, 3, 4, 5, 6, 7]
  assert runs(0, 7) == []


def _sft():
  task = sft.SFT({'policy': small.CONFIG})
  return task, {'policy': small.policy()}, lambda i: small.language_rows(8, i)


def _reward_model():
  task = reward_model.RewardModel({'policy': small.CONFIG})
  start = {'policy': small.policy()}
  return task, start, lambda i: small.comparison_rows(8, i)


def _ppo():
  models = {'policy': small.CONFIG, 'reward_model': small.CONFIG}
  task = ppo.PPO(
    models,
    eos_id=small.EOS,
    pad_id=small.PAD,
    num_minibatches=2,
    inner_epochs=2,
    max_response_length=small.R,
    kl_target=1.0,
    rollout_batch_size=4,
  )
  start = {'policy': small.policy(), 'reward_model': small.reward_model()}
  return task, start, lambda i: small.ppo_rows(8, seed=i)


@pytest.mark.parametrize('make', [_sft, _reward_model, _ppo])
def test_nothing_compiles_after_the_first_iteration(make):
  """Of the step, of `prepare` and of what lies between them."""
  task, start, batch = make()
  state = small.state(task, *task.init(jax.random.key(0), start))
  step = small.train_step(task)
  compiled, counts = [], []

  def listen(event, duration, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      compiled.append(duration)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    state = trainer.fit(
      state,
      task,
      step,
      (jax.device_put(batch(i)) for i in range(4)),
      num_iterations=4,
      key=jax.random.key(0),
      hooks=[lambda i, s, m: counts.append(len(compiled))],
    )
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert counts[0] > 0 and counts == counts[:1] * 4
  assert step._cache_size() == 1
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
