"""Learning rates at their key points, and what each optimiser may touch."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from instructjax import optim
from tests import small


def test_constant_stays():
  rate = optim.schedule('constant', 3e-4, total_steps=100)
  np.testing.assert_allclose([rate(0), rate(50), rate(1000)], 3e-4)


def test_cosine_falls_to_a_tenth_and_stays_there():
  rate = optim.schedule('cosine', 2.0, total_steps=100)
  points = [float(rate(step)) for step in (0, 50, 100, 150)]
  np.testing.assert_allclose(points, [2.0, 1.1, 0.2, 0.2], rtol=1e-6)
  quarter = 0.2 + 1.8 * (1 + np.cos(np.pi / 4)) / 2
  np.testing.assert_allclose(rate(25), quarter, rtol=1e-6)


def test_warm_up_from_a_tenth_over_the_first_ten_iterations():
  """The paper's RL schedule: 10 of 500 iterations of 8 updates each."""
  rate = optim.schedule(
    'constant', 9e-6, total_steps=4000, warmup_steps=80, warmup_start=0.1
  )
  np.testing.assert_allclose(rate(0), 9e-7, rtol=1e-6)
  np.testing.assert_allclose(rate(40), 9e-6 * 0.55, rtol=1e-6)
  np.testing.assert_allclose([rate(80), rate(4000)], 9e-6, rtol=1e-6)
  rises = np.diff([rate(step) for step in range(81)])
  np.testing.assert_allclose(rises, 9e-6 * 0.9 / 80, rtol=1e-3)


def test_warm_up_counts_within_the_total():
  rate = optim.schedule(
    'cosine', 1.0, total_steps=100, warmup_steps=20, final_fraction=0.25
  )
  points = [float(rate(step)) for step in (0, 10, 20, 60, 100)]
  np.testing.assert_allclose(points, [0, 0.5, 1, 0.625, 0.25], atol=1e-6)


def test_unknown_schedule():
  with pytest.raises(ValueError, match="'linear' is not one of"):
    optim.schedule('linear', 1.0, total_steps=1)


def _constant(rate):
  return optim.schedule('constant', rate, total_steps=1)


def _update(optimizer, params, grads):
  @jax.jit
  def run(params, grads):
    return optimizer.update(grads, optimizer.init(params), params)[0]

  return run(params, grads)


def test_first_adam_update_is_the_rate_times_the_sign():
  """Bias correction undoes both moments' start at zero."""
  params = {'kernel': jnp.array([1.0, 2.0, 3.0])}
  grads = {'kernel': jnp.array([0.3, -0.1, 0.2])}
  updates = _update(optim.adam(_constant(0.01)), params, grads)
  np.testing.assert_allclose(updates['kernel'], [-0.01, 0.01, -0.01], rtol=1e-5)


def test_adam_by_hand():
  b1, b2, rate = 0.9, 0.95, 0.01
  optimizer = optim.adam(_constant(rate), max_grad_norm=0)
  params = {'kernel': jnp.zeros(())}
  state = optimizer.init(params)
  m = v = 0.0
  for t, g in enumerate([3.0, -1.0, 0.5], start=1):
    updates, state = optimizer.update({'kernel': jnp.float32(g)}, state, params)
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
    expected = -rate * m_hat / (np.sqrt(v_hat) + 1e-8)
    np.testing.assert_allclose(updates['kernel'], expected, rtol=1e-5)


def test_clipping_is_by_the_global_norm_before_the_moments():
  params = {'kernel': jnp.zeros(2)}

  def first_moment(norm):
    optimizer = optim.adam(_constant(1.0), b1=0.5, max_grad_norm=norm)
    state = optimizer.init(params)
    _, state = optimizer.update(
      {'kernel': jnp.array([3.0, 4.0])}, state, params
    )
    adam = next(s for s in state if hasattr(s, 'mu'))
    return adam.mu['kernel']

  np.testing.assert_allclose(first_moment(1.0), [0.3, 0.4], rtol=1e-6)
  np.testing.assert_allclose(first_moment(10.0), [1.5, 2.0], rtol=1e-6)
  np.testing.assert_allclose(first_moment(0.0), [1.5, 2.0], rtol=1e-6)


def test_weights_decay_and_nothing_else():
  """Stacked layers have an axis more, and biases of heads have several."""
  params = small.reward_model()
  grads = jax.tree.map(jnp.zeros_like, params)
  optimizer = optim.adam(_constant(0.5), weight_decay=0.1)
  updates = _update(optimizer, params, grads)

  def check(path, update, param):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    decays = name.endswith(('kernel', 'tokens', 'positions'))
    expected = -0.5 * 0.1 * param if decays else jnp.zeros_like(param)
    np.testing.assert_allclose(update, expected, rtol=1e-6, err_msg=name)
    return decays

  decayed = jax.tree.leaves(
    jax.tree_util.tree_map_with_path(check, updates, params)
  )
  # Two embeddings, four products a block, one head; the rest stays.
  assert sum(decayed) == 7 and len(decayed) == 18


def test_muon_turns_the_layers_matrices_and_leaves_the_rest_to_adam():
  params = small.reward_model()
  draw = np.random.default_rng(0)
  grads = jax.tree.map(
    lambda x: jnp.asarray(draw.normal(size=x.shape), jnp.float32), params
  )
  rate = 0.5
  moved = _update(optim.muon(_constant(rate), max_grad_norm=0), params, grads)
  adam = optax.nadam(rate, b2=0.95)
  rest = dict(jax.tree_util.tree_leaves_with_path(_update(adam, params, grads)))
  kernels = 0
  for path, update in jax.tree_util.tree_leaves_with_path(moved):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if 'layers' not in name or not name.endswith('kernel'):
      np.testing.assert_allclose(update, rest[path], rtol=1e-5, err_msg=name)
      continue
    kernels += 1
    if update.ndim == 5:  # [L, D, 3, H, head_dim]: three matrices a layer
      update = jnp.moveaxis(update, 2, 1).reshape(-1, small.D, small.D)
    values = np.linalg.svd(update, compute_uv=False)
    values /= rate * 0.2 * np.sqrt(max(update.shape[1:]))
    # A few steps of Newton and Schulz lift all but the smallest.
    assert np.mean(values > 0.6) > 0.9 and values.max() < 1.3, name
    # One matrix with all thirds would not have each of them orthogonal.
    assert len(values) == small.CONFIG.num_layers * (3 if 'qkv' in name else 1)
  assert kernels == 4


def test_muon_lets_weights_decay_as_adam_does():
  params = small.reward_model()
  grads = jax.tree.map(jnp.zeros_like, params)
  rate = _constant(0.5)
  for decay in 0.0, 0.1:
    expected = _update(optim.adam(rate, weight_decay=decay), params, grads)
    found = _update(optim.muon(rate, weight_decay=decay), params, grads)
    chex.assert_trees_all_close(found, expected, rtol=1e-6)


def test_moments_kept_in_bfloat16_move_parameters_as_in_float32():
  rate = optim.schedule('constant', 0.1, total_steps=1)
  grads = [{'kernel': jnp.asarray([g, -1.0, 2.0])} for g in (0.5, 0.25, -1.0)]
  params = {'kernel': jnp.zeros(3)}
  found = {}
  for dtype in ('float32', 'bfloat16'):
    optimizer = optim.stored_as(dtype, optim.adam(rate))
    state = optimizer.init(params)
    for g in grads:
      updates, state = optimizer.update(g, state, params)
    moments = [x for x in jax.tree.leaves(state) if x.ndim]
    assert {x.dtype for x in moments} == {jnp.dtype(dtype)}
    assert updates['kernel'].dtype == jnp.float32
    found[dtype] = updates['kernel']
  np.testing.assert_allclose(found['bfloat16'], found['float32'], rtol=0.02)
  assert not np.array_equal(found['bfloat16'], found['float32'])


def test_networks_are_clipped_and_moved_each_on_its_own():
  params = {name: {'kernel': jnp.ones(4)} for name in ('policy', 'value')}
  grads = {
    'policy': {'kernel': jnp.full(4, 0.01)},
    'value': {'kernel': jnp.full(4, 1e6)},
  }
  optimizer = optim.per_network(
    {
      'policy': optim.adam(_constant(0.1)),
      'value': optim.adam(_constant(0.2)),
    }
  )
  state = optimizer.init(params)
  updates, state = optimizer.update(grads, state, params)
  np.testing.assert_allclose(updates['policy']['kernel'], -0.1, rtol=1e-4)
  np.testing.assert_allclose(updates['value']['kernel'], -0.2, rtol=1e-4)
  # One norm for both would have shrunk the policy's gradient to 1e-8.
  moments = {
    name: next(s for s in state[name] if hasattr(s, 'mu')).mu['kernel']
    for name in params
  }
  np.testing.assert_allclose(moments['policy'], 0.1 * 0.01, rtol=1e-5)
  np.testing.assert_allclose(moments['value'], 0.1 * 0.5, rtol=1e-5)


def test_each_network_alone_gives_what_both_together_give():
  rng = np.random.default_rng(0)
  params = {
    name: {'kernel': jnp.asarray(rng.normal(size=4), jnp.float32)}
    for name in ('policy', 'value')
  }
  grads = jax.tree.map(lambda x: 3 * x, params)
  adams = {
    'policy': optim.adam(_constant(0.1)),
    'value': optim.adam(_constant(1)),
  }
  together = _update(optim.per_network(adams), params, grads)
  for name in params:
    alone = _update(adams[name], params[name], grads[name])
    np.testing.assert_array_equal(together[name]['kernel'], alone['kernel'])
