"""The records of a run: found, split once, encoded, counted."""

from __future__ import annotations

import numpy as np
import pytest

from instructjax import errors
from instructjax.data import feeds as feeds_lib
from instructjax.data import tokenizer as tokenizer_lib
from tests import runs

KINDS = ('pretraining', 'demonstrations', 'comparisons', 'prompts')
ALL_KINDS = (*KINDS, 'public_tasks')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return runs.write_records(tmp_path_factory.mktemp('records'))


def _feeds(
  folder='', *, seed=0, fraction=0.1, pending=(), on_bad_row='refuse', **specs
):
  data = dict.fromkeys(ALL_KINDS, '') | {k: str(v) for k, v in specs.items()}
  data |= {'folder': str(folder), 'validation_fraction': fraction}
  data |= {'on_bad_row': on_bad_row, 'max_bad_share': 0.1}
  return feeds_lib.Feeds(data, seed=seed, pending=pending)


@pytest.fixture(scope='module')
def tokenizer(folder, tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.model'
  texts = _feeds(folder).texts()
  return tokenizer_lib.Tokenizer.train(texts, 320, str(path))


def test_a_path_of_its_own_goes_before_the_folder(folder, tmp_path):
  path = tmp_path / 'mine.jsonl'
  runs.write_jsonl(path, [{'text': f'{i}?'} for i in range(20)])
  feeds = _feeds(folder, prompts=path)
  assert feeds.spec('prompts') == str(path)
  assert feeds.spec('comparisons') == str(folder / 'comparisons.jsonl')
  assert len(sum(feeds.records('prompts'), [])) == 20


def test_what_nobody_named_is_asked_for(folder, tmp_path):
  feeds = _feeds()
  assert feeds.spec('prompts') is None
  with pytest.raises(errors.UserError, match=r'--config.data.prompts=PATH'):
    feeds.records('prompts')
  with pytest.raises(errors.UserError, match=f'there is none in {tmp_path}'):
    _feeds(tmp_path).records('prompts')


def test_files_are_read_and_split_once(folder, monkeypatch):
  feeds = _feeds(folder)
  first = feeds.records('demonstrations')
  monkeypatch.setattr(feeds_lib.records, 'gather', None)
  again = feeds.records('demonstrations')
  assert all(a is b for a, b in zip(first, again, strict=True))
  train, valid = first
  assert {x.labeler_id for x in train}.isdisjoint(x.labeler_id for x in valid)


def test_the_tokenizers_text_is_the_training_side(folder):
  feeds = _feeds(folder)
  texts = feeds.texts()
  train, _ = feeds.records('pretraining')
  shown, held_out = feeds.records('demonstrations')
  assert len(texts) == len(train) + 2 * len(shown)
  assert shown[0].response in texts
  assert held_out[0].prompt not in texts


def test_rows_and_counts(folder, tokenizer, caplog):
  caplog.set_level('INFO', 'instructjax')
  feeds = _feeds(folder)
  feeds.records('comparisons')
  assert feeds.counts == {} and not caplog.records  # nothing is encoded yet
  train, valid = feeds.pretraining(tokenizer, 48)
  assert train['tokens'].shape[1] == valid['tokens'].shape[1] == 48
  shown, _ = feeds.demonstrations(tokenizer, 32, 16)
  whole, _ = feeds.demonstrations(tokenizer, 32, 16, 'sequence')
  assert shown['loss_mask'].sum() < whole['loss_mask'].sum()
  ranked, _, labelers = feeds.comparisons(tokenizer, 32, 16, 3)
  assert labelers == [f'labeler{i}' for i in range(4)]
  assert set(np.unique(ranked['labeler'])) < set(range(4))
  asked, _ = feeds.prompts(tokenizer, 32)
  assert feeds.counts['prompts/train']['rows'] == len(asked['prompts'])
  assert set(feeds.counts) == {
    name for kind in KINDS for name in (kind, f'{kind}/train', f'{kind}/valid')
  }
  assert caplog.text.count('data prompts/train: rows=') == 1


def test_skipped_rows_are_counted_and_listed(folder, tokenizer, tmp_path):
  path = tmp_path / 'mine.jsonl'
  runs.write_jsonl(path, [{'text': f'{i}?'} for i in range(30)] + [{}])
  with pytest.raises(errors.UserError, match='mine.jsonl:31: needed a row of'):
    _feeds(folder, prompts=path).records('prompts')
  feeds = _feeds(folder, prompts=path, on_bad_row='skip')
  feeds.records('prompts')
  assert feeds.bad_rows() == []  # nothing is encoded yet
  feeds.prompts(tokenizer, 32)
  counts = feeds.counts['prompts']
  assert (counts['rows'], counts['records'], counts['bad_rows']) == (31, 30, 1)
  (told,) = feeds.bad_rows()
  assert (told['kind'], told['row']) == ('prompts', f'{path}:31')
  assert told['reason'].startswith('needed a row of prompts')


def test_a_validation_side_may_be_empty(folder, tokenizer):
  _, valid = _feeds(folder, fraction=0.0).prompts(tokenizer, 32)
  assert valid == {}
  with pytest.raises(errors.UserError, match='needed prompts of at most'):
    _feeds(folder).prompts(tokenizer, 3)


def test_another_seed_splits_otherwise(folder):
  sides = [_feeds(folder, seed=seed).records('prompts')[1] for seed in (0, 1)]
  texts = [[record.text for record in side] for side in sides]
  assert texts[0] != texts[1]
  again = _feeds(folder, seed=1).records('prompts')[1]
  assert [record.text for record in again] == texts[1]


def test_no_kind_trains_on_a_prompt_another_validates_on(tmp_path):
  """Every kind is split by ids of its own, over the same prompts."""
  texts = [f'Question {i}?' for i in range(200)]
  answers = {'responses': ['a', 'b'], 'ranks': [1, 2]}
  rows = {
    'prompts': lambda i, t: {'text': t, 'user_id': f'u{i % 40}'},
    'demonstrations': lambda i, t: {
      'prompt': t,
      'response': 'x',
      'labeler_id': f'd{i % 30}',
    },
    'comparisons': lambda i, t: {
      'prompt': t,
      **answers,
      'labeler_id': f'c{i % 50}',
    },
  }
  for kind, row in rows.items():
    lines = [row(i, text) for i, text in enumerate(texts)]
    runs.write_jsonl(tmp_path / f'{kind}.jsonl', lines)
  feeds = _feeds(tmp_path)
  prompt_of = feeds_lib.records.prompt_of
  sides = {kind: feeds.records(kind) for kind in rows}
  held = {prompt_of(r) for _, valid in sides.values() for r in valid}
  for train, valid in sides.values():
    assert valid and train
    assert held.isdisjoint(prompt_of(r) for r in train)
  trained = {prompt_of(r) for train, _ in sides.values() for r in train}
  assert trained == set(texts) - held


def test_what_is_not_written_yet_holds_nothing_out(tmp_path):
  shown = [
    {'prompt': f'{i}?', 'response': 'x', 'labeler_id': f'd{i % 9}'}
    for i in range(60)
  ]
  ranked = [
    {'prompt': f'{i}?', 'responses': ['a', 'b'], 'ranks': [1, 2]}
    for i in range(60)
  ]
  runs.write_jsonl(tmp_path / 'demonstrations.jsonl', shown)
  before = _feeds(tmp_path).records('demonstrations')[0]
  runs.write_jsonl(tmp_path / 'comparisons.jsonl', ranked)
  pending = _feeds(tmp_path, pending=['comparisons'])
  assert pending.records('demonstrations')[0] == before
  after = _feeds(tmp_path).records('demonstrations')[0]
  assert len(after) < len(before)


def test_public_tasks_are_demonstrations_of_another_kind(
  folder, tokenizer, tmp_path
):
  rows = [{'prompt': f'Add {i}.', 'response': f'{i}'} for i in range(30)]
  (tmp_path / 'data').mkdir()
  runs.write_jsonl(tmp_path / 'data' / 'public_tasks.jsonl', rows)
  feeds = _feeds(tmp_path / 'data')
  assert feeds.spec('public_tasks') and feeds.spec('demonstrations') is None
  train, valid = feeds.demonstrations(tokenizer, 32, 16, kind='public_tasks')
  assert len(train['tokens']) + len(valid['tokens']) == 30
  assert set(feeds.counts) == {
    'public_tasks',
    'public_tasks/train',
    'public_tasks/valid',
  }
  runs.write_jsonl(tmp_path / 'data' / 'public_tasks.jsonl', [{'prompt': 'a'}])
  with pytest.raises(errors.UserError, match='needed a row of demonstrations'):
    _feeds(tmp_path / 'data').records('public_tasks')


def test_shuffled_pairs_hold_the_same_rankings(folder, tokenizer):
  whole, valid, labelers = _feeds(folder).comparisons(tokenizer, 32, 16, 3)
  pairs, same, names = _feeds(folder).comparisons(
    tokenizer, 32, 16, 3, shuffle_pairs=True
  )
  assert pairs['responses'].shape[1:] == (2, 16)
  assert pairs['mask'].all() and (pairs['ranks'] == [1, 2]).all()
  ranks = np.where(whole['mask'], whole['ranks'], 99)
  better = (ranks[:, :, None] < ranks[:, None, :]) & whole['mask'][:, None, :]
  assert len(pairs['prompts']) == better.sum()
  first = {tuple(row) for row in pairs['responses'][:, 0]}
  assert first == {tuple(x) for x in whole['responses'][whole['ranks'] == 1]}
  assert names == labelers
  assert all((valid[name] == same[name]).all() for name in valid)
