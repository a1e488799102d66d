"""The microworld's numbers: the default command, seed by seed, and further.

  python experiments/microworld/run.py --workdir=DIR [--seeds=0,1,2] \
      [--with=base_large,reward_model_pairs,kl_sweep]

Runs the README's first command in DIR/seed0, DIR/seed1 ... with nothing
compiled before, and once more to see that it returns at once; on demand also
what takes longer: a base model of eleven times the size, the reward model on
shuffled pairs, and PPO at other coefficients (kl_sweep.py, in a copy of the
run's stages). DIR/seed0/commands.json keeps how long each command took and how
much memory. summarize.py then writes results.json and figures/ beside this
file. Interrupted, the same command goes on; what is done is not done again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PARTS = ('base_large', 'reward_model_pairs', 'kl_sweep')
# What the sweep starts from or is compared with, and what of it takes space.
BORROWED = (
  *('microworld', 'pretrain', 'sft', 'rl_init', 'collect', 'reward_model'),
  *('ppo', 'ppo_ptx', 'evaluation'),
)
LEFT_BEHIND = ('checkpoints', 'frozen', 'epochs', 'tensorboard')


def steps(parts: Sequence[str]) -> list[tuple[str, str]]:
  """Returns [(name, config)] of the commands of every seed, in order.

  Args:
    parts: of PARTS.
  """
  found = [('default', 'configs/ppo_ptx.py'), ('again', 'configs/ppo_ptx.py')]
  for part in parts:
    if part == 'kl_sweep':
      found.append((part, 'experiments/microworld/kl_sweep.py'))
    else:
      found.append((part, f'configs/{part}.py'))
      found.append((f'{part}_evaluated', 'configs/ppo_ptx.py'))
  return found


def folder(workdir: pathlib.Path, seed: int, name: str = '') -> pathlib.Path:
  """Returns the run's folder of a seed, or that of its sweep."""
  sweep = '_kl_sweep' if name == 'kl_sweep' else ''
  return workdir / f'seed{seed}{sweep}'


def command(config: str, run: pathlib.Path, seed: int) -> list[str]:
  """Returns the arguments of Python."""
  flags = [f'--config={config}', f'--workdir={run}', f'--config.seed={seed}']
  return ['-m', 'instructjax.main', *flags]


def borrow(run: pathlib.Path, sweep: pathlib.Path) -> None:
  """Copies a finished run's stages to a folder, unless they are there."""
  if sweep.exists():
    return
  part = sweep.with_name(f'.{sweep.name}.part')
  shutil.rmtree(part, ignore_errors=True)
  part.mkdir()
  shutil.copy2(run / 'tokenizer.model', part)
  for name in BORROWED:
    if (run / name).exists():  # rl_init is only there if somebody ran it
      ignore = shutil.ignore_patterns(*LEFT_BEHIND)
      shutil.copytree(run / name, part / name, ignore=ignore)
  part.rename(sweep)


def call(arguments: Sequence[str], cache: pathlib.Path) -> dict[str, Any]:
  """Runs Python from the project's root, showing what it says.

  Args:
    arguments: of Python.
    cache: where this user's caches lie; empty, nothing has been compiled.

  Returns:
    'status', 'seconds', 'peak_memory_gb' (10^9 bytes) and
    'longest_silence_seconds', in which it printed nothing.
  """
  began = last = time.perf_counter()
  silence = 0.0
  environment = {**os.environ, 'XDG_CACHE_HOME': str(cache)}
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)
  process = subprocess.Popen(
    [sys.executable, *arguments],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    errors='replace',
    start_new_session=True,  # Ctrl-C reaches it through `forwarding` alone
  )
  with forwarding(process.pid), process.stdout as output:
    for line in output:
      last, before = time.perf_counter(), last
      silence = max(silence, last - before)
      print(line, end='', flush=True)
    _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  ended = time.perf_counter()
  unit = 1 if sys.platform == 'darwin' else 1024  # of ru_maxrss, bytes
  return {
    'status': process.returncode,
    'seconds': ended - began,
    'peak_memory_gb': usage.ru_maxrss * unit / 1e9,
    'longest_silence_seconds': max(silence, ended - last),
  }


@contextlib.contextmanager
def forwarding(pid: int) -> Iterator[None]:
  """Passes Ctrl-C and SIGTERM on to a process, which saves and stops."""
  numbers = (signal.SIGINT, signal.SIGTERM)
  old = {
    number: signal.signal(number, lambda got, _: os.kill(pid, got))
    for number in numbers
  }
  try:
    yield
  finally:
    for number, handler in old.items():
      signal.signal(number, handler)


def commit() -> str:
  """Returns which commit is run; '' if unknown.

  '-dirty' follows if files differ, other than those that summarize.py writes.
  """
  head = _git('rev-parse', '--short', 'HEAD')
  written = [f':(exclude){HERE / name}' for name in ('results.json', 'figures')]
  changed = _git('status', '--porcelain', '-uno', '--', '.', *written)
  return head + ('-dirty' if changed else '')


def _git(*arguments: str) -> str:
  """What git says in the project's root; '' if it cannot."""
  try:
    told = subprocess.run(
      ['git', *arguments], cwd=ROOT, capture_output=True, text=True
    )
  except OSError:
    return ''
  return told.stdout.strip()


def perform(workdir: pathlib.Path, seed: int, name: str, config: str) -> int:
  """Runs one command of one seed, unless it is done; returns its status.

  commands.json is written before and after. 'calls' counts those that were cut
  short too: the seconds of more than one are no measurement.
  """
  run = folder(workdir, seed)
  run.mkdir(parents=True, exist_ok=True)
  path = run / 'commands.json'
  told = json.loads(path.read_text()) if path.exists() else {}
  known = told.get(name, {})
  if known.get('status') == 0:
    return 0
  if name == 'kl_sweep':
    borrow(run, folder(workdir, seed, name))
  arguments = command(config, folder(workdir, seed, name), seed)
  print(f'$ python {" ".join(arguments)}', flush=True)
  begun = {
    'arguments': arguments,
    'commit': commit(),
    'calls': known.get('calls', 0) + 1,
    'status': None,
  }
  _write(path, told | {name: begun})
  found = call(arguments, workdir / 'cache' / f'seed{seed}')
  _write(path, told | {name: begun | found})
  return found['status']


def _write(path: pathlib.Path, value: Any) -> None:
  part = path.with_name(f'.{path.name}.part')
  part.write_text(json.dumps(value, indent=2) + '\n')
  part.replace(path)


def options(argv: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the command line."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument('--workdir', required=True, type=pathlib.Path)
  flags.add_argument('--seeds', default='0,1,2', help='separated by commas')
  flags.add_argument('--with', dest='parts', default='', help=','.join(PARTS))
  found = flags.parse_args(argv)
  found.seeds = [int(seed) for seed in found.seeds.split(',')]
  found.parts = [part for part in found.parts.split(',') if part]
  unknown = set(found.parts) - set(PARTS)
  if unknown:
    flags.error(f'--with={unknown.pop()}: it is none of {", ".join(PARTS)}')
  return found


def main() -> int:
  """Runs every command of every seed, and writes the results."""
  given = options()
  workdir = given.workdir.resolve()
  for name, config in steps(given.parts):
    for seed in given.seeds:
      status = perform(workdir, seed, name, config)
      if status:
        return status if status > 0 else 128 - status
  module = 'experiments.microworld.summarize'
  arguments = [sys.executable, '-m', module, f'--workdir={workdir}']
  return subprocess.run(arguments, cwd=ROOT).returncode


if __name__ == '__main__':
  sys.exit(main())
