"""A run's folder: what is there, what may go on, and loading models from it.

DIR/tokenizer.model          or tokenizer/, of a Hugging Face model
DIR/data.json                hashes of what was read (stages/integrity.py)
DIR/microworld/*.jsonl       records of a run that brings none
DIR/evaluation/              what its models answered (stages/measure.py)
DIR/<stage>/config.json      resolved; a started stage keeps its config
           /data.json        what was read, dropped and truncated
           /bad_rows.jsonl   rows that were skipped, if the config asks for it
           /metrics.jsonl, samples.jsonl, tensorboard/
           /checkpoints/, frozen/
           /epochs/001/ ...  models by epoch, where the config asks for them
           /model/ ...       what the stage hands on (orbax_io.save_model)
           /summary.json     its last numbers; there when it is finished
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
import dataclasses
import json
import logging
import os
import pathlib
from typing import Any

import jax

from instructjax import config as config_lib
from instructjax import errors
from instructjax import sharding
from instructjax.checkpoints import hf
from instructjax.checkpoints import hf_config
from instructjax.checkpoints import orbax_io
from instructjax.data import vocabulary
from instructjax.models import config as model_config

Plain = dict[str, Any]
log = logging.getLogger('instructjax')
# What may change in a started stage: no result depends on it, but for rounding.
_FREE = ('mesh', 'profile_steps')
_FREE_OF_DATA = ('on_bad_row', 'max_bad_share')


def open_folder(folder: pathlib.Path) -> None:
  """Makes a folder; raises UserError if it cannot be written to."""
  try:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f'.probe.{os.getpid()}'
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise errors.UserError(
      f'{folder} needs to be a folder that can be written to'
      f' ({error.strerror}): choose another --workdir.'
    ) from error


def finished(root: pathlib.Path, stage: str) -> bool:
  """Whether a stage has handed on its result."""
  return (root / stage / 'summary.json').exists()


def roles(config: Mapping[str, Any]) -> dict[str, str]:
  """Returns {role: init_from value} of the models a stage starts from."""
  return {
    role: value
    for role, value in config['init_from'].items()
    if role != 'reward_model' or not config.get('reward_function')
  }


def needed(root: pathlib.Path, config: Mapping[str, Any]) -> list[str]:
  """Returns the stages that must be finished before this one starts."""
  found = []
  for value in roles(config).values():
    options = [name for name in value.split('|') if name]
    there = [
      name for name in options if not is_path(name) and finished(root, name)
    ]
    if there:
      found.append(there[0])
    elif options and not is_path(options[-1]):
      found.append(options[-1])
  return found + names(config['needs'])


def names(text: str) -> list[str]:
  """Returns the stages of a comma-separated list."""
  return [name.strip() for name in text.split(',') if name.strip()]


def stage_config(root: pathlib.Path, stage: str) -> Plain | None:
  """Returns the config a stage was started with; None if it was not."""
  return _read(root / stage / 'config.json')


def read_data(root: pathlib.Path, stage: str) -> Plain:
  """Returns what a stage read when it was started; nothing if it was not."""
  return _read(root / stage / 'data.json') or {}


def _read(path: pathlib.Path) -> Plain | None:
  try:
    return json.loads(path.read_text()) if path.exists() else None
  except (OSError, ValueError) as error:
    raise errors.UserError(
      f'{path} is damaged ({error}): restore it from a backup, or remove'
      f' {path.parent} to start the stage afresh.'
    ) from error


def settle(root: pathlib.Path, config: Plain) -> Plain:
  """Settles the config of a stage with what its folder says.

  Alternatives such as 'rl_init|sft' are replaced by the stage that is there;
  a stage that was started keeps its choice.

  Returns:
    The config, alternatives settled, as JSON would give it back.

  Raises:
    UserError: if the stage was started with another config; it names the
      first key that differs.
  """
  old = stage_config(root, config['stage'])
  chosen = {}
  for role, value in config['init_from'].items():
    options = value.split('|')
    before = old['init_from'].get(role) if old else None
    there = [name for name in options if finished(root, name)]
    chosen[role] = before if before in options else (*there, options[-1])[0]
  config = json.loads(json.dumps(config | {'init_from': chosen}))
  difference = _difference(old, config) if old else None
  if difference:
    raise _changed(root, config['stage'], difference)
  return config


# Keys that a run of an older version goes on without: what it had in effect.
_LATER = {
  'attention_kernel': 'auto',
  'data': {
    'stream_above_bytes': 256 * 2**20,
    'tfds_dir': '',
  },
  'frozen': {'dtype': 'auto', 'over': 'fsdp', 'offload': False},
  'optimizer_dtype': 'float32',
}


def _difference(old: Plain, new: Plain) -> str | None:
  """The first key that differs, but for those that change no number; a field
  that models did not have then is what it is by default."""
  old, new = _held(old), _held(new)
  for key, later in _LATER.items():
    if isinstance(later, dict) and key in old:
      old |= {key: later | old[key]}
    elif key in new:
      old.setdefault(key, later)
  if old.get('model') and new.get('model'):
    known = model_config.with_defaults(old['model'])
    model = {
      k: v for k, v in known.items() if k in {*old['model'], *new['model']}
    }
    old = old | {'model': model}
  return config_lib.first_difference(old, new)


def _held(config: Plain) -> Plain:
  """What a stage has to keep of its config."""
  kept = {key: value for key, value in config.items() if key not in _FREE}
  if 'data' in kept:
    data = kept['data'].items()
    kept['data'] = {k: v for k, v in data if k not in _FREE_OF_DATA}
  return kept


def _changed(root, stage: str, difference: str) -> errors.UserError:
  return errors.UserError(
    f'{root / stage} was started with another config, {difference}: give the'
    ' old value to go on, or another --workdir to start afresh.'
  )


def accept(
  root: pathlib.Path, config: Plain, overridden: Collection[str]
) -> None:
  """Takes a finished stage as it is, if it can be a part of this run.

  It may have been trained with other settings than this run would; that is
  said, not refused.

  Raises:
    UserError: if it split its data otherwise (what it was trained on would
      stand in this run's validation), or if the command line sets a key of it
      to another value.
  """
  stage = config['stage']
  old = stage_config(root, stage)
  if old is None:
    return
  new = json.loads(json.dumps(config | {'init_from': old['init_from']}))
  keys = [key for key in overridden if key.startswith(f'stages.{stage}.')]
  keys = [key.removeprefix(f'stages.{stage}.') for key in keys]
  split = ('seed', 'data.validation_fraction', 'data.stream_above_bytes')
  for key in (*split, *keys):
    a, b = _pick(old, key), _pick(new, key)
    a = _pick(_LATER, key) if a is None else a
    if a != b:
      raise _changed(root, stage, f'{key}: {a!r} -> {b!r}')
  difference = _difference(old, new)
  if difference:
    log.info(
      '%s is taken as it was trained, with another config (%s).',
      stage,
      difference,
    )


def _pick(config: Any, key: str) -> Any:
  for name in key.split('.'):
    config = config.get(name) if isinstance(config, Mapping) else None
  return config


def write_config(root: pathlib.Path, config: Plain) -> None:
  """Writes down with which config a stage starts; it must keep it but for
  what is free to change."""
  folder = root / config['stage']
  open_folder(folder)
  old = stage_config(root, config['stage'])
  if old != config:  # in what is free to change
    orbax_io.write_json(folder / 'config.json', config)


def is_path(value: str) -> bool:
  """Whether an init_from value is a folder rather than a stage's name.

  A slash tells, not what lies in the current folder, where a data folder may
  well be called 'pretrain'.
  """
  return '/' in value


def model_folder(root: pathlib.Path, value: str) -> pathlib.Path:
  """Returns the model folder that an init_from value means."""
  if is_path(value):
    return existing_folder(pathlib.Path(value))
  return existing_folder(root / value / 'model')


def existing_folder(folder: pathlib.Path) -> pathlib.Path:
  """Returns a model folder, also of a stage's; UserError if there is none."""
  if not folder.exists():
    raise errors.UserError(
      f'there is no model folder {folder}: give the name of a stage, or a'
      ' folder such as RUN/sft/model.'
    )
  nested = folder / 'model'
  if not (folder / 'model.json').exists() and nested.is_dir():
    return nested
  return folder


@dataclasses.dataclass(frozen=True)
class Start:
  """A model that a stage starts from.

  Attributes:
    folder: its model folder, ours or Hugging Face's; None if it is to be drawn
      at random.
    config: its ModelConfig with the stage's options (build.model_options).
    kind: 'policy' or 'reward'.
    description: what `describe` says of it.
  """

  folder: pathlib.Path | None
  config: model_config.ModelConfig
  kind: str
  description: Mapping[str, Any]

  def load(self, mesh: jax.sharding.Mesh, dtype: str = 'float32') -> Any:
    """Reads the parameters to where the mesh wants them; None if drawn."""
    if self.folder is None:
      return None
    if is_foreign(self.folder):
      return hf.load_pretrained(self.folder, dtype=dtype, sharding=mesh)[1]
    shapes = hf.abstract_params(self.config, self.kind)
    target = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, dtype, sharding=s),
      shapes,
      sharding.shardings(shapes, mesh),
    )
    return orbax_io.load_params(self.folder, target)

  def abstract(self) -> Any:
    """Returns the parameters' shapes; None if they are to be drawn."""
    if self.folder is None:
      return None
    return hf.abstract_params(self.config, self.kind)


def is_foreign(folder: pathlib.Path) -> bool:
  """Whether it is a Hugging Face folder rather than a model folder of ours."""
  return not (folder / 'model.json').exists() and hf_config.is_folder(folder)


def describe(folder: pathlib.Path) -> Mapping[str, Any]:
  """Returns what a model folder says of its model: 'config', 'kind' and more.

  Raises:
    UserError: if it is no model folder, damaged, or of a Hugging Face model
      that is not supported.
  """
  if is_foreign(folder):
    found = hf_config.describe(folder)
    return {
      'config': found.config.to_dict(),
      'kind': found.kind,
      'family': found.family.model_type,
    }
  description = orbax_io.describe_model(folder)
  if not vocabulary.find(folder):
    raise errors.UserError(
      f'{folder} is damaged: it has no {vocabulary.FILE}; write the model'
      ' again.'
    )
  return description


def family(starts: Mapping[str, Start]) -> dict[str, str]:
  """Returns {'family'} for a model's description if it came from such files."""
  found = [start.description.get('family') for start in starts.values()]
  return {'family': found[0]} if found and found[0] else {}


def check_vocabulary(
  folder: pathlib.Path, size: int, tokenizer: vocabulary.Tokenizer
) -> None:
  """Raises UserError if text has ids that the folder's model does not know.

  A model may know more ids; and a tokenizer may have special tokens that stand
  for pictures and the like, which no text becomes.
  """
  if tokenizer.text_size > size:
    raise errors.UserError(
      f'{folder} has a tokenizer that writes {tokenizer.text_size} ids, and its'
      f' model knows {size}: give the tokenizer that it was trained with.'
    )


def load_tokenizer(folder: pathlib.Path) -> vocabulary.Tokenizer:
  """Reads the tokenizer of a model folder or of a run, which has one."""
  if is_foreign(folder):
    return vocabulary.load(folder)
  return vocabulary.load(vocabulary.find(folder))


def find_start(root: pathlib.Path, role: str, value: str, **options) -> Start:
  """Looks at the model folder of a role and checks that it fits.

  Args:
    root: the run's folder.
    role: 'policy' or 'reward_model'.
    value: of config.init_from.
    **options: ModelConfig fields of the stage (build.model_options).

  Raises:
    UserError: if it is no model folder, or a model of another kind.
  """
  start = look_at(model_folder(root, value))
  check_kind(role, start.kind, str(start.folder))
  config = dataclasses.replace(start.config, **options)
  return dataclasses.replace(start, config=config)


def look_at(folder: pathlib.Path) -> Start:
  """Looks at a model folder of any kind; raises UserError if it is none."""
  description = describe(folder)
  config = model_config.ModelConfig.from_dict(description['config'])
  return Start(folder, config, description['kind'], description)


def check_kind(role: str, kind: str, where: str) -> None:
  """Raises UserError unless a model of this kind can take the role."""
  wanted = 'reward' if role == 'reward_model' else 'policy'
  if kind != wanted:
    raise errors.UserError(
      f'needed a {wanted} model as init_from.{role}, and {where} holds a'
      f' {kind} model: name another stage or folder.'
    )
