"""The one training loop and the one train step, for every task.

    for iteration, raw in loader.from_iteration(state.iteration):
      batch, metrics = task.prepare(state, raw, key, lap)
      for minibatch in task.minibatches(batch, key):
        state, more = train_step(state, minibatch, key)
      for hook in hooks: hook(iteration, state, metrics)

Nothing here knows what is learned: a task brings `prepare`, `minibatches`,
`normalize` and `loss` (tasks/base.py). All randomness is a function of (root
key, iteration, minibatch), and the data order of (seed, iteration), so a run
restored from any checkpoint continues to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from instructjax import clock

PyTree = Any
Metrics = dict[str, Any]
Hook = Callable[[int, 'TrainState', Metrics], None]


class TrainState(flax.struct.PyTreeNode):
  """All that changes in training, and what it is trained against.

  Attributes:
    step: i32[], optimiser updates so far.
    iteration: i32[], batches of data consumed so far (the data position).
    params: {network name: parameters} that are trained.
    frozen: {network name: parameters} that get no gradient.
    opt_state: of the optimiser, for `params`.
    ema: {network name: averaged parameters}, a part of `params`; may be {}.
    extras: what a task adapts besides parameters (the KL coefficient).
  """

  step: jax.Array
  iteration: jax.Array
  params: PyTree
  frozen: PyTree
  opt_state: PyTree
  ema: PyTree
  extras: PyTree


def init_state(
  params: PyTree,
  frozen: PyTree,
  optimizer: optax.GradientTransformation,
  *,
  extras: PyTree | None = None,
  ema_networks: Sequence[str] = (),
) -> TrainState:
  """Returns the state before the first update.

  Trained and averaged parameters are copied, because the train step donates
  its state and a buffer may be donated only once. Frozen ones are given away.
  """
  params = jax.tree.map(jnp.copy, params)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    iteration=jnp.zeros((), jnp.int32),
    params=params,
    frozen=frozen,
    opt_state=optimizer.init(params),
    ema={name: jax.tree.map(jnp.copy, params[name]) for name in ema_networks},
    extras=extras or {},
  )


def make_train_step(
  loss: Callable,
  optimizer: optax.GradientTransformation,
  *,
  normalize: Callable = lambda batch, key: batch,
  num_microbatches: int = 1,
  ema_decay: float = 0.0,
  out_shardings: TrainState | None = None,
) -> Callable:
  """Makes `train_step(state, batch, key) -> (state, metrics)`, jitted.

  Weights are normalised over the whole batch by `normalize` before it is cut
  into micro-batches, and losses and metrics are weighted sums; so the summed
  gradients do not depend on the cut, except by rounding.

  Args:
    loss: (params, frozen, batch, key) -> (f32[], {name: f32[]}), additive
      over the rows of a batch.
    optimizer: applied once per call to the summed gradients.
    normalize: (batch, key) -> batch, adds weights that sum to one.
    num_microbatches: slices the batch is processed in, one after another.
    ema_decay: e <- decay e + (1 - decay) p after each update, for the
      networks that `state.ema` holds.
    out_shardings: shardings of the returned state; None lets XLA choose.

  Returns:
    A jitted function that donates its state.
  """

  def train_step(state: TrainState, batch: PyTree, key: jax.Array):
    batch = normalize(batch, key)
    grads, metrics = accumulate_gradients(
      loss,
      state.params,
      state.frozen,
      batch,
      key,
      num_microbatches,
      places=out_shardings and out_shardings.params,
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    for name in grads:
      metrics[f'optim/grad_norm/{name}'] = optax.tree.norm(grads[name])
    ema = {
      name: optax.incremental_update(params[name], old, 1.0 - ema_decay)
      for name, old in state.ema.items()
    }
    state = state.replace(
      step=state.step + 1, params=params, opt_state=opt_state, ema=ema
    )
    return state, metrics

  shardings = {}
  if out_shardings is not None:
    shardings['out_shardings'] = (out_shardings, None)
  return jax.jit(train_step, donate_argnums=0, **shardings)


def accumulate_gradients(
  loss: Callable,
  params: PyTree,
  frozen: PyTree,
  batch: PyTree,
  key: jax.Array,
  num_microbatches: int,
  places: PyTree | None = None,
) -> tuple[PyTree, Metrics]:
  """Sums gradients and metrics of `loss` over slices of the batch.

  `places` are the shardings of `params`: gradients then lie there too, each
  device's sum as small as its part of the parameters.

  Returns:
    Gradients like `params`, and metrics with 'loss/total' added.
  """

  def one(microbatch):
    (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(
      params, frozen, microbatch, key
    )
    if places is not None:
      grads = jax.lax.with_sharding_constraint(grads, places)
    return grads, {'loss/total': value, **metrics}

  if num_microbatches == 1:
    return one(batch)

  def body(total, microbatch):
    return jax.tree.map(jnp.add, total, one(microbatch)), None

  slices = jax.tree.map(lambda x: _cut(x, num_microbatches), batch)
  shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], slices))
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  if places is not None:
    zeros = jax.lax.with_sharding_constraint(zeros[0], places), zeros[1]
  return jax.lax.scan(body, zeros, slices)[0]


def _cut(x: jax.Array, n: int) -> jax.Array:
  """[B, ...] to [n, B / n, ...]; each slice takes every n-th row, so that
  rows stay on the device that holds them."""
  rows = x.reshape(x.shape[0] // n, n, *x.shape[1:])
  return jnp.swapaxes(rows, 0, 1)


def fit(
  state: TrainState,
  task: Any,
  train_step: Callable,
  batches: Iterable[PyTree],
  *,
  num_iterations: int,
  key: jax.Array,
  hooks: Sequence[Hook] = (),
  should_stop: Callable[[], bool] = lambda: False,
  lap: clock.Lap = clock.no_lap,
) -> TrainState:
  """Trains from `state.iteration` to `num_iterations`, or until told to stop.

  Metrics reach the hooks as device arrays, several of a name where an
  iteration has several minibatches, as {name: [f32[], ...]}: converting them
  waits for the device, which only a hook that needs the numbers should do.

  Args:
    state: where to start; donated.
    task: see tasks/base.py.
    train_step: from make_train_step.
    batches: raw batches, the first one for `state.iteration`.
    num_iterations: of the whole run, those already done included.
    key: root key of the run.
    hooks: called with (iterations done, state, metrics) after each iteration.
    should_stop: asked after each iteration's hooks.
    lap: of a clock.Clock, for tasks whose iterations have several phases.

  Returns:
    The state after the last iteration that was run.
  """
  start = int(state.iteration)
  count_flops = jax.jit(task.flops)
  source = iter(batches)
  for iteration in range(start, num_iterations):
    # No two uses share a key: fold_in and split derive from the same counter.
    prepare_key, order_key, steps_key = jax.random.split(
      jax.random.fold_in(key, iteration), 3
    )
    batch, prepared = task.prepare(state, next(source), prepare_key, lap)
    metrics = {name: [value] for name, value in prepared.items()}
    for phase, flops in count_flops(batch).items():
      metrics[f'flops/{phase}'] = [flops]
    for i, minibatch in enumerate(task.minibatches(batch, order_key)):
      step_key = jax.random.fold_in(steps_key, i)
      state, more = train_step(state, minibatch, step_key)
      for name, value in more.items():
        metrics.setdefault(name, []).append(value)
    state = state.replace(
      iteration=state.iteration + 1,
      extras=task.adapt(state.extras, prepared),
    )
    for hook in hooks:
      hook(iteration + 1, state, metrics)
    if should_stop():
      break
  return state


def every(n: int, hook: Hook, *, last: int | None = None) -> Hook:
  """Runs `hook` at every n-th iteration, and at iteration `last`; 0 = never."""

  def at(iteration: int, state: TrainState, metrics: Metrics) -> None:
    if n and (iteration % n == 0 or iteration == last):
      hook(iteration, state, metrics)

  return at
