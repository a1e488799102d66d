"""Tells what a config costs on a topology, without the hardware.

  python -m instructjax.plan --config=configs/ppo_ptx.py:175B \
      --topology=v5p:8x8x8 [--json=FILE] [--config.KEY=VALUE ...]

Compiles the programs that training would run, from shapes alone: no weight is
made and no data is read. TPU topologies need the extra `plan` (libtpu, which
has TPU's compiler); cpu:8 stands for eight virtual devices of this machine.

Exit status: 0, whether it fits or not; 2 for a wrong flag, config or topology.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import os
import pathlib
import sys

from instructjax import cli
from instructjax import errors

FLAGS = ('--config', '--topology', '--json', '--help', '-h')


def parser() -> argparse.ArgumentParser:
  """Returns the parser of everything but the config's own keys."""
  flags = argparse.ArgumentParser(
    prog='python -m instructjax.plan',
    description='Compile what a config would run, and say whether it fits.',
    epilog='--config.KEY=VALUE overrides any key of the config, as for'
    ' instructjax.main.',
    allow_abbrev=False,
  )
  flags.add_argument(
    '--config',
    required=True,
    metavar='FILE.py[:ARG]',
    help='as for instructjax.main; data is not needed',
  )
  flags.add_argument(
    '--topology',
    required=True,
    metavar='KIND:SHAPE',
    help='a TPU slice by its chips (v4:2x2x1, v5e:16x16, v5p:8x8x8, v6e:8x8)'
    ' or cpu:N',
  )
  flags.add_argument('--json', metavar='FILE', help='write the plan there too')
  return flags


def command(argv: Sequence[str]) -> int:
  """Runs the command line; returns its exit status."""
  from instructjax import main

  known, config, _ = main.parse_with(parser(), FLAGS, argv)
  _check_folder(known.json)
  from instructjax.checkpoints import orbax_io
  from instructjax.planning import cost
  from instructjax.planning import programs
  from instructjax.planning import topology

  devices = topology.find(known.topology)
  stage = programs.find_stage(config, devices)
  report = cost.plan(stage, known.topology, say=_say)
  print(cost.table(report))
  for text in cost.advice(stage, report):
    print(f'  try {text}')
  for text in stage.before:
    print(f'a stage that comes first would be refused there: {text}')
  if known.json:
    orbax_io.write_json(pathlib.Path(known.json), report)
  return 0


def _say(program: str) -> None:
  print(f'compiling {program} ...', file=sys.stderr, flush=True)


def _check_folder(path: str | None) -> None:
  """Raises UserError if a file cannot be written, before hours of compiling."""
  if path is None:
    return
  file = pathlib.Path(path).absolute()
  if not path or file.is_dir() or not os.access(file.parent, os.W_OK):
    raise errors.UserError(
      f'--json={path}: needed a file in a folder that can be written to: give'
      f' another, or make {file.parent} first.'
    )


if __name__ == '__main__':
  sys.exit(cli.start(command))
