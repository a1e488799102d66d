"""Datasets of TFDS by name and split, and plain ArrayRecord files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from instructjax import errors
from instructjax.data import array_records
from instructjax.data import records
from instructjax.data import sources
from instructjax.data import tfds_source
from tests import tfds_data

TEXT = tfds.features.Text()
TOXIC = {'text': TEXT, 'toxicity': np.float32}
DOLLY = {
  name: TEXT for name in ('instruction', 'context', 'response', 'category')
}


def _dolly(i):
  context = f'Of {i}: é.' if i % 2 else ''
  row = {'instruction': f'Say {i}.', 'context': context}
  return row | {'response': f'{i}!', 'category': 'open_qa'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('tfds')
  rows = [_dolly(i) for i in range(40)]
  splits = {'train': rows, 'test': rows[:3]}
  tfds_data.write(folder, 'databricks_dolly', DOLLY, splits)
  rows = [
    {'prompt': {'text': f'Once {i}', 'toxicity': i / 4}, 'challenging': True}
    for i in range(4)
  ]
  features = {'prompt': TOXIC, 'challenging': np.bool_}
  tfds_data.write(folder, 'real_toxicity_prompts', features, {'train': rows})
  rows = [{'text': f'Page {i}.'} for i in range(200)]
  tfds_data.write(folder, 'c4', {'text': TEXT}, {'train': rows}, config='en')
  rows = [{'book_text': 'It was night.', 'book_id': 7}]
  features = {'book_text': TEXT, 'book_id': np.int32}
  tfds_data.write(folder, 'pg19', features, {'train': rows})
  turns = [('user', 'Hi'), ('assistant', 'Ho'), ('user', 'Ha')]
  messages = [{'role': r, 'content': c} for r, c in turns]
  rows = [{'messages': messages, 'scores': [1, 2]}]
  features = {
    'messages': tfds.features.Sequence({'role': TEXT, 'content': TEXT}),
    'scores': tfds.features.Sequence(np.int64),
  }
  tfds_data.write(folder, 'chats', features, {'train': rows})
  tfds_data.write(folder, 'odd', {'text': TEXT}, {'train': [{'text': b'\xff'}]})
  return folder


def _load(kind, spec, folder):
  return records.load(kind, spec, str(folder))


def test_columns_become_records(folder):
  rows = _load('demonstrations', 'tfds:databricks_dolly:train', folder)
  assert [row.response for row in rows] == [f'{i}!' for i in range(40)]
  assert rows[1].prompt == 'Say 1.\n\nOf 1: é.' and rows[2].prompt == 'Say 2.'
  assert rows[3].location == 'tfds:databricks_dolly:train:3'
  rows = _load('prompts', 'tfds:real_toxicity_prompts:train', folder)
  assert [row.text for row in rows] == [f'Once {i}' for i in range(4)]
  (book,) = _load('pretraining', 'tfds:pg19:train', folder)
  assert book.text == 'It was night.'
  (chat,) = _load('prompts', 'tfds:chats:train', folder)
  assert [role for role, _ in chat.conversation] == [
    'user',
    'assistant',
    'user',
  ]


def test_rows_are_plain_python(folder):
  ((_, row),) = tfds_source.read('tfds:chats:train', str(folder))
  assert json.loads(json.dumps(row)) == row and row['scores'] == [1, 2]
  _, row = next(tfds_source.read('tfds:real_toxicity_prompts:train', folder))
  assert row == {
    'challenging': True,
    'prompt': 'Once 0',
    'prompt.toxicity': 0.0,
  }


@pytest.mark.parametrize(
  ('spec', 'found'),
  [
    ('tfds:c4/en:train[:1%]', ['Page 0.', 'Page 1.']),
    ('tfds:c4/en:1.0.0:train[198:]', ['Page 198.', 'Page 199.']),
    ('tfds:c4/en:train[:1]+train[-1:]', ['Page 0.', 'Page 199.']),
  ],
)
def test_parts_of_a_split(folder, spec, found):
  rows = _load('pretraining', spec, folder)
  assert [row.text for row in rows] == found
  assert [row.location for row in rows] == [f'{spec}:0', f'{spec}:1']


def test_rows_in_any_order(folder):
  dataset = tfds_source.open_dataset('tfds:c4/en:train', str(folder))
  assert len(dataset) == 200
  part = tfds_source.open_dataset('tfds:c4/en:train[:25%]', str(folder))
  assert part.size() == dataset.size() // 4 > 0
  rows = [row['text'] for _, row in dataset.rows([7, 0])]
  assert rows == ['Page 7.', 'Page 0.']


def test_datasets_beside_files(folder, tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"text": "a"}\n')
  spec = f'{path},tfds:c4/en:train[:1]'
  assert sources.expand(spec) == [str(path), 'tfds:c4/en:train[:1]']
  rows = _load('pretraining', spec, folder)
  assert [row.text for row in rows] == ['a', 'Page 0.']


@pytest.mark.parametrize(
  ('spec', 'said'),
  [
    ('tfds:c4/en', r'^tfds:c4/en: needed tfds:NAME\[/CONFIG\]'),
    ('tfds:c4:3.0.0:train', 'needed that dataset prepared .* has en of c4'),
    ('tfds:lm1b:train', "there is none: prepare it with .*'lm1b', data_dir="),
    ('tfds:real_toxicity:train', "Did you mean 'real_toxicity_prompts'"),
    ('tfds:c4/en:trian', "needed a split of train.* Did you mean 'train'"),
    ('tfds:c4/en:train[x:]', 'needed a split of train'),
    ('tfds:odd:train', r'^tfds:odd:train:0: needed UTF-8 text, got byte 0xff'),
  ],
)
def test_refuses(folder, spec, said):
  with pytest.raises(errors.UserError, match=said) as caught:
    _load('pretraining', spec, folder)
  assert '\n' not in str(caught.value)


def test_a_row_of_another_kind_is_named(folder):
  with pytest.raises(
    errors.UserError, match=r'^tfds:c4/en:train:0: needed a row of comparisons'
  ):
    _load('comparisons', 'tfds:c4/en:train', folder)


def test_other_files_than_array_records_are_refused(folder, tmp_path):
  path = tfds_data.write(
    tmp_path, 'c4', {'text': TEXT}, {'train': [{'text': 'a'}]}
  )
  info = json.loads((path / 'dataset_info.json').read_text())
  info['fileFormat'] = 'tfrecord'
  (path / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(
    errors.UserError,
    match=r'needed ArrayRecord files, got tfrecord .*\.builder',
  ):
    _load('pretraining', 'tfds:c4:train', tmp_path)


def test_a_shard_that_is_gone_is_named(tmp_path):
  rows = [{'text': 'a'}]
  path = tfds_data.write(tmp_path, 'c4', {'text': TEXT}, {'train': rows})
  (shard,) = path.glob('c4-train*')
  before = tfds_source.fingerprint('tfds:c4:train', str(tmp_path))
  assert before[1] == shard.stat().st_size
  shard.unlink()
  with pytest.raises(errors.UserError, match='needed its shard .*c4-train'):
    _load('pretraining', 'tfds:c4:train', tmp_path)
  shard.write_bytes(b'x' * 70_000)
  assert tfds_source.fingerprint('tfds:c4:train', str(tmp_path)) != before
  with pytest.raises(errors.UserError, match=':train:0: needed whole Array'):
    _load('pretraining', 'tfds:c4:train', tmp_path)


def test_array_record_files_of_json(tmp_path):
  rows = [{'prompt': f'{i}?', 'response': 'é'} for i in range(2500)]
  path = str(tmp_path / 'demonstrations.array_record')
  array_records.write(path, rows)
  found = records.load('demonstrations', path)
  assert [row.prompt for row in found] == [row['prompt'] for row in rows]
  assert found[2499].location == f'{path}:2500'
  assert sources.find(str(tmp_path), 'demonstrations') == path
  assert sources.expand(str(tmp_path)) == [path]


def test_damaged_array_records_are_refused(tmp_path):
  path = tmp_path / 'a.array_record'
  path.write_bytes(b'x' * 70_000)
  with pytest.raises(errors.UserError, match='needed a whole ArrayRecord'):
    records.load('prompts', str(path))
  array_records.write(str(path), [])
  with pytest.raises(errors.UserError, match='needed at least one row'):
    records.load('prompts', str(path))
  array_records.write(str(path), [{'text': 'a'}, 3])
  with pytest.raises(errors.UserError, match=f'^{path}:2: needed a JSON obj'):
    records.load('prompts', str(path))


def test_bad_rows_are_skipped_where_that_is_asked_for(folder):
  options = {'on_bad_row': 'skip', 'max_bad_share': 0.5}
  spec = 'tfds:odd:train,tfds:c4/en:train[:2]'
  found = records.gather('pretraining', spec, tfds_dir=folder, **options)
  assert len(found.records) == 2 and found.bad_rows == 1
  assert found.bad[0][0] == 'tfds:odd:train:0'
