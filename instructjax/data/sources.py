"""Files to rows: what a path, folder or glob names, and the rows inside.

Every row comes with its location 'FILE:LINE' ('FILE:ROW' in Parquet, rows
counted from 1), so that whatever is wrong with it later can be told to the
user as a place to open. A folder or glob that matches several splits of a
dataset is read without those that are to measure by; FOLDER:SPLIT names one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import glob
import logging
import os

from instructjax import errors
from instructjax.data import array_records
from instructjax.data import lines
from instructjax.data import parquet
from instructjax.data import split_names
from instructjax.data import tfds_source

log = logging.getLogger('instructjax')
JSON_SUFFIXES = ('.jsonl', '.jsonl.gz', '.json', '.json.gz')
TEXT_SUFFIXES = ('.txt', '.txt.gz', '.md')
ROW_SUFFIXES = (*JSON_SUFFIXES, parquet.SUFFIX, *array_records.SUFFIXES)
SUFFIXES = ROW_SUFFIXES + TEXT_SUFFIXES

# A file or sub-folder of a data folder is of the kind its name begins with.
_PREFIXES = {
  'pretraining': 'pretrain',
  'demonstrations': 'demonstration',
  'comparisons': 'comparison',
  'prompts': 'prompt',
  'public_tasks': 'public_task',
}
# Files about the data, not data: a folder is read without them.
_ABOUT = (
  *('readme', 'license', 'licence', 'changelog', 'sha256sums'),
  *('dataset_info', 'dataset_infos', 'dataset_dict'),
)


def expand(
  spec: str | Iterable[str], suffixes: tuple[str, ...] = SUFFIXES
) -> list[str]:
  """Returns the files a spec names, sorted within each of its parts.

  Args:
    spec: a path, folder (read with its sub-folders), FOLDER:SPLIT, glob,
      `tfds:` name, or a comma-separated string or sequence of these.
    suffixes: the file endings that count inside a folder.

  Returns:
    Paths, each once however it is spelt, in the order of the spec; a `tfds:`
    name is as it was.

  Raises:
    UserError: nothing matches, a file is empty or has an unknown ending.
  """
  if isinstance(spec, str):
    whole = os.path.exists(spec) or glob.has_magic(spec) and glob.glob(spec)
    parts = [spec] if whole else spec.split(',')
  else:
    parts = [os.fspath(part) for part in spec]
  # A shell leaves the tilde of --config.data.prompts=~/x to us.
  parts = [
    part if os.path.exists(part) else os.path.expanduser(part.strip())
    for part in parts
  ]
  parts = [part for part in parts if part]
  if not parts:
    raise errors.UserError(
      'needed a data path, folder or glob, got an empty string: name one.'
    )
  paths = [path for part in parts for path in _expand_one(part, suffixes)]
  for path in paths:
    if not tfds_source.is_spec(path):
      _check_file(path)
  found: dict[str, str] = {}
  for path in paths:
    plain = path if tfds_source.is_spec(path) else os.path.abspath(path)
    found.setdefault(plain, path)
  return list(found.values())


def _expand_one(part: str, suffixes: tuple[str, ...]) -> list[str]:
  if tfds_source.is_spec(part):
    return [part]
  if os.path.isdir(part):
    return _of_folder(part, '', suffixes)
  if os.path.exists(part):
    return [part]
  folder, _, split = part.rpartition(':')
  if split and os.path.isdir(folder):
    return _of_folder(folder, split, suffixes)
  if glob.has_magic(part):
    found = sorted(glob.glob(part, recursive=True))
    files = []
    for path in found:
      files += _walk(path, suffixes) if os.path.isdir(path) else [path]
    # Where none has a fitting name, the first is refused with the reason.
    if files:
      files = [f for f in files if f.endswith(suffixes)] or files
      kept, held_out = split_names.training(files, _fixed(part))
      return _without(part, kept, held_out) if kept else files
    raise errors.UserError(
      f'{part}: needed a glob that matches files, it matches none: '
      f'check it with `ls {part}`.'
    )
  raise errors.UserError(
    f'{part}: needed an existing file, folder or glob, it does not exist: '
    f'check the path.{_nearest_path(part)}'
  )


def _of_folder(folder: str, split: str, suffixes: tuple[str, ...]) -> list[str]:
  """Returns a folder's files, those of one split if it is named."""
  paths = _walk(folder, suffixes)
  if not paths:
    raise errors.UserError(
      f'{folder}: needed a folder with {" ".join(suffixes)} files, got none'
      f'{_listing(folder)}: add one, or name a file.'
    )
  kept, held_out = split_names.training(paths, folder)
  known = sorted([*held_out, *(['train'] if kept else [])])
  if split:
    found = split_names.named(paths, folder, split)
    if not found:
      known = sorted({*known, *map(split_names.label, paths)})
      raise errors.UserError(
        f'{folder}:{split}: needed a split of this folder, it has '
        f'{", ".join(known[:12])}: name one of these.'
        f'{errors.nearest(split, known)}'
      )
    return found
  if not kept:
    raise errors.UserError(
      f'{folder}: needed files to train on, it has only {" and ".join(known)} '
      f'files: name a split if you mean them, {folder}:{known[0]}.'
    )
  return _without(folder, kept, held_out)


def _without(
  spec: str, kept: list[str], held_out: dict[str, list[str]]
) -> list[str]:
  """Returns the files that are kept; says which splits were not."""
  if held_out:
    counts = ', '.join(f'{s} ({len(p)})' for s, p in sorted(held_out.items()))
    log.info(
      '%s: reading the train split, %d files; left alone: %s.',
      spec,
      len(kept),
      counts,
    )
  return kept


def _fixed(pattern: str) -> str:
  """Returns the folder in which a glob begins to match."""
  folder = pattern
  while glob.has_magic(folder):
    folder = os.path.dirname(folder)
  return folder or '.'


def _walk(folder: str, suffixes: tuple[str, ...]) -> list[str]:
  paths, seen = [], set()
  for root, folders, names in os.walk(folder, followlinks=True):
    # A link to a folder above would have everything read many times.
    if (real := os.path.realpath(root)) in seen:
      folders.clear()
      continue
    seen.add(real)
    folders[:] = sorted(f for f in folders if not f.startswith('.'))
    for name in sorted(names):
      about = name.lower().split('.')[0] in _ABOUT
      if name.endswith(suffixes) and not name.startswith('.') and not about:
        paths.append(os.path.join(root, name))
  return sorted(paths)


def _listing(folder: str) -> str:
  try:
    names = sorted(os.listdir(folder))[:4]
  except OSError as error:
    return f' ({error.strerror})'
  return f' (it holds {", ".join(names)})' if names else ' (it is empty)'


def _nearest_path(path: str) -> str:
  """Returns a hint naming what comes closest to a missing path."""
  path = os.path.normpath(path)
  parent = os.path.dirname(path) or '.'
  while not os.path.isdir(parent):
    path, parent = parent, os.path.dirname(parent) or '.'
  try:
    names = os.listdir(parent)
  except OSError:
    return ''
  return errors.nearest(os.path.basename(path), names)


def _check_file(path: str) -> None:
  if not path.endswith(SUFFIXES):
    raise errors.UserError(
      f'{path}: needed a file ending in {" ".join(SUFFIXES)}: rename or '
      'convert it.'
    )
  try:
    empty = os.path.getsize(path) == 0 and os.path.isfile(path)
  except OSError as error:
    raise lines.unreadable(path, error) from None
  if empty:
    raise errors.UserError(
      f'{path}:1: needed at least one row, got an empty file: fill it or '
      'leave it out.'
    )


def find(folder: str, kind: str) -> str | None:
  """Returns a spec of what a data folder holds for one kind of record.

  Args:
    folder: an existing folder.
    kind: 'pretraining', 'demonstrations', 'comparisons', 'prompts' or
      'public_tasks'; files and sub-folders whose name begins with it
      (`pretrain/` too) count.

  Returns:
    A spec for `expand` and `records.load`, None if there is nothing.

  Raises:
    UserError: the folder does not exist.
  """
  if not os.path.isdir(folder):
    raise errors.UserError(
      f'{folder}: needed a folder that holds data by name '
      f'({", ".join(sorted(_PREFIXES))}), it is not one: check the path.'
      f'{_nearest_path(folder)}'
    )
  suffixes = SUFFIXES if kind == 'pretraining' else ROW_SUFFIXES
  found = []
  try:
    names = sorted(os.listdir(folder))
  except OSError as error:
    raise lines.unreadable(folder, error) from None
  for name in names:
    path = os.path.join(folder, name)
    fits = os.path.isdir(path) or name.endswith(suffixes)
    if name.startswith(_PREFIXES[kind]) and fits:
      found.append(path)
  if len(found) == 1:
    return found[0]
  # A glob, not a list: the folder's own name may hold a comma.
  return (
    os.path.join(glob.escape(folder), _PREFIXES[kind] + '*') if found else None
  )


def read_rows(
  path: str,
  on_broken: Callable[[str, str], None] = lines.refuse,
  tfds_dir: str = '',
) -> Iterator[tuple[str, object]]:
  """Yields (location, row) for every row of one file.

  Args:
    path: .jsonl (one value a line, blank lines skipped), .json (a list, or
      JSON lines in disguise), or .txt and .md (the file is one row
      {'text': ...}), each also with .gz; .parquet; .array_record (a JSON
      value a record); or a `tfds:` name.
    on_broken: told the location and the reason of a row that cannot be read,
      where those behind it can.
    tfds_dir: where datasets of TFDS lie; '' = its own default.

  Yields:
    'FILE:LINE' and the decoded JSON value, whatever its type.

  Raises:
    UserError: broken JSON or gzip, bytes that are not UTF-8; no row at all.
  """
  plain = path.removesuffix('.gz')
  rows, broken = 0, []

  def count_broken(location: str, reason: str) -> None:
    broken.append(location)
    on_broken(location, reason)

  if tfds_source.is_spec(path):
    values = tfds_source.read(path, tfds_dir, count_broken)
  elif path.endswith(array_records.SUFFIXES):
    values = array_records.read(path, count_broken)
  elif plain.endswith('.jsonl'):
    found = lines.read(path, count_broken)
    values = lines.json_lines(path, found, count_broken)
  elif plain.endswith('.json'):
    values = lines.json_file(path, count_broken)
  elif path.endswith(parquet.SUFFIX):
    values = parquet.read_rows(path, count_broken)
  else:
    values = [(f'{path}:1', {'text': ''.join(t for _, t in lines.read(path))})]
  for location, value in values:
    rows += 1
    yield location, value
  if not rows and not broken:
    raise errors.UserError(
      f'{path}:1: needed at least one row, got none: fill it or leave it out.'
    )
