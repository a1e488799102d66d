"""Phases by a clock that the test sets, and the rates made of them."""

from __future__ import annotations

import types

import jax.numpy as jnp
import pytest

from instructjax import clock as clock_lib
from instructjax import metrics


class Time:
  """Seconds that pass when told to."""

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def test_laps_add_up_by_phase():
  time = Time()
  clock = clock_lib.Clock(time)
  for phase, seconds in (('a', 1.0), ('b', 2.0), ('a', 4.0)):
    time.now += seconds
    clock.lap(phase, {'x': jnp.zeros(2)})
  assert clock.take() == {'a': 5.0, 'b': 2.0}
  time.now += 8.0
  clock.lap('b')
  assert clock.take() == {'b': 8.0} and clock.take() == {}


def test_a_hooks_time_is_not_trainings():
  time = Time()
  clock = clock_lib.Clock(time)

  def hook(iteration, state, metrics):
    assert (iteration, state, metrics) == (3, {}, {'loss': [1.0]})
    time.now += 2.0

  time.now += 1.0
  clock.others(hook)(3, {}, {'loss': [1.0]})
  time.now += 4.0
  clock.lap('train')
  assert clock.take() == {'train': 5.0, 'other': 2.0}


def test_rates_of_one_phase():
  found = clock_lib.rates(
    {'train': 2.0, 'other': 3.0},
    {'flops/train': 8e12, 'loss': 1.0},
    tokens=100,
    train_tokens=100,
    peak_flops=16e12,
  )
  assert found == {
    'time/train': 2.0,
    'time/other': 3.0,
    'perf/seconds_per_iteration': 5.0,
    'perf/tokens_per_second': 20.0,
    'perf/train_tokens_per_second': 50.0,
    'perf/train_mfu': 0.25,
    'perf/mfu': 0.25,
  }


def test_rates_of_three_phases():
  found = clock_lib.rates(
    {'rollout': 4.0, 'score': 1.0, 'train': 5.0, 'other': 90.0},
    {
      'flops/rollout': 4e12,
      'flops/score': 10e12,
      'flops/train': 40e12,
      'rollout/tokens': 12.0,
    },
    tokens=500,
    train_tokens=1000,
    peak_flops=10e12,
  )
  assert found['perf/rollout_tokens_per_second'] == 3.0
  assert found['perf/train_tokens_per_second'] == 200.0
  assert found['perf/tokens_per_second'] == 5.0
  assert found['perf/rollout_mfu'] == pytest.approx(0.1)
  assert found['perf/score_mfu'] == pytest.approx(1.0)
  assert found['perf/train_mfu'] == pytest.approx(0.8)
  # What other things take is no lack of use.
  assert found['perf/mfu'] == pytest.approx(54 / 100)


def test_what_is_not_known_is_not_there():
  found = clock_lib.rates({'train': 2.0}, {'flops/train': 8e12})
  assert found == {'time/train': 2.0, 'perf/seconds_per_iteration': 2.0}
  found = clock_lib.rates({'train': 0.0}, {'flops/train': 1.0}, peak_flops=1.0)
  assert found == {'time/train': 0.0, 'perf/seconds_per_iteration': 0.0}


def test_lines_hold_the_phases_of_their_window(tmp_path):
  time = Time()
  log = metrics.MetricsLog(
    tmp_path,
    'ppo',
    start=0,
    total=3,
    log_every=2,
    clock=clock_lib.Clock(time),
    tokens=40,
    train_tokens=80,
    peak_flops=10.0,
  )
  state = types.SimpleNamespace(step=1)
  for iteration in (1, 2, 3):
    time.now += 2.0
    log.clock.lap('rollout')
    time.now += 1.0 + iteration
    log.clock.lap('train')
    log(iteration, state, {'flops/train': [30.0], 'flops/rollout': [4.0]})
  log.close()
  first, last = metrics.read(tmp_path / 'metrics.jsonl')
  assert first['time/rollout'] == 2.0 and first['time/train'] == 2.5
  assert first['perf/mfu'] == pytest.approx(34 / 45)
  assert first['perf/train_tokens_per_second'] == pytest.approx(32)
  assert last['time/train'] == 4.0 and last['time/other'] == 0.0
