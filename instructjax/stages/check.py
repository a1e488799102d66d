"""What can be told before anything trains: whether a run can work at all.

A wrong key of the last stage, or a broken line in the file it reads, should
not be found after days of pretraining. So every stage that is going to run is
looked at first: its values, its records, and the models it starts from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import importlib.util
import pathlib
from typing import Any

import jax

from instructjax import errors
from instructjax import optim
from instructjax import rewards
from instructjax import sharding
from instructjax import tasks
from instructjax.data import feeds as feeds_lib
from instructjax.data import prompts
from instructjax.data import records
from instructjax.data import vocabulary
from instructjax.models import config as model_config
from instructjax.stages import build
from instructjax.stages import microworld
from instructjax.stages import profile
from instructjax.stages import workdir
from instructjax.tasks import ppo

Plain = Mapping[str, Any]

TRAIN_ON = {
  'sft': ('pretraining', 'demonstrations', 'public_tasks'),
  'reward_model': ('comparisons',),
  'ppo': ('prompts',),
}
CHOICES = {
  'task': (*tasks.TASKS, *microworld.WRITES),
  'train_on': tuple(build.DATA),
  'loss_on': prompts.LOSS_ON,
  'select_by': ('reward_model', 'validation_loss', 'last'),
  'schedule.kind': ('cosine', 'constant'),
  'optimizer': tuple(optim.OPTIMIZERS),
  'optimizer_dtype': model_config.DTYPES,
  'frozen.dtype': ('auto', *model_config.DTYPES),
  'frozen.over': ('fsdp', 'data,fsdp', ''),
  'attention_kernel': ('auto', 'xla', 'cudnn', 'splash'),
  'data.on_bad_row': ('refuse', 'skip'),
  'hyper.missing_eos': ppo.MISSING_EOS,
}
# What a stage hands on, if not a policy.
KIND = {'reward_model': 'reward', 'collect': 'record'}
LEAST = {
  'seed': 0,
  'num_iterations': 0,
  'num_microbatches': 1,
  'max_prompt_length': 2,
  'max_response_length': 1,
  'min_responses': 2,
  'max_responses': 2,
  'base_share': 0.0,
  'pack_to': 0,
  'sequence_length': 2,
  'ptx_ratio': 1,
  'log_every_iterations': 0,
  'eval_every_iterations': 0,
  'checkpoint_every_iterations': 0,
  'sample_every_iterations': 0,
  'num_samples': 0,
  'max_eval_rows': 1,
  'keep_checkpoints': 1,
  'data.max_bad_share': 0.0,
  'hyper.max_response_length': 1,
  'hyper.num_minibatches': 1,
  'hyper.inner_epochs': 1,
  'hyper.rollout_batch_size': 0,
  'hyper.temperature': 1e-3,
  'hyper.kl_horizon': 1.0,
}


def stages(
  root: pathlib.Path, configs: Sequence[Plain], feeds: feeds_lib.Feeds
) -> None:
  """Raises UserError if one of the stages to run, in order, cannot.

  Args:
    root: the run's folder.
    configs: of the stages, from stages.plan.
    feeds: the run's records.
  """
  for config, mesh, models in with_models(root, configs):
    build.check_batch(config, mesh)
    known = {role: model for role, model in models.items() if model}
    build.check_lengths(known, build.longest(config, feeds))
    build.check_meshes(config, known, mesh)
  tokenized = bool(vocabulary.find(root))
  for config in configs:
    tokenized |= any(map(workdir.is_path, workdir.roles(config).values()))
    for kind in _kinds(config, feeds, tokenized):
      if kind not in feeds.pending:
        feeds.check(kind)


def with_models(
  root: pathlib.Path,
  configs: Sequence[Plain],
  devices: Sequence[jax.Device] | None = None,
) -> Iterator[tuple[Plain, jax.sharding.Mesh, dict[str, Any]]]:
  """Yields each stage that has models: its settled config, mesh and models.

  Args:
    root: the run's folder.
    configs: of the stages, in order.
    devices: to lay out; None: all there are.

  Yields:
    The models by role as ModelConfig; None where that cannot be known yet.

  Raises:
    UserError: for a value or a mesh that cannot be.
  """
  made: dict[str, tuple[str, model_config.ModelConfig | None]] = {}
  for config in configs:
    values(config)
    mesh = sharding.make_mesh(**config['mesh'], devices=devices)
    if config['task'] == 'microworld':
      continue
    config = workdir.settle(root, dict(config))
    models = _models(root, config, made, mesh)
    made[config['stage']] = KIND.get(config['task'], 'policy'), models['policy']
    yield config, mesh, models


def values(config: Plain) -> None:
  """Raises UserError for a value that no stage of its kind can have."""
  flat = _flat(config)
  for key, choices in CHOICES.items():
    value = flat.get(key, choices[0])
    if value not in choices:
      raise errors.UserError(
        f'{_name(config, key)}={value!r} is not one of {", ".join(choices)}.'
        f'{errors.nearest(str(value), choices)}'
      )
  for key, least in LEAST.items():
    value = flat.get(key, least)
    if not value >= least:
      raise errors.UserError(
        f'{_name(config, key)}={value} must be at least {least}: raise it.'
      )
  profile.parse(config['profile_steps'])
  if config['task'] in TRAIN_ON:
    _training_values(config)
  if config['task'] in microworld.WRITES:
    _making_values(config)
  if config['wandb_project'] and not importlib.util.find_spec('wandb'):
    raise errors.UserError(
      'config.wandb_project needs the wandb package: pip install'
      " 'instructjax[wandb]', or leave it empty."
    )


def _training_values(config: Plain) -> None:
  """Raises UserError for what no stage that trains can have."""
  fitting = TRAIN_ON[config['task']]
  if config['train_on'] not in fitting:
    raise errors.UserError(
      f'{_name(config, "train_on")}={config["train_on"]} does not fit'
      f' task={config["task"]}, which needs {" or ".join(fitting)}.'
    )
  if not config['num_iterations'] and config['num_epochs'] <= 0:
    raise errors.UserError(
      f'{_name(config, "num_iterations")} or num_epochs must be more than 0.'
    )
  if config['train_on'] in ('demonstrations', 'public_tasks'):
    longest = config['max_prompt_length'] + config['max_response_length']
    if 0 < config['pack_to'] < longest:
      raise errors.UserError(
        f'{_name(config, "pack_to")}={config["pack_to"]} is less than'
        f' max_prompt_length + max_response_length={longest}: use {longest} or'
        ' more, or 0 for rows of one demonstration each.'
      )
  if config.get('reward_function'):
    rewards.load_function(config['reward_function'])


def _making_values(config: Plain) -> None:
  """Raises UserError for what no stage that makes records can have."""
  for key, value in config.get('world', {}).items():
    least = 2 if key.endswith('labelers') else 1  # two can agree
    if value < least:
      raise errors.UserError(
        f'{_name(config, f"world.{key}")}={value} must be at least {least}:'
        ' raise it.'
      )
  if config.get('base_share', 0.0) > 1:
    raise errors.UserError(
      f'{_name(config, "base_share")}={config["base_share"]} must be at most 1:'
      ' lower it.'
    )
  least = config.get('min_responses', 0)
  most = config.get('max_responses', 0)
  if not least <= most <= records.MAX_RESPONSES:
    raise errors.UserError(
      f'{_name(config, "min_responses")}={least} and max_responses={most} must'
      f' be in this order and at most {records.MAX_RESPONSES}: change them.'
    )


def _flat(config: Plain, path: str = '') -> dict[str, Any]:
  flat = {}
  for key, value in config.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f'{path}{key}.')
    else:
      flat[f'{path}{key}'] = value
  return flat


def _name(config: Plain, key: str) -> str:
  return f'{config["stage"]}: config.{key}'


def _models(
  root, config, made, mesh
) -> dict[str, model_config.ModelConfig | None]:
  """The models a stage will start from; None where that cannot be known yet.

  Raises:
    UserError: for a model of another kind than its role needs.
  """
  options = build.model_options(config, mesh)
  found = {}
  for role, value in workdir.roles(config).items():
    if not value:
      size = config['tokenizer']['vocab_size']
      found[role] = build.drawn(config, role, size, mesh)
    elif value in made:
      kind, model = made[value]
      found[role] = model and dataclasses.replace(model, **options)
      workdir.check_kind(role, kind, f'stage {value}')
    elif workdir.is_path(value) or (root / value / 'model').exists():
      found[role] = workdir.find_start(root, role, value, **options).config
    else:
      found[role] = None
  return found


def _kinds(config: Plain, feeds, tokenized: bool) -> list[str]:
  """The kinds of record that a stage is going to read."""
  if config['task'] in microworld.WRITES:
    return []
  kinds, optional = [config['train_on']], []
  if config.get('pretraining_fraction') or config.get('hyper', {}).get(
    'ptx_coef'
  ):
    kinds.append('pretraining')
  answered = config['train_on'] in ('demonstrations', 'public_tasks')
  if answered and config['num_samples']:
    optional.append('prompts')
  if config['train_on'] == 'comparisons':
    optional.append('demonstrations')
  if config['train_on'] == 'prompts':
    optional.append('pretraining')
  if not tokenized:
    kinds.append('pretraining')  # the tokenizer is trained on these two
    optional.append('demonstrations')
  kinds += [kind for kind in optional if feeds.spec(kind) is not None]
  return list(dict.fromkeys(kinds))
