"""A run's folder: what is there, what may go on, and loading models from it.

DIR/tokenizer.model
DIR/<stage>/config.json      resolved; a started stage keeps its config
           /data.json        what was read, dropped and truncated
           /metrics.jsonl, samples.jsonl, tensorboard/
           /checkpoints/, frozen/
           /epochs/001/ ...  models by epoch, where the config asks for them
           /model/ ...       what the stage hands on (orbax_io.save_model)
           /summary.json     its last numbers; there when it is finished
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

import jax

from instructjax import config as config_lib
from instructjax import errors
from instructjax import sharding
from instructjax.checkpoints import orbax_io
from instructjax.models import config as model_config
from instructjax.models import heads
from instructjax.models import transformer

Plain = dict[str, Any]


def open_folder(root: pathlib.Path) -> None:
  """Makes the run's folder; raises UserError if it cannot be written to."""
  try:
    root.mkdir(parents=True, exist_ok=True)
    probe = root / f'.probe.{os.getpid()}'
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise errors.UserError(
      f'--workdir={root} needs to be a folder that can be written to'
      f' ({error.strerror}): choose another.'
    ) from error


def finished(root: pathlib.Path, stage: str) -> bool:
  """Whether a stage has handed on its result."""
  return (root / stage / 'summary.json').exists()


def claim(root: pathlib.Path, config: Plain) -> Plain:
  """Settles the config of a stage with what its folder says.

  The first run of a stage writes `config.json`, with alternatives such as
  'rl_init|sft' replaced by the stage that was chosen; later runs must ask for
  the same.

  Returns:
    The config, alternatives settled.

  Raises:
    UserError: if the stage was started with another config; it names the
      first key that differs.
  """
  folder = root / config['stage']
  path = folder / 'config.json'
  old = json.loads(path.read_text()) if path.exists() else None
  chosen = {}
  for role, value in config['init_from'].items():
    options = value.split('|')
    before = old['init_from'].get(role) if old else None
    there = [name for name in options if finished(root, name)]
    chosen[role] = before if before in options else (*there, options[-1])[0]
  config = json.loads(json.dumps(config | {'init_from': chosen}))
  if old is None:
    folder.mkdir(parents=True, exist_ok=True)
    orbax_io.write_json(path, config)
  else:
    difference = config_lib.first_difference(old, config)
    if difference:
      raise errors.UserError(
        f'{folder} was started with another config, {difference}: give the old'
        ' value to go on, or another --workdir to start afresh.'
      )
  return config


def is_path(value: str) -> bool:
  """Whether an init_from value is a folder rather than a stage's name."""
  return '/' in value or pathlib.Path(value).is_dir()


def model_folder(root: pathlib.Path, value: str) -> pathlib.Path:
  """Returns the model folder that an init_from value means."""
  folder = pathlib.Path(value) if is_path(value) else root / value / 'model'
  if not folder.exists():
    raise errors.UserError(
      f'config.init_from: there is no folder {folder}. Give the name of a'
      ' stage or a model folder such as RUN/sft/model.'
    )
  nested = folder / 'model'
  if not (folder / 'model.json').exists() and nested.is_dir():
    return nested
  return folder


@dataclasses.dataclass(frozen=True)
class Start:
  """A model that a stage starts from.

  Attributes:
    folder: its model folder; None if it is to be drawn at random.
    config: its ModelConfig with the stage's dtype, remat and dropout.
    kind: 'policy' or 'reward'.
    description: what its model.json says.
  """

  folder: pathlib.Path | None
  config: model_config.ModelConfig
  kind: str
  description: Mapping[str, Any]

  def load(self, mesh: jax.sharding.Mesh) -> Any:
    """Reads the parameters to where the mesh wants them; None if drawn."""
    if self.folder is None:
      return None
    shapes = abstract_params(self.config, self.kind)
    target = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      shapes,
      sharding.shardings(shapes, mesh),
    )
    return orbax_io.load_params(self.folder, target)

  def abstract(self) -> Any:
    """Returns the parameters' shapes; None if they are to be drawn."""
    if self.folder is None:
      return None
    return abstract_params(self.config, self.kind)


def abstract_params(config: model_config.ModelConfig, kind: str) -> Any:
  """Returns the shapes of a policy's or a reward model's parameters."""
  key = jax.random.key(0)
  shapes = jax.eval_shape(functools.partial(transformer.init, config), key)
  if kind == 'policy':
    return shapes
  head = jax.eval_shape(
    lambda k: heads.init_scalar_head(k, config.d_model), key
  )
  return {'transformer': shapes, 'head': head}


def find_start(root: pathlib.Path, role: str, value: str, **options) -> Start:
  """Looks at the model folder of a role and checks that it fits.

  Args:
    root: the run's folder.
    role: 'policy' or 'reward_model'.
    value: of config.init_from.
    **options: ModelConfig fields of the stage (dtype, remat, dropout).

  Raises:
    UserError: if it is no model folder, or a model of another kind.
  """
  folder = model_folder(root, value)
  description = orbax_io.describe_model(folder)
  wanted = 'reward' if role == 'reward_model' else 'policy'
  if description['kind'] != wanted:
    raise errors.UserError(
      f'config.init_from.{role}={value} needs a {wanted} model, and {folder}'
      f' holds a {description["kind"]} model: name another stage or folder.'
    )
  config = model_config.ModelConfig.from_dict(description['config'])
  config = dataclasses.replace(config, **options)
  return Start(folder, config, wanted, description)
