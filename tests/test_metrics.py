"""Lines that survive kills, averages over their window, and null for NaN."""

from __future__ import annotations

import json
import logging
import math
import types

import numpy as np
import pytest

from instructjax import metrics

STATE = types.SimpleNamespace(step=7)


def _log(folder, **options):
  defaults = {'start': 0, 'total': 100, 'log_every': 1}
  return metrics.MetricsLog(folder, 'sft', **defaults | options)


def _run(log, first, last, value=float):
  for iteration in range(first, last + 1):
    log(iteration, STATE, {'loss': [np.float32(value(iteration))]})


def _lines(folder):
  return [
    json.loads(line)
    for line in (folder / 'metrics.jsonl').read_text().splitlines()
  ]


def test_lines_average_over_their_window(tmp_path):
  log = _log(tmp_path, log_every=3, total=5, tokens=64)
  log(1, STATE, {'loss': [1.0], 'inner': [1.0, 2.0]})
  log(2, STATE, {'loss': [2.0], 'inner': [3.0, 6.0]})
  log(3, STATE, {'loss': [6.0], 'seldom': [5.0]})
  log(4, STATE, {'loss': [10.0]})
  log(5, types.SimpleNamespace(step=9), {'loss': [20.0]})
  log.close()
  first, last = _lines(tmp_path)
  assert first['stage'] == 'sft'
  assert (first['iteration'], first['step']) == (3, 7)
  assert (first['loss'], first['inner'], first['seldom']) == (3.0, 3.0, 5.0)
  assert (last['iteration'], last['step'], last['loss']) == (5, 9, 15.0)
  assert 'seldom' not in last
  rate = first['perf/tokens_per_second'] * first['perf/seconds_per_iteration']
  assert rate == pytest.approx(64)
  assert 0 <= first['wall_seconds'] <= last['wall_seconds']


def test_no_rhythm_gives_the_last_line_only(tmp_path):
  log = _log(tmp_path, log_every=0, total=3)
  _run(log, 1, 3)
  log.close()
  assert [line['iteration'] for line in _lines(tmp_path)] == [3]


def test_not_finite_is_null(tmp_path):
  log = _log(tmp_path)
  log(1, STATE, {'a': [math.nan], 'b': [math.inf], 'c': [1.0, math.nan]})
  log.close()
  text = (tmp_path / 'metrics.jsonl').read_text()
  assert 'NaN' not in text and 'Infinity' not in text
  (line,) = _lines(tmp_path)
  assert line['a'] is line['b'] is line['c'] is None


def test_resumed_log_drops_what_will_run_again(tmp_path):
  log = _log(tmp_path)
  _run(log, 1, 5)
  log.close()
  wall = _lines(tmp_path)[2]['wall_seconds']
  log = _log(tmp_path, start=3)
  _run(log, 4, 6, value=lambda iteration: 10 * iteration)
  log.close()
  lines = _lines(tmp_path)
  assert [line['iteration'] for line in lines] == [1, 2, 3, 4, 5, 6]
  assert [line['loss'] for line in lines] == [1, 2, 3, 40, 50, 60]
  assert lines[3]['wall_seconds'] >= wall  # time goes on


def test_torn_last_line_is_dropped(tmp_path):
  log = _log(tmp_path)
  _run(log, 1, 3)
  log.close()
  path = tmp_path / 'metrics.jsonl'
  path.write_text(path.read_text()[:-20])
  assert [line['iteration'] for line in metrics.read(path)] == [1, 2]
  log = _log(tmp_path, start=2)
  _run(log, 3, 3)
  log.close()
  assert [line['iteration'] for line in _lines(tmp_path)] == [1, 2, 3]


def test_missing_file_reads_as_empty(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  assert metrics.read(path) == [] == metrics.keep_until(path, 3)
  assert not path.exists()


def test_keep_until_keeps_all_of_an_iteration(tmp_path):
  path = tmp_path / 'samples.jsonl'
  lines = [{'iteration': i, 'n': n} for i in (1, 2, 3) for n in (0, 1)]
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  assert metrics.keep_until(path, 2) == lines[:4] == metrics.read(path)
  assert [p.name for p in tmp_path.iterdir()] == ['samples.jsonl']


def test_events_reach_tensorboard(tmp_path):
  log = _log(tmp_path)
  _run(log, 1, 2)
  log.close()
  (events,) = (tmp_path / 'tensorboard').iterdir()
  assert b'loss' in events.read_bytes()


def test_numbers_reach_wandb_under_the_stages_name(tmp_path):
  sent = []
  run = types.SimpleNamespace(
    log=lambda numbers, step: sent.append((step, numbers['sft/loss'])),
    finish=lambda: sent.append('finished'),
  )
  log = _log(tmp_path, wandb=run)
  _run(log, 1, 1)
  log.close()
  assert sent == [(1, 1.0), 'finished']


def test_warnings_are_logged_and_written(tmp_path, caplog):
  def watch(numbers):
    return ['loss is 2'] if numbers['loss'] == 2 else []

  log = _log(tmp_path, watch=watch)
  with caplog.at_level(logging.WARNING, 'instructjax'):
    _run(log, 1, 3)
  log.close()
  assert [line.get('warnings') for line in _lines(tmp_path)] == [
    None,
    ['loss is 2'],
    None,
  ]
  assert caplog.messages == ['sft 2: warning: loss is 2']


def test_resumed_log_shows_its_watch_the_lines_before(tmp_path):
  """Or a run's first numbers would be those after its last interruption."""
  log = _log(tmp_path)
  _run(log, 1, 4, value=lambda i: math.nan if i == 2 else i)
  log.close()
  seen = []
  log = _log(tmp_path, start=3, watch=lambda n: seen.append(n['loss']) or [])
  _run(log, 4, 4)
  log.close()
  np.testing.assert_array_equal(seen, [1.0, math.nan, 3.0, 4.0])


def test_line_says_what_is_left(tmp_path, caplog):
  log = _log(tmp_path, total=4)
  with caplog.at_level(logging.INFO, 'instructjax'):
    log(2, STATE, {'loss/language': [1.2345]})
  log.close()
  assert 'sft 2/4 loss/language=1.23 (0:00 left)' in caplog.text
