"""Lines of text files, gzipped or not, and the JSON values in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import gzip
import json
import zlib

from instructjax import errors


def refuse(location: str, reason: str) -> None:
  """Raises UserError for a row that cannot be read."""
  raise errors.UserError(f'{location}: {reason}')


def unreadable(path: str, error: OSError) -> errors.UserError:
  """Returns what to say of a file that the system does not let us read."""
  return errors.UserError(
    f'{path}: needed it to be readable, got "{error.strerror or error}": '
    'check that it is there and its permissions.'
  )


def read(
  path: str, on_broken: Callable[[str, str], None] = refuse
) -> Iterator[tuple[int, str]]:
  """Yields (line number, text with its newline), UTF-8 only, no BOM."""
  number = 0
  opener = gzip.open if path.endswith('.gz') else open
  try:
    with opener(path, 'rb') as file:
      for number, line in enumerate(file, 1):
        yield from decode(path, number, line, on_broken)
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise errors.UserError(
      f'{path}:{number + 1}: needed a whole gzip file, got "{error}": '
      'fetch or compress it again.'
    ) from None
  except OSError as error:
    raise unreadable(path, error) from None


def decode(
  path: str, number: int, line: bytes, on_broken: Callable[[str, str], None]
) -> Iterator[tuple[int, str]]:
  """Yields a line and its number, or nothing if it is not UTF-8."""
  try:
    text = line.decode('utf-8')
  except UnicodeDecodeError as error:
    on_broken(
      f'{path}:{number}',
      f'needed UTF-8 text, got byte 0x{line[error.start]:02x} at column '
      f'{error.start + 1}: convert the file to UTF-8.',
    )
  else:
    yield number, text.removeprefix('\ufeff') if number == 1 else text


def json_lines(
  path: str,
  lines: Iterable[tuple[int, str]],
  on_broken: Callable[[str, str], None],
) -> Iterator[tuple[str, object]]:
  """Yields the value of every line that is not blank, with its location."""
  for number, line in lines:
    if not line.strip():
      continue
    try:
      value = json.loads(line)
    except (ValueError, RecursionError) as error:
      on_broken(f'{path}:{number}', _broken(error, line))
      continue
    yield f'{path}:{number}', value


def _broken(error: Exception, line: str) -> str:
  reason = getattr(error, 'msg', None) or type(error).__name__
  given = ' '.join(line.split())
  given = given if len(given) <= 48 else given[:45] + '...'
  return (
    f'needed one JSON value, got broken JSON ({reason}) in {given!r}: mend or '
    'remove that line.'
  )


def json_file(
  path: str, on_broken: Callable[[str, str], None]
) -> Iterator[tuple[str, object]]:
  """Yields the elements of a JSON list, each with the line it begins on."""
  lines = list(read(path))
  text = ''.join(line for _, line in lines)
  start = len(text) - len(text.lstrip())
  if text[start : start + 1] != '[':
    yield from _json_object_file(path, lines, text, on_broken)
    return
  decoder, position, number, seen = json.JSONDecoder(), start + 1, 1, 0
  comma = False
  while True:
    position = _skip(text, position)
    closes = text[position : position + 1] == ']' and not comma
    if closes and not text[position + 1 :].strip():
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
      reason = _broken(error, line)
      raise errors.UserError(f'{path}:{at}: {reason}') from None
    yield f'{path}:{number}', value
    comma = text[position] == ','
    position += comma


def _skip(text: str, position: int) -> int:
  while position < len(text) and text[position] in ' \t\r\n':
    position += 1
  return position


def _json_object_file(
  path: str,
  lines: list[tuple[int, str]],
  text: str,
  on_broken: Callable[[str, str], None],
) -> Iterator[tuple[str, object]]:
  """Reads a .json file that is no list: JSON lines, or an error."""
  try:
    value = json.loads(text)
  except (ValueError, RecursionError):
    yield from json_lines(path, lines, on_broken)
    return
  if len([line for _, line in lines if line.strip()]) == 1:
    yield f'{path}:1', value
    return
  raise errors.UserError(
    f'{path}:1: needed a JSON list of rows, got one JSON '
    f'{type(value).__name__}: put the rows in a list, or one a line.'
  )
