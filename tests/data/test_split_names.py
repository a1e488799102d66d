"""Splits by the names that datasets give their files."""

from __future__ import annotations

import pytest

from instructjax import errors
from instructjax.data import records
from instructjax.data import sources
from instructjax.data import split_names


@pytest.mark.parametrize(
  ('path', 'split'),
  [
    ('train-00000-of-00002.parquet', 'train'),
    ('data/train-00001-of-00002.parquet', 'train'),
    ('validation-00000-of-00001.parquet', 'validation'),
    ('train.jsonl', 'train'),
    ('TRAIN.json', 'train'),
    ('train_1.jsonl', 'train'),
    ('dev.json.gz', 'validation'),
    ('valid.jsonl', 'validation'),
    ('val.jsonl', 'validation'),
    ('test.jsonl', 'test'),
    ('eval.jsonl', 'test'),
    ('gsm8k_train.jsonl', 'train'),
    ('sft_valid.jsonl', 'validation'),
    ('test_sft-00000-of-00001.parquet', 'test'),
    ('test/part1.jsonl', 'test'),
    ('data/dev/part1.jsonl', 'validation'),
    ('test/train.jsonl', 'train'),
    ('prompts.jsonl', None),
    ('hh_harmless_base_test_part1.jsonl.gz', None),
    ('testimony.jsonl', None),
    ('my_latest.jsonl', None),
    ('00000.parquet', None),
    ('test.txt', 'test'),
    ('test-00001.txt.gz', 'test'),
    ('the_last_test.txt', None),
    ('test_of_courage.md', None),
  ],
)
def test_split_of_a_name(path, split):
  assert split_names.of(path) == split


@pytest.fixture
def dataset(tmp_path):
  """A folder as Hugging Face lays it out."""
  folder = tmp_path / 'dataset'
  for name in (
    *('data/train-00000-of-00002.jsonl', 'data/train-00001-of-00002.jsonl'),
    *('data/validation-00000-of-00001.jsonl', 'data/test_sft.jsonl'),
    'data/test_gen.jsonl',
  ):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"text": "{name}"}}\n')
  (folder / 'README.md').write_text('# About')
  (folder / 'dataset_infos.json').write_text('{"default": {}}')
  return folder


def _read(spec):
  return [document.text for document in records.load('pretraining', str(spec))]


TRAIN = ['data/train-00000-of-00002.jsonl', 'data/train-00001-of-00002.jsonl']


def test_a_folder_is_read_without_what_measures(dataset, caplog):
  caplog.set_level('INFO', 'instructjax')
  assert _read(dataset) == TRAIN
  (line,) = [record.getMessage() for record in caplog.records]
  assert line == (
    f'{dataset}: reading the train split, 2 files; left alone: test (2), '
    'validation (1).'
  )


@pytest.mark.parametrize(
  ('split', 'files'),
  [
    ('train', TRAIN),
    ('validation', ['data/validation-00000-of-00001.jsonl']),
    ('dev', ['data/validation-00000-of-00001.jsonl']),
    ('test', ['data/test_gen.jsonl', 'data/test_sft.jsonl']),
    ('test_sft', ['data/test_sft.jsonl']),
  ],
)
def test_a_split_can_be_named(dataset, caplog, split, files):
  caplog.set_level('INFO', 'instructjax')
  assert _read(f'{dataset}:{split}') == files
  assert _read(f'{dataset}/data:{split}') == files
  assert not caplog.records


def test_splits_in_lists(dataset):
  both = f'{dataset}:train,{dataset}:validation'
  assert _read(both) == [*TRAIN, 'data/validation-00000-of-00001.jsonl']


def test_a_split_that_is_not_there(dataset):
  said = (
    'dataset:test_stf: needed a split of this folder, it has test, test_gen, '
    "test_sft, train, validation: .* Did you mean 'test_sft'"
  )
  with pytest.raises(errors.UserError, match=said):
    _read(f'{dataset}:test_stf')
  with pytest.raises(errors.UserError, match='does not exist'):
    _read(f'{dataset}/dat:train')
  (dataset / 'data' / 'validation-00000-of-00001.jsonl').unlink()
  with pytest.raises(errors.UserError, match='it has test, test_gen,'):
    _read(f'{dataset}:validation')


def test_a_folder_of_measures_only_is_not_trained_on(tmp_path):
  (tmp_path / 'test.jsonl').write_text('{"text": "a"}\n')
  (tmp_path / 'dev.jsonl').write_text('{"text": "b"}\n')
  said = f'only test and validation files: name .*{tmp_path}:test'
  with pytest.raises(errors.UserError, match=said):
    _read(tmp_path)
  assert _read(f'{tmp_path}:test') == ['a']
  assert _read(tmp_path / 'test.jsonl') == ['a']


def test_files_of_no_split_are_read_with_train(tmp_path):
  for name in ('more', 'train', 'test'):
    (tmp_path / f'{name}.jsonl').write_text(f'{{"text": "{name}"}}\n')
  assert _read(tmp_path) == ['more', 'train']
  assert _read(f'{tmp_path}:train') == ['train']


def test_a_folders_own_name_says_nothing(tmp_path):
  path = tmp_path / 'test' / 'a.jsonl'
  path.parent.mkdir()
  path.write_text('{"text": "a"}\n')
  assert _read(path.parent) == _read(f'{path.parent}/*') == ['a']


def test_globs_follow_the_same_rule(dataset, caplog):
  caplog.set_level('INFO', 'instructjax')
  assert _read(f'{dataset}/data/*.jsonl') == TRAIN
  assert _read(f'{dataset}/*/*.jsonl') == TRAIN
  assert caplog.text.count('left alone: test (2), validation (1).') == 2
  # Unless it matches nothing else: then it was meant.
  assert len(_read(f'{dataset}/data/test_*')) == 2


def test_kinds_by_name_follow_it_too(tmp_path):
  for name in ('prompts_train', 'prompts_more', 'prompts_test'):
    (tmp_path / f'{name}.jsonl').write_text(f'{{"text": "{name}"}}\n')
  found = records.load('prompts', sources.find(str(tmp_path), 'prompts'))
  assert [p.text for p in found] == ['prompts_more', 'prompts_train']


def test_a_path_that_looks_like_a_split_is_a_path(tmp_path):
  folder = tmp_path / 'a:b'
  folder.mkdir()
  (folder / 'x.jsonl').write_text('{"text": "a"}\n')
  (tmp_path / 'a').mkdir()
  assert _read(folder) == ['a']
