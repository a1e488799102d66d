"""The command lines' manners: help, typos, status, and how fast they answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from instructjax import cli
from instructjax import errors
from instructjax import main
from tests import runs

MODULES = ('instructjax.main', 'instructjax.generate', 'instructjax.prepare')


@pytest.mark.parametrize('module', MODULES)
def test_help_is_quick_and_needs_no_jax(module):
  code = f"""
import runpy, sys
sys.argv = ['{module}', '--help']
try:
  runpy.run_module('{module}', run_name='__main__')
except SystemExit as end:
  assert end.code == 0, end.code
heavy = {{'jax', 'flax', 'numpy', 'orbax'}} & set(sys.modules)
assert not heavy, heavy
"""
  began = time.perf_counter()
  result = runs.run(['-c', code])
  seconds = time.perf_counter() - began
  assert result.returncode == 0, result.stderr
  assert result.stdout.startswith(f'usage: python -m {module} ')
  assert seconds < 3


@pytest.mark.parametrize(
  'argv, said',
  [
    ([], 'required: --config, --workdir'),
    (['--config=configs/sft.py'], 'required: --workdir'),
    (['--confg=configs/sft.py', '--workdir=x'], "Did you mean '--config'?"),
    (['--config=configs/sft.py', '--workdr=x'], "Did you mean '--workdir'?"),
    (['--config=configs/sft.py', '--workdir=x', '-v'], "unknown flag '-v'"),
    (['--config=configs/sft.py', '--workdir=x', 'y'], "got 'y'"),
    (['--config=configs/sft.py', '--workdir=x', '--seed=1'], "'--seed'"),
    (
      ['--config=configs/sft.py', '--workdir=x', '--config.seed'],
      '--config.seed needs a value',
    ),
    (
      ['--config=configs/sft.py', '--workdir=x', '--config.sed=1'],
      "Did you mean 'seed'?",
    ),
    (['--config', '--workdir=x'], 'argument --config: expected one argument'),
  ],
)
def test_wrong_command_lines(argv, said, capsys, monkeypatch):
  monkeypatch.chdir(runs.ROOT)
  assert cli.run(main.command, argv) == 2
  out, err = capsys.readouterr()
  (line,) = err.splitlines()
  assert out == '' and line.startswith('error: ') and said in line


def test_values_after_a_space_and_negative_ones(monkeypatch):
  monkeypatch.chdir(runs.ROOT)
  argv = ['--config=configs/sft.py:tiny', '--config.seed', '-3']
  argv += ['--workdir', 'x', '--config.dropout', '.5']
  config, workdir, overridden = main.parse(argv)
  assert config.seed == -3 and config.dropout == 0.5
  assert str(workdir) == 'x' and overridden == ['seed', 'dropout']


def test_a_mistake_is_one_line_and_a_defect_keeps_its_traceback(capsys):
  def mistaken(argv):
    raise errors.UserError(f'needed\n  one line,   got {argv}')

  def defective(argv):
    raise ValueError(argv)

  def interrupted(argv):
    raise KeyboardInterrupt

  assert cli.run(mistaken, ['x']) == 2
  assert capsys.readouterr().err == "error: needed one line, got ['x']\n"
  with pytest.raises(ValueError):
    cli.run(defective, [])
  assert cli.run(interrupted, []) == 130
  assert capsys.readouterr().err == 'interrupted\n'
  assert cli.run(len, ['a', 'b', 'c']) == 3


def test_the_console_script(capsys):
  def call(*argv):
    return cli.dispatch(argv), *capsys.readouterr()

  status, out, err = call('--help')
  assert status == 0 and err == ''
  assert all(name in out for name in cli.COMMANDS)
  assert call() == (0, out, '')
  status, out, err = call('trian')
  assert (status, out) == (2, '')
  assert err == "error: unknown command 'trian'. Did you mean 'train'?\n"
  status, out, err = call('train', '--config=nowhere.py', '--workdir=x')
  assert (status, out) == (2, '') and 'no such file' in err
  status, out, err = call('generate')
  assert (status, out) == (2, '') and 'required: --model' in err


class TestLargePages:
  """Which programs start anew with large pages: those that are our own."""

  pytestmark = pytest.mark.skipif(
    sys.platform != 'linux', reason='other systems have none to ask for'
  )
  SHOW = """
import os, sys
from instructjax import cli
def show(argv):
  print(argv, os.environ.get('GLIBC_TUNABLES'))
  return 7
"""

  def _run(self, args, tunables=None, stdin=None):
    env = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
    env['PYTHONPATH'] = str(runs.ROOT)
    if tunables is not None:
      env['GLIBC_TUNABLES'] = tunables
    command = [sys.executable, '-W', 'error', *args]
    return subprocess.run(
      command, env=env, input=stdin, capture_output=True, text=True, timeout=60
    )

  def test_a_program_unless_it_was_told(self, tmp_path):
    program = tmp_path / 'program.py'
    program.write_text(self.SHOW + 'sys.exit(cli.start(show))\n')
    for given, seen in (None, 'glibc.malloc.hugetlb=1'), ('x', 'x'), ('', ''):
      done = self._run([str(program), '--a b', ''], given)
      assert (done.returncode, done.stderr) == (7, '')
      assert done.stdout == f"['--a b', ''] {seen}\n"

  def test_no_program_that_only_calls_it(self, tmp_path):
    done = self._run(['-', 'a'], stdin=self.SHOW + 'cli.start(show)\n')
    assert (done.stdout, done.stderr) == ("['a'] None\n", '')
    caller = tmp_path / 'caller.py'
    caller.write_text(
      'import runpy, sys\nprint("once", flush=True)\n'
      'sys.argv[1:] = ["--help"]\n'
      'runpy.run_module("instructjax.generate", run_name="__main__")\n'
    )
    done = self._run([str(caller)])
    assert done.returncode == 0 and done.stdout.count('once') == 1

  @pytest.mark.parametrize('module', [*MODULES, 'instructjax.cli'])
  def test_the_entry_points(self, module, tmp_path):
    """Told by a Python that reports how it was started."""
    (tmp_path / 'sitecustomize.py').write_text(
      'import os, sys\n'
      'print(os.environ.get("GLIBC_TUNABLES"), file=sys.stderr)\n'
    )
    program = ['-m', module, '--help']
    if module == 'instructjax.cli':  # as the console script calls it
      script = tmp_path / 'instructjax'
      script.write_text('from instructjax.cli import main\nmain()\n')
      program = [str(script), '--help']
    env = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
    env['PYTHONPATH'] = f'{tmp_path}:{runs.ROOT}'
    done = subprocess.run(
      [sys.executable, *program],
      env=env,
      capture_output=True,
      text=True,
      timeout=60,
    )
    assert done.stderr.split() == ['None', 'glibc.malloc.hugetlb=1']
    assert 'usage' in done.stdout
