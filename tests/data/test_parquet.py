"""Tables as Hugging Face writes them: nested rows, numbered, some at a time."""

from __future__ import annotations

import datetime

import pyarrow
from pyarrow import parquet as pyarrow_parquet
import pytest

from instructjax import errors
from instructjax.data import parquet
from instructjax.data import records
from instructjax.data import sources


def write(path, rows, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  table = pyarrow.Table.from_pylist(rows)
  pyarrow_parquet.write_table(table, path, **options)
  return str(path)


def test_rows_are_numbered_through_all_row_groups(tmp_path):
  rows = [{'text': f't{i}'} for i in range(600)]
  path = write(tmp_path / 'x.parquet', rows, row_group_size=7)
  found = list(sources.read_rows(path))
  assert [row for _, row in found] == rows
  assert [at for at, _ in found] == [f'{path}:{i}' for i in range(1, 601)]


def test_only_a_few_rows_are_read_ahead(tmp_path, monkeypatch):
  rows = [{'text': f't{i}'} for i in range(50)]
  path = write(tmp_path / 'x.parquet', rows, row_group_size=5)
  monkeypatch.setattr(parquet, '_BATCH', 4)
  seen = []
  monkeypatch.setattr(
    parquet,
    '_objects',
    lambda p, n, batch, f, real=parquet._objects: (
      seen.append(batch.num_rows) or real(p, n, batch, f)
    ),
  )
  reading = sources.read_rows(path)
  assert next(reading) == (f'{path}:1', {'text': 't0'})
  assert seen == [4]
  assert len(list(reading)) == 49 and max(seen) == 4 and sum(seen) == 50


def test_a_null_is_an_absent_key(tmp_path):
  path = write(tmp_path / 'x.parquet', [{'a': 1, 'text': 'x'}, {'text': 'y'}])
  assert [row for _, row in sources.read_rows(path)] == [
    {'a': 1, 'text': 'x'},
    {'text': 'y'},
  ]


CHAT = [
  {'role': 'user', 'content': 'a'},
  {'role': 'assistant', 'content': 'b'},
]


@pytest.mark.parametrize(
  ('kind', 'row', 'told'),
  [
    ('prompts', {'text': 'a', 'use_case': None}, {'text': 'a'}),
    ('demonstrations', {'messages': CHAT}, {'prompt': 'a', 'response': 'b'}),
    (
      'demonstrations',
      {
        'conversations': [
          {'from': 'human', 'value': 'a'},
          {'from': 'gpt', 'value': 'b'},
        ]
      },
      {'prompt': 'a', 'response': 'b'},
    ),
    (
      'comparisons',
      {
        'prompt': 'a',
        'chosen': CHAT,
        'rejected': [CHAT[0], {'role': 'assistant', 'content': 'c'}],
        'score_chosen': 8.5,
      },
      {'responses': ('b', 'c'), 'ranks': (1, 2)},
    ),
    (
      'comparisons',
      {
        'instruction': 'a',
        'completions': [
          {'response': 'b', 'overall_score': 7.5, 'critique': None},
          {'response': 'c', 'overall_score': 8.0, 'critique': 'x'},
          {'response': 'd', 'overall_score': 7.5, 'critique': None},
        ],
      },
      {'responses': ('b', 'c', 'd'), 'ranks': (2, 1, 2)},
    ),
    (
      'comparisons',
      {
        'question': {'full_text': 'a', 'id': '1'},
        'quotes_0': {'title': ['t'], 'extract': ['e']},
        'answer_0': 'b',
        'score_0': 1.0,
        'answer_1': 'c',
        'score_1': -1.0,
      },
      {'prompt': 'a', 'responses': ('b', 'c'), 'ranks': (1, 2)},
    ),
    (
      'comparisons',
      {'history': 'a', 'human_ref_A': 'b', 'human_ref_B': 'c', 'labels': 1},
      {'prompt': 'a', 'responses': ('b', 'c'), 'ranks': (1, 2)},
    ),
    ('pretraining', {'text': 'a', 'meta': {'n': [1, 2]}}, {'text': 'a'}),
  ],
)
def test_layouts_nested_in_a_table(tmp_path, kind, row, told):
  path = write(tmp_path / 'x.parquet', [row])
  (found,) = records.load(kind, path)
  assert {name: getattr(found, name) for name in told} == told
  assert found.location == f'{path}:1'


def test_a_bad_row_is_named(tmp_path):
  rows = [{'text': 'a'}] * 300 + [{'text': None}]
  path = write(tmp_path / 'x.parquet', rows, row_group_size=100)
  with pytest.raises(errors.UserError, match='x.parquet:301: needed a row of'):
    records.load('prompts', path)


def _not_utf8(path):
  text = pyarrow.array([b'a', b'caf\xe9', b'c']).cast(pyarrow.binary())
  buffers = pyarrow.Array.from_buffers(
    pyarrow.string(), 3, text.buffers(), null_count=0
  )
  table = pyarrow.Table.from_arrays([buffers], names=['text'])
  pyarrow_parquet.write_table(table, path)
  return str(path)


def test_text_that_is_not_utf8(tmp_path):
  path = _not_utf8(tmp_path / 'x.parquet')
  with pytest.raises(errors.UserError, match='x.parquet:2: .*byte 0xe9'):
    list(sources.read_rows(path))
  told = []
  found = list(sources.read_rows(path, lambda *one: told.append(one)))
  assert [row['text'] for _, row in found] == ['a', 'c']
  assert [location for location, _ in told] == [f'{path}:2']


@pytest.mark.parametrize('kind', ['timestamp', 'duration', 'time64'])
def test_nanoseconds_are_left_out(tmp_path, kind):
  column = pyarrow.array([1001, 2002], getattr(pyarrow, kind)('ns'))
  table = pyarrow.table({'text': ['a', 'b'], 'x': column})
  pyarrow_parquet.write_table(table, tmp_path / 'x.parquet')
  found = [r['x'] for _, r in sources.read_rows(str(tmp_path / 'x.parquet'))]
  assert [value.resolution for value in found] == [
    datetime.timedelta(microseconds=1)
  ] * 2
  written = [str(value)[-15:].lstrip('0') for value in found]
  assert written == [':00:00.000001', ':00:00.000002']


def test_a_time_that_python_does_not_have(tmp_path):
  column = pyarrow.array([0, 2**60, 1], pyarrow.timestamp('us'))
  table = pyarrow.table({'text': ['a', 'b', 'c'], 'time': column})
  path = str(tmp_path / 'x.parquet')
  pyarrow_parquet.write_table(table, path)
  with pytest.raises(errors.UserError, match='x.parquet:2: needed values'):
    list(sources.read_rows(path))
  told = []
  found = list(sources.read_rows(path, lambda *one: told.append(one)))
  assert [row['text'] for _, row in found] == ['a', 'c']
  assert [location for location, _ in told] == [f'{path}:2']


@pytest.mark.parametrize(
  'spoil',
  [
    lambda content: b'not a table',
    lambda content: content[:-50],
    lambda content: content[:4] + b'\0' * 400 + content[404:],
  ],
)
def test_a_damaged_file(tmp_path, spoil):
  rows = [{'text': f'{i} ' * 50} for i in range(50)]
  path = write(tmp_path / 'x.parquet', rows, compression='none')
  (tmp_path / 'x.parquet').write_bytes(
    spoil((tmp_path / 'x.parquet').read_bytes())
  )
  with pytest.raises(errors.UserError) as caught:
    list(sources.read_rows(path))
  assert str(caught.value).startswith(f'{path}:1: needed a whole Parquet file')
  assert '\n' not in str(caught.value)


def test_a_table_without_rows(tmp_path):
  table = pyarrow.table({'text': pyarrow.array([], pyarrow.string())})
  pyarrow_parquet.write_table(table, tmp_path / 'x.parquet')
  with pytest.raises(errors.UserError, match='at least one row, got none'):
    list(sources.read_rows(str(tmp_path / 'x.parquet')))


def test_importing_the_readers_does_not_import_pyarrow(run_python):
  code = 'import sys; from instructjax.data import records; '
  run_python(code + "assert 'pyarrow' not in sys.modules")
