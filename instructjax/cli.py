"""What all entry points share: subcommands, and manners towards mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import logging
import sys

from instructjax import errors
from instructjax import host_memory

COMMANDS = {
  'train': ('instructjax.main', 'run a config and the stages it needs'),
  'convert': ('instructjax.convert', 'from and to Hugging Face folders'),
  'plan': ('instructjax.plan', 'what a config costs on a topology'),
  'generate': ('instructjax.generate', 'complete prompts, or chat'),
  'prepare': ('instructjax.prepare', 'raw prompt logs to datasets'),
}


def start(command: Callable[[Sequence[str]], int]) -> int:
  """Runs an entry point as a program of its own; returns its exit status."""
  host_memory.restart_with_large_pages(command)
  return run(command, sys.argv[1:])


def run(command: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
  """Runs an entry point; a UserError becomes one line and status 2."""
  logging.basicConfig(format='%(message)s', stream=sys.stderr)
  logging.getLogger('instructjax').setLevel(logging.INFO)
  try:
    return command(argv)
  except errors.UserError as error:
    print(errors.line(error), file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    return 130


def refuse(message: str) -> None:
  """What an argument parser does with a wrong command line."""
  raise errors.UserError(f'{message}. See --help.')


def main() -> int:
  """The console script `instructjax COMMAND ...`."""
  host_memory.restart_with_large_pages(main)
  return dispatch(sys.argv[1:])


def dispatch(argv: Sequence[str]) -> int:
  """Runs the entry point that the first word names, on the other words."""
  import importlib

  if argv and argv[0] in COMMANDS:
    module = importlib.import_module(COMMANDS[argv[0]][0])
    return run(module.command, argv[1:])
  lines = [f'  {name:10} {text}' for name, (_, text) in COMMANDS.items()]
  usage = 'usage: instructjax COMMAND ...\n\ncommands:\n' + '\n'.join(lines)
  if not argv or argv[0] in ('-h', '--help'):
    print(usage)
    return 0
  hint = errors.nearest(argv[0], COMMANDS)
  print(f'error: unknown command {argv[0]!r}.{hint}', file=sys.stderr)
  return 2
