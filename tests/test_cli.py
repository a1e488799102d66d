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

MODULES = ('instructjax.main', 'instructjax.generate')


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


@pytest.mark.skipif(sys.platform != 'linux', reason='other systems have none')
def test_a_program_asks_for_huge_pages_unless_told(tmp_path):
  program = tmp_path / 'program.py'
  program.write_text(
    'import os, sys\nfrom instructjax import cli\n'
    "def show(argv): print(argv, os.environ['GLIBC_TUNABLES']); return 7\n"
    'sys.exit(cli.start(show))\n'
  )
  command = [sys.executable, '-W', 'error', str(program), '--a b', '']
  for given, seen in (None, 'glibc.malloc.hugetlb=1'), ('x', 'x'):
    env = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
    env.update({'GLIBC_TUNABLES': given} if given else {})
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (7, '')
    assert done.stdout == f"['--a b', ''] {seen}\n"
