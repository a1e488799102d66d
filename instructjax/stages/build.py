"""From a stage's config to what trains it: data, task, optimiser, evaluators.

Each record kind and each task has one small function here; everything below
them takes plain arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
from typing import Any

import jax

from instructjax import devices
from instructjax import errors
from instructjax import optim
from instructjax import rewards
from instructjax import sharding
from instructjax import tasks
from instructjax.data import feeds as feeds_lib
from instructjax.data import loader
from instructjax.data import packing
from instructjax.data import streaming
from instructjax.data import vocabulary
from instructjax.models import attention
from instructjax.models import config as model_config
from instructjax.models import transformer

Plain = Mapping[str, Any]


@dataclasses.dataclass
class Data:
  """What a stage trains and is evaluated on.

  Attributes:
    source: batches by iteration.
    valid: {kind: validation rows}.
    epoch: iterations of a number of epochs; None where epochs mean nothing.
    tokens: token positions per iteration, padding included, for the rate.
    labelers: names behind the comparisons' labeler indices.
    unpacked: the training comparisons as rows of one each.
  """

  source: loader.Source
  valid: dict[str, feeds_lib.Rows]
  epoch: Callable[[float], int] | None
  tokens: int
  labelers: list[str] = dataclasses.field(default_factory=list)
  unpacked: feeds_lib.Rows = dataclasses.field(default_factory=dict)


def pretraining(config: Plain, feeds, tokenizer) -> Data:
  """Packed text."""
  length, size = config['sequence_length'], config['batch_size']
  train, valid = feeds.pretraining(tokenizer, length, config['max_eval_rows'])
  source = loader.Loader(
    _lanes(train, size, config['seed']), size, seed=config['seed']
  )
  return Data(
    source,
    {'pretraining': valid},
    source.iterations,
    tokens=size * length,
  )


def demonstrations(config: Plain, feeds, tokenizer) -> Data:
  """Prompts with responses; where asked, mixed with packed text."""
  lengths = config['max_prompt_length'], config['max_response_length']
  kind = config['train_on']
  train, valid = feeds.demonstrations(
    tokenizer, *lengths, config['loss_on'], kind
  )
  size, seed = config['batch_size'], config['seed']
  width = config['pack_to'] or sum(lengths)
  if config['pack_to']:
    train = loader.each(lambda x: packing.demonstrations(x, width), train)
  if config['pretraining_fraction']:
    text, _ = feeds.pretraining(tokenizer, width, config['max_eval_rows'])
    fraction = config['pretraining_fraction']
    finish = packing.text if config['pack_to'] else dict
    text = _lanes(text, math.ceil(fraction * size), seed + 1, finish)
    source = loader.Mixture(train, text, fraction, size, seed=seed)
  else:
    source = loader.Loader(train, size, seed=seed)
  found = {kind: valid}
  if feeds.spec('prompts') is not None and config['num_samples']:
    found['prompts'] = feeds.prompts(tokenizer, lengths[0])[1]
  return Data(
    source,
    found,
    source.iterations,
    tokens=size * width,
  )


def comparisons(config: Plain, feeds, tokenizer) -> Data:
  """Ranked responses, and the demonstrations that fix the reward's zero."""
  lengths = config['max_prompt_length'], config['max_response_length']
  train, valid, labelers = feeds.comparisons(
    tokenizer, *lengths, config['max_responses'], config['shuffle_pairs']
  )
  unpacked = loader.joined(train)
  width = lengths[0] + unpacked['mask'].shape[1] * lengths[1]
  if config['pack_to']:
    width = config['pack_to']
    train = loader.each(lambda x: packing.comparisons(x, width), train)
  size = config['batch_size']
  source = loader.Loader(train, size, seed=config['seed'])
  found = {'comparisons': valid}
  if feeds.spec('demonstrations') is not None:
    shown = feeds.demonstrations(tokenizer, *lengths)[0]
    found['demonstrations'] = loader.joined(shown)
  return Data(
    source,
    found,
    source.iterations,
    tokens=size * width,
    labelers=labelers,
    unpacked=unpacked,
  )


def prompts(config: Plain, feeds, tokenizer) -> Data:
  """Prompts to answer, and for PPO-ptx packed text beside them."""
  size, seed = config['batch_size'], config['seed']
  train, valid = feeds.prompts(tokenizer, config['max_prompt_length'])
  streams = {'prompts': loader.Loader(train, size, seed=seed)}
  found = {'prompts': valid}
  tokens = size * (
    config['max_prompt_length'] + config['hyper']['max_response_length']
  )
  if feeds.spec('pretraining') is not None:
    length = config['sequence_length']
    text, found['pretraining'] = feeds.pretraining(
      tokenizer, length, config['max_eval_rows']
    )
    if config['hyper']['ptx_coef']:
      rows = size * config['ptx_ratio']
      text = _lanes(text, rows, seed + 1)
      streams['ptx'] = loader.Loader(text, rows, seed=seed + 1)
      tokens += rows * length
  elif config['hyper']['ptx_coef']:
    feeds.records('pretraining')  # says what is missing
  source = loader.Joint(streams)
  epoch = streams['prompts'].iterations
  return Data(source, found, epoch, tokens=tokens)


def _lanes(
  text, rows: int, seed: int, finish=dict
) -> feeds_lib.Rows | loader.Endless | loader.Parts:
  """Returns text in the form for batches that hold so many rows of it."""
  if isinstance(text, loader.Parts):
    shares = [weight / sum(text.weights) for weight in text.weights]
    parts = [
      _lanes(part, math.ceil(share * rows), seed + 2 * i, finish)
      for i, (part, share) in enumerate(zip(text.rows, shares, strict=True))
    ]
    return loader.Parts(parts, text.weights)
  if isinstance(text, streaming.Text):
    return streaming.Lanes(text, rows, seed, finish)
  return finish(text)


DATA = {
  'pretraining': pretraining,
  'demonstrations': demonstrations,
  'public_tasks': demonstrations,
  'comparisons': comparisons,
  'prompts': prompts,
}


def data(config: Plain, feeds, tokenizer) -> Data:
  """Reads and encodes what a stage needs, as config.train_on says."""
  return DATA[config['train_on']](config, feeds, tokenizer)


def longest(config: Plain, feeds) -> int:
  """Returns the tokens of a stage's longest sequence."""
  if config.get('train_on') == 'pretraining':
    return config['sequence_length']
  response = config.get('hyper', config)['max_response_length']
  both = config['max_prompt_length'] + response
  if config.get('pretraining_fraction'):
    return max(both, config['pack_to'])
  if config['task'] == 'ppo' and feeds.spec('pretraining') is not None:
    return max(both, config['sequence_length'])
  return both


def model_options(config: Plain, mesh: jax.sharding.Mesh) -> dict[str, Any]:
  """Returns the ModelConfig fields that a stage decides, not its start.

  Args:
    config: of the stage.
    mesh: the devices that it runs on, or is compiled for.

  Raises:
    UserError: if the devices have not the kernel that is asked for.
  """
  device = mesh.devices.flat[0]
  fastest, kernel = attention.for_device(device), config['attention_kernel']
  if kernel not in ('auto', 'xla', fastest):
    needed = {'splash': 'a TPU', 'cudnn': 'an NVIDIA GPU, Ampere or later'}
    raise errors.UserError(
      f'config.attention_kernel={kernel} needs {needed[kernel]}, given'
      f' {device.device_kind}: use auto or xla.'
    )
  return {
    'dtype': compute_dtype(config, mesh),
    'remat': config['remat'],
    'attention_kernel': fastest if kernel == 'auto' else kernel,
    'dropout': config.get('dropout', 0.0),
    'mesh': mesh,
  }


def compute_dtype(config: Plain, mesh: jax.sharding.Mesh) -> str:
  """Returns config.dtype, 'auto' settled by the devices."""
  if config['dtype'] != 'auto':
    return config['dtype']
  return 'float32' if sharding.platform(mesh) == 'cpu' else 'bfloat16'


def drawn(
  config: Plain, role: str, vocab_size: int, mesh: jax.sharding.Mesh
) -> model_config.ModelConfig:
  """Returns the model that a stage draws at random, to start from nothing."""
  if 'model' not in config:
    raise errors.UserError(
      f'config.init_from.{role} is empty, and {config["stage"]} cannot start'
      ' from nothing: name a stage or a model folder.'
    )
  fields = config['model'] | {'vocab_size': vocab_size}
  return model_config.ModelConfig.from_dict(
    fields | model_options(config, mesh)
  )


def check_meshes(
  config: Plain,
  models: Mapping[str, model_config.ModelConfig],
  mesh: jax.sharding.Mesh,
) -> None:
  """Raises UserError if a model's weights cannot be split as config asks."""
  for role, model in models.items():
    shapes = jax.eval_shape(
      functools.partial(transformer.init, model), jax.random.key(0)
    )
    sharding.check_params(role, shapes, mesh)
    if config['task'] == 'ppo':
      sharding.check_params(role, shapes, mesh, frozen_axes(config))


def frozen_axes(config: Plain) -> tuple[str, ...]:
  """Returns the axes that split frozen models where `fsdp` splits others."""
  return tuple(name for name in config['frozen']['over'].split(',') if name)


def check_lengths(
  models: Mapping[str, model_config.ModelConfig], longest: int
) -> None:
  """Raises UserError if a model has fewer positions than the data needs."""
  for role, config in models.items():
    if longest > config.max_length:
      raise errors.UserError(
        f'sequences of up to {longest} tokens (prompt and response) need a'
        f' {role} with as many positions, and its max_length is'
        f' {config.max_length}: lower max_prompt_length, max_response_length,'
        ' sequence_length or pack_to.'
      )


def num_iterations(config: Plain, data: Data) -> int:
  """Returns the iterations of the whole stage."""
  if config['num_iterations']:
    return config['num_iterations']
  return data.epoch(config['num_epochs'])


def steps_per_iteration(config: Plain) -> int:
  """Returns the optimiser updates of one iteration."""
  hyper = config.get('hyper', {})
  return hyper.get('num_minibatches', 1) * hyper.get('inner_epochs', 1)


def amounts(config: Plain, data: Data, mesh) -> dict[str, float]:
  """Returns what clock.rates wants to know of an iteration."""
  inner_epochs = config.get('hyper', {}).get('inner_epochs', 1)
  return {
    'tokens': data.tokens,
    'train_tokens': data.tokens * inner_epochs,
    'peak_flops': devices.peak_flops(mesh.devices.flat),
  }


def check_batch(config: Plain, mesh: jax.sharding.Mesh) -> None:
  """Raises UserError unless the batch splits as the config asks."""
  parts = config.get('num_microbatches', 1)
  parts *= config.get('hyper', {}).get('num_minibatches', 1)
  name = f'{config["stage"]}: config.batch_size'
  sharding.check_batch(name, config['batch_size'], parts, mesh)
  chunk = config.get('hyper', {}).get('rollout_batch_size', 0)
  if chunk:
    name = f'{config["stage"]}: config.hyper.rollout_batch_size'
    sharding.check_batch(name, chunk, 1, mesh)


def task(
  config: Plain,
  models: Mapping[str, model_config.ModelConfig],
  tokenizer: vocabulary.Tokenizer,
):
  """Makes the task that config.task names."""
  options = dict(config.get('hyper', {}))
  if config['train_on'] == 'prompts':
    options |= {'eos_id': tokenizer.eos_id, 'pad_id': tokenizer.pad_id}
    options['score'] = score(config, models, tokenizer)
  return tasks.TASKS[config['task']](models, **options)


def score(config: Plain, models, tokenizer) -> rewards.Score:
  """Returns the score function: the Python rule, or the reward model's."""
  if config['reward_function']:
    function = rewards.load_function(config['reward_function'])
    return rewards.from_python(function, tokenizer.decode)
  return rewards.from_model(models['reward_model'])


def schedules(config: Plain, total_steps: int) -> dict[str, Any]:
  """Returns {network: learning rate against optimiser step}."""
  plan = config['schedule']
  return {
    network: optim.schedule(
      plan['kind'],
      peak,
      total_steps=math.ceil(total_steps * plan['decay_share']),
      warmup_steps=plan['warmup_iterations'] * steps_per_iteration(config),
      warmup_start=plan['warmup_start'],
      final_fraction=plan['final_fraction'],
    )
    for network, peak in config['learning_rate'].items()
  }


def optimizer(config: Plain, rates: Mapping[str, Any]):
  """Makes one optimiser per network."""
  make = optim.OPTIMIZERS[config.get('optimizer', 'adam')]
  return optim.per_network(
    {
      name: optim.stored_as(
        config['optimizer_dtype'], make(rate, **config['adam'])
      )
      for name, rate in rates.items()
    }
  )
