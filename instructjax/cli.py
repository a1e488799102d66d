"""What all entry points share: subcommands, and manners towards mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import logging
import os
import sys

from instructjax import errors

COMMANDS = {
  'train': ('instructjax.main', 'run a config and the stages it needs'),
  'generate': ('instructjax.generate', 'complete prompts, or chat'),
}


_TUNABLES = 'GLIBC_TUNABLES'


def start(command: Callable[[Sequence[str]], int]) -> int:
  """Runs an entry point as a program of its own; returns its exit status."""
  ask_for_huge_pages()
  return run(command, sys.argv[1:])


def ask_for_huge_pages() -> None:
  """Starts this program anew with memory in large pages, where Linux has them.

  On a CPU, XLA asks for its temporary memory anew at every step: in pages of
  4 KiB, a third of a small model's step goes by in page faults. glibc can ask
  for large pages (since 2.35; others ignore it), but only as a process starts.
  """
  if sys.platform != 'linux' or not sys.executable or _TUNABLES in os.environ:
    return
  os.environ[_TUNABLES] = 'glibc.malloc.hugetlb=1'
  os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run(command: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
  """Runs an entry point; a UserError becomes one line and status 2."""
  logging.basicConfig(format='%(message)s', stream=sys.stderr)
  logging.getLogger('instructjax').setLevel(logging.INFO)
  try:
    return command(argv)
  except errors.UserError as error:
    print(f'error: {" ".join(str(error).split())}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('interrupted', file=sys.stderr)
    return 130


def refuse(message: str) -> None:
  """What an argument parser does with a wrong command line."""
  raise errors.UserError(f'{message}. See --help.')


def main() -> int:
  """The console script `instructjax COMMAND ...`."""
  ask_for_huge_pages()
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
