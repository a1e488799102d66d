"""The records of a run: found, split once, encoded, counted."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from instructjax import errors
from instructjax.data import feeds as feeds_lib
from instructjax.data import loader
from instructjax.data import streaming
from instructjax.data import tokenizer as tokenizer_lib
from instructjax.stages import build
from tests import runs

KINDS = ('pretraining', 'demonstrations', 'comparisons', 'prompts')
ALL_KINDS = (*KINDS, 'public_tasks')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return runs.write_records(tmp_path_factory.mktemp('records'))


def _feeds(
  folder='',
  *,
  seed=0,
  fraction=0.1,
  above=2**28,
  pending=(),
  on_bad_row='refuse',
  **specs,
):
  data = dict.fromkeys(ALL_KINDS, '') | {k: str(v) for k, v in specs.items()}
  data |= {'folder': str(folder), 'validation_fraction': fraction}
  data |= {'on_bad_row': on_bad_row, 'max_bad_share': 0.1, 'tfds_dir': ''}
  data['stream_above_bytes'] = above
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
  train, valid = feeds.pretraining(tokenizer, 48, 64)
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


def test_large_text_is_streamed(folder, tokenizer, caplog):
  caplog.set_level('INFO', 'instructjax')
  size = (folder / 'pretraining.jsonl').stat().st_size
  assert _feeds(folder, above=size).corpora() == {}
  feeds = _feeds(folder, above=size - 1)
  feeds.check('pretraining')
  assert len(feeds.corpora()) == 1 and feeds.corpora() is feeds.corpora()
  train, valid = feeds.pretraining(tokenizer, 48, 2)
  assert isinstance(train, streaming.Text)
  assert len(valid['tokens']) == 2
  told = feeds.counts['pretraining/train']
  assert told['rows'] == train.num_rows
  assert feeds.counts['pretraining/valid']['rows'] == 2
  assert 'data pretraining/train: files=1, bytes=' in caplog.text
  feeds.known = {'pretraining/train': told | {'blocks': 3}}
  assert feeds.pretraining(tokenizer, 48, 2)[0].num_blocks == 3
  none = _feeds(folder, above=0, fraction=0.0)
  assert none.pretraining(tokenizer, 48, 2)[1] == {}


def test_the_tokenizer_learns_from_a_sample_of_what_is_streamed(
  folder, monkeypatch
):
  whole = _feeds(folder, fraction=0.0).texts()
  texts = _feeds(folder, fraction=0.0, above=0).texts()
  assert sorted(texts) == sorted(whole)  # as there is so little
  monkeypatch.setattr(feeds_lib, 'TOKENIZER_BYTES', 1000)
  monkeypatch.setattr(feeds_lib.corpus, 'SAMPLE', 100)
  shown = len(_feeds(folder).halves('demonstrations')[0])
  few = _feeds(folder, fraction=0.0, above=0).texts()[: -2 * shown]
  assert 0 < sum(map(len, few)) < 1500


def test_large_text_cannot_be_compressed(folder, tmp_path):
  path = tmp_path / 'a.jsonl.gz'
  path.write_bytes(gzip.compress((folder / 'pretraining.jsonl').read_bytes()))
  _feeds(pretraining=path).check('pretraining')
  with pytest.raises(errors.UserError, match='decompress it, or raise'):
    _feeds(pretraining=path, above=0).check('pretraining')


def _mixture(folder, kind, tmp_path):
  """Two halves of a kind's rows as two sources of unequal weight."""
  rows = runs.lines(folder / f'{kind}.jsonl')
  paths = tmp_path / f'{kind}_a.jsonl', tmp_path / f'{kind}_b.jsonl'
  runs.write_jsonl(paths[0], rows[::2])
  runs.write_jsonl(paths[1], rows[1::2])
  return {str(paths[0]): 0.75, str(paths[1]): 0.25}


@pytest.mark.parametrize('kind', KINDS)
def test_a_mixture_splits_each_source_by_itself(
  folder, tokenizer, tmp_path, kind
):
  mixture = _mixture(folder, kind, tmp_path)
  spec = ','.join(f'{path}={weight}' for path, weight in mixture.items())
  feeds = _feeds(**{kind: spec})
  options = {
    'pretraining': (48, 100),
    'demonstrations': (32, 16),
    'comparisons': (32, 16, 3),
    'prompts': (32,),
  }[kind]
  train, valid, *_ = getattr(feeds, kind)(tokenizer, *options)
  assert isinstance(train, loader.Parts)
  assert train.weights == [0.75, 0.25]
  held = 0
  for path, rows in zip(mixture, train.rows, strict=True):
    alone = _feeds(**{kind: path})
    wanted, held_out, *_ = getattr(alone, kind)(tokenizer, *options)
    assert feeds.counts[f'{kind}[{path}]'] == alone.counts[kind]
    assert len(rows['tokens' if 'tokens' in rows else 'prompts']) == len(
      next(iter(wanted.values()))
    )
    held += len(next(iter(held_out.values())))
    found, others = feeds.files[kind][path], alone.files[kind][path]
    assert found == others == [path]
  assert feeds.used == {kind}
  assert len(next(iter(valid.values()))) == held
  source = loader.Loader(train, 8, seed=1)
  assert all(len(rows) == 8 for rows in source.batch(3).values())
  as_dict = feeds_lib.Feeds(feeds.data | {kind: mixture})
  again, same, *_ = getattr(as_dict, kind)(tokenizer, *options)
  assert all((same[k] == valid[k]).all() for k in valid)
  for found, wanted in zip(again.rows, train.rows, strict=True):
    assert all((found[k] == wanted[k]).all() for k in wanted)


def test_no_source_trains_on_what_another_validates_on(tmp_path):
  for i in range(3):
    rows = [
      {'text': f'Question {j}?', 'user_id': f'{i}u{j % 20}'} for j in range(200)
    ]
    runs.write_jsonl(tmp_path / f'{i}.jsonl', rows)
  spec = ','.join(f'{tmp_path}/{i}.jsonl=1' for i in range(3))
  train, valid = _feeds(prompts=spec).records('prompts')
  held = {row.text for row in valid}
  assert held and train and held.isdisjoint(row.text for row in train)


def test_what_is_wrong_with_a_source_names_it(folder, tokenizer, tmp_path):
  path = tmp_path / 'long.jsonl'
  runs.write_jsonl(path, [{'text': 'word ' * 100}])
  spec = f'{folder}/prompts.jsonl=1,{path}=1'
  with pytest.raises(errors.UserError, match=f'^{path}: needed prompts of at'):
    _feeds(prompts=spec, fraction=0.0).prompts(tokenizer, 32)


def test_one_source_of_a_mixture_may_be_streamed(folder, tokenizer, tmp_path):
  small = tmp_path / 'small.txt'
  small.write_text('The ant eats hay and the bee eats nuts. ' * 20)
  large = folder / 'pretraining.jsonl'
  spec = f'{small}=0.25,{large}=0.75'
  feeds = _feeds(pretraining=spec, above=small.stat().st_size)
  feeds.check('pretraining')
  assert list(feeds.corpora()) == [str(large)]
  train, valid = feeds.pretraining(tokenizer, 48, 4)
  assert isinstance(train.rows[1], streaming.Text)
  assert feeds.sources(['pretraining', 'prompts']) == {
    str(path): [str(path)] for path in (small, large)
  }
  assert f'pretraining[{large}]/train' in feeds.counts
  data = build.pretraining(
    {'sequence_length': 48, 'batch_size': 8, 'seed': 0, 'max_eval_rows': 4},
    feeds,
    tokenizer,
  )
  assert 0 < len(valid['tokens'])
  whole = [data.source.batch(i)['tokens'] for i in range(3)]
  again = [data.source.batch(i)['tokens'] for i in (2, 0, 1)]
  assert (np.stack(whole) == np.stack(again)[[1, 2, 0]]).all()
