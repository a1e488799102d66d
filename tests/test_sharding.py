"""Meshes, where arrays go, and that a layout changes no result."""

from __future__ import annotations

import functools
import json

import jax
import numpy as np
import pytest

from instructjax import errors
from instructjax import optim
from instructjax import sharding
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
  assert specs[f'{layer}/qkv/bias'] == P(None, None, 'tensor', None)
  assert specs[f'{layer}/attention_output/kernel'] == P(None, 'tensor', 'fsdp')
  assert specs[f'{layer}/mlp_input/kernel'] == P(None, 'fsdp', 'tensor')
  assert specs[f'{layer}/mlp_input/bias'] == P(None, 'tensor')
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


def test_sizes_that_do_not_divide_stay_whole():
  # 32 columns and 4 heads: neither splits by 3; 64 does not by 5.
  specs = _specs(small.policy(), _mesh(fsdp=3, tensor=5))
  assert all(set(spec) <= {None} for spec in specs.values())
  specs = _specs(small.policy(), _mesh(fsdp=3, tensor=4))
  assert specs['layers/mlp_input/kernel'] == P(None, None, 'tensor')


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
  assert len(reports) == 12
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
    rows = {'data': 8, 'fsdp': 8, 'tensor': 2}[layout]
    assert report['batch_share'] == 1 / rows, name
    share = {'data': 1.0, 'fsdp': 0.2, 'tensor': 0.35}[layout]
    assert report['parameter_share'] <= share, name
    assert not report['moved'] and not report['recompiled'], name
