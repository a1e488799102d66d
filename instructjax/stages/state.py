"""A stage's training state: how it begins, its shapes, where its parts lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
import zlib

import jax
import optax

from instructjax import sharding
from instructjax import trainer
from instructjax.stages import build
from instructjax.tasks import base

Plain = Mapping[str, Any]
PyTree = Any
# What a forward pass rounds to the type it computes in when it reads it. Norms,
# biases and positions it reads in float32; they are small.
_ROUNDED = ('kernel', 'tokens')


def begin(
  config: Plain,
  task: base.Task,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  loaded: Mapping[str, PyTree],
  key: jax.Array,
) -> trainer.TrainState:
  """Returns the state before the first update; runs under jit.

  Args:
    config: the stage's.
    task: its task.
    optimizer: its optimiser.
    mesh: its devices.
    loaded: {role: parameters} of the models it starts from; None: drawn here.
    key: for what is drawn.
  """
  params, frozen = task.init(key, loaded)
  dtype = config['frozen']['dtype']
  if dtype == 'auto':
    dtype = build.compute_dtype(config, mesh)

  def keep(path, leaf):
    return leaf.astype(dtype) if path[-1].key in _ROUNDED else leaf

  return trainer.init_state(
    params,
    jax.tree_util.tree_map_with_path(keep, frozen),
    optimizer,
    extras=task.extras(),
    ema_networks=('policy',) if config.get('ema_decay') else (),
  )


def abstract(
  config: Plain,
  task: base.Task,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  shapes: Mapping[str, PyTree],
) -> trainer.TrainState:
  """Returns the state as jax.ShapeDtypeStructs with shardings.

  Args:
    config, task, optimizer, mesh: as of `begin`.
    shapes: of what `begin` is given as `loaded`.
  """
  key = jax.eval_shape(lambda: jax.random.key(0))
  state = jax.eval_shape(
    lambda loaded, key: begin(config, task, optimizer, mesh, loaded, key),
    shapes,
    key,
  )
  places = sharding.shardings(state, mesh)
  memory = 'pinned_host' if config['frozen']['offload'] else None
  places = places.replace(
    frozen=sharding.shardings(
      state.frozen, mesh, over=build.frozen_axes(config), memory=memory
    )
  )
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    state,
    places,
  )


def train_step(
  config: Plain,
  task: base.Task,
  optimizer: optax.GradientTransformation,
  state: trainer.TrainState,
) -> Callable:
  """Returns the stage's jitted step for a state, real or abstract."""
  return trainer.make_train_step(
    task.loss,
    optimizer,
    normalize=task.normalize,
    num_microbatches=config['num_microbatches'],
    ema_decay=config.get('ema_decay', 0.0),
    out_shardings=jax.tree.map(lambda x: x.sharding, state),
  )


def root_key(config: Plain) -> jax.Array:
  """A run's key: by seed and task, so that PPO and PPO-ptx share theirs."""
  key = jax.random.key(config['seed'])
  return jax.random.fold_in(key, zlib.crc32(config['task'].encode()) % 2**31)
