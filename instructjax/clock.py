"""Where the time goes: seconds by phase of an iteration, and rates from them.

A device works on while Python goes ahead, so that a phase's time is known only
to who waits for its end. PPO waits for its rollouts and their scores (of
each chunk) and, as the next rollouts begin, for its updates. A task that only
trains waits for nothing but what a line of the log wants to know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import time
from typing import Any

import jax

Lap = Callable[..., None]


class Clock:
  """Seconds by phase since they were last taken.

  Args:
    now: () -> seconds.
  """

  def __init__(self, now: Callable[[], float] = time.perf_counter):
    self._now = now
    self._last = now()
    self._seconds: dict[str, float] = {}

  def lap(self, phase: str, arrays: Any = ()) -> None:
    """Waits for arrays; the time since the last lap was this phase's."""
    jax.block_until_ready(arrays)
    now = self._now()
    self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._last
    self._last = now

  def others(self, hook: Callable[..., None]) -> Callable[..., None]:
    """Returns a trainer's hook whose time is not training's, but 'other'."""

    def timed(iteration, state, metrics):
      self.lap('train', state)
      hook(iteration, state, metrics)
      self.lap('other')

    return timed

  def take(self) -> dict[str, float]:
    """Returns {phase: seconds}, and begins anew."""
    seconds, self._seconds = self._seconds, {}
    return seconds


def no_lap(phase: str, arrays: Any = ()) -> None:
  """Takes no time, waits for nothing: a lap where there is no clock."""
  del phase, arrays


def rates(
  seconds: Mapping[str, float],
  numbers: Mapping[str, float],
  *,
  tokens: float = 0,
  train_tokens: float = 0,
  peak_flops: float = 0,
) -> dict[str, float]:
  """Returns the metrics that a clock makes of an iteration's numbers.

    time/PHASE                      seconds
    perf/seconds_per_iteration      their sum
    perf/tokens_per_second          tokens / that sum
    perf/train_tokens_per_second    train_tokens / time/train
    perf/rollout_tokens_per_second  rollout/tokens / time/rollout
    perf/PHASE_mfu                  flops/PHASE / (time/PHASE * peak_flops)
    perf/mfu                        the same of all phases with FLOPs together

  Args:
    seconds: {phase: seconds of an iteration}.
    numbers: the iteration's, flops/PHASE among them.
    tokens: token positions of an iteration, padding included; 0: unknown.
    train_tokens: those of them that updates were made from, as often as they
      were; 0: unknown.
    peak_flops: FLOP/s of all devices together; 0: unknown.
  """
  total = sum(seconds.values())
  found = {f'time/{phase}': value for phase, value in seconds.items()}
  found['perf/seconds_per_iteration'] = total
  amounts = {
    'perf/tokens_per_second': (tokens, total),
    'perf/train_tokens_per_second': (train_tokens, seconds.get('train')),
    'perf/rollout_tokens_per_second': (
      numbers.get('rollout/tokens'),
      seconds.get('rollout'),
    ),
  }
  counted = [phase for phase in seconds if f'flops/{phase}' in numbers]
  if peak_flops and counted:
    for phase in counted:
      amounts[f'perf/{phase}_mfu'] = (
        numbers[f'flops/{phase}'],
        seconds[phase] * peak_flops,
      )
    amounts['perf/mfu'] = tuple(
      sum(amounts[f'perf/{phase}_mfu'][i] for phase in counted) for i in (0, 1)
    )
  found |= {k: a / b for k, (a, b) in amounts.items() if a and b}
  return found
