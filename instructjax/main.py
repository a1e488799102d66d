"""Runs a config, and first the stages whose results it needs.

  python -m instructjax.main --config=configs/ppo_ptx.py[:ARG] --workdir=DIR \
      [--config.KEY=VALUE ...]

The same command again resumes where it stopped. Exit status: 0 when all is
done, 2 for a wrong config, path or data file, 128 + signal number when Ctrl-C
or SIGTERM asked to save and stop.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import pathlib
import sys

from instructjax import cli
from instructjax import errors

FLAGS = ('--config', '--workdir', '--help', '-h')


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
  return flags


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
  arguments = parse(argv)
  from instructjax import stages  # imports JAX: not before --help and typos

  return stages.run(*arguments)


if __name__ == '__main__':
  sys.exit(cli.start(command))
