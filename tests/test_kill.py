"""Stopped at any moment, the same command goes on to the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest

from instructjax.stages import select
from tests import runs

# (signal, stage, moment): see interrupted.py. Checkpoints are written at
# iterations 2, 4 and 6, epochs end at 4 and 6, and 6 is the last iteration.
FIRST_HALF = (
  ('SIGKILL', 'pretrain', 'line:3'),  # between two checkpoints
  ('SIGKILL', 'pretrain', 'saving:4'),  # which is then half written
  ('SIGTERM', 'pretrain', 'line:5'),
  ('SIGINT', 'sft', 'line:3'),
  ('SIGKILL', 'sft', 'epoch:3'),
  ('SIGKILL', 'sft', 'model'),
)
SECOND_HALF = (
  ('SIGKILL', 'reward_model', 'saving:2'),
  ('SIGKILL', 'reward_model', 'model'),
  ('SIGKILL', 'sft', 'chosen'),  # by the reward model there now is
  ('SIGKILL', 'ppo_ptx', 'line:1'),  # before the first checkpoint
  ('SIGTERM', 'ppo_ptx', 'line:3'),
  ('SIGKILL', 'ppo_ptx', 'saving:6'),
  ('SIGKILL', 'ppo_ptx', 'summary'),
)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(records, workdir) of an uninterrupted run."""
  return runs.finished(tmp_path_factory)


def _interrupt(how, args):
  """Runs the command line until its signal; checks that it obeyed."""
  number = signal.Signals[how[0]]
  result = runs.run(['tests/interrupted.py', *how, *args])
  if number == signal.SIGKILL:
    assert result.returncode == -number, (how, result.stderr)
  else:
    assert result.returncode == 128 + number, (how, result.stderr)
    assert result.stderr.count('saving at the next step') == 1
    assert 'saved and stopped' in result.stderr.splitlines()[-1]
    assert 'Traceback' not in result.stderr


def _interrupt_all(moments, args):
  for how in moments:
    _interrupt(how, args)
  return runs.main(args)


def test_pretraining_and_fine_tuning(run, tmp_path):
  data, workdir = run
  found = tmp_path / 'run'
  result = _interrupt_all(FIRST_HALF, runs.arguments('sft', data, found))
  assert 'sft goes on at iteration 6.' in result.stderr
  for stage in ('pretrain', 'sft'):
    assert not list((found / stage).glob('**/.*'))
  runs.assert_same(found / 'pretrain', workdir / 'pretrain')
  runs.assert_same(found / 'sft', _before_the_choice(workdir, tmp_path))


def test_reward_model_and_reinforcement_learning(run, tmp_path):
  data, workdir = run
  found = tmp_path / 'run'
  shutil.copytree(workdir / 'pretrain', found / 'pretrain')
  shutil.copy(workdir / 'tokenizer.model', found)
  _before_the_choice(workdir, found)
  _interrupt_all(SECOND_HALF, runs.arguments('ppo_ptx', data, found))
  for stage in runs.STAGES:
    assert not list((found / stage).glob('**/.*'))
    runs.assert_same(found / stage, workdir / stage)
  report = json.loads((found / 'report.json').read_text())
  wanted = json.loads((workdir / 'report.json').read_text())
  for told in (*report['stages'].values(), *wanted['stages'].values()):
    del told['wall_seconds'], told['speed']
  assert report == wanted


def _before_the_choice(workdir, folder):
  """A copy of SFT as it was before there was a reward model."""
  copy = shutil.copytree(workdir / 'sft', folder / 'sft')
  if folder.name != 'run':
    copy = copy.rename(folder / 'sft_by_loss')
  (copy / 'epochs' / 'selection.json').unlink()
  select.hand_on_first(copy, 'reward_model')
  return copy


def test_signals_from_outside(run, tmp_path):
  """What a terminal or a scheduler sends, whenever it comes."""
  data, _ = run
  more = {'num_iterations': 50, 'checkpoint_every_iterations': 5}
  more |= {'eval_every_iterations': 25, 'sample_every_iterations': 25}
  folders = tmp_path / 'stopped', tmp_path / 'through'
  stopped, through = (
    ['-m', 'instructjax.main', *runs.arguments('pretrain', data, x, **more)]
    for x in folders
  )
  folder = folders[0] / 'pretrain'

  def reached(iteration):
    path = folder / 'metrics.jsonl'
    return path.exists() and path.read_bytes().count(b'\n') >= iteration

  for iteration, number in (
    (7, signal.SIGKILL),
    (17, signal.SIGTERM),
    (27, signal.SIGKILL),
  ):
    process = runs.start(stopped)
    runs.wait_for(lambda n=iteration: reached(n), process)
    os.killpg(process.pid, number)
    status = runs.finish(process).returncode
    assert status == (-9 if number == signal.SIGKILL else 128 + number)
  for args in (stopped, through):
    assert runs.run(args).returncode == 0
  runs.assert_same(folder, folders[1] / 'pretrain')


def test_torn_lines_and_broken_checkpoints_are_made_again(run, tmp_path):
  """The newest checkpoint is cut short, and so are the log and the cache."""
  data, workdir = run
  found = tmp_path / 'run'
  shutil.copytree(workdir / 'pretrain', found / 'pretrain')
  shutil.copy(workdir / 'tokenizer.model', found)
  folder = found / 'pretrain'
  (folder / 'summary.json').unlink()
  for path in (folder / 'checkpoints' / '6').rglob('*'):
    if path.is_file():
      os.truncate(path, path.stat().st_size // 2)
  for name in ('metrics.jsonl', 'samples.jsonl'):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-20])
  args = runs.arguments('pretrain', data, found)
  result = runs.main(args)
  assert 'checkpoints/6 cannot be read' in result.stderr
  assert 'going back to 4' in result.stderr
  assert 'pretrain goes on at iteration 4.' in result.stderr
  assert 'Traceback' not in result.stderr
  runs.assert_same(folder, workdir / 'pretrain')


def test_no_checkpoint_that_can_be_read(run, tmp_path):
  data, workdir = run
  found = tmp_path / 'run'
  shutil.copytree(workdir / 'pretrain', found / 'pretrain')
  shutil.copy(workdir / 'tokenizer.model', found)
  folder = found / 'pretrain'
  (folder / 'summary.json').unlink()
  for path in folder.glob('checkpoints/*/default/manifest.ocdbt'):
    os.truncate(path, 10)
  kept = {path for path in folder.rglob('*') if path.is_file()}
  args = ['-m', 'instructjax.main', *runs.arguments('pretrain', data, found)]
  for _ in range(2):  # it does not start afresh behind the user's back
    result = runs.run(args)
    assert result.returncode == 2
    *_, last = result.stderr.splitlines()
    assert last.startswith('error: none of the checkpoints in ')
    assert result.stderr.count('error:') == 1
    assert 'Traceback' not in result.stderr
  assert kept <= set(folder.rglob('*'))


def test_a_torn_compile_cache_does_no_harm(run, tmp_path, monkeypatch):
  data, workdir = run
  cache = tmp_path / 'cache'
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(cache))
  more = {'num_iterations': 1, 'eval_every_iterations': 0, 'num_samples': 0}
  wanted = runs.numbers(workdir / 'pretrain')[0]['loss/language']
  for name in ('whole', 'torn'):
    found = tmp_path / name
    # Where the cache lies is read with JAX, which a fork has read already.
    runs.main(runs.arguments('pretrain', data, found, **more), fresh=True)
    line = runs.numbers(found / 'pretrain')[0]
    assert line['loss/language'] == wanted
    for path in cache.iterdir():
      os.truncate(path, path.stat().st_size // 2)
