"""Makes the paper's datasets of raw prompt logs.

  python -m instructjax.prepare --prompts=GLOB --out=DIR \
      [--config=configs/prepare.py --config.KEY=VALUE ...] \
      [--runner=RUNNER with flags of Apache Beam]

Reads prompt records (.jsonl and .json, also with .gz, .parquet, .array_record)
and writes
DIR/{sft,rm,ppo}_{train,valid}.jsonl, DIR/test.jsonl, DIR/ledger.json (rows in,
dropped by each rule, out), DIR/dropped.jsonl (which rows), DIR/stats.md and
DIR/figures. docs/data_rules.md defines the rules. The same command again gives
the same bytes, in whatever order rows and files come, here or with Beam.

Exit status: 0 when all is done, 2 for a wrong flag, config or row.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import functools
import logging
import os
import pathlib
import sys

from instructjax import cli
from instructjax import errors
from instructjax import main

FLAGS = ('--config', '--prompts', '--out', '--runner', '--help', '-h')
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
  flags.add_argument(
    '--runner',
    metavar='RUNNER',
    help='of Apache Beam (extra "beam"): DirectRunner, DataflowRunner ...; all'
    ' other flags are then for Beam. Default: worker processes, no Beam',
  )
  return flags


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """Splits a command line into our words and, with --runner, Beam's."""
  ours, beams = [], []
  if not any(word.partition('=')[0] == '--runner' for word in argv):
    return list(argv), beams
  words = ours
  for word in argv:
    flag = word.partition('=')[0]
    if flag.startswith('--') or flag in FLAGS:
      own = flag in FLAGS or flag.startswith('--config.')
      words = ours if own else beams
    words.append(word)
  return ours, beams


def command(argv: Sequence[str]) -> int:
  """Runs the command line; returns its exit status."""
  ours, of_beam = split(argv)
  known, config, _ = main.parse_with(parser(), FLAGS, ours)
  # These import NumPy: not before --help and typos.
  from instructjax.curation import figures
  from instructjax.curation import files
  from instructjax.curation import finish
  from instructjax.curation import pipeline
  from instructjax.curation import stats
  from instructjax.data import records

  settings = to_settings(config)
  if config.workers < 0:
    raise errors.UserError(
      f'config.workers={config.workers}: needed at least 0 (all cores).'
    )
  tokenizer = {}
  if settings.tokenizer:
    tokenizer[settings.tokenizer] = finish.fingerprint(settings.tokenizer)
  out = pathlib.Path(known.out)
  files.check_apart(known.out, known.prompts)
  if known.runner:
    beam, inputs = _beam()
    paths = inputs.find(known.prompts)
    scanned = inputs.scan(paths)
    flags = [f'--runner={known.runner}', *of_beam]
    run = functools.partial(beam.run, flags=flags)
  else:
    paths = records.paths('prompts', known.prompts)
    scanned = pipeline.scan(paths)
    workers = config.workers or os.cpu_count() or 1
    run = functools.partial(pipeline.run, workers=workers)
  digests = [file.digest for file in scanned]
  made_from = _made_from(config, tokenizer, paths, digests)
  files.check_out(out, made_from, config.overwrite)
  with files.staging(out) as folder:
    ledger, tally = run(scanned, settings, folder)
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


def _beam():
  """Returns the modules that run Beam, which is slow to import."""
  # Beam warns of what it lacks for Google's services, whether used or not.
  log = logging.getLogger()
  level = log.level
  log.setLevel(logging.ERROR)
  try:
    from instructjax.curation import beam
    from instructjax.curation import beam_inputs
  except ModuleNotFoundError as error:
    if error.name != 'apache_beam':
      raise
    raise errors.UserError(
      '--runner: needed Apache Beam, it is not installed: pip install'
      " 'instructjax[beam]', or leave --runner out."
    ) from None
  finally:
    log.setLevel(level)
  return beam, beam_inputs


def to_settings(config):
  """Returns the rules' settings as a config has them.

  Raises:
    UserError: for a value that cannot be.
  """
  from instructjax.curation import language
  from instructjax.curation import pii
  from instructjax.curation import settings

  values = {k: v for k, v in config.to_dict().items() if k not in _MANNER}
  for name in 'pii_kinds', 'languages', 'formats':
    words = (word.strip() for word in values[name].split(','))
    values[name] = tuple(word for word in words if word)
  pii.check_kinds(values['pii_kinds'])
  language.check_tags(values['languages'])
  return settings.Settings(**values)


def _made_from(
  config,
  tokenizer: dict[str, str],
  paths: Sequence[str],
  digests: Sequence[str],
) -> dict:
  """Returns what the bytes of the output depend on."""
  plain = config.to_dict()
  return {
    'config': {k: v for k, v in plain.items() if k not in _MANNER},
    'tokenizer': tokenizer,
    'prompts': dict(zip(paths, digests, strict=True)),
  }


if __name__ == '__main__':
  sys.exit(cli.start(command))
