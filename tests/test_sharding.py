"""Meshes, where arrays go, and that a layout changes no result."""

from __future__ import annotations

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest

from instructjax import errors
from instructjax import optim
from instructjax import sharding
from instructjax import trainer
from instructjax.checkpoints import hf
from instructjax.models import config as model_config
from instructjax.models import transformer
from instructjax.tasks import ppo
from tests import small

P = jax.sharding.PartitionSpec


def _mesh(**sizes):
  """A mesh of any size, to ask for specs: no array is put on it."""
  shape = tuple(sizes.get(axis, 1) for axis in sharding.AXES)
  return jax.sharding.AbstractMesh(shape, sharding.AXES)


def _specs(tree, mesh):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): place.spec
    for path, place in jax.tree_util.tree_leaves_with_path(
      sharding.shardings(tree, mesh)
    )
  }


def test_mesh_takes_what_is_left():
  count = jax.device_count()
  mesh = sharding.make_mesh()
  assert dict(mesh.shape) == {'data': count, 'fsdp': 1, 'tensor': 1}
  mesh = sharding.make_mesh(data=1, fsdp=-1)
  assert dict(mesh.shape) == {'data': 1, 'fsdp': count, 'tensor': 1}
  assert mesh.axis_types == (jax.sharding.AxisType.Auto,) * 3


@pytest.mark.parametrize(
  'sizes',
  [
    {'data': 3, 'fsdp': 5},
    {'data': -1, 'fsdp': -1},
    {'data': -1, 'tensor': 7},
    {'data': 0},
    {'data': -2},
    {'data': -1, 'fsdp': 0},
  ],
)
def test_sizes_that_do_not_multiply_to_the_devices(sizes):
  with pytest.raises(errors.UserError) as raised:
    sharding.make_mesh(**sizes)
  message = str(raised.value)
  for name, size in sizes.items():
    assert f'{name}={size}' in message
  assert 'must multiply to' in message and '\n' not in message


def test_batches_that_do_not_divide():
  mesh = _mesh(data=4, fsdp=2, tensor=2)
  sharding.check_batch('batch_size', 48, 2, mesh)
  with pytest.raises(errors.UserError) as raised:
    sharding.check_batch('batch_size', 40, 2, mesh)
  assert str(raised.value) == (
    'batch_size=40 must divide by 16 (2 minibatches and micro-batches x 8'
    ' devices on the data and fsdp axes): use 48.'
  )
  with pytest.raises(errors.UserError, match='use 16'):
    sharding.check_batch('batch_size', 0, 2, mesh)
  with pytest.raises(errors.UserError, match='use 8'):
    sharding.check_batch('batch_size', -8, 1, mesh)


def test_every_weight_finds_its_rule():
  specs = _specs(small.reward_model(), _mesh(fsdp=4, tensor=2))
  layer = 'transformer/layers'
  assert specs['transformer/embedding/tokens'] == P('tensor', 'fsdp')
  assert specs['transformer/embedding/positions'] == P(None, 'fsdp')
  assert specs[f'{layer}/qkv/kernel'] == P(None, 'fsdp', None, 'tensor', None)
  assert specs[f'{layer}/qkv/bias'] == P(None, None, 'tensor', 'fsdp')
  assert specs[f'{layer}/attention_output/kernel'] == P(None, 'tensor', 'fsdp')
  assert specs[f'{layer}/mlp_input/kernel'] == P(None, 'fsdp', 'tensor')
  assert specs[f'{layer}/mlp_input/bias'] == P(None, ('tensor', 'fsdp'))
  assert specs[f'{layer}/mlp_output/kernel'] == P(None, 'tensor', 'fsdp')
  whole = {name for name, spec in specs.items() if spec == P()}
  assert whole == {
    'head/bias',
    'head/kernel',
    'transformer/final_norm/bias',
    'transformer/final_norm/scale',
    *(
      f'{layer}/{norm}_norm/{x}'
      for norm in ('attention', 'mlp')
      for x in ('bias', 'scale')
    ),
    *(f'{layer}/{product}_output/bias' for product in ('attention', 'mlp')),
  }


def test_queries_that_share_keys_have_weights_of_their_own():
  config = dataclasses.replace(small.CONFIG, num_kv_heads=2)
  init = functools.partial(transformer.init, config)
  params = jax.eval_shape(init, jax.random.key(0))
  specs = _specs(params, _mesh(fsdp=4, tensor=2))
  assert specs['layers/q/kernel'] == P(None, 'fsdp', 'tensor', None)
  assert specs['layers/q/bias'] == P(None, 'tensor', 'fsdp')


@pytest.mark.parametrize('make', optim.OPTIMIZERS.values())
def test_moments_lie_where_their_parameters_lie(make):
  mesh = _mesh(fsdp=4, tensor=2)
  params = {'policy': small.policy()}
  rate = optim.schedule('constant', 0.1, total_steps=1)
  moments = optim.per_network({'policy': make(rate)}).init(params)
  expected = _specs(params['policy'], mesh)
  found = [
    (name, spec)
    for name, spec in _specs(moments, mesh).items()
    if name.endswith(tuple(expected))
  ]
  for name, spec in found:
    (own,) = {expected[own] for own in expected if name.endswith(own)}
    assert spec == own, name
  # Two moments of each under Adam; Muon has one of its four matrices.
  matrices = 4 if make is optim.muon else 0
  assert len(found) == 2 * len(expected) - matrices


def test_muon_moves_split_matrices_as_it_moves_whole_ones():
  params = small.policy()
  grads = small.policy(seed=1)
  rate = optim.schedule('constant', 0.1, total_steps=1)
  optimizer = optim.muon(rate)

  @jax.jit
  def step(params, grads, state):
    return optimizer.update(grads, state, params)

  whole = step(params, grads, optimizer.init(params))
  mesh = sharding.make_mesh(data=1, fsdp=-1)
  put = functools.partial(sharding.put, mesh=mesh)
  split = step(put(params), put(grads), put(optimizer.init(params)))
  small.assert_trees_close(split, whole, 1e-5)


def test_sizes_that_do_not_divide_are_refused_with_what_would_fit():
  # 32 columns and 4 heads: neither splits by 3.
  with pytest.raises(errors.UserError) as raised:
    sharding.check_params('policy', small.policy(), _mesh(fsdp=3))
  assert str(raised.value) == (
    'mesh.fsdp=3 must divide 32, a size of embedding/positions [11, 32] of the'
    ' policy: 1, 2 would fit.'
  )
  with pytest.raises(errors.UserError, match='mesh.tensor=8 must divide 4,'):
    sharding.check_params('policy', small.policy(), _mesh(tensor=8))
  with pytest.raises(errors.UserError, match='mesh.data=2 x mesh.fsdp=64'):
    sharding.check_params(
      'policy', small.policy(), _mesh(data=2, fsdp=64), ('data', 'fsdp')
    )
  for sizes in ({}, {'fsdp': 8}, {'tensor': 4}, {'fsdp': 4, 'tensor': 2}):
    sharding.check_params('policy', small.policy(), _mesh(**sizes))


def test_a_vocabulary_that_does_not_divide_leaves_its_columns_to_be_split():
  shapes = {'embedding': {'tokens': jax.ShapeDtypeStruct((50257, 4096), 'f4')}}
  specs = _specs(shapes, _mesh(fsdp=4, tensor=2))
  assert specs['embedding/tokens'] == P(None, ('fsdp', 'tensor'))


@pytest.mark.parametrize(
  'sizes', [{'fsdp': 8}, {'fsdp': 64}, {'fsdp': 16, 'tensor': 4}]
)
def test_no_large_leaf_of_6b_is_whole_under_fsdp(sizes):
  """Of its parameters, moments, averages and frozen models."""
  mesh = _mesh(**sizes)
  config = model_config.preset('6B')
  task = ppo.PPO({'policy': config, 'reward_model': config}, eos_id=0, pad_id=1)
  rate = optim.schedule('constant', 0.1, total_steps=1)
  adams = {name: optim.adam(rate) for name in ('policy', 'value')}

  def begin(start):
    networks = task.init(jax.random.key(0), start)
    return trainer.init_state(
      *networks, optim.per_network(adams), ema_networks=['policy']
    )

  start = {
    'policy': hf.abstract_params(config, 'policy'),
    'reward_model': hf.abstract_params(config, 'reward'),
  }
  state = jax.eval_shape(begin, start)
  whole = {
    (name, leaf.nbytes)
    for (name, spec), leaf in zip(
      _specs(state, mesh).items(), jax.tree.leaves(state), strict=True
    )
    if leaf.size * 4 > 2**20 and 'fsdp' not in str(spec)
  }
  assert not whole


def test_frozen_models_may_lie_otherwise():
  mesh = _mesh(data=2, fsdp=2, tensor=2)

  def kernel(**options):
    tree = {'layers': {'mlp_input': {'kernel': np.zeros((2, 8, 8))}}}
    (place,) = jax.tree.leaves(sharding.shardings(tree, mesh, **options))
    return place

  assert kernel().spec == P(None, 'fsdp', 'tensor')
  assert kernel(over=('data', 'fsdp')).spec == P(
    None, ('data', 'fsdp'), 'tensor'
  )
  assert kernel(over=()).spec == P(None, None, 'tensor')


def test_activations_follow_the_table_where_they_divide():
  mesh = _mesh(data=2, fsdp=2, tensor=2)

  def spec(name, *shape):
    return sharding.spec_of(f'activation/{name}', shape, mesh)

  rows = ('data', 'fsdp')
  assert spec('residual', 8, 6, 32) == P(rows, 'tensor', None)
  assert spec('residual', 8, 5, 32) == P(rows, None, None)
  assert spec('residual', 2, 6, 32) == P(None, 'tensor', None)
  assert spec('step', 8, 1, 32) == P('data', None, 'fsdp')
  assert spec('read', 8, 6, 32) == P(rows, None, None)
  assert spec('mask', 8, 1, 6, 6) == P(rows, None, None, None)
  assert spec('wide', 8, 6, 64) == P(rows, None, 'tensor')
  assert spec('wide_step', 8, 1, 64) == P('data', None, 'tensor')
  assert spec('heads', 8, 4, 6, 8) == P(rows, 'tensor', None, None)
  assert sharding.spec_of('cache/keys', (3, 8, 4, 6, 8), mesh) == P(
    None, rows, 'tensor', None, None
  )


def test_rows_and_host_copies_round_trip():
  mesh = sharding.make_mesh()
  batch = small.language_rows(8 * jax.device_count())
  placed = sharding.put_batch(batch, mesh)
  assert placed['tokens'].sharding.spec == sharding.BATCH
  back = sharding.to_host(placed)
  assert all(type(x) is np.ndarray for x in back.values())
  jax.tree.map(np.testing.assert_array_equal, back, batch)


def test_eight_devices_equal_one(run_python):
  """A step of each task on each layout; one process measures them all."""
  # Compiled in a hurry: what is compared is how work is shared out.
  hurry = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
  run = run_python(
    ['-m', 'tests.sharded_steps'], devices=8, env=hurry, timeout=900
  )
  reports = json.loads(run.stdout)
  assert len(reports) == 13
  for name, report in reports.items():
    task, layout = name.split()
    assert report['loss'] < 1e-5, name
    assert report['gradients'] < 1e-5, name
    if task == 'ppo':
      assert report['same_tokens'], name
      assert report['logprobs'] < 1e-5, name
      assert report['returns'] < 1e-5, name
    # Each device has its share of the work and of the parameters (but for
    # norms and some biases, hardly any of a real model) and keeps it.
    rows = {'data': 8, 'fsdp': 8, 'tensor': 2, 'all': 4}[layout]
    assert report['batch_share'] == 1 / rows, name
    share = {'data': 1.0, 'fsdp': 0.2, 'tensor': 0.35, 'all': 0.3}[layout]
    assert report['parameter_share'] <= share, name
    assert not report['moved'] and not report['recompiled'], name
