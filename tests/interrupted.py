"""Runs instructjax.main and sends itself a signal at a moment given by name.

  python tests/interrupted.py SIGNAL STAGE MOMENT MAIN_FLAGS...

MOMENT is one of
  line:N     iteration N's line of metrics.jsonl has just been written
  saving:N   iteration N's checkpoint has just begun to be written
  model      the stage's model is written, but has not got its name yet
  epoch:N    so for the model of its N-th epoch
  summary    all is done but writing summary.json
  rows:NAME  NAME.jsonl of a microworld's records has just been written
  batch:N    the N-th batch of prompts is about to be answered
  asked:NAME what the evaluation has of model NAME is about to be written
  chosen     the stage's model has just made room for that of a better epoch

A test cannot hit these from outside: they last for milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import itertools
import os
import pathlib
import signal
import sys

from instructjax import cli
from instructjax import main
from instructjax import metrics
from instructjax.checkpoints import orbax_io
from instructjax.microworld import files
from instructjax.stages import answers
from instructjax.stages import select


def interrupt(
  number: signal.Signals, owner: object, name: str, at: Callable[..., bool]
) -> None:
  """Makes a function send the signal when `at(*arguments)`: once it has run,
  or before it writes, if what it writes must not be there."""
  function = getattr(owner, name)

  @functools.wraps(function)
  def wrapped(*args, **kwargs):
    due = at(*args)
    if due and name == 'write_json':
      os.kill(os.getpid(), number)
    result = function(*args, **kwargs)
    if due:
      os.kill(os.getpid(), number)
    return result

  setattr(owner, name, wrapped)


def arrange(number: signal.Signals, stage: str, moment: str) -> None:
  """Prepares for the moment."""
  kind, _, n = moment.partition(':')

  def in_stage(path: pathlib.Path) -> bool:
    return stage in path.parts

  if kind == 'line':
    interrupt(
      number,
      metrics.MetricsLog,
      'write',
      lambda log, i, *_: log.stage == stage and i == int(n),
    )
  elif kind == 'saving':
    interrupt(
      number,
      orbax_io.Checkpointer,
      'save',
      lambda c, i, *_: in_stage(c.folder) and i == int(n),
    )
  elif kind == 'chosen':
    interrupt(
      number,
      select.shutil,
      'rmtree',
      lambda path, **_: in_stage(path) and path.name == 'model',
    )
  elif kind == 'rows':
    interrupt(number, files, 'write_rows', lambda path, _: path.stem == n)
  elif kind == 'batch':
    batches = itertools.count(1)
    interrupt(
      number, answers.Model, '_padded', lambda *_: next(batches) == int(n)
    )
  else:
    file = {
      'model': '.model.part/model.json',
      'epoch': f'.{n.zfill(3)}.part/model.json',
      'summary': 'summary.json',
      'asked': f'evaluation/{n}.json',
    }[kind]
    interrupt(
      number,
      orbax_io,
      'write_json',
      lambda path, value: in_stage(path) and str(path).endswith(file),
    )


if __name__ == '__main__':
  arrange(signal.Signals[sys.argv[1]], sys.argv[2], sys.argv[3])
  sys.exit(cli.run(main.command, sys.argv[4:]))
