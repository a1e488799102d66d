"""Runs a config, and first the stages whose results it needs.

  python -m instructjax.main --config=configs/ppo_ptx.py[:ARG] --workdir=DIR \
      [--config.KEY=VALUE ...]

The same command again resumes where it stopped. Exit status: 0 when all is
done, 2 for a wrong config, path or data file, 128 + signal number when Ctrl-C
or SIGTERM asked to save and stop, 75 when another process of the run has died.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import pathlib
import sys
from typing import Any

from instructjax import cli
from instructjax import errors

_HOSTS = ('coordinator', 'num_processes', 'process_id')
FLAGS = ('--config', '--workdir', *map('--{}'.format, _HOSTS), '--help', '-h')


def parser() -> argparse.ArgumentParser:
  """Returns the parser of everything but the config's own keys."""
  flags = argparse.ArgumentParser(
    prog='python -m instructjax.main',
    description='Train the stage a config describes, and those it needs.',
    epilog='--config.KEY=VALUE overrides any key of the config, as in'
    ' --config.learning_rate.policy=1e-5 or --config.data.prompts=FILE.jsonl.'
    ' The same command again resumes an interrupted run.',
    allow_abbrev=False,
  )
  flags.add_argument(
    '--config',
    required=True,
    metavar='FILE.py[:ARG]',
    help='a file of configs/; ARG is a model size (tiny, gpt2, 1.3B, 6B,'
    ' 175B ...) and further words, as in 6B,data=FOLDER. Without data, tiny'
    ' lives in a world that the run generates',
  )
  flags.add_argument(
    '--workdir',
    required=True,
    metavar='DIR',
    help='where checkpoints, metrics, samples and the report go',
  )
  hosts = flags.add_argument_group(
    'several processes',
    'Found by themselves on Cloud TPU and GKE, under SLURM and Open MPI;'
    ' elsewhere all three are needed. See docs/scaling.md.',
  )
  hosts.add_argument(
    '--coordinator',
    metavar='HOST:PORT',
    help='of process 0, where all others reach it',
  )
  hosts.add_argument(
    '--num_processes',
    type=int,
    metavar='N',
    help='of the run; 1 runs alone, whatever cluster there is',
  )
  hosts.add_argument(
    '--process_id', type=int, metavar='I', help='of this one, from 0'
  )
  return flags


def processes(argv: Sequence[str]) -> dict[str, Any]:
  """Returns what a command line says of the run's processes, by flag's name.

  Raises:
    UserError: for a part of it, or values that cannot be.
  """
  flags = parser()
  flags.error = cli.refuse
  known = vars(flags.parse_known_args(argv)[0])
  found = {name: known[name] for name in _HOSTS}
  count, number = found['num_processes'], found['process_id']
  missing = [f'--{name}' for name in _HOSTS if found[name] is None]
  if 0 < len(missing) < 3 and not (count == 1 and len(missing) == 2):
    raise errors.UserError(
      'several processes need --coordinator, --num_processes and --process_id,'
      f' given without {" and ".join(missing)}: give all three, or none where a'
      ' cluster is found by itself.'
    )
  if count is not None and count < 1:
    raise errors.UserError(f'--num_processes={count} must be at least 1.')
  if missing:
    return found
  if not 0 <= number < count:
    raise errors.UserError(
      f'--process_id={number} must be from 0 to {count - 1}, as there are'
      f' --num_processes={count}.'
    )
  host, _, port = found['coordinator'].rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise errors.UserError(
      f'--coordinator={found["coordinator"]} must read HOST:PORT: the address'
      ' of process 0 and a free port on it, such as 10.0.0.1:1234.'
    )
  return found


def parse(argv: Sequence[str]):
  """Returns (config, workdir, overridden keys) of a command line.

  Raises:
    UserError: for a wrong flag, file, key or value.
  """
  known, config, overridden = parse_with(parser(), FLAGS, argv)
  return config, pathlib.Path(known.workdir), overridden


def parse_with(
  flags: argparse.ArgumentParser, names: Sequence[str], argv: Sequence[str]
):
  """Returns (flags, config, overridden keys) of a command line with a config.

  Args:
    flags: knows every flag but the config's own keys.
    names: of these flags.
    argv: the command line's words.

  Raises:
    UserError: for a wrong flag, file, key or value.
  """
  from instructjax import config as config_lib

  for word in argv:
    flag = word.partition('=')[0]
    if flag.startswith('-') and not flag.startswith('--config.'):
      _check_flag(flag, names)
  flags.error = cli.refuse
  known, rest = flags.parse_known_args(argv)
  values = []
  while rest:
    flag, equals, value = rest.pop(0).partition('=')
    if not flag.startswith('--config.'):
      raise errors.UserError(
        f'needed --config.KEY=VALUE, got {flag!r}. See --help.'
      )
    if not equals:
      if not rest:
        raise errors.UserError(f'{flag} needs a value: {flag}=VALUE.')
      value = rest.pop(0)
    values.append((flag.removeprefix('--config.'), value))
  overridden = [key for key, _ in values]
  config = config_lib.load(known.config, overridden)
  for key, value in values:
    config_lib.override(config, key, value)
  return known, config, overridden


def _check_flag(flag: str, known: Sequence[str]) -> None:
  negative_number = flag[1:2] in tuple('.0123456789')
  if flag not in known and not negative_number:
    raise errors.UserError(
      f'unknown flag {flag!r}.{errors.nearest(flag, known)} Keys of the'
      ' config are set by --config.KEY=VALUE.'
    )


def command(argv: Sequence[str]) -> int:
  """Runs the command line; returns its exit status."""
  arguments, hosts = parse(argv), processes(argv)
  # These import JAX: not before --help and typos.
  from instructjax import distributed
  from instructjax import stages

  with distributed.connected(**hosts):
    return stages.run(*arguments)


if __name__ == '__main__':
  sys.exit(cli.start(command))
