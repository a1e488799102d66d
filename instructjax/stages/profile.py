"""A trace of some iterations, for TensorBoard's profiler or Perfetto."""

from __future__ import annotations

from collections.abc import Sequence
import logging
import pathlib
import re
from typing import Any

import jax

from instructjax import errors

log = logging.getLogger('instructjax')


def parse(text: str) -> tuple[int, int]:
  """Returns (first, last) iteration of config.profile_steps; '' gives (0, 0).

  Raises:
    UserError: unless the text is FIRST:LAST, or one iteration's number.
  """
  if not text:
    return 0, 0
  found = re.fullmatch(r'(\d+)(?::(\d+))?', text)
  first, last = map(int, (found[1], found[2] or found[1])) if found else (0, 0)
  if not 1 <= first <= last:
    raise errors.UserError(
      f'config.profile_steps={text} must be the iterations FIRST:LAST, counted'
      ' from 1, as in 10:12 for three of them; leave it empty for no trace.'
    )
  return first, last


class Profile:
  """Writes the trace of the iterations that config.profile_steps names.

  Args:
    folder: where the trace goes.
    steps: as `parse` reads it.
    done: iterations already done; those are not traced again.
    total: iterations of the stage; steps that begin beyond them are warned of.
  """

  def __init__(self, folder: pathlib.Path, steps: str, done: int, total: int):
    self._folder = folder
    self._first, self._last = parse(steps)
    if self._first > total:
      log.warning(
        'config.profile_steps=%s: %s ends with iteration %d, so nothing of it'
        ' is traced.',
        steps,
        folder.parent.name,
        total,
      )
    self._is_on = False
    self._start(done, None, {})

  def around(self, hooks: Sequence[Any]) -> list[Any]:
    """Returns a trainer's hooks, and before and behind them those that trace.

    What the last iteration's hooks do is left out.
    """
    return [self._stop, *hooks, self._start]

  def _start(self, iteration, state, metrics):
    del metrics
    if max(iteration + 1, self._first) > self._last or self._is_on:
      return
    if iteration + 1 >= self._first:
      jax.block_until_ready(state)
      jax.profiler.start_trace(self._folder)
      self._is_on = True

  def _stop(self, iteration, state, metrics):
    del metrics
    if self._is_on and iteration >= self._last:
      jax.block_until_ready(state)
      self.close()

  def close(self) -> None:
    """Ends a trace that is on, as after an error or an interruption."""
    if self._is_on:
      self._is_on = False
      jax.profiler.stop_trace()
      log.info('a trace is in %s', self._folder)
