"""Hugging Face folders to model folders of ours, and back.

  python -m instructjax.convert import HF_FOLDER RUN/base/model
  python -m instructjax.convert export RUN/ppo_ptx/model HF_FOLDER \\
      --dtype=bfloat16

A config takes a Hugging Face folder as it is (init_from.policy=FOLDER, or the
word base=FOLDER), so importing one first only saves doing it again. What is
exported loads in transformers and in what builds on it; a reward or value model
becomes a classifier with one label.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import pathlib
import sys
import tempfile

from instructjax import cli
from instructjax import errors


def parser() -> argparse.ArgumentParser:
  """Returns the command line's parser."""
  flags = argparse.ArgumentParser(
    prog='python -m instructjax.convert',
    description='Convert models from and to Hugging Face folders.',
    allow_abbrev=False,
  )
  flags.error = cli.refuse
  ways = flags.add_subparsers(dest='way', required=True, metavar='WAY')
  for way, said in (
    ('import', 'a Hugging Face folder to a model folder of ours'),
    ('export', 'a model folder of ours to a Hugging Face folder'),
  ):
    part = ways.add_parser(way, help=said, description=said, allow_abbrev=False)
    part.error = cli.refuse
    part.add_argument('source', type=pathlib.Path)
    part.add_argument('target', type=pathlib.Path, help='new or empty')
    part.add_argument(
      '--dtype',
      choices=['float32', 'bfloat16'],
      default='float32',
      help='of the parameters',
    )
    if way == 'import':
      part.add_argument(
        '--tokenizer',
        type=pathlib.Path,
        metavar='FOLDER',
        help='where it lies, if not in the source',
      )
    else:
      part.add_argument(
        '--family',
        help='model_type of the result; left out: what the model was imported'
        ' from, or the first that fits',
      )
      part.add_argument(
        '--max_shard_bytes',
        type=int,
        help='of a file; left out: 5 GB',
      )
  return flags


def import_model(options: argparse.Namespace) -> None:
  """Writes a model folder of ours."""
  from instructjax.checkpoints import hf
  from instructjax.checkpoints import hf_config
  from instructjax.checkpoints import orbax_io
  from instructjax.data import vocabulary
  from instructjax.stages import workdir

  orbax_io.check_new(options.target)
  found = hf_config.describe(options.source)
  tokenizer = vocabulary.load(options.tokenizer or options.source)
  config, params = hf.load_pretrained(options.source, dtype=options.dtype)
  description = {
    'config': config.to_dict(),
    'kind': found.kind,
    'family': found.family.model_type,
  }
  workdir.check_vocabulary(options.source, config.vocab_size, tokenizer)
  try:
    with tempfile.TemporaryDirectory() as folder:
      path = vocabulary.keep(tokenizer, pathlib.Path(folder))
      orbax_io.save_model(options.target, params, description, tokenizer=path)
  except OSError as error:
    raise errors.UserError(
      f'{options.target} cannot be written ({error.strerror}): choose another'
      ' folder.'
    ) from error


def export_model(options: argparse.Namespace) -> None:
  """Writes a Hugging Face folder."""
  from instructjax import sharding
  from instructjax.checkpoints import hf
  from instructjax.checkpoints import hf_config
  from instructjax.stages import workdir

  limit = options.max_shard_bytes or hf.MAX_SHARD_BYTES
  if limit < 1 or options.max_shard_bytes == 0:
    raise errors.UserError(
      f'--max_shard_bytes={options.max_shard_bytes} must be at least 1.'
    )
  start = workdir.look_at(workdir.existing_folder(options.source))
  family = options.family or start.description.get('family')
  hf.save_pretrained(
    options.target,
    start.config,
    start.load(sharding.make_mesh()),
    family=family or hf_config.fitting(start.config),
    tokenizer=workdir.load_tokenizer(start.folder),
    max_shard_bytes=limit,
    dtype=options.dtype,
  )


def command(argv: Sequence[str]) -> int:
  """Runs the command line; returns its exit status."""
  options = parser().parse_args(argv)
  {'import': import_model, 'export': export_model}[options.way](options)
  print(f'{options.source} -> {options.target}')
  return 0


if __name__ == '__main__':
  sys.exit(cli.start(command))
