"""Checkpoints of a run, and folders that hold one finished model, by orbax.

A checkpoint (`<stage>/checkpoints/<iteration>/`) is a whole training state
but for the frozen networks, which never change and are written once
(`<stage>/frozen/`). Writing is asynchronous and atomic: a folder bears its
final name only when it is complete.

A model folder holds `model.json` (architecture and what was measured of it),
`params/` and the tokenizer, a file or a folder; it is all that another stage,
run or tool needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import gc
import io
import json
import logging
import math
import pathlib
import shutil
import sys
import time
from typing import Any

import jax
import orbax.checkpoint as ocp

from instructjax import distributed
from instructjax import errors

PyTree = Any
log = logging.getLogger('instructjax')
# Orbax narrates every save; what goes wrong reaches us as an exception.
logging.getLogger('absl').setLevel(logging.CRITICAL + 1)


class _Manager(ocp.CheckpointManager):
  """Orbax's, that leaves preemption to us: JAX can be asked by one only."""

  def reached_preemption(self, step: int) -> bool:
    del step
    return False


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
    self._manager = _Manager(folder.absolute(), options=options)

  def save(self, iteration: int, state: PyTree) -> None:
    """Starts writing; returns as soon as the state may be donated again."""
    if iteration not in self._manager.all_steps():
      self._manager.save(iteration, args=ocp.args.StandardSave(state))

  def restore(self, abstract: PyTree) -> PyTree | None:
    """Returns the newest state that can be read, or None if there is none.

    The checkpoints that cannot be read and are newer than it are set aside as
    `<iteration>.broken`, with a warning: their iterations run again.

    Args:
      abstract: jax.ShapeDtypeStructs with shardings, like the state.

    Raises:
      UserError: if there are checkpoints and none can be read, or of several
        processes one cannot read the newest; nothing is changed then.
    """
    broken = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        state = self._restore(step, abstract)
      except _UnreadableError as error:
        if jax.process_count() > 1:  # others may have read their part of it
          raise errors.UserError(
            f'process {jax.process_index()} cannot read the checkpoint'
            f' {self.folder / str(step)} ({error}): rename it to {step}.broken'
            ' to go on from the one before.'
          ) from None
        broken[step] = str(error)
        continue
      self._set_aside(broken, step)
      return state
    if broken:
      step, reason = next(iter(broken.items()))
      raise errors.UserError(
        f'none of the checkpoints in {self.folder} can be read ({step}:'
        f' {reason}): restore one from a backup, or remove'
        f' {self.folder.parent} to start the stage afresh.'
      )
    return None

  def _restore(self, step: int, abstract: PyTree) -> PyTree:
    args = ocp.args.StandardRestore(abstract)
    return _read(lambda: self._manager.restore(step, args=args))

  def _set_aside(self, broken: dict[int, str], good: int) -> None:
    for step, reason in broken.items():
      path = self.folder / str(step)
      log.warning(
        'checkpoint %s cannot be read (%s): going back to %d.',
        path,
        reason,
        good,
      )
      aside = self.folder / f'{step}.broken'
      shutil.rmtree(aside, ignore_errors=True)
      path.rename(aside)
    if broken:
      self._manager.reload()

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
    tokenizer: path of the tokenizer's file or folder, whose name it keeps.
  """
  folder = folder.absolute()
  folder.parent.mkdir(parents=True, exist_ok=True)
  temporary = _part(folder)
  distributed.on_primary(part_of, folder)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(temporary / 'params', params)

  def complete():
    copy = shutil.copytree if tokenizer.is_dir() else shutil.copy
    copy(tokenizer, temporary / tokenizer.name)
    write_json(temporary / 'model.json', description)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)

  distributed.on_primary(complete)


def check_new(folder: pathlib.Path) -> None:
  """Raises UserError unless a folder is empty or not there yet."""
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise errors.UserError(
      f'{folder} needs to be a new or empty folder, and it holds something:'
      ' choose another, or remove it.'
    )


def part_of(folder: pathlib.Path) -> pathlib.Path:
  """Returns where a folder is put together before it gets its name, clean of
  what a killed run may have left there."""
  temporary = _part(folder)
  shutil.rmtree(temporary, ignore_errors=True)
  return temporary


def _part(folder: pathlib.Path) -> pathlib.Path:
  return folder.with_name(f'.{folder.name}.part')


def describe_model(folder: pathlib.Path) -> dict[str, Any]:
  """Returns what `model.json` says.

  Raises:
    UserError: if the folder is not a model folder, or is damaged.
  """
  path = folder / 'model.json'
  if not path.exists():
    raise errors.UserError(
      f'{folder} is not a model folder: it has no model.json. Give the name'
      ' of a stage, or a folder such as RUN/sft/model, or one of Hugging Face.'
    )
  try:
    description = json.loads(path.read_text())
    _ = description['config'], description['kind']
  except (ValueError, KeyError, TypeError) as error:
    raise errors.UserError(
      f'{path} is damaged ({_first_line(error)}): write the model again.'
    ) from error
  return description


def load_params(folder: pathlib.Path, target: PyTree) -> PyTree:
  """Reads a model folder's parameters.

  Args:
    folder: the model folder.
    target: jax.ShapeDtypeStructs with shardings, like the parameters.

  Raises:
    UserError: if they are damaged, or of other shapes.
  """
  path = folder / 'params'
  try:
    return _restore(path, target)
  except _UnreadableError as error:
    raise errors.UserError(
      f'{path} cannot be read ({error}): it is damaged or does not fit its'
      ' model.json; write the model again.'
    ) from None


def save_tree(folder: pathlib.Path, tree: PyTree) -> None:
  """Writes a pytree once; does nothing if the folder is there."""
  if not folder.exists():
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(folder.absolute(), tree)


def load_tree(folder: pathlib.Path, target: PyTree) -> PyTree:
  """Reads what save_tree wrote; raises UserError if it is damaged."""
  try:
    return _restore(folder, target)
  except _UnreadableError as error:
    raise errors.UserError(
      f'{folder} cannot be read ({error}): to start the stage afresh remove'
      f' {folder.parent}.'
    ) from None


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON so that a reader sees the old file or the new one.

  What is not finite becomes null, as JSON has no word for it.
  """
  temporary = path.with_name(f'.{path.name}.part')
  text = json.dumps(_finite(value), indent=2, sort_keys=True, allow_nan=False)
  temporary.write_text(text + '\n')
  temporary.replace(path)


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _finite(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


class _UnreadableError(Exception):
  """Says in one line why something could not be read."""


def _read(function: Callable[[], PyTree]) -> PyTree:
  """Calls a function of orbax that reads; raises only _UnreadableError.

  Orbax gives up at the first array it cannot read. The other reads then find
  their event loop closed and say so, each with a traceback; here they end, and
  nobody hears them.
  """
  with _silence():
    try:
      return function()
    except Exception as error:  # orbax raises bare Exceptions, among others
      reason = _first_line(error)
    time.sleep(0.2)  # for reads still under way in other threads
    gc.collect()
  raise _UnreadableError(reason)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
  """Drops what Python says of exceptions that nobody can catch."""
  asyncio_log, hook = logging.getLogger('asyncio'), sys.unraisablehook
  sys.unraisablehook = lambda unraisable: None
  asyncio_log.disabled = True
  try:
    with contextlib.redirect_stderr(io.StringIO()):
      yield
  finally:
    sys.unraisablehook = hook
    asyncio_log.disabled = False


def _restore(path: pathlib.Path, target: PyTree) -> PyTree:
  with ocp.StandardCheckpointer() as checkpointer:
    return _read(lambda: checkpointer.restore(path.absolute(), target))


def _first_line(error: BaseException) -> str:
  line = (str(error).strip().splitlines() or [''])[0]
  return f'{type(error).__name__}: {line[:120]}'
