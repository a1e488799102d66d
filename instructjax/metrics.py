"""Where numbers go: metrics.jsonl, TensorBoard, W&B and the terminal.

`MetricsLog` is a trainer hook that averages what the iterations since the last
line brought. Device arrays are read only when a line is due, so that logging
does not hold the device up in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import importlib
import json
import logging
import math
import pathlib
import sys
import time
from typing import Any, Protocol

import numpy as np
import tqdm

from instructjax import clock as clock_lib

log = logging.getLogger('instructjax')


def _import_tensorboard() -> Any:
  """Imports tensorboardX, and not torch with it.

  It wants torch, where there is one, for graphs that we do not write: two and a
  half seconds of processor time at every start.
  """
  absent = 'torch' not in sys.modules
  if absent:
    sys.modules['torch'] = None
  try:
    return importlib.import_module('tensorboardX')
  finally:
    if absent:
      del sys.modules['torch']


tensorboardX = _import_tensorboard()


class Log(Protocol):
  """What an iteration's numbers are given to; its `clock` times them."""

  clock: clock_lib.Clock

  def __call__(self, iteration: int, state: Any, metrics: Mapping) -> None:
    """Takes the numbers of one iteration (trainer.fit)."""

  def close(self) -> None:
    """Writes down what is left."""


class Silence:
  """The log of a process that writes none."""

  def __init__(self):
    self.clock = clock_lib.Clock()

  def __call__(self, iteration: int, state: Any, metrics: Mapping) -> None:
    """Drops them."""

  def close(self) -> None:
    """Does nothing."""


class MetricsLog:
  """Collects an iteration's numbers and writes a line every so often.

  Args:
    folder: of the stage; `metrics.jsonl` and event files go there.
    stage: its name.
    start: iterations already done; later lines of an interrupted run are
      removed, as those iterations run again.
    total: iterations of the whole stage.
    log_every: iterations per line; 0 writes the last one's only.
    clock: of the iterations' phases; None: a new one.
    **amounts: of an iteration, as clock.rates takes them.
    watch: numbers -> warnings (evaluation.warnings), or None.
    wandb: a W&B run, finished by `close`, or None.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    stage: str,
    *,
    start: int,
    total: int,
    log_every: int,
    clock: clock_lib.Clock | None = None,
    watch: Callable[[Mapping[str, float]], list[str]] | None = None,
    wandb: Any = None,
    **amounts: float,
  ):
    self.stage, self.total, self.log_every = stage, total, log_every
    self.clock, self.amounts = clock or clock_lib.Clock(), amounts
    self.watch = watch or (lambda numbers: [])
    self.wandb = wandb
    self.path = folder / 'metrics.jsonl'
    lines = keep_until(self.path, start)
    self._elapsed = lines[-1]['wall_seconds'] if lines else 0.0
    for line in lines:  # what it compares later numbers with
      self.watch(_numbers(line))
    self._file = self.path.open('a')
    self._events = tensorboardX.SummaryWriter(
      str(folder / 'tensorboard'), purge_step=start + 1, write_to_disk=True
    )
    self._since: dict[str, list] = {}
    self._began = time.perf_counter()
    self._count = 0
    self._bar = tqdm.tqdm(
      total=total,
      initial=start,
      desc=stage,
      unit='it',
      disable=not sys.stderr.isatty(),
    )

  def __call__(self, iteration: int, state: Any, metrics: Mapping) -> None:
    """The hook; `metrics` is {name: [values]} (trainer.fit)."""
    for name, values in metrics.items():
      self._since.setdefault(name, []).extend(values)
    self._count += 1
    self._bar.update(1)
    due = self.log_every and iteration % self.log_every == 0
    if due or iteration == self.total:
      numbers = {k: float(np.mean(v)) for k, v in self._since.items()}
      self.clock.lap('train')
      took = {k: v / self._count for k, v in self.clock.take().items()}
      numbers |= clock_lib.rates(took, numbers, **self.amounts)
      self._since, self._count = {}, 0
      self.write(iteration, int(state.step), numbers)
      self.clock.lap('other')

  def write(
    self, iteration: int, step: int, numbers: Mapping[str, float]
  ) -> None:
    """Writes one line everywhere, at once."""
    wall = self._elapsed + time.perf_counter() - self._began
    line = {
      'stage': self.stage,
      'iteration': iteration,
      'step': step,
      'wall_seconds': round(wall, 3),
    }
    # JSON has no NaN; null keeps the line readable by every parser.
    finite = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
    warnings = self.watch(numbers)
    for text in warnings:
      log.warning('%s %d: warning: %s', self.stage, iteration, text)
    if warnings:
      line['warnings'] = warnings
    self._file.write(json.dumps({**line, **finite}) + '\n')
    self._file.flush()
    for name, value in numbers.items():
      self._events.add_scalar(name, value, iteration)
    if self.wandb is not None:
      named = {f'{self.stage}/{k}': v for k, v in numbers.items()}
      self.wandb.log(named, step=iteration)
    self._show(iteration, numbers)

  def _show(self, iteration: int, numbers: Mapping[str, float]) -> None:
    chosen = {k: numbers[k] for k in _HEADLINES if k in numbers}
    shown = ' '.join(f'{k}={_short(v)}' for k, v in chosen.items())
    if self._bar.disable:
      rate = numbers.get('perf/seconds_per_iteration', 0.0)
      left = _minutes(rate * (self.total - iteration))
      log.info(
        '%s %d/%d %s (%s left)', self.stage, iteration, self.total, shown, left
      )
    else:
      self._bar.set_postfix_str(shown)

  def close(self) -> None:
    """Flushes and closes everything."""
    self._bar.close()
    self._events.close()
    self._file.close()
    if self.wandb is not None:
      self.wandb.finish()


_HEADLINES = (
  'loss/language',
  'loss/ranking',
  'reward_model/accuracy',
  'validation/loss',
  'validation/reward_model_accuracy',
  'objective/scores',
  'objective/kl',
  'ptx/loss',
  'validation/scores',
  'validation/pretraining_loss',
  'perf/tokens_per_second',
)


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
  """The numbers of a line; null was not finite."""
  return {
    name: math.nan if value is None else value
    for name, value in line.items()
    if value is None or isinstance(value, int | float)
  }


def _short(value: float) -> str:
  return f'{value:.0f}' if abs(value) >= 1000 else f'{value:.3g}'


def _minutes(seconds: float) -> str:
  return f'{int(seconds // 60)}:{int(seconds % 60):02d}'


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the lines of a JSONL file that are whole; [] if it is missing."""
  if not path.exists():
    return []
  lines = []
  for line in path.read_text(errors='replace').splitlines():
    try:
      value = json.loads(line)
    except ValueError:
      continue  # what a killed run was writing
    if isinstance(value, dict) and 'iteration' in value:
      lines.append(value)
  return lines


def keep_until(path: pathlib.Path, iteration: int) -> list[dict[str, Any]]:
  """Drops lines of later iterations from a JSONL file; returns the kept."""
  lines = read(path)
  kept = [line for line in lines if line['iteration'] <= iteration]
  if path.exists():
    temporary = path.with_name(f'.{path.name}.part')
    temporary.write_text(''.join(json.dumps(line) + '\n' for line in kept))
    temporary.replace(path)
  return kept
