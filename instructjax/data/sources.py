"""Files to rows: what a path, folder or glob names, and the lines inside.

Every row comes with its location 'FILE:LINE', so that whatever is wrong with
it later can be told to the user as a place to open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
import glob
import gzip
import json
import os
import zlib

from instructjax import errors
from instructjax.data import array_records
from instructjax.data import tfds_source

JSON_SUFFIXES = ('.jsonl', '.jsonl.gz', '.json', '.json.gz')
JSON_SUFFIXES += array_records.SUFFIXES
TEXT_SUFFIXES = ('.txt', '.txt.gz', '.md')
SUFFIXES = JSON_SUFFIXES + TEXT_SUFFIXES

# A file or sub-folder of a data folder is of the kind its name begins with.
_PREFIXES = {
  'pretraining': 'pretrain',
  'demonstrations': 'demonstration',
  'comparisons': 'comparison',
  'prompts': 'prompt',
  'public_tasks': 'public_task',
}
# Files about the data, not data: a folder is read without them.
_ABOUT = ('readme', 'license', 'licence', 'changelog', 'sha256sums')


def expand(
  spec: str | Iterable[str], suffixes: tuple[str, ...] = SUFFIXES
) -> list[str]:
  """Returns the files a spec names, sorted within each of its parts.

  Args:
    spec: a path, folder (read with its sub-folders), glob, `tfds:` name, or
      a comma-separated string or sequence of these.
    suffixes: the file endings that count inside a folder.

  Returns:
    Paths, each once, in the order of the spec; a `tfds:` name is as it was.

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
  return list(dict.fromkeys(paths))


def _expand_one(part: str, suffixes: tuple[str, ...]) -> list[str]:
  if tfds_source.is_spec(part):
    return [part]
  if os.path.isdir(part):
    paths = _walk(part, suffixes)
    if not paths:
      raise errors.UserError(
        f'{part}: needed a folder with {" ".join(suffixes)} files, got none'
        f'{_listing(part)}: add one, or name a file.'
      )
    return paths
  if os.path.exists(part):
    return [part]
  if glob.has_magic(part):
    found = sorted(glob.glob(part, recursive=True))
    files = []
    for path in found:
      files += _walk(path, suffixes) if os.path.isdir(path) else [path]
    # Where none has a fitting name, the first is refused with the reason.
    if files:
      return [f for f in files if f.endswith(suffixes)] or files
    raise errors.UserError(
      f'{part}: needed a glob that matches files, it matches none: '
      f'check it with `ls {part}`.'
    )
  raise errors.UserError(
    f'{part}: needed an existing file, folder or glob, it does not exist: '
    f'check the path.{_nearest_path(part)}'
  )


def _walk(folder: str, suffixes: tuple[str, ...]) -> list[str]:
  paths = []
  for root, folders, names in os.walk(folder, followlinks=True):
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
    empty = os.path.isfile(path) and os.path.getsize(path) == 0
  except OSError as error:
    raise _unreadable(path, error) from None
  if empty:
    raise errors.UserError(
      f'{path}:1: needed at least one row, got an empty file: fill it or '
      'leave it out.'
    )


def _unreadable(path: str, error: OSError) -> errors.UserError:
  return errors.UserError(
    f'{path}: needed it to be readable, got "{error.strerror or error}": '
    'check its permissions.'
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
  suffixes = SUFFIXES if kind == 'pretraining' else JSON_SUFFIXES
  found = []
  try:
    names = sorted(os.listdir(folder))
  except OSError as error:
    raise _unreadable(folder, error) from None
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


def read_rows(path: str, tfds_dir: str = '') -> Iterator[tuple[str, object]]:
  """Yields (location, row) for every row of one file.

  Args:
    path: .jsonl (one value a line, blank lines skipped), .json (a list, or
      JSON lines in disguise), or .txt and .md (the file is one row
      {'text': ...}); each also with .gz. An ArrayRecord file of JSON; or a
      `tfds:` name.
    tfds_dir: where datasets of TFDS lie; '' = its own default.

  Yields:
    'FILE:LINE' and the decoded JSON value, whatever its type.

  Raises:
    UserError: bytes that are not UTF-8, broken JSON or gzip; no row at all.
  """
  plain = path.removesuffix('.gz')
  rows = 0
  if tfds_source.is_spec(path):
    values = tfds_source.read(path, tfds_dir)
  elif path.endswith(array_records.SUFFIXES):
    values = array_records.read(path)
  elif plain.endswith('.jsonl'):
    lines = _lines(path)
    values = _json_lines(path, lines)
  elif plain.endswith('.json'):
    values = _json_file(path)
  else:
    values = [(f'{path}:1', {'text': ''.join(t for _, t in _lines(path))})]
  for location, value in values:
    rows += 1
    yield location, value
  if not rows:
    raise errors.UserError(
      f'{path}:1: needed at least one row, got none: fill it or leave it out.'
    )


def _lines(path: str) -> Iterator[tuple[int, str]]:
  """Yields (line number, text with its newline), UTF-8 only, no BOM."""
  number = 0
  opener = gzip.open if path.endswith('.gz') else open
  try:
    with opener(path, 'rb') as file:
      for number, line in enumerate(file, 1):
        try:
          text = line.decode('utf-8')
        except UnicodeDecodeError as error:
          raise errors.UserError(
            f'{path}:{number}: needed UTF-8 text, got byte '
            f'0x{line[error.start]:02x} at column {error.start + 1}: '
            'convert the file to UTF-8.'
          ) from None
        yield number, text.removeprefix('\ufeff') if number == 1 else text
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise errors.UserError(
      f'{path}:{number + 1}: needed a whole gzip file, got "{error}": '
      'fetch or compress it again.'
    ) from None
  except OSError as error:
    raise _unreadable(path, error) from None


def _json_lines(
  path: str, lines: Iterable[tuple[int, str]]
) -> Iterator[tuple[str, object]]:
  for number, line in lines:
    if not line.strip():
      continue
    try:
      value = json.loads(line)
    except (ValueError, RecursionError) as error:
      raise _broken(f'{path}:{number}', error, line) from None
    yield f'{path}:{number}', value


def _broken(location: str, error: Exception, line: str) -> errors.UserError:
  reason = getattr(error, 'msg', None) or type(error).__name__
  given = ' '.join(line.split())
  given = given if len(given) <= 48 else given[:45] + '...'
  return errors.UserError(
    f'{location}: needed one JSON value, got broken JSON ({reason}) in '
    f'{given!r}: mend or remove that line.'
  )


def _json_file(path: str) -> Iterator[tuple[str, object]]:
  """Yields the elements of a JSON list, each with the line it begins on."""
  lines = list(_lines(path))
  text = ''.join(line for _, line in lines)
  start = len(text) - len(text.lstrip())
  if text[start : start + 1] != '[':
    yield from _json_object_file(path, lines, text)
    return
  decoder, position, number, seen = json.JSONDecoder(), start + 1, 1, 0
  while True:
    position = _skip(text, position)
    if (
      text[position : position + 1] == ']' and not text[position + 1 :].strip()
    ):
      return
    number += text.count('\n', seen, position)
    seen = position
    try:
      value, position = decoder.raw_decode(text, position)
      position = _skip(text, position)
      if text[position : position + 1] not in (',', ']'):
        raise json.JSONDecodeError("expecting ',' or ']'", text, position)
    except (ValueError, RecursionError) as error:
      at = getattr(error, 'lineno', number)
      line = lines[min(at, len(lines)) - 1][1]
      raise _broken(f'{path}:{at}', error, line) from None
    yield f'{path}:{number}', value
    position += text[position] == ','


def _skip(text: str, position: int) -> int:
  while position < len(text) and text[position] in ' \t\r\n':
    position += 1
  return position


def _json_object_file(
  path: str, lines: list[tuple[int, str]], text: str
) -> Iterator[tuple[str, object]]:
  """Reads a .json file that is no list: JSON lines, or an error."""
  try:
    value = json.loads(text)
  except (ValueError, RecursionError):
    yield from _json_lines(path, lines)
    return
  if len([line for _, line in lines if line.strip()]) == 1:
    yield f'{path}:1', value
    return
  raise errors.UserError(
    f'{path}:1: needed a JSON list of rows, got one JSON '
    f'{type(value).__name__}: put the rows in a list, or one a line.'
  )
