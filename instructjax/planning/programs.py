"""The programs that a stage runs on its devices, with the shapes they run on.

They are made by the code that training makes them with; only the arrays are
missing. Sizes that come from data are taken at the config's limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from instructjax import errors
from instructjax import sharding
from instructjax import stages
from instructjax import trainer
from instructjax.checkpoints import hf
from instructjax.models import transformer
from instructjax.planning import counts
from instructjax.sampling import decode
from instructjax.sampling import logprobs as logprobs_lib
from instructjax.stages import build
from instructjax.stages import check
from instructjax.stages import state as state_lib
from instructjax.stages import workdir

Plain = Mapping[str, Any]
Shapes = dict[str, Any]


class Program(NamedTuple):
  """One compiled function of an iteration.

  Attributes:
    name: of the program.
    function: jitted.
    args: jax.ShapeDtypeStructs with shardings.
    times: how often an iteration runs it.
    uses: parts of the state among its arguments (names of `buffers`).
    flops: of its matrix products on all devices, counted by hand for full
      rows (counts.py).
    loops: how often a loop runs whose end depends on the data: the most.
  """

  name: str
  function: Callable
  args: tuple
  times: int
  uses: tuple[str, ...]
  flops: float
  loops: int = 1


@dataclasses.dataclass(frozen=True)
class Stage:
  """A stage without its data.

  Attributes:
    config: its own, settled.
    mesh: its devices.
    models: {role: ModelConfig}.
    task: its task.
    state: abstract.
    step: the jitted train step.
    before: what keeps stages that come first from running there.
  """

  config: Plain
  mesh: jax.sharding.Mesh
  models: Mapping[str, Any]
  task: Any
  state: trainer.TrainState
  step: Callable
  before: tuple[str, ...]


class _Tokenizer(NamedTuple):
  """As much of a tokenizer as a program knows."""

  eos_id: int = 0
  pad_id: int = 1
  decode: Callable | None = None


def find_stage(config: Any, devices: Sequence[jax.Device]) -> Stage:
  """Returns the stage that a config trains, on these devices.

  Args:
    config: ConfigDict of the run.
    devices: of a topology.

  Raises:
    UserError: for a wrong config, or a task that trains nothing.
  """
  nowhere = pathlib.Path('plan-has-no-folder')
  configs = stages.plan(config, nowhere)
  found = {
    plain['stage']: (plain, mesh, models)
    for plain, mesh, models in check.with_models(nowhere, configs, devices)
  }
  if config.stage not in found or config.task not in check.TRAIN_ON:
    raise errors.UserError(
      f'needed a config that trains a model, given the task {config.task!r}:'
      ' plan configs/sft.py, reward_model.py or ppo_ptx.py.'
    )
  plain, mesh, models = found[config.stage]
  build.check_batch(plain, mesh)
  build.check_meshes(plain, models, mesh)
  build.check_lengths(models, build.longest(plain, _Feeds()))
  task = build.task(plain, models, _Tokenizer())
  optimizer = build.optimizer(plain, build.schedules(plain, 1_000))
  starts = workdir.roles(plain)
  shapes = {
    role: _start(role, starts[role], model) for role, model in models.items()
  }
  state = state_lib.abstract(plain, task, optimizer, mesh, shapes)
  step = state_lib.train_step(plain, task, optimizer, state)
  before = tuple(_troubles(found, config.stage))
  return Stage(plain, mesh, models, task, state, step, before)


def _troubles(found: Mapping[str, tuple], own: str) -> Iterator[str]:
  """Yields why stages that come before would be refused."""
  for name, (plain, mesh, models) in found.items():
    if name == own:
      continue
    try:
      build.check_batch(plain, mesh)
      build.check_meshes(plain, {k: v for k, v in models.items() if v}, mesh)
    except errors.UserError as error:
      yield str(error)


class _Feeds:
  """Says that there is text to mix in, as the paper's run has."""

  def spec(self, kind: str) -> str:
    """Returns that a kind of record is there."""
    return kind


def _start(role: str, value: str, model) -> Any:
  if not value:
    return None
  kind = 'reward' if role == 'reward_model' else 'policy'
  return hf.abstract_params(model, kind)


def find(stage: Stage) -> list[Program]:
  """Returns the programs of one iteration of a stage, in order."""
  config = stage.config
  if config['task'] == 'ppo':
    return _ppo(stage)
  rows = _on_devices(stage, ROWS[config['train_on']](config))
  args = (stage.state, rows, _key_like(stage))
  uses = _names(stage.state, ('params', 'opt_state', 'ema', 'frozen'))
  flops = counts.STEPS[config['task']](stage)
  return [Program('train_step', stage.step, args, 1, uses, flops)]


def _ppo(stage: Stage) -> list[Program]:
  """Rollout, scores, experience, and the updates."""
  task, state, size = stage.task, stage.state, stage.config['batch_size']
  chunk = _chunk(stage)
  times = -(-size // chunk)

  rows = _on_devices(stage, _prompt_rows(stage.config, chunk))
  key = _key_like(stage)
  keys = jax.eval_shape(lambda k: decode.row_keys(k, chunk), key)
  args = (state.params['policy'], rows, _struct(keys, key.sharding))
  found = [
    Program(
      'rollout',
      task.programs['rollout'],
      args,
      times,
      ('policy',),
      counts.rollout(stage, chunk),
      loops=task.hyper.max_response_length - 1,
    )
  ]
  told = jax.eval_shape(task.programs['rollout'], *args)
  rows |= _on_devices(stage, told)

  if 'reward_model' in state.frozen:
    judge = sharding.on_device(state.frozen['reward_model'])
    names = ('prompts', 'prompt_mask', 'responses', 'response_mask')
    args = (judge, *(rows[name] for name in names))
    flops = counts.score(stage, chunk)
    uses = ('reward_model',)
    found.append(Program('score', task.score, args, times, uses, flops))

  scores = {'scores': jax.ShapeDtypeStruct((chunk,), jnp.float32)}
  scores = _on_devices(stage, scores)['scores']
  frozen = sharding.on_device({'reference': state.frozen['reference']})
  args = (state.params, frozen, state.extras, rows, scores)
  function = task.programs['experience']
  # The policy only where it says itself how likely its answers were.
  exact = logprobs_lib.sampler_is_exact(stage.models['policy'])
  uses = ('value', 'reference', *(() if exact else ('policy',)))
  flops = counts.experience(stage, chunk)
  found.append(Program('experience', function, args, times, uses, flops))
  told = jax.eval_shape(function, *args)
  return [*found, _ppo_step(stage, told)]


def _ppo_step(stage: Stage, episodes: Shapes) -> Program:
  """One update, by a part of the episodes and its share of text."""
  config, hyper = stage.config, stage.task.hyper
  size = config['batch_size'] // hyper.num_minibatches
  episodes = {name: _resized(x, size) for name, x in episodes.items()}
  batch = {'episodes': _on_devices(stage, episodes), 'ptx': {}}
  if hyper.ptx_coef:
    rows = language_rows(size * config['ptx_ratio'], config['sequence_length'])
    batch['ptx'] = _on_devices(stage, rows)
  return Program(
    'train_step',
    stage.step,
    (stage.state, batch, _key_like(stage)),
    hyper.num_minibatches * hyper.inner_epochs,
    _names(stage.state, ('params', 'opt_state', 'ema', 'frozen')),
    counts.ppo_step(stage, size),
  )


def language_rows(n: int, length: int, packed: bool = False) -> Shapes:
  """Shapes of data.prompts' rows of text or demonstrations."""
  names = {'tokens': 'int32', 'mask': 'bool', 'loss_mask': 'bool'}
  if packed:
    names |= {'segments': 'int32', 'positions': 'int32'}
  return {k: jax.ShapeDtypeStruct((n, length), v) for k, v in names.items()}


def _pretraining(config: Plain) -> Shapes:
  return language_rows(config['batch_size'], config['sequence_length'])


def _demonstrations(config: Plain) -> Shapes:
  length = config['max_prompt_length'] + config['max_response_length']
  width = config['pack_to']
  return language_rows(config['batch_size'], width or length, bool(width))


def _comparisons(config: Plain) -> Shapes:
  n, k = config['batch_size'], config['max_responses']
  k = 2 if config['shuffle_pairs'] else k
  prompt, response = config['max_prompt_length'], config['max_response_length']
  shape = jax.ShapeDtypeStruct
  if not config['pack_to']:
    return _prompt_rows(config, n) | {
      'responses': shape((n, k, response), 'int32'),
      'response_mask': shape((n, k, response), 'bool'),
      'ranks': shape((n, k), 'int32'),
      'mask': shape((n, k), 'bool'),
      'labeler': shape((n,), 'int32'),
    }
  # How many comparisons a row holds is the data's; here half as long as they
  # may be.
  length = config['pack_to']
  count = max(1, 2 * length // (prompt + k * response))
  names = ('tokens', 'segments', 'prefixes', 'positions')
  return {name: shape((n, length), 'int32') for name in names} | {
    'token_mask': shape((n, length), 'bool'),
    'ends': shape((n, count, k), 'int32'),
    'ranks': shape((n, count, k), 'int32'),
    'mask': shape((n, count, k), 'bool'),
    'labeler': shape((n, count), 'int32'),
  }


ROWS = {
  'pretraining': _pretraining,
  'demonstrations': _demonstrations,
  'public_tasks': _demonstrations,
  'comparisons': _comparisons,
}


def _prompt_rows(config: Plain, n: int) -> Shapes:
  shape = (n, config['max_prompt_length'])
  return {
    'prompts': jax.ShapeDtypeStruct(shape, 'int32'),
    'prompt_mask': jax.ShapeDtypeStruct(shape, 'bool'),
  }


def _struct(x, place) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)


def _resized(x, n: int) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct((n, *x.shape[1:]), x.dtype)


def _on_devices(stage: Stage, rows: Shapes) -> Shapes:
  """Rows as a batch lies on the devices."""
  place = jax.sharding.NamedSharding(stage.mesh, sharding.BATCH)
  return {name: _struct(x, place) for name, x in rows.items()}


def _key_like(stage: Stage) -> jax.ShapeDtypeStruct:
  key = jax.eval_shape(lambda: jax.random.key(0))
  return _struct(key, jax.sharding.NamedSharding(stage.mesh, sharding.P()))


# What the parts of a state are called, in the order they are told.
_BUFFERS = {
  ('params', 'policy'): 'policy',
  ('params', 'value'): 'value',
  ('params', 'reward_model'): 'reward_model',
  ('frozen', 'reference'): 'reference',
  ('frozen', 'reward_model'): 'reward_model',
}


def _names(state: trainer.TrainState, fields: Sequence[str]) -> tuple[str, ...]:
  found = []
  for field in fields:
    if field in ('opt_state', 'ema'):
      found += ['optimiser' if field == 'opt_state' else 'ema']
    else:
      found += [_BUFFERS[field, network] for network in getattr(state, field)]
  return tuple(found)


def buffers(stage: Stage) -> dict[str, int]:
  """Returns the bytes of a device that each part of the state takes.

  The cache is that of a rollout, as long as it lasts. What waits in the memory
  of the host counts nothing.
  """
  state = stage.state
  parts = {
    _BUFFERS[field, network]: tree
    for field in ('params', 'frozen')
    for network, tree in getattr(state, field).items()
  }
  parts |= {'optimiser': state.opt_state, 'ema': state.ema}
  found = {name: bytes_per_device(tree) for name, tree in parts.items()}
  if stage.config['task'] == 'ppo':
    found['kv_cache'] = bytes_per_device(_cache(stage))
  return found


def _chunk(stage: Stage) -> int:
  """How many prompts are answered at a time."""
  size = stage.config['batch_size']
  return min(stage.task.hyper.rollout_batch_size or size, size)


def _cache(stage: Stage) -> list[jax.ShapeDtypeStruct]:
  model, hyper = stage.models['policy'], stage.task.hyper
  rows = _on_devices(stage, _prompt_rows(stage.config, _chunk(stage)))
  prompt = stage.config['max_prompt_length']
  _, cache = jax.eval_shape(
    lambda params, rows: transformer.prefill(
      model,
      params,
      rows['prompts'],
      rows['prompt_mask'],
      length=prompt + hyper.max_response_length - 1,
    ),
    stage.state.params['policy'],
    rows,
  )
  return [
    _struct(
      x,
      jax.sharding.NamedSharding(
        stage.mesh, sharding.spec_of('cache/keys', x.shape, stage.mesh)
      ),
    )
    for x in jax.tree.leaves((cache.keys, cache.values))
  ]


def bytes_per_device(tree: Any) -> int:
  """Returns the bytes of a device that arrays or shapes take."""
  total = 0
  for leaf in jax.tree.leaves(tree):
    if leaf.sharding.memory_kind == 'pinned_host':
      continue
    shard = leaf.sharding.shard_shape(leaf.shape)
    total += leaf.dtype.itemsize * math.prod(shard)
  return total
