"""Which stage needs which; runs what is missing, one after another.

A stage names what it starts from in `config.init_from`. A name without a
finished folder is run first, with its config from `config.stages`; so one
command goes from text to PPO-ptx, and the same command resumes it.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
import os
import pathlib
import signal
import threading
from typing import Any

from instructjax import config as config_lib
from instructjax import errors
from instructjax.evaluation import report
from instructjax.stages import train
from instructjax.stages import workdir

log = logging.getLogger('instructjax')


def run(config: Any, root: pathlib.Path) -> int:
  """Runs the config's stage in a folder, and first those it needs.

  Args:
    config: ConfigDict of the run.
    root: its folder.

  Returns:
    0 when all is done; 128 + signal number if asked to stop.
  """
  workdir.open_folder(root)
  _cache_compilations()
  stop = StopSignal()
  with stop:
    _ensure(config, root, config.stage, stop, ())
  if stop.signal:
    log.info('saved and stopped; the same command goes on from here.')
    return 128 + stop.signal
  report.write(root)
  log.info('report: %s', root / 'report.md')
  return 0


def _ensure(config, root, stage, stop, above) -> None:
  """Runs a stage unless it is finished, after those it starts from."""
  if stage in above:
    raise errors.UserError(
      f'config.init_from goes in a circle: {" -> ".join((*above, stage))}.'
    )
  plain = config_lib.resolve_stage(config, stage)
  if workdir.finished(root, stage):
    if not above:  # the stage asked for; others may have had their own config
      workdir.claim(root, plain)
      log.info('%s is finished: nothing to do.', stage)
    return
  needed = _needed(root, plain)
  for other in needed:
    _ensure(config, root, other, stop, (*above, stage))
    if stop.signal:
      return
  train.train(root, workdir.claim(root, plain), stop)


def _needed(root: pathlib.Path, plain: dict[str, Any]) -> list[str]:
  """Stages that must be finished before this one starts."""
  needed = []
  for value in plain['init_from'].values():
    options = [name for name in value.split('|') if name]
    there = [name for name in options if workdir.finished(root, name)]
    if options and not there and not workdir.is_path(options[-1]):
      needed.append(options[-1])
  return needed


class StopSignal:
  """Ctrl-C and SIGTERM ask to save and stop; a second one stops at once."""

  def __init__(self):
    self.signal = 0
    self._old: dict[int, Callable | int | None] = {}

  def __call__(self) -> bool:
    return bool(self.signal)

  def __enter__(self):
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, signal.SIGTERM):
        self._old[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *unused):
    for number, handler in self._old.items():
      signal.signal(number, handler)

  def _handle(self, number, frame) -> None:
    del frame
    if self.signal:
      raise KeyboardInterrupt
    self.signal = number
    log.warning('stopping: saving at the next step (again to stop at once).')


def _cache_compilations() -> None:
  """Keeps compiled programs between runs, in the user's cache folder."""
  import jax

  if os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    return
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  folder = pathlib.Path(base) / 'instructjax' / 'compiled'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
