"""Which stage needs which; runs what is missing, one after another.

A stage names what it starts from in `config.init_from`. A name without a
finished folder is run first, with its config from `config.stages`, and so are
the stages in `config.needs`; so one command goes from text to PPO-ptx, and the
same command resumes it. Those of `config.also` follow, and the evaluation of a
microworld's models. Whatever is wrong with a config or a record file is found
before the first stage trains.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
import logging
import os
import pathlib
import signal
import threading
from typing import Any

import jax

from instructjax import config as config_lib
from instructjax import distributed
from instructjax import errors
from instructjax import host_memory
from instructjax.data import feeds as feeds_lib
from instructjax.evaluation import report
from instructjax.stages import check
from instructjax.stages import collect
from instructjax.stages import integrity
from instructjax.stages import measure
from instructjax.stages import microworld
from instructjax.stages import train
from instructjax.stages import workdir

log = logging.getLogger('instructjax')
# Task -> the stage that makes records instead of a model.
_MAKERS = {'microworld': microworld.write, 'collect': collect.collect}


def run(
  config: Any, root: pathlib.Path, overridden: Collection[str] = ()
) -> int:
  """Runs the config's stage in a folder, and first those it needs.

  Args:
    config: ConfigDict of the run.
    root: its folder.
    overridden: keys of the config that the command line sets.

  Returns:
    0 when all is done; 128 + signal number if asked to stop.

  Raises:
    UserError: for whatever the user can mend.
  """
  missing = plan(config, root, overridden)
  measure.check(config.to_dict())
  feeds = find_records(config, root, missing)
  _agree(config, root, missing)
  _cache_compilations()
  if jax.default_backend() == 'cpu':
    host_memory.keep_freed_memory()
  check.stages(root, missing, feeds)
  if missing:
    distributed.on_primary(integrity.check, root, missing, feeds)
  with StopSignal() as stop:
    for i, plain in enumerate(missing):
      settled = workdir.settle(root, plain)
      if plain['task'] in _MAKERS:
        _MAKERS[plain['task']](root, settled, stop)
        feeds = find_records(config, root, missing[i + 1 :])
      else:
        train.train(root, settled, feeds, stop)
      if stop.now():
        break
    asked = measure.models(root, config.to_dict(), feeds, stop)
    stopped = stop.now()
  if stopped:
    log.info('saved and stopped; the same command goes on from here.')
    return 128 + stop.signal
  if not missing and not asked:
    log.info('%s is finished: nothing to do.', config.stage)
  distributed.on_primary(report.write, root)
  log.info('report: %s', root / 'report.md')
  return 0


def _agree(
  config: Any, root: pathlib.Path, missing: list[dict[str, Any]]
) -> None:
  """Opens the run's folder; raises UserError if all do not see the same."""
  distributed.on_primary(workdir.open_folder, root)
  distributed.check_shared(root)
  distributed.check_same(
    'what they were told to run, or what they find of it: give all of them the'
    ' same command, and a --workdir that all hosts share',
    [config.to_dict(), missing],
  )


def find_records(
  config: Any, root: pathlib.Path, missing: Collection[dict[str, Any]]
) -> feeds_lib.Feeds:
  """Returns the run's records as they are while these stages are missing.

  They are read anew when a stage has written some, so that a run in one go
  and one that is resumed see the same.
  """
  pending = microworld.pending(missing)
  data = microworld.specs(root, config.data.to_dict(), pending)
  return feeds_lib.Feeds(data, seed=config.seed, pending=pending)


def plan(
  config: Any, root: pathlib.Path, overridden: Collection[str] = ()
) -> list[dict[str, Any]]:
  """Returns the configs of the stages to run, in order; none if all is done.

  Raises:
    UserError: for an unknown stage or a circle, and if the folder holds
      stages of another config.
  """
  found: dict[str, dict[str, Any]] = {}

  def visit(stage: str, above: tuple[str, ...]) -> None:
    if stage in above:
      circle = ' -> '.join((*above, stage))
      raise errors.UserError(f'config.init_from goes in a circle: {circle}.')
    done, part = workdir.finished(root, stage), stage != config.stage
    if done and part and stage not in config.stages:
      return  # of a config of its own
    plain = config_lib.resolve_stage(config, stage)
    if done and part:
      workdir.accept(root, plain, overridden)
      return
    workdir.settle(root, plain)
    if done:
      return
    for other in workdir.needed(root, plain):
      visit(other, (*above, stage))
    found[stage] = plain

  for stage in (config.stage, *workdir.names(config.also)):
    visit(stage, ())
  return list(found.values())


class StopSignal:
  """Ctrl-C and SIGTERM ask to save and stop; a second one stops at once.

  Several processes stop together, whichever was asked: each says after every
  iteration what it has heard, and learns one iteration later what all have,
  so that nobody waits for the answer.

  Attributes:
    signal: the number of the signal that all are to stop for; 0 = none.
  """

  def __init__(self):
    self.signal = 0
    self._heard = self._asked = self._asks = 0
    self._old: dict[int, Callable | int | None] = {}

  def __call__(self) -> bool:
    """Whether to stop; all processes ask equally often."""
    if jax.process_count() == 1:
      self.signal = self._heard
      return bool(self.signal)
    self._asks += 1
    if distributed.noticed(self._asks):
      self.signal = signal.SIGTERM
    before, self._asked = self._asked, distributed.largest(self._heard)
    self.signal = self.signal or int(before)
    return bool(self.signal)

  def now(self) -> bool:
    """As a call of it, but waits for what all have heard by now."""
    return self() or self()

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
    if self._heard:
      raise KeyboardInterrupt
    self._heard = number
    log.warning('stopping: saving at the next step (again to stop at once).')


def _cache_compilations() -> None:
  """Keeps compiled programs between runs, in the user's cache folder."""
  if os.environ.get('JAX_COMPILATION_CACHE_DIR'):
    return
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  folder = pathlib.Path(base) / 'instructjax' / 'compiled'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
