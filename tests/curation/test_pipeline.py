"""The in-process pipeline: as slow loops have it, whatever the order."""

from __future__ import annotations

import collections
import gzip
import json
import random

import pytest

from instructjax import errors
from instructjax.curation import files
from instructjax.curation import rows
from instructjax.curation import rules
from instructjax.curation import settings as settings_lib
from tests.curation import raw
from tests.reference import curation as reference

# Small enough that every rule has something to do among few prompts.
TIGHT = {'min_chars': 24, 'max_per_user': 6, 'max_length': 36}
CASES = {
  'default': {},
  'tight': TIGHT,
  'by organization': {
    **TIGHT,
    'cap_by': 'organization_id',
    'split_by': 'organization_id',
    'cap_labelers': False,
  },
  'redact': {**TIGHT, 'pii': 'redact', 'languages': 'en,und'},
  'sizes': {
    **TIGHT,
    'salt': 'another',
    'sizes__ppo_train': 9,
    'sizes__test': 2,
    'sizes__rm_valid': 1000,
  },
}


def _sum(ledger):
  dropped = sum(rule['dropped'] for rule in ledger['rules'])
  return dropped + sum(ledger['output'].values())


@pytest.fixture(scope='module', params=CASES)
def case(request, tmp_path_factory):
  """Settings, the prompts, and the folder that the pipeline wrote."""
  settings = raw.settings(**CASES[request.param])
  folder = tmp_path_factory.mktemp('case')
  log = raw.write(folder / 'raw.jsonl', raw.messy(400))
  out = folder / 'out'
  result = raw.prepared(
    out, [log], settings, part_bytes=5000, partition_bytes=9000
  )
  prompts = [
    prompt
    for number, row in enumerate(raw.read(log), 1)
    for prompt in rows.parse(row, f'{log}:{number}')
  ]
  return settings, prompts, out, result


class TestAgainstSlowLoops:
  def test_the_same_prompts_in_the_same_files(self, case):
    settings, prompts, out, _ = case
    expected, gone = reference.prepared(prompts, settings)
    for name, found in expected.items():
      assert raw.read(out / f'{name}.jsonl') == found
    told = raw.read(out / 'dropped.jsonl')
    assert sorted(tuple(row.values()) for row in told) == sorted(
      gone, key=lambda one: (*one[:2], one[2] or '')
    )

  def test_the_ledger_adds_up(self, case):
    settings, prompts, out, (ledger, tally) = case
    assert [rule['rule'] for rule in ledger['rules']] == list(files.RULES)
    told = collections.Counter(
      row['rule'] for row in raw.read(out / 'dropped.jsonl')
    )
    for rule in ledger['rules']:
      assert rule['dropped'] == told[rule['rule']]
      assert rule['dropped'] == sum(rule['by_split'].values())
    by_name = {rule['rule']: rule for rule in ledger['rules']}
    assert ledger['input'] == 400
    assert by_name['few_shot']['added'] == len(prompts) - 400 > 0
    assert len(prompts) == _sum(ledger)
    lines = {
      f'{name}.jsonl': len(raw.read(out / f'{name}.jsonl'))
      for name in settings_lib.FILES
    }
    assert (
      ledger['output']
      == lines
      == dict(
        collections.Counter(
          {
            f'{name}.jsonl': sum(lengths.values())
            for name, lengths in tally.by_file().items()
          }
        )
      )
    )
    keys = [rules.comparison_key(prompt.text) for prompt in prompts]
    changed = sum(k != p.text for k, p in zip(keys, prompts, strict=True))
    assert by_name['normalization']['changed'] == changed > 0

  def test_no_user_in_two_splits_and_no_twins(self, case):
    settings, _, out, _ = case
    splits, texts = collections.defaultdict(set), []
    for name in settings_lib.FILES:
      for row in raw.read(out / f'{name}.jsonl'):
        (prompt,) = rows.parse(row, 'out:1')
        texts.append(prompt.text)
        user = rules.owner(prompt, prompt.text, settings.split_by)
        splits[user].add(name.rpartition('_')[2])
    assert all(len(found) == 1 for found in splits.values())
    limits = settings.min_chars, settings.min_share
    if settings.pii == 'drop':  # Redacted texts are compared as they were.
      keys = [rules.comparison_key(text) for text in texts]
      for i, a in enumerate(keys):
        for b in keys[:i]:
          assert not reference.shares_prefix(a, b, *limits)

  def test_labelers_prompts_are_not_for_ppo(self, case):
    _, _, out, _ = case
    for name in 'ppo_train', 'ppo_valid':
      found = raw.read(out / f'{name}.jsonl')
      assert {row['source'] for row in found} <= {'customer'}


def test_every_rule_has_something_to_do(tmp_path):
  """So the comparisons above compare something."""
  log = raw.write(tmp_path / 'raw.jsonl', raw.messy(400))
  settings = raw.settings(**CASES['sizes'], languages='en,und')
  ledger, _ = raw.prepared(tmp_path / 'out', [log], settings)
  idle = {r['rule'] for r in ledger['rules'] if not r['dropped']}
  assert idle == {'valid_row', 'few_shot', 'normalization', 'split'}


FEW = {**TIGHT, 'sizes__ppo_train': 9}


@pytest.fixture(scope='module')
def log(tmp_path_factory):
  folder = tmp_path_factory.mktemp('order')
  return raw.write(folder / 'raw.jsonl', raw.messy(300))


@pytest.fixture(scope='module')
def once(log):
  out = log.parent / 'out'
  result = raw.prepared(out, [log], raw.settings(**FEW))
  return result, raw.outputs(out), raw.read(out / 'dropped.jsonl')


class TestOrder:
  @pytest.mark.parametrize(
    'how',
    [
      {},
      {'workers': 2, 'part_bytes': 700, 'partition_bytes': 20_000},
      {'part_bytes': 99, 'partition_bytes': 2000},
      {'workers': 2, 'partition_bytes': 1000},
    ],
  )
  def test_workers_parts_and_partitions(self, how, log, once, tmp_path):
    out = tmp_path / 'out'
    result = raw.prepared(out, [log], raw.settings(**FEW), **how)
    assert (result, raw.outputs(out)) == once[:2]
    assert raw.read(out / 'dropped.jsonl') == once[2]
    assert sorted(path.name for path in out.iterdir()) == sorted(
      ['dropped.jsonl', *(f'{name}.jsonl' for name in settings_lib.FILES)]
    )

  def test_shuffled_lines_in_several_files(self, log, once, tmp_path):
    lines = log.read_bytes().splitlines(keepends=True)
    places = list(enumerate(lines, 1))
    random.Random(2).shuffle(places)
    parts = places[:120], places[120:130], places[130:]
    was, paths = {}, []
    for name, part in zip('cab', parts, strict=True):
      paths.append(tmp_path / f'{name}.jsonl')
      data = b'\n'.join(line for _, line in part)  # blank lines between
      paths[-1].write_bytes(data)
      was |= {
        f'{paths[-1]}:{2 * i + 1}': f'{log}:{number}'
        for i, (number, _) in enumerate(part)
      }
    packed = tmp_path / 'b.json.gz'
    packed.write_bytes(gzip.compress(paths.pop().read_bytes()))
    was = {k.replace('b.jsonl', 'b.json.gz'): v for k, v in was.items()}
    out = tmp_path / 'out'
    result = raw.prepared(out, [*paths, packed], raw.settings(**FEW))
    assert (result, raw.outputs(out)) == once[:2]
    told = [
      {
        **row,
        'row': was[row['row']],
        'duplicate_of': was.get(row['duplicate_of']),
      }
      for row in raw.read(out / 'dropped.jsonl')
    ]
    assert sorted(map(json.dumps, told)) == sorted(map(json.dumps, once[2]))


def test_more_rows_change_no_split_and_no_dataset(tmp_path):
  rows_of = raw.messy(300)
  settings = raw.settings(max_length=60)
  old, new = tmp_path / 'old', tmp_path / 'new'
  log = raw.write(tmp_path / 'old.jsonl', rows_of[:150])
  more = raw.write(tmp_path / 'more.jsonl', rows_of[150:])
  raw.prepared(old, [log], settings)
  raw.prepared(new, [log, more], settings)

  def places(folder):
    return {
      row['prompt_id']: name
      for name in settings_lib.FILES
      for row in raw.read(folder / f'{name}.jsonl')
    }

  before, after = places(old), places(new)
  both = before.keys() & after.keys()
  assert len(both) > 100 and all(before[i] == after[i] for i in both)


class TestBadRows:
  ROWS = [
    b'{"text": "good one"}',
    b'{"text": "half',
    b'\xff\xfe',
    b'',
    b'{"txt": "no prompt"}',
    b'{"text": "good two", "user_id": "u"}',
  ]
  BAD = 2, 3, 5

  @pytest.fixture
  def log(self, tmp_path):
    path = tmp_path / 'raw.jsonl'
    path.write_bytes(b'\n'.join(self.ROWS))
    return path

  @pytest.mark.parametrize('workers', [1, 2])
  def test_the_first_is_refused(self, log, tmp_path, workers):
    with pytest.raises(errors.UserError) as refused:
      small = {'part_bytes': 1, 'partition_bytes': 50}
      raw.prepared(tmp_path / 'out', [log], raw.settings(), workers, **small)
    assert str(refused.value).startswith(f'{log}:2: needed one JSON value')

  def test_they_are_skipped_and_listed(self, log, tmp_path):
    settings = raw.settings(on_bad_row='skip', max_bad_share=0.6)
    out = tmp_path / 'out'
    ledger, _ = raw.prepared(out, [log], settings, part_bytes=1)
    assert raw.dropped(out, 'valid_row') == [f'{log}:{i}' for i in self.BAD]
    assert ledger['input'] == 5 == _sum(ledger)
    assert ledger['rules'][0]['dropped'] == 3

  def test_too_many_are_refused(self, log, tmp_path):
    settings = raw.settings(on_bad_row='skip', max_bad_share=0.59)
    with pytest.raises(errors.UserError) as refused:
      raw.prepared(tmp_path / 'out', [log], settings)
    said = str(refused.value)
    assert said.startswith(f'{log}:2: needed') and '3 bad rows of 5' in said

  def test_no_prompt_at_all(self, tmp_path):
    log = tmp_path / 'raw.jsonl'
    log.write_bytes(b'\n \n')
    with pytest.raises(errors.UserError, match='needed at least one'):
      raw.prepared(tmp_path / 'out', [log], raw.settings())
    log.write_bytes(b'{"txt": 1}')
    settings = raw.settings(on_bad_row='skip', max_bad_share=1.0)
    with pytest.raises(errors.UserError, match='got none in 1 rows'):
      raw.prepared(tmp_path / 'again', [log], settings)

  def test_a_tree_that_asks_nothing_is_no_bad_row(self, tmp_path):
    asked = {'text': 'Why?', 'role': 'prompter', 'replies': []}
    tree = {'message_tree_id': 't', 'prompt': {**asked, 'deleted': True}}
    log = raw.write(tmp_path / 'raw.jsonl', [tree, {'text': 'a prompt'}])
    ledger, _ = raw.prepared(tmp_path / 'out', [log], raw.settings())
    assert ledger['rules'][0]['dropped'] == 1
    assert _sum(ledger) == 2


def test_parquet_is_read_like_json_lines(tmp_path):
  import pyarrow
  from pyarrow import parquet

  found = [
    {'text': row.get('text', 'x'), 'user_id': row.get('user_id')}
    for row in raw.messy(80)
  ]
  log = raw.write(tmp_path / 'raw.jsonl', found)
  table = tmp_path / 'raw.parquet'
  parquet.write_table(pyarrow.Table.from_pylist(found), table)
  settings = raw.settings(**TIGHT)
  raw.prepared(tmp_path / 'a', [log], settings)
  raw.prepared(tmp_path / 'b', [table], settings)
  assert raw.outputs(tmp_path / 'a') == raw.outputs(tmp_path / 'b')


def test_lines_longer_than_a_part(tmp_path):
  """Cut where lines end, however long one is."""
  texts = ['a' * 40, 'b' * 3_000_000, 'c' * 50, 'd' * 2_500_000]
  log = raw.write(tmp_path / 'raw.jsonl', [{'text': text} for text in texts])
  settings = raw.settings(min_chars=8)
  for i, part_bytes in enumerate((99, 2_000_000, 10**9)):
    out = tmp_path / f'out{i}'
    ledger, _ = raw.prepared(out, [log], settings, part_bytes=part_bytes)
    assert ledger['input'] == 4 and _sum(ledger) == 4
  assert raw.outputs(tmp_path / 'out0') == raw.outputs(tmp_path / 'out2')
