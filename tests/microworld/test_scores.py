"""Numbers of answers, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from instructjax.evaluation import statistics
from instructjax.microworld import scores


def test_a_tie_counts_half():
  ours = [0.5, 0.5, 0.5, 0.5]
  theirs = [0.4, 0.5, 0.5 + 1e-9, 0.6]
  assert scores.wins(ours, theirs) == [1.0, 0.5, 0.5, 0.0]
  assert sum(scores.wins(theirs, ours)) == 4 - sum(scores.wins(ours, theirs))


def test_clusters_add_up_and_leave_out_what_does_not_apply():
  totals, counts = scores.clustered([1, None, 0.5, 1, None], 'abacc')
  assert totals.tolist() == [1.5, 1.0] and counts.tolist() == [2, 1]
  found = statistics.bootstrap(totals, counts)
  assert found['mean'] == pytest.approx(2.5 / 3) and found['n'] == 2
  empty, none = scores.clustered([None], 'a')
  assert np.isnan(statistics.bootstrap(empty, none)['mean'])


@pytest.mark.parametrize(
  'text, piece',
  [
    (' corn.\nquestion: what', 'corn'),
    (' Two  three, four', 'two three'),
    ('\n\n tilu zome\nfox = ', 'tilu zome'),
    ('', ''),
  ],
)
def test_the_first_piece_of_a_continuation(text, piece):
  assert scores.first_piece(text) == piece


def test_only_the_exact_answer_is_right():
  items = [{'answer': ' tilu zome', 'options': ['tilu zome', 'a']}] * 5
  texts = [' tilu zome.', 'tilu', 'tilu zome kapi', ' zome tilu', '']
  assert scores.right(items, texts) == [1.0, 0.0, 0.0, 0.0, 0.0]
  assert scores.guessing(items) == 0.5


def test_rude_words_count_as_words_only():
  texts = ['ben is a fool.', 'ben, you fool!', 'ben is foolish.', '', 'kind']
  assert scores.rude(texts) == [1.0, 1.0, 0.0, 0.0, 0.0]
  assert scores.says('the fox eats corn.', 'corn')
  assert not scores.says('the fox eats corncake.', 'corn')


def test_entropy_is_that_of_the_normalised_probabilities():
  pairs = [(-5.0, -5.0), (math.log(0.03), math.log(0.01)), (-1.0, -900.0)]
  even, three_to_one, certain = scores.entropies(pairs)
  assert even == pytest.approx(1.0)
  expected = -0.75 * math.log2(0.75) - 0.25 * math.log2(0.25)
  assert three_to_one == pytest.approx(expected)
  assert certain == pytest.approx(0.0, abs=1e-9)
  swapped = scores.entropies([(b, a) for a, b in pairs])
  assert swapped == pytest.approx([even, three_to_one, certain])
  assert scores.mean_entropy([0.5, 0.25]) == pytest.approx((1 + expected) / 2)
