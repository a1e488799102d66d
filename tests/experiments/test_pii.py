"""The planted sets and the recorded numbers of experiments/pii."""

from __future__ import annotations

import json
import pathlib

import pytest

from experiments.pii import draw
from experiments.pii import formats
from experiments.pii import planted
from experiments.pii import run
from experiments.pii import scoring

FOLDER = pathlib.Path(run.__file__).parent


def _recorded(name: str):
  return json.loads((FOLDER / name).read_text(encoding='utf-8'))


def test_the_recorded_counts_are_those_of_the_code():
  recorded, counted = _recorded('results.json'), run.counts()
  for name in 'default', 'optional', 'microworld':
    assert counted[name] == recorded[name]
  for name, found in counted['languages'].items():
    assert found == recorded['languages'][name]


def test_the_unseen_parts_are_large_and_what_they_show_is_good():
  results = _recorded('results.json')['default']
  for part in 'held_out', 'fresh':
    assert results[part]['positives'] > 600
    for kind, found in results[part]['kinds'].items():
      assert found['recall'] > 0.88 and found['precision'] > 0.99, (part, kind)
  assert sum(results[p]['negatives'] for p in ('held_out', 'fresh')) > 900


def test_parts_share_no_format_and_no_sentence():
  parts = list(planted.PARTS.values())
  for i, one in enumerate(parts):
    for two in parts[:i]:
      assert not set(one.QUESTIONS) & set(two.QUESTIONS)
      assert not set(one.NEGATIVES) & set(two.NEGATIVES) - {'card', 'iban'}
      for kind in one.SENTENCES:
        assert not set(one.SENTENCES[kind]) & set(two.SENTENCES[kind])


@pytest.mark.parametrize('part', planted.PARTS)
def test_rows_are_the_same_every_time_and_other_with_another_seed(part):
  assert planted.rows(part) == planted.rows(part)
  assert planted.rows(part) != planted.rows(part, seed=1)
  for row in planted.rows(part):
    assert (row.value in row.text) and bool(row.value) == bool(row.kind)
    assert '\u2039' not in row.text


def test_checksums_by_hand():
  assert formats.luhn('7992739871') == '79927398713'
  # The example of the standard: GB82 WEST 1234 5698 7654 32.
  digits = iter('1234569876543')

  class Draw:
    """Draws the example's digits in turn."""

    def choice(self, values):
      return next(digits, '2') if '0' in values else values[0]

  number = formats.account(Draw(), 'GB', 'WEST' + '#' * 14)
  assert number == 'GB82WEST12345698765432'


def test_scores_by_hand():
  rows = [
    planted.Row('call 1234567 now', 'phone', '1234567', 'a'),
    planted.Row('call 7654321 now', 'phone', '7654321', 'b'),
    planted.Row('order 1111111', None, '', 'c'),
  ]
  found = {
    rows[0]: [('phone', 5, 12)],
    rows[1]: [('phone', 5, 11)],  # one digit remains
    rows[2]: [('phone', 6, 13)],
  }
  score = scoring.score(rows, lambda row: found[row])
  assert score['kinds']['phone'] == {
    'planted': 2,
    'found': 1,
    'wrong': 1,
    'recall': 0.5,
    'precision': 0.5,
  }
  assert score['missed'] == {'b': 1}
  assert score['mistaken'] == {'c as phone': 1}
  assert (score['positives'], score['negatives']) == (2, 1)


def test_accuracy_by_hand():
  assert scoring.accuracy(['en', 'fr', 'de'], ['en', 'und', 'nl']) == {
    'texts': 3,
    'right': 0.3333,
    'wrong': 0.3333,
    'undetermined': 0.3333,
  }


def test_the_figures_are_drawn(tmp_path):
  results = _recorded('results.json'), _recorded('first_look.json')
  for name in draw.draw(*results, tmp_path):
    assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')
