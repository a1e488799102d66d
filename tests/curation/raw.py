"""Small raw logs in which everything happens that the rules look for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
import json
import pathlib
import random
from typing import Any

from instructjax import config as config_lib
from instructjax import prepare
from instructjax.curation import pipeline
from instructjax.curation import settings as settings_lib

ROOT = pathlib.Path(__file__).resolve().parents[2]
Row = dict[str, Any]
WORDS = (
  'the river town lamp write story about explain why short poem list five big'
  ' idea summary of answer question market garden yellow train winter doctor'
).split()


def config(**values: Any):
  """Returns the shipped config with some values changed; 'a.b' goes deeper."""
  found = config_lib.load(str(ROOT / 'configs' / 'prepare.py'))
  for name, value in values.items():
    config_lib.override(found, name.replace('__', '.'), str(value))
  return found


def settings(**values: Any) -> settings_lib.Settings:
  """Returns the settings of that config."""
  return prepare.to_settings(config(**values))


def write(path: pathlib.Path, rows: Iterable[Row]) -> pathlib.Path:
  """Writes JSON lines."""
  lines = (json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
  path.write_text(''.join(lines), encoding='utf-8')
  return path


def read(path: pathlib.Path) -> list[Row]:
  """Reads JSON lines."""
  return [json.loads(line) for line in path.read_bytes().splitlines()]


def prepared(
  folder: pathlib.Path,
  paths: Sequence[pathlib.Path],
  given: settings_lib.Settings,
  workers: int = 1,
  part_bytes: int = pipeline.PART_BYTES,
  partition_bytes: int = pipeline.PARTITION_BYTES,
) -> pipeline.Result:
  """Runs the pipeline, without tables and figures, into a new folder."""
  folder.mkdir()
  scanned = pipeline.scan([str(path) for path in paths], part_bytes)
  return pipeline.run(scanned, given, folder, workers, partition_bytes)


def dropped(folder: pathlib.Path, rule: str) -> list[str]:
  """Returns which rows a rule dropped, in the order of the file."""
  rows = read(folder / 'dropped.jsonl')
  return [row['row'] for row in rows if row['rule'] == rule]


def outputs(folder: pathlib.Path) -> dict[str, bytes]:
  """Returns the bytes of every file of prompts."""
  return {
    name: (folder / f'{name}.jsonl').read_bytes() for name in settings_lib.FILES
  }


def messy(count: int, seed: int = 0) -> list[Row]:
  """Returns rows of many users in which every rule finds something."""
  draw = random.Random(seed)
  rows: list[Row] = []
  for i in range(count):
    text = ' '.join(draw.choices(WORDS, k=draw.randint(6, 40)))
    chance = draw.random()
    if rows and chance < 0.15:
      text = _again(draw, draw.choice(rows).get('text') or text)
    elif chance < 0.2:
      text += draw.choice(
        (' mail me: jo@example.com', ' card 4111 1111 1111 1111')
      )
    elif chance < 0.25:
      text = 'Écris une histoire au sujet du jardin et de la rivière. ' + text
    row: Row = {'text': text, 'prompt_id': f'p{i}', 'time': draw.randint(1, 99)}
    row |= draw.choice(
      (
        {'user_id': f'u{min(draw.randint(0, 40), draw.randint(0, 40))}'},
        {'user_id': 'u0', 'organization_id': 'o0'},
        {'organization_id': f'o{draw.randint(0, 9)}'},
        {},
      )
    )
    row |= draw.choice(({}, {'source': 'customer'}, {'source': 'labeler'}))
    if i % 7 == 0:
      row['annotations'] = {'ambiguous': i % 2 == 0, 'opinion': i % 3 == 0}
    if chance > 0.97:
      row = _few_shot(draw, row)
    elif chance > 0.9:
      row = _conversation(draw, row)
    rows.append(row)
  return rows


def _again(draw: random.Random, text: str) -> str:
  """Returns nearly the same text, or the same in another form."""
  return draw.choice(
    (
      text,
      f'  {text.upper()} ',
      text.replace('e', 'ｅ').replace(' ', '\u00a0'),
      f'{text} thank you',
      text[: len(text) * 9 // 10] + ' otherwise',
    )
  )


def _few_shot(draw: random.Random, row: Row) -> Row:
  pairs = [
    {'input': draw.choice(WORDS) * 3, 'output': draw.choice(WORDS)}
    for _ in range(draw.randint(1, 4))
  ]
  return row | {'kind': 'few_shot', 'source': 'labeler', 'examples': pairs}


def _conversation(draw: random.Random, row: Row) -> Row:
  said = [row.pop('text'), 'Yes.', draw.choice(WORDS), 'No.', 'Go on.']
  turns = zip(('user', 'assistant') * 3, said, strict=False)
  messages = [{'role': role, 'content': text} for role, text in turns]
  return row | {'messages': messages[: draw.choice((1, 3, 5))]}
