"""Trains a step of every task on 8 devices, laid out in several ways.

Run by test_sharding.py in a process of its own, as the number of devices is
settled when JAX starts. Prints one JSON object: how far the layouts are from
one device.
"""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np

from instructjax import sharding
from instructjax import trainer
from instructjax.data import packing
from instructjax.tasks import ppo
from instructjax.tasks import reward_model
from instructjax.tasks import sft
from tests import small

MESHES = {
  'data': {'data': 8},
  'fsdp': {'data': 1, 'fsdp': 8},
  'tensor': {'data': 2, 'tensor': 4},
  'all': {'data': 2, 'fsdp': 2, 'tensor': 2},
}
ROWS = 16
# One layer, as 32 programs are compiled; it is stacked like any other number.
CONFIG = dataclasses.replace(small.CONFIG, num_layers=1)
# Responses continue their prompt's cache in a scan over layers.
DEEP = dataclasses.replace(small.CONFIG, num_layers=8, remat='full')


def _sft(config):
  config = dataclasses.replace(config, dropout=0.2)
  return sft.SFT({'policy': config}), small.language_rows(ROWS), 2


def _reward_model(config):
  task = reward_model.RewardModel({'policy': config})
  return task, small.comparison_rows(ROWS), 2


def _packed(config):
  """The reward model on rows of several prompts."""
  packed = packing.comparisons(small.comparison_rows(6 * ROWS), 60)
  task = reward_model.RewardModel({'policy': config})
  return task, {name: rows[:ROWS] for name, rows in packed.items()}, 2


def _ppo(config):
  task = ppo.PPO(
    {'policy': config, 'reward_model': config},
    eos_id=small.EOS,
    pad_id=small.PAD,
    num_minibatches=2,
    max_response_length=small.R,
    kl_target=1.0,
    rollout_batch_size=ROWS,
  )
  return task, small.ppo_rows(2 * ROWS), 1


# Each makes (task, batch, number of micro-batches) for a model.
TASKS = {
  'sft': _sft,
  'reward_model': _reward_model,
  'packed': _packed,
  'ppo': _ppo,
}


def _policy(config, seed):
  """Parameters of as many layers as the config has, two of which differ."""
  params = small.policy(seed)
  which = np.arange(config.num_layers) % small.CONFIG.num_layers
  return params | {'layers': jax.tree.map(lambda x: x[which], params['layers'])}


def iterate(make, mesh=None):
  """Runs two iterations; returns what the first gave and how it lay."""
  config = DEEP if make is _reward_model else CONFIG
  config = dataclasses.replace(config, mesh=mesh)
  task, batch, num_microbatches = make(config)
  reward = small.reward_model() | {'transformer': _policy(config, 1)}
  start = {'policy': _policy(config, 0), 'reward_model': reward}
  state = small.state(task, *task.init(jax.random.key(0), start))
  if mesh is None:
    places, batch = None, jax.device_put(batch)
  else:
    state = sharding.put(state, mesh)
    if mesh.shape['data'] < mesh.shape['fsdp'] * mesh.shape['tensor']:
      # Frozen models wait in the host, split over one axis more.
      places = sharding.shardings(
        state.frozen, mesh, over=('data', 'fsdp'), memory='pinned_host'
      )
      state = state.replace(frozen=jax.device_put(state.frozen, places))
    batch = sharding.put_batch(batch, mesh)
    places = jax.tree.map(lambda x: x.sharding, state)
  step = trainer.make_train_step(
    task.loss,
    small.optimizer(),
    normalize=task.normalize,
    num_microbatches=num_microbatches,
    ema_decay=0.9,
    out_shardings=places,
  )
  found, compiled = {}, []
  listen = _listener(compiled)
  for iteration in range(2):
    prepared, told = task.prepare(state, batch, jax.random.key(1))
    minibatch = next(iter(task.minibatches(prepared, jax.random.key(2))))
    state, metrics = step(state, minibatch, jax.random.key(3))
    state = state.replace(
      iteration=state.iteration + 1, extras=task.adapt(state.extras, told)
    )
    if not iteration:
      found = {
        'metrics': sharding.to_host(told | metrics),
        'gradients': sharding.to_host(state.opt_state[0]),
        'rollout': sharding.to_host(prepared) if 'episodes' in prepared else {},
      }
      found['batch_share'] = _share(minibatch)
      first_compiled = len(compiled)
  jax.monitoring.unregister_event_duration_listener(listen)
  found['recompiled'] = len(compiled) - first_compiled
  found['parameter_share'] = _share((state.params, state.frozen))
  found['moved'] = jax.tree.map(lambda x: x.sharding, state) != places
  return found


def _listener(compiled):
  def listen(event, duration, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      compiled.append(duration)

  jax.monitoring.register_event_duration_secs_listener(listen)
  return listen


def _share(tree):
  """The share of a tree's bytes that lies on the first device."""
  leaves = jax.tree.leaves(tree)
  mine = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
  return mine / sum(leaf.nbytes for leaf in leaves)


def distance(actual, expected):
  """The largest |a - e| / |e| of any leaf, in the Euclidean norm.

  A leaf whose sums cancel (a bias that the ranking loss ignores) has a norm of
  rounding alone; 1% of all leaves' norm stands in for it.
  """
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  pairs = [
    (np.asarray(a, np.float64), np.asarray(e, np.float64))
    for a, e in zip(
      jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
    )
  ]
  floor = 0.01 * np.linalg.norm([np.linalg.norm(e) for _, e in pairs])
  return max(
    np.linalg.norm(a - e) / max(np.linalg.norm(e), floor) for a, e in pairs
  )


def compare(found, alone):
  """What test_sharding.py asserts about."""
  report = {
    name: found[name]
    for name in ('batch_share', 'parameter_share', 'recompiled', 'moved')
  }
  report['loss'] = distance(
    found['metrics']['loss/total'], alone['metrics']['loss/total']
  )
  report['gradients'] = distance(found['gradients'], alone['gradients'])
  if found['rollout']:
    rows, expected = found['rollout']['episodes'], alone['rollout']['episodes']
    report['same_tokens'] = bool(
      np.array_equal(rows['responses'], expected['responses'])
    )
    report['logprobs'] = distance(rows['logprobs'], expected['logprobs'])
    report['returns'] = distance(rows['returns'], expected['returns'])
  return report


def main():
  assert jax.device_count() == 8
  reports = {}
  for name, make in TASKS.items():
    alone = iterate(make)
    # How rows are packed concerns no layout of its own.
    layouts = ['all'] if name == 'packed' else MESHES
    for layout in layouts:
      found = iterate(make, sharding.make_mesh(**MESHES[layout]))
      reports[f'{name} {layout}'] = compare(found, alone)
  print(json.dumps(reports))


if __name__ == '__main__':
  main()
