"""Counts that add up in any order, and the tables made of them."""

from __future__ import annotations

import dataclasses
import pickle

import hypothesis
from hypothesis import strategies
import pytest

from instructjax.curation import paper
from instructjax.curation import settings
from instructjax.curation import stats
from tests.curation import prepared

ROWS = list(prepared.rows())
WHOLE = prepared.tally()


def _written(folder, tally, ledger=prepared.LEDGER):
  stats.write(folder, tally, 'words', ledger)
  return (folder / 'stats.md').read_text(encoding='utf-8')


def _cells(text, section, name):
  """The cells of a table's row, of the section that begins so."""
  _, _, rest = text.partition(f'## {section}')
  (line,) = [
    line
    for line in rest.partition('\n## ')[0].splitlines()
    if line.startswith(f'| {name} |')
  ]
  return [cell.strip() for cell in line.strip('|').split('|')][1:]


@hypothesis.given(strategies.randoms(use_true_random=False))
@hypothesis.settings(max_examples=20)
def test_any_order_of_any_workers_counts_the_same(draw):
  workers = [stats.Tally() for _ in range(4)]
  for row in draw.sample(ROWS, len(ROWS)):
    draw.choice(workers).add(*row)
  whole = stats.Tally()
  for worker in workers:
    whole.merge(pickle.loads(pickle.dumps(worker)))
  assert whole == WHOLE


def test_the_order_of_counting_leaves_no_trace_in_the_text(tmp_path):
  backwards = stats.Tally()
  for row in reversed(ROWS):
    backwards.add(*row)
  assert _written(tmp_path, backwards) == _written(tmp_path, WHOLE)


def test_merging_changes_only_the_one_that_is_told_to():
  one, other = prepared.tally(10), prepared.tally(20)
  one.merge(other)
  one.add(*ROWS[0])
  assert other == prepared.tally(20)


def test_every_prompt_is_counted_once():
  n = len(ROWS)
  assert WHOLE.prompts.total() == WHOLE.sizes().total() == n
  assert sum(c.total() for c in WHOLE.by_file().values()) == n
  users = [WHOLE.per_user(s, settings.FILES) for s in stats.SOURCES]
  assert sum(size * count for c in users for size, count in c.items()) == n
  named = sum('use_case' in row for _, row, *_ in ROWS)
  assert sum(c.total() for c in WHOLE.by_use_case().values()) == named


def test_a_prompt_of_nobody_known_is_a_user_of_its_own():
  tally = stats.Tally()
  for user in ('a', 'a', None, None, 'b'):
    row = {'source': 'customer'} | ({'user_id': user} if user else {})
    tally.add('rm_train', row, 5)
  tally.add('rm_valid', {'source': 'customer', 'organization_id': 'o'}, 5)
  tally.add('ppo_train', {'source': 'customer', 'user_id': 'b'}, 5)
  assert tally.per_user('customer', ['rm_train']) == {2: 1, 1: 3}
  # b's prompts of two files are those of one user.
  assert tally.per_user('customer', settings.FILES) == {2: 2, 1: 3}


def test_an_organisation_is_no_user_of_the_same_name():
  tally = stats.Tally()
  for name in ('user_id', 'organization_id', 'user_id'):
    tally.add('sft_train', {'source': 'customer', name: '7'}, 5)
  assert tally.per_user('customer', ['sft_train']) == {1: 1, 2: 1}


def test_tables_by_hand(tmp_path):
  tally = stats.Tally()
  told = {'source': 'customer', 'use_case': 'open_qa', 'language': 'fr'}
  tally.add('rm_train', told | {'user_id': 'a'}, 10)
  tally.add('rm_train', told | {'user_id': 'a', 'use_case': 'chat'}, 30)
  tally.add('rm_train', told | {'user_id': 'b'}, 20)
  plain = {'source': 'labeler', 'user_id': 'l', 'language': 'en'}
  tally.add('sft_valid', plain, 1234, 8)
  text = _written(tmp_path, tally)
  assert 'tokens, counted as words.' in text
  sizes = _cells(text, 'Sizes', 'train, customer')
  assert sizes == ['0', '1,430', '3', '26,584', '0', '31,144']
  assert _cells(text, 'Sizes', 'valid, labeler')[:2] == ['1', '1,550']
  assert _cells(text, 'Use cases', 'open QA') == ['2', '66.7%', '12.4%']
  assert '1 prompts name no use case' in text
  assert _cells(text, 'Prompts per customer', 'RM train') == [
    *('2', '3', '1.50', '5.35', '2')
  ]
  assert _cells(text, 'Prompts per customer', 'SFT valid')[:3] == [
    *('0', '0', '–')
  ]
  assert _cells(text, 'Lengths of prompts (Table 9)', 'RM train') == [
    *('3', '20', '10', '10', '15', '20', '25', '30')
  ]
  assert _cells(text, 'Lengths by use case', 'chat') == [
    *('1', '30', '–', '30', '30', '30', '30', '30', '386')
  ]
  answers = _cells(text, 'Lengths of prompts and', 'labeler, demonstrations')
  assert answers[:2] == ['1', '8']
  asked = _cells(text, 'Lengths of prompts and', 'labeler, prompts')
  assert asked[:2] == ['1', '1,234']
  assert _cells(text, 'Languages', 'fr') == ['3', '75.00%']
  assert 'No row has "annotations"' in text


def test_annotations_where_rows_have_them(tmp_path):
  tally = stats.Tally()
  for told in ({'opinion': True}, {'opinion': False, 'mine': True}):
    row = {'source': 'customer', 'annotations': told}
    tally.add('rm_train', row, 3)
  tally.add('rm_train', {'source': 'customer'}, 3)
  text = _written(tmp_path, tally)
  assert _cells(text, 'Annotations', 'opinion') == ['50.0%', '7.7%']
  assert _cells(text, 'Annotations', 'mine') == ['50.0%', '–']
  tally.add('rm_train', {**row, 'annotations': {'a | b\nc': True}}, 3)
  assert '\n| a \\| b c | 33.3% | – |\n' in _written(tmp_path, tally)
  assert _cells(text, 'Annotations', 'annotated') == ['2', '–']


def test_rules_add_up(tmp_path):
  text = _written(tmp_path, WHOLE)
  section = 'What the rules dropped'
  assert _cells(text, section, 'valid row') == ['3', '2', '1', '0', '697', '']
  assert _cells(text, section, 'few shot')[4:] == ['800', 'added 103']
  assert _cells(text, section, 'PII') == [
    *('50', '–', '–', '–', '600'),
    'by kind: email 40, phone 10, redacted 0',
  ]


def test_many_languages_share_a_line(tmp_path):
  tally = stats.Tally()
  for i in range(stats.MAX_LANGUAGES + 3):
    tally.add('test', {'source': 'customer', 'language': f'x{i:02}'}, 1)
  text = _written(tmp_path, tally)
  assert _cells(text, 'Languages', '3 others') == ['3', '13.04%']
  assert f'| x{stats.MAX_LANGUAGES:02} |' not in text


def test_nothing_at_all_makes_tables_without_numbers(tmp_path):
  text = _written(tmp_path, stats.Tally(), {'input': 0, 'rules': []})
  assert _cells(text, 'Use cases', 'chat') == ['0', '–', '8.4%']
  assert _cells(text, 'Lengths of prompts (Table 9)', 'test')[:2] == ['0', '–']
  assert 'No row has a "response"' in text


def test_figures_are_shown(tmp_path):
  stats.write(tmp_path, WHOLE, 'words', prepared.LEDGER, ['a.png'])
  text = (tmp_path / 'stats.md').read_text(encoding='utf-8')
  assert text.endswith('## Figures\n\n![a.png](figures/a.png)\n')


def test_the_papers_tables_agree_with_each_other():
  assert set(paper.LENGTHS) == set(paper.PER_CUSTOMER) == set(settings.FILES)
  for file in settings.FILES[:-1]:
    total = sum(paper.SIZES.get((file, s), 0) for s in stats.SOURCES)
    assert paper.LENGTHS[file]['n'] == total
  shares = sum(share for share, _ in paper.USE_CASES.values())
  assert shares == pytest.approx(1, abs=0.002)


def test_a_tally_has_only_what_can_be_added():
  for field in dataclasses.fields(stats.Tally):
    value = getattr(WHOLE, field.name)
    counts = value.values() if field.name == 'users' else [value]
    assert all(type(n) is int for c in counts for n in c.values()), field.name
