"""Reads every file of a folder as each kind of record that it can be.

  python experiments/converters/run.py --data=FOLDER

Writes results.json and table.md beside this file. Each file that is read is
also written as a Parquet table and read again: the records must be equal. A
folder's files of the same keys are one line of the table.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import json
import os
import pathlib
import sys
import tempfile
from typing import Any

import pyarrow
from pyarrow import parquet as pyarrow_parquet

from instructjax import cli
from instructjax import errors
from instructjax.data import records
from instructjax.data import rows as rows_lib
from instructjax.data import sources

FOLDER = pathlib.Path(__file__).resolve().parent
KINDS = ('prompts', 'demonstrations', 'comparisons', 'pretraining')
Plain = dict[str, Any]


def read_file(path: pathlib.Path, scratch: pathlib.Path) -> Plain:
  """Returns what one file holds.

  Returns:
    {'keys': of its first row, 'kinds': {kind: counts}}, or 'refused': why no
    kind fits.
  """
  if not path.name.endswith(sources.SUFFIXES):
    return {'refused': 'none of the endings that are read'}
  try:
    found = [row for _, row in sources.read_rows(str(path))]
  except errors.UserError as error:
    return {'refused': _without_path(error)}
  first = found[0]
  keys = sorted(first) if isinstance(first, dict) else [type(first).__name__]
  table = _as_table(found, scratch)
  kinds, reasons = {}, {}
  for kind in KINDS:
    try:
      gathered = records.gather(kind, str(path))
    except errors.UserError as error:
      reasons[kind] = _without_path(error)
      continue
    kinds[kind] = gathered.counts()
    if kind == 'comparisons':
      kinds[kind]['pairs'] = len(records.pairs(gathered.records))
    if table:
      again = records.gather(kind, str(table))
      kinds[kind]['equal_from_parquet'] = _same(gathered, again)
  told: Plain = {'keys': keys, 'kinds': kinds}
  if 'preference' in keys:
    told['labels'] = labels_kept(found)
  if not kinds:
    told['refused'] = f'keys {", ".join(keys)}'
    if 'prompt' in keys:
      told['refused'] += f': {reasons["prompts"]}'
  return told


def labels_kept(found: Sequence[Mapping[str, Any]]) -> dict[str, int]:
  """Counts what becomes of QA-Feedback's labels of pairs in ranks."""
  counts = collections.Counter()
  for row in found:
    (comparison,) = rows_lib.READERS['comparisons'](row)
    told = []
    for a, b in itertools.combinations(comparison['ranks'], 2):
      told.append(0 if a == b else 1 if a < b else 2)
    counts['rows that describe an order'] += told == row['preference']
    for label, rank in zip(row['preference'], told, strict=True):
      if label == rank:
        counts['labels kept'] += 1
      elif label == 0:
        counts['ties that became a preference'] += 1
      elif rank == 0:
        counts['preferences that became a tie'] += 1
      else:
        counts['preferences turned round'] += 1
  return dict(counts)


def _as_table(found: list[Any], scratch: pathlib.Path) -> pathlib.Path | None:
  """Writes rows that are objects as Parquet; None for others."""
  if not all(isinstance(row, dict) for row in found):
    return None
  path = scratch / 'table.parquet'
  pyarrow_parquet.write_table(pyarrow.Table.from_pylist(found), path)
  return path


def _same(one: records.Gathered, other: records.Gathered) -> bool:
  bare = [
    [dataclasses.replace(record, location='') for record in x.records]
    for x in (one, other)
  ]
  return bare[0] == bare[1] and one.counts() == other.counts()


def _without_path(error: errors.UserError) -> str:
  """Returns an error's message from the word 'needed' on."""
  text = str(error)
  return text[text.index('needed') :]


def group(files: Mapping[str, Plain]) -> dict[str, Plain]:
  """Joins the files of a folder that have the same keys and kinds."""
  groups: dict[tuple, list[str]] = {}
  for name, told in files.items():
    keys = tuple(told.get('keys', [name]))
    shape = os.path.dirname(name), keys, tuple(told.get('kinds', ()))
    groups.setdefault(shape, []).append(name)
  joined = {}
  for names in groups.values():
    if len(names) == 1:
      joined[names[0]] = files[names[0]]
      continue
    kinds: dict[str, collections.Counter] = {}
    for name in names:
      for kind, counts in files[name].get('kinds', {}).items():
        told = kinds.setdefault(kind, collections.Counter())
        told.update(counts)
    for counts in kinds.values():
      counts['equal_from_parquet'] = counts['equal_from_parquet'] == len(names)
    first = files[names[0]]
    name = f'{os.path.dirname(names[0])}/ ({len(names)} files)'
    joined[name] = first | {'kinds': {k: dict(c) for k, c in kinds.items()}}
  return joined


def table(groups: Mapping[str, Plain]) -> str:
  """Returns the Markdown table of what is read, then of what is not."""
  lines = [
    '| file | as | rows | records | pairs | left out, and why |',
    '|---|---|---|---|---|---|',
  ]
  others = ['', '| not read | why |', '|---|---|']
  for name, told in groups.items():
    for kind, counts in told.get('kinds', {}).items():
      left = [
        f'{count} {key.removeprefix("left out: ")}'
        for key, count in counts.items()
        if key.startswith('left out: ')
      ]
      pairs = counts.get('pairs', '')
      numbers = f'{counts["rows"]} | {counts["records"]} | {pairs}'
      lines.append(f'| {name} | {kind} | {numbers} | {"; ".join(left)} |')
    if 'refused' in told:
      why = told['refused'].replace('|', '\\|')
      others.append(f'| {name} | {why} |')
  return '\n'.join(lines + others) + '\n'


def command(argv: Sequence[str]) -> int:
  """Reads the folder and writes the results."""
  parser = argparse.ArgumentParser(description='Reads all files of a folder.')
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, default=FOLDER)
  args = parser.parse_args(argv)
  if not args.data.is_dir():
    raise errors.UserError(f'{args.data}: needed a folder of data: name one.')
  files = {}
  with tempfile.TemporaryDirectory() as scratch:
    for path in sorted(args.data.rglob('*')):
      if path.is_file() and not path.name.startswith('README'):
        name = str(path.relative_to(args.data))
        files[name] = read_file(path, pathlib.Path(scratch))
  groups = group(files)
  text = json.dumps(groups, indent=1, ensure_ascii=False) + '\n'
  (args.out / 'results.json').write_text(text, encoding='utf-8')
  (args.out / 'table.md').write_text(table(groups), encoding='utf-8')
  print(table(groups))
  return 0


if __name__ == '__main__':
  sys.exit(cli.run(command, sys.argv[1:]))
