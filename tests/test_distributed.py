"""Several processes are one run: its numbers, its files, and how it ends."""

from __future__ import annotations

import json
import re
import shutil
import socket
import time

import numpy as np
import pytest

from instructjax import distributed
from instructjax import errors
from instructjax import main
from instructjax import watch
from tests import runs

# JAX's range under SLURM.
PORTS = 61440
SEVERAL = ('--coordinator', '--num_processes', '--process_id')
GONE = re.compile(
  r'error: process (\d) is gone, .* goes on from the last checkpoint\.'
)
# Of every stage: what makes it short, and few programs to compile.
_SHORT = {
  'num_iterations': 4,
  'checkpoint_every_iterations': 1,
  'eval_every_iterations': 0,
  'num_samples': 0,
}
STAGES = ('pretrain', 'sft', 'ppo_ptx')


def _free_port(low: int = 0) -> int:
  """A port that nobody listens on, from `low` on if that is given."""
  for port in range(low, low + 4096) if low else (0,):
    try:
      with socket.create_server(('', port)) as server:
        return server.getsockname()[1]
    except OSError:
      continue
  raise AssertionError('no free port')


def _settings(data, folder, rule) -> list[str]:
  """The command line of a whole run in few programs: a Python rule scores, and
  nothing is held out. Its parameters are split between the processes, and each
  reads its share of the text as it goes."""
  keys = dict(_SHORT)
  for stage in ('pretrain', 'sft'):
    keys |= {f'stages.{stage}.{key}': value for key, value in _SHORT.items()}
  keys |= {
    'stages.pretrain.model.num_layers': 1,
    'stages.pretrain.optimizer': 'adam',
    'stages.sft.num_epochs': 1.0,
    'data.validation_fraction': 0.0,
    'data.stream_above_bytes': 0,
    'reward_function': f'{rule}:short',
    'ema_decay': 0.0,
    'hyper.num_minibatches': 1,
    'hyper.rollout_batch_size': 4,
    'ptx_ratio': 1,
    'mesh.data': 1,
    'mesh.fsdp': 2,
    'mesh.tensor': 2,
  }
  return [
    *runs.arguments('ppo_ptx', data, folder),
    *(f'--config.{key}={value}' for key, value in keys.items()),
  ]


class _Together:
  """The processes of one run, started at once.

  Args:
    programs: Python's words for each process, but for what says which it is.
    environment: of each process, in the place of flags.
  """

  def __init__(self, programs, environment=None):
    port = _free_port(PORTS if environment else 0)
    self.processes = []
    for number, words in enumerate(programs):
      values = f'localhost:{port}', len(programs), number
      if environment:
        told = environment(port, len(programs), number)
        with pytest.MonkeyPatch.context() as patch:
          for name, value in told.items():
            patch.setenv(name, str(value))
          process = runs.start(words, devices=2)
      else:
        pairs = zip(SEVERAL, values, strict=True)
        flags = [f'{name}={value}' for name, value in pairs]
        process = runs.start([*words, *flags], devices=2)
      self.processes.append(process)

  def end(self):
    """Waits for all; returns what became of them, and the seconds between the
    first end and the last."""
    try:
      seconds = _seconds_apart(self.processes)
      return [runs.finish(process) for process in self.processes], seconds
    finally:
      for process in self.processes:
        process.kill()


def _seconds_apart(processes) -> float:
  """Waits until all processes have ended."""
  deadline, first = time.monotonic() + 300, None
  while any(process.poll() is None for process in processes):
    assert time.monotonic() < deadline
    if first is None and any(p.poll() is not None for p in processes):
      first = time.monotonic()
    time.sleep(0.01)
  return time.monotonic() - first if first else 0.0


def _slurm(port, count, number):
  """What srun tells a task; JAX makes the port of the job's number."""
  return {
    'SLURM_JOB_ID': port - PORTS,
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_NTASKS': count,
    'SLURM_PROCID': number,
    'SLURM_LOCALID': number,
  }


def _interrupted(how, args):
  """Programs of two processes, the second of which interrupts itself."""
  return [
    ['-m', 'instructjax.main', *args],
    ['tests/interrupted.py', *how.split(), *args],
  ]


def _assert_close(folder, other):
  """As runs.assert_same, but for rounding."""
  found, wanted = runs.arrays(folder), runs.arrays(other)
  assert found.keys() == wanted.keys()
  for name, value in wanted.items():
    np.testing.assert_allclose(found[name], value, 1e-5, 1e-5, err_msg=name)
  lines = zip(runs.numbers(folder), runs.numbers(other), strict=True)
  for line, expected in lines:
    texts = {k for k, v in expected.items() if not isinstance(v, float)}
    assert {k: line[k] for k in texts} == {k: expected[k] for k in texts}
    for name in expected.keys() - texts:
      wanted = pytest.approx(expected[name], rel=1e-5, abs=1e-5)
      assert line[name] == wanted, name


def test_two_processes_are_one_run(tmp_path):
  """From text to PPO-ptx, stopped and killed on the way, as one process."""
  data = runs.write_records(tmp_path / 'data')
  rule = tmp_path / 'rule.py'
  rule.write_text(
    'def short(responses):\n  return [-len(r) for r in responses]'
  )
  alone = runs.start(
    ['-m', 'instructjax.main', *_settings(data, tmp_path / 'alone', rule)],
    devices=4,
  )
  folder = tmp_path / 'run'
  args = _settings(data, folder, rule)

  # A scheduler stops one of them: both save the same iteration.
  both = _Together(_interrupted('SIGTERM sft saving:1', args), _slurm)
  (first, second), _ = both.end()
  assert (first.returncode, second.returncode) == (143, 143), first.stderr
  assert 'saved and stopped' in first.stderr.splitlines()[-1]
  assert second.stderr.count('\n') == 1 and 'stopping' in second.stderr
  assert {p.name for p in (folder / 'sft/checkpoints').iterdir()} == {'1', '2'}

  # One dies: the other says so, and ends.
  both = _Together(_interrupted('SIGKILL sft saving:3', args))
  (first, second), seconds = both.end()
  assert 'sft goes on at iteration 2.' in first.stderr
  assert (first.returncode, second.returncode) == (watch.LOST, -9)
  assert seconds < 60 and 'Traceback' not in first.stderr
  assert GONE.search(first.stderr)[1] == '1'

  both = _Together([['-m', 'instructjax.main', *args]] * 2)
  (first, second), _ = both.end()
  assert (first.returncode, second.returncode) == (0, 0), first.stderr
  assert re.search('sft goes on at iteration [23].', first.stderr)
  assert second.stderr == ''
  assert runs.finish(alone).returncode == 0
  for stage in STAGES:
    assert not list((folder / stage).glob('**/.*'))
    _assert_close(folder / stage, tmp_path / 'alone' / stage)
  report = json.loads((folder / 'report.json').read_text())
  assert set(report['stages']) == set(STAGES)


def test_a_run_goes_on_with_other_devices(tmp_path):
  """Saved on eight, restored on eight, two and one."""
  data = runs.write_records(tmp_path / 'data')
  more = {**_SHORT, 'optimizer': 'adam', 'mesh__data': 1, 'mesh__fsdp': 8}

  def arguments(name, **other):
    return runs.arguments('pretrain', data, tmp_path / name, **more | other)

  runs.main(arguments('eight'), devices=8)
  eight = tmp_path / 'eight' / 'pretrain'
  for devices in (8, 2, 1):
    name = f'then{devices}'
    found = shutil.copytree(tmp_path / 'eight', tmp_path / name) / 'pretrain'
    (found / 'summary.json').unlink()
    shutil.rmtree(found / 'checkpoints' / '4')
    result = runs.main(arguments(name, mesh__fsdp=devices), devices=devices)
    assert 'pretrain goes on at iteration 3.' in result.stderr
    mesh = json.loads((found / 'config.json').read_text())['mesh']
    assert mesh == {'data': 1, 'fsdp': devices, 'tensor': 1}
    if devices == 8:
      runs.assert_same(found, eight)
    else:
      _assert_close(found, eight)


def _processes(*names):
  """Starts tests/processes.py twice."""
  port = _free_port()
  words = [f'localhost:{port}', 2]
  return [
    runs.start(['tests/processes.py', *words, number, *names], devices=2)
    for number in range(2)
  ]


def test_what_processes_share_and_how_they_end():
  """All at once, as starting Python takes most of the time."""
  started = {
    names: _processes(*names)
    for names in (('share', 'talk', 'notice'), ('mistake',), ('defect',))
  }
  started['death',] = _processes('death')
  ended = {names: map(runs.finish, both) for names, both in started.items()}
  first, second = ended['share', 'talk', 'notice']
  assert (first.returncode, second.returncode) == (0, 0), second.stderr
  assert first.stderr == '' and 'SIGTERM caught' in second.stderr  # by JAX
  first, second = ended['mistake',]
  assert (first.returncode, second.returncode) == (2, 2)
  assert first.stderr == 'error: needed this, got that.\n'
  assert second.stderr == ''
  first, second = ended['defect',]
  assert (first.returncode, second.returncode) == (1, 1), (
    first.stderr + second.stderr
  )
  assert first.stderr == (
    'error: process 1 failed: ZeroDivisionError: of ours\n'
  )
  assert 'Traceback' in second.stderr and 'ZeroDivision' in second.stderr
  first, second = ended['death',]
  assert (first.returncode, second.returncode) == (-9, watch.LOST)
  assert GONE.search(second.stderr)[1] == '0'
  assert 'Traceback' not in second.stderr


@pytest.mark.parametrize(
  'given, said',
  [
    ((None, 2, None), 'given without --coordinator and --process_id: give all'),
    (('a:1', None, 0), 'given without --num_processes: give all'),
    ((None, 1, 0), 'given without --coordinator'),
    (('a:1', 2, 2), '--process_id=2 must be from 0 to 1, as there are'),
    (('a:1', 2, -1), '--process_id=-1 must be from 0 to 1'),
    (('a:1', 0, 0), '--num_processes=0 must be at least 1'),
    (('a', 2, 0), '--coordinator=a must read HOST:PORT'),
    ((':1', 2, 0), '--coordinator=:1 must read HOST:PORT'),
    (('a:99999', 2, 0), '--coordinator=a:99999 must read HOST:PORT'),
    (('a:1', 'two', 0), "argument --num_processes: invalid int value: 'two'"),
  ],
)
def test_wrong_flags(given, said):
  pairs = zip(SEVERAL, given, strict=True)
  flags = [f'{name}={value}' for name, value in pairs if value is not None]
  with pytest.raises(errors.UserError) as raised:
    main.processes(['--config=x.py', '--workdir=y', *flags])
  assert said in str(raised.value) and '\n' not in str(raised.value)


def test_flags_that_say_nothing_or_alone():
  words = ['--config=x.py', '--workdir=y']
  assert set(main.processes(words).values()) == {None}
  found = main.processes([*words, '--num_processes=1'])
  assert found['num_processes'] == 1 and found['coordinator'] is None


@pytest.mark.parametrize(
  'environment, found',
  [
    ({}, ''),
    ({'SLURM_STEP_NODELIST': 'a', 'SLURM_NTASKS': '1'}, ''),
    ({'SLURM_STEP_NODELIST': 'a[1-2]', 'SLURM_NTASKS': '2'}, 'SLURM'),
    ({'SLURM_NTASKS': '2'}, ''),  # a batch script, not one of its tasks
    ({'OMPI_COMM_WORLD_SIZE': '1'}, ''),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, 'Open MPI'),
    ({'KUBERNETES_SERVICE_HOST': 'x'}, ''),
    ({'KUBERNETES_SERVICE_HOST': 'x', 'JOB_COMPLETION_INDEX': '0'}, 'Kube'),
  ],
)
def test_what_counts_as_a_cluster(environment, found, monkeypatch):
  for name in ('SLURM_STEP_NODELIST', 'SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE'):
    monkeypatch.delenv(name, raising=False)
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  assert distributed.launcher().startswith(found)
  assert bool(distributed.launcher()) == bool(found)


def test_a_cluster_that_cannot_be_asked_is_a_mistake(monkeypatch):
  """Each of its processes would train by itself, into the same folder."""
  monkeypatch.setenv('OMPI_COMM_WORLD_SIZE', '2')

  def initialize(*args, **kwargs):
    raise ValueError('coordinator_address should be defined.')

  monkeypatch.setattr(distributed.jax.distributed, 'initialize', initialize)
  with pytest.raises(errors.UserError, match='Open MPI should tell of several'):
    with distributed.connected():
      raise AssertionError
  with distributed.connected(num_processes=1):
    pass


def test_a_port_in_use_is_a_mistake():
  with socket.create_server(('', 0)) as server:
    port = server.getsockname()[1]
    with pytest.raises(errors.UserError, match=f'port {port} cannot be used'):
      with distributed.connected(f'localhost:{port}', 2, 0):
        raise AssertionError
