"""Checkpoints of a run, and folders that hold one finished model, by orbax.

A checkpoint (`<stage>/checkpoints/<iteration>/`) is a whole training state
but for the frozen networks, which never change and are written once
(`<stage>/frozen/`). Writing is asynchronous and atomic: a folder bears its
final name only when it is complete.

A model folder holds `model.json` (architecture and what was measured of it),
`params/` and `tokenizer.model`; it is all that another stage, run or tool
needs.
"""

from __future__ import annotations

import json
import logging
import pathlib
import shutil
from typing import Any
import uuid

import jax
import orbax.checkpoint as ocp

from instructjax import errors

PyTree = Any
log = logging.getLogger('instructjax')
# Orbax narrates every save at INFO and WARNING; its errors reach us anyway.
logging.getLogger('absl').setLevel(logging.ERROR)


class Checkpointer:
  """Saves training states by iteration, and restores the newest good one.

  Args:
    folder: where checkpoints go; made if missing.
    keep: how many to keep.
  """

  def __init__(self, folder: pathlib.Path, *, keep: int = 2):
    self.folder = folder
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep, enable_async_checkpointing=True
    )
    self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

  def save(self, iteration: int, state: PyTree) -> None:
    """Starts writing; returns as soon as the state may be donated again."""
    if iteration not in self._manager.all_steps():
      self._manager.save(iteration, args=ocp.args.StandardSave(state))

  def restore(self, abstract: PyTree) -> PyTree | None:
    """Returns the newest state that can be read, or None if there is none.

    A checkpoint that cannot be read is set aside as `<iteration>.broken`, with
    a warning, and the one before it is tried.

    Args:
      abstract: jax.ShapeDtypeStructs with shardings, like the state.

    Raises:
      UserError: if there are checkpoints and none can be read.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    for step in steps:
      try:
        args = ocp.args.StandardRestore(abstract)
        return self._manager.restore(step, args=args)
      except Exception as error:  # orbax raises bare Exceptions, among others
        log.warning(
          'checkpoint %s cannot be read (%s); falling back to the one before.',
          self.folder / str(step),
          _first_line(error),
        )
        broken = self.folder / f'{step}.broken'
        shutil.rmtree(broken, ignore_errors=True)
        (self.folder / str(step)).rename(broken)
        self._manager.reload()
    if steps:
      raise errors.UserError(
        f'none of the checkpoints in {self.folder} can be read: they are kept'
        ' as *.broken; to start the stage afresh remove'
        f' {self.folder.parent}.'
      )
    return None

  def wait(self) -> None:
    """Returns when everything saved is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, and releases the threads."""
    self._manager.close()


def abstract(tree: PyTree) -> PyTree:
  """Shapes, types and shardings of arrays, as restoring needs them."""
  return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


def save_model(
  folder: pathlib.Path,
  params: PyTree,
  description: dict[str, Any],
  *,
  tokenizer: pathlib.Path,
) -> None:
  """Writes a model folder, atomically, over one that may be there.

  Args:
    folder: the model folder.
    params: the parameters.
    description: 'config' (ModelConfig.to_dict), 'kind' ('policy' or 'reward')
      and whatever was measured; anything JSON holds.
    tokenizer: path of the tokenizer's file.
  """
  folder = folder.absolute()
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = folder.parent / f'.{folder.name}.{uuid.uuid4().hex}'
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(temporary / 'params', params)
  shutil.copy(tokenizer, temporary / 'tokenizer.model')
  write_json(temporary / 'model.json', description)
  shutil.rmtree(folder, ignore_errors=True)
  temporary.rename(folder)


def describe_model(folder: pathlib.Path) -> dict[str, Any]:
  """Returns what `model.json` says.

  Raises:
    UserError: if the folder is not a model folder, or is damaged.
  """
  path = folder / 'model.json'
  if not path.exists():
    hint = ''
    if (folder / 'config.json').exists():
      hint = ' A Hugging Face folder must be converted first.'
    raise errors.UserError(
      f'{folder} is not a model folder: it has no model.json. Give the name'
      f' of a stage, or a folder such as RUN/sft/model.{hint}'
    )
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise errors.UserError(
      f'{path} is damaged ({error}): write the model again.'
    ) from error


def load_params(folder: pathlib.Path, target: PyTree) -> PyTree:
  """Reads a model folder's parameters.

  Args:
    folder: the model folder.
    target: jax.ShapeDtypeStructs with shardings, like the parameters.

  Raises:
    UserError: if they are damaged, or of other shapes.
  """
  path = folder.absolute() / 'params'
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      return checkpointer.restore(path, target)
  except Exception as error:  # orbax raises bare Exceptions, among others
    raise errors.UserError(
      f'{path} cannot be read ({_first_line(error)}): it is damaged or does'
      ' not fit its model.json; write the model again.'
    ) from error


def save_tree(folder: pathlib.Path, tree: PyTree) -> None:
  """Writes a pytree once; does nothing if the folder is there."""
  if not folder.exists():
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(folder.absolute(), tree)


def load_tree(folder: pathlib.Path, target: PyTree) -> PyTree:
  """Reads what save_tree wrote; raises UserError if it is damaged."""
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      return checkpointer.restore(folder.absolute(), target)
  except Exception as error:  # orbax raises bare Exceptions, among others
    raise errors.UserError(
      f'{folder} cannot be read ({_first_line(error)}): to start the stage'
      f' afresh remove {folder.parent}.'
    ) from error


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON so that a reader sees the old file or the new one."""
  temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}')
  temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + '\n')
  temporary.replace(path)


def _first_line(error: BaseException) -> str:
  line = (str(error).strip().splitlines() or [''])[0]
  return f'{type(error).__name__}: {line[:120]}'
