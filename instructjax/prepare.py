"""Makes the paper's datasets of raw prompt logs.

  python -m instructjax.prepare --prompts=GLOB --out=DIR \
      [--config=configs/prepare.py --config.KEY=VALUE ...]

Reads prompt records (.jsonl, .json, .parquet, also with .gz) and writes
DIR/{sft,rm,ppo}_{train,valid}.jsonl, DIR/test.jsonl, DIR/ledger.json (rows in,
dropped by each rule, out), DIR/dropped.jsonl (which rows), DIR/stats.md and
DIR/figures. docs/data_rules.md defines the rules. The same command again gives
the same bytes, in whatever order rows and files come.

Exit status: 0 when all is done, 2 for a wrong flag, config or row.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import os
import pathlib
import sys

from instructjax import cli
from instructjax import errors
from instructjax import main

FLAGS = ('--config', '--prompts', '--out', '--help', '-h')
# How the work is done, which changes nothing of what comes out.
_MANNER = ('workers', 'overwrite')


def parser() -> argparse.ArgumentParser:
  """Returns the parser of everything but the config's own keys."""
  flags = argparse.ArgumentParser(
    prog='python -m instructjax.prepare',
    description="Make the paper's datasets of raw prompt logs.",
    epilog='--config.KEY=VALUE overrides any key of the config, as in'
    ' --config.max_per_user=100. docs/data_rules.md has them all.',
    allow_abbrev=False,
  )
  flags.add_argument(
    '--prompts',
    required=True,
    metavar='GLOB',
    help='raw prompts: files, folders or globs, separated by commas',
  )
  flags.add_argument(
    '--out',
    required=True,
    metavar='DIR',
    help='where datasets, ledger, tables and figures go',
  )
  configs = pathlib.Path(__file__).resolve().parents[1] / 'configs'
  flags.add_argument(
    '--config',
    default=str(configs / 'prepare.py'),
    metavar='FILE.py',
    help='default: configs/prepare.py',
  )
  return flags


def command(argv: Sequence[str]) -> int:
  """Runs the command line; returns its exit status."""
  known, config, _ = main.parse_with(parser(), FLAGS, argv)
  # These import NumPy: not before --help and typos.
  from instructjax.curation import figures
  from instructjax.curation import files
  from instructjax.curation import pipeline
  from instructjax.curation import stats
  from instructjax.data import records

  settings = to_settings(config)
  if config.workers < 0:
    raise errors.UserError(
      f'config.workers={config.workers}: needed at least 0 (all cores).'
    )
  out = pathlib.Path(known.out)
  paths = records.files('prompts', known.prompts)
  scanned = pipeline.scan(paths)
  made_from = _made_from(config, paths, [file.digest for file in scanned])
  files.check_out(out, made_from, config.overwrite)
  with files.staging(out) as folder:
    workers = config.workers or os.cpu_count() or 1
    ledger, tally = pipeline.run(scanned, settings, folder, workers)
    files.write_json(folder / files.LEDGER, ledger)
    files.write_json(folder / files.CONFIG, made_from)
    if 'arrayrecord' in settings.formats:
      files.write_array_records(folder)
    drawn = figures.draw(folder / 'figures', tally, ledger)
    counted = settings.tokenizer or 'words and marks'
    stats.write(folder, tally, counted, ledger, drawn)
    files.publish(folder, out)
  print(f'{known.prompts} -> {out}')
  return 0


def to_settings(config):
  """Returns the rules' settings as a config has them.

  Raises:
    UserError: for a value that cannot be.
  """
  from instructjax.curation import pii
  from instructjax.curation import settings

  values = {k: v for k, v in config.to_dict().items() if k not in _MANNER}
  for name in 'pii_kinds', 'languages', 'formats':
    words = (word.strip() for word in values[name].split(','))
    values[name] = tuple(word for word in words if word)
  pii.check_kinds(values['pii_kinds'])
  return settings.Settings(**values)


def _made_from(config, paths: Sequence[str], digests: Sequence[str]) -> dict:
  """Returns what the bytes of the output depend on."""
  plain = config.to_dict()
  return {
    'config': {k: v for k, v in plain.items() if k not in _MANNER},
    'prompts': dict(zip(paths, digests, strict=True)),
  }


if __name__ == '__main__':
  sys.exit(cli.start(command))
