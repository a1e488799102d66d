"""What a task brings to the trainer, and sensible defaults for most of it.

A new algorithm subclasses `Task`, gives `init`, `loss` and `exports`, and
overrides whatever else differs from plain supervised training. Batches are
dicts of arrays whose leading axis counts rows.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any

import jax

from instructjax import clock
from instructjax.models import config as model_config

PyTree = Any
Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Model:
  """An architecture with its parameters."""

  config: model_config.ModelConfig
  params: PyTree


class Task(abc.ABC):
  """One kind of training; see trainer.fit for when each method runs.

  Tasks are built from `models`, the ModelConfig of every role they start
  from; they hold no arrays.
  """

  @abc.abstractmethod
  def init(
    self, key: jax.Array, start: Mapping[str, PyTree]
  ) -> tuple[PyTree, PyTree]:
    """Returns what is trained and what is kept frozen.

    Args:
      key: for parameters that are new.
      start: {role: parameters}, the roles of `models`; None where a model is
        to be drawn at random.

    Returns:
      ({network: params} to train, {network: params} without gradient).
    """

  def extras(self) -> PyTree:
    """Returns what adapts besides parameters, as arrays."""
    return {}

  def prepare(
    self,
    state: Any,
    batch: Batch,
    key: jax.Array,
    lap: clock.Lap = clock.no_lap,
  ) -> tuple[Batch, Metrics]:
    """Turns a raw batch into a training batch: PPO's rollouts and scores.

    What takes time of its own here ends with lap(phase, arrays to wait for)
    and begins with lap('train', state.params), the updates before.
    """
    del state, key, lap
    return batch, {}

  def flops(self, batch: Batch) -> Metrics:
    """Returns {phase: f32[]}, the model FLOPs of an iteration; runs under jit.

    Of tokens that count, not of padding (models/flops.py). Empty, as it is by
    default, there is no perf/mfu.

    Args:
      batch: as `prepare` returned it.
    """
    del batch
    return {}

  def minibatches(self, batch: Batch, key: jax.Array) -> Iterator[Batch]:
    """Yields what each optimiser step sees; the whole batch, once."""
    del key
    yield batch

  def normalize(self, batch: Batch, key: jax.Array) -> Batch:
    """Adds weights that sum to one over the minibatch; runs under jit."""
    del key
    return batch

  @abc.abstractmethod
  def loss(
    self, params: PyTree, frozen: PyTree, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    """Returns f32[] and metrics, both sums over the batch's rows; pure."""

  def adapt(self, extras: PyTree, metrics: Metrics) -> PyTree:
    """Returns the extras of the next iteration from `prepare`'s metrics."""
    del metrics
    return extras

  @abc.abstractmethod
  def exports(self, state: Any) -> dict[str, Model]:
    """Returns {folder name: model} to hand on; 'model' is the result."""
