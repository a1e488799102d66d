"""What is written: prompts, the ledger, and where each dropped row went."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import glob
import json
import os
import pathlib
import shutil
from typing import Any, NamedTuple

from instructjax import errors
from instructjax.curation import rows
from instructjax.curation import settings

# In the order in which they are applied.
RULES = (
  'valid_row',
  'few_shot',
  'normalization',
  'common_prefix',
  'user_cap',
  'split',
  'pii',
  'max_length',
  'language',
  'size',
)
LEDGER, DROPPED, CONFIG = 'ledger.json', 'dropped.jsonl', 'config.json'
_OWN = (CONFIG, DROPPED, 'stats.md', 'figures')
_PARTIAL = '.partial'
_to_json = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode
_FIELDS = (
  'user_id',
  'organization_id',
  'source',
  'kind',
  'use_case',
  'response',
)


class Dropped(NamedTuple):
  """A prompt that is not written, by where its row stands ('FILE:LINE')."""

  location: str
  rule: str
  duplicate_of: str | None = None


def output_row(prompt: rows.RawPrompt, language: str) -> dict[str, Any]:
  """Returns a prompt as a record that `data.records` reads.

  {"prompt_id", "text", "messages", "user_id", "organization_id", "source",
  "kind", "use_case", "response", "annotations", "language"}, without what it
  does not have.
  """
  row = {'prompt_id': prompt.prompt_id, 'text': prompt.text}
  if prompt.conversation:
    row['messages'] = [
      {'role': role, 'content': text} for role, text in prompt.conversation
    ]
  for name in _FIELDS:
    value = getattr(prompt, name)
    if value is not None:
      row[name] = value
  if prompt.annotations is not None:
    row['annotations'] = dict(prompt.annotations)
  row['language'] = language
  return row


def encode(row: Mapping[str, Any]) -> bytes:
  """Returns a row as one line of UTF-8 JSON, the newline included."""
  return f'{_to_json(row)}\n'.encode()


def ledger(
  rows_read: int,
  dropped: Mapping[tuple[str, str], int],
  extras: Mapping[str, Mapping[str, Any]],
  written: Mapping[str, int],
) -> dict[str, Any]:
  """Returns what ledger.json holds.

  Args:
    rows_read: rows of the input, bad ones too.
    dropped: prompts by (rule, split of their user). A bad row has no user, so
      its split is ''.
    extras: what else a rule tells of itself, by rule.
    written: prompts by file.

  Returns:
    {"input", "rules": [{"rule", "dropped", "by_split", ...}], "output": {file:
    prompts}}, with input + added = all that was dropped + all that was written.
  """
  told = []
  for rule in RULES:
    by_split = {name: dropped.get((rule, name), 0) for name in settings.SPLITS}
    count = sum(by_split.values()) + dropped.get((rule, ''), 0)
    entry = {'rule': rule, 'dropped': count, 'by_split': by_split}
    told.append(entry | dict(extras.get(rule, {})))
  output = {f'{name}.jsonl': written.get(name, 0) for name in settings.FILES}
  added = sum(entry.get('added', 0) for entry in told)
  gone = sum(entry['dropped'] for entry in told)
  assert rows_read + added == gone + sum(output.values()), told
  return {'input': rows_read, 'rules': told, 'output': output}


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a value as indented JSON."""
  text = json.dumps(value, indent=2, ensure_ascii=False)
  path.write_text(f'{text}\n', encoding='utf-8')


def write_dropped(
  path: pathlib.Path, dropped: Iterable[Dropped], paths: Sequence[str]
) -> None:
  """Writes dropped.jsonl in the order of the input.

  Args:
    path: of the file.
    dropped: in any order; those of one row are sorted by rule.
    paths: the files of the input, in order.
  """
  order = {name: i for i, name in enumerate(paths)}

  def place(entry: Dropped) -> tuple:
    name, _, line = entry.location.rpartition(':')
    return order[name], int(line), *map(str, entry[1:])

  with open(path, 'wb') as file:
    for location, rule, of in sorted(dropped, key=place):
      row = {'row': location, 'rule': rule, 'duplicate_of': of}
      file.write(encode(row))


def write_array_records(folder: pathlib.Path) -> None:
  """Writes the lines of each JSONL file as an ArrayRecord file beside it."""
  from instructjax.data import array_records

  for name in settings.FILES:
    with open(folder / f'{name}.jsonl', 'rb') as lines:
      records = (line.removesuffix(b'\n') for line in lines)
      target = str(folder / f'{name}.array_record')
      array_records.write_bytes(target, records)


def check_apart(out: str, prompts: str) -> None:
  """Raises UserError if a later run would take its output for prompts.

  Args:
    out: where output goes.
    prompts: files, folders or globs, separated by commas.
  """
  if not out:
    raise errors.UserError("--out='': needed a folder, got none: name one.")
  folder = pathlib.Path(os.path.realpath(out))
  for part in prompts, *prompts.split(','):
    part = os.path.expanduser(part.strip())
    folder_of, _, split = part.rpartition(':')
    if os.path.exists(part):
      names = [part]
    elif split and os.path.isdir(folder_of):
      names = [folder_of]
    else:
      names = glob.glob(part, recursive=True)
    for name in names:
      path = pathlib.Path(os.path.realpath(name))
      inside = os.path.isdir(path) and folder.is_relative_to(path)
      if inside or path.is_relative_to(folder):
        raise errors.UserError(
          f'--out={out}: needed a folder apart from the prompts, got'
          f' {"one inside of" if inside else "that of"} {name}: name another.'
        )


def check_out(
  out: pathlib.Path, made_from: Mapping[str, Any], overwrite: bool
) -> None:
  """Raises UserError if a folder holds what something else has made.

  Args:
    out: of the output.
    made_from: what the output depends on, as it goes to config.json.
    overwrite: whether that is to be replaced.
  """
  held = [n for n in (*_OWN, *_prompt_files()) if os.path.exists(out / n)]
  if overwrite or not held:
    return
  try:
    text = (out / CONFIG).read_text(encoding='utf-8')
    difference = _difference(json.loads(text), made_from)
  except (OSError, ValueError, AttributeError, TypeError):
    difference = f'{held[0]}, and no {CONFIG} that says what made it'
  if difference:
    raise errors.UserError(
      f'--out={out}: needed an empty folder or one that this command has made,'
      f' got {difference}: name another folder, or set --config.overwrite=True.'
    )


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
  """Returns what differs first between two outputs' origins, or ''."""
  for part, said in (
    ('config', 'one made with config.{key}={value!r}'),
    ('tokenizer', 'one made with another tokenizer ({key})'),
    ('prompts', 'one made from other prompts ({key})'),
  ):
    a, b = old.get(part, {}), new[part]
    for key in [*a, *(k for k in b if k not in a)]:
      if json.loads(json.dumps(b.get(key))) != a.get(key):
        return said.format(key=key, value=a.get(key))
  return ''


@contextlib.contextmanager
def staging(out: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives a new folder inside of `out` for what is not finished.

  It is removed at the end, and `out` too if it was not there and holds nothing
  else; what a killed process left there is removed at the beginning.
  """
  partial, was_there = out / _PARTIAL, os.path.exists(out)
  try:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
  except OSError as error:
    raise errors.UserError(
      f'--out={out}: needed a folder to write to, got "{error.strerror}": name '
      'another.'
    ) from None
  try:
    yield partial
  finally:
    shutil.rmtree(partial, ignore_errors=True)
    if not was_there and not any(out.iterdir()):
      out.rmdir()


def publish(partial: pathlib.Path, out: pathlib.Path) -> None:
  """Moves finished files to their names, the ledger last.

  So a folder with a ledger is whole. What an earlier run wrote and this one
  does not is removed.
  """
  (out / LEDGER).unlink(missing_ok=True)
  for name in (*_OWN, *_prompt_files(), LEDGER):
    move(partial / name, out / name)


def move(new: pathlib.Path, old: pathlib.Path) -> None:
  """Puts a file or folder in the place of another; either may be missing."""
  if old.is_dir():
    shutil.rmtree(old)
  if new.exists():
    new.replace(old)
  else:
    old.unlink(missing_ok=True)


def _prompt_files() -> list[str]:
  return [
    f'{name}.{suffix}'
    for name in settings.FILES
    for suffix in ('jsonl', 'array_record')
  ]
