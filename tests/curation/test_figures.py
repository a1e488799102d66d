"""The pictures of prepared prompts; people have looked at them."""

from __future__ import annotations

from matplotlib import pyplot as plt
import numpy as np
import pytest

from instructjax.curation import figures
from instructjax.curation import stats
from tests.curation import prepared

ALL = [
  'rules.png',
  'use_cases.png',
  'lengths.png',
  'prompts_per_user.png',
  'languages.png',
]


@pytest.fixture
def closing():
  yield
  plt.close('all')


def test_every_figure_is_drawn_and_closed(tmp_path):
  folder = tmp_path / 'new' / 'figures'
  assert figures.draw(folder, prepared.tally(), prepared.LEDGER) == ALL
  for name in ALL:
    assert plt.imread(folder / name).std() > 0.01, f'{name} is blank'
  assert not plt.get_fignums()


def test_what_has_no_numbers_is_not_drawn(tmp_path):
  nothing = {'input': 0, 'rules': []}
  assert figures.draw(tmp_path, stats.Tally(), nothing) == []
  one = stats.Tally()
  one.add('test', {'source': 'customer'}, 1)
  drawn = figures.draw(tmp_path, one, prepared.LEDGER)
  assert drawn == ['rules.png', 'lengths.png', 'prompts_per_user.png']


@pytest.mark.usefixtures('closing')
def test_the_waterfall_falls_by_what_is_dropped():
  (axis,) = figures._rules(prepared.LEDGER).axes
  widths = [bar.get_width() for bar in axis.patches]
  left, dropped = widths[::2], widths[1::2]
  assert left == [700, 697, 800, 650, 600]
  assert dropped == [0, 3, 0, 150, 50]
  assert axis.yaxis_inverted()  # the first rule on top


@pytest.mark.usefixtures('closing')
def test_use_cases_are_shares_of_those_named():
  tally = stats.Tally()
  for case in ('chat', 'chat', 'chat', 'extract', None):
    tally.add('test', {'source': 'customer', 'use_case': case}, 1)
  (axis,) = figures._use_cases(tally).axes
  names = [tick.get_text() for tick in axis.get_yticklabels()]
  widths = [bar.get_width() for bar in axis.patches]
  shares = dict(zip(names, widths, strict=True))
  assert (shares['chat'], shares['extract'], shares['open QA']) == (
    0.75,
    0.25,
    0,
  )


@pytest.mark.parametrize('longest', [1, 2, 3, 100, 2048, 5000])
def test_bins_hold_every_length(longest):
  edges = figures._edges(longest)
  counts, _ = np.histogram(np.arange(1, longest + 1), edges)
  assert counts.sum() == longest and counts[-1] > 0
  assert edges[-1] > longest  # the last bin is open at its end like the others


@pytest.mark.usefixtures('closing')
def test_areas_over_doublings_are_one():
  axis = plt.figure().subplots()
  edges = figures._edges(1000)
  figures._density(axis, 'rm_valid', {1: 3, 64: 5, 1000: 2}, edges)
  (drawn,) = axis.patches
  heights = drawn.get_data().values
  assert heights @ np.diff(np.log2(edges)) == pytest.approx(1)


@pytest.mark.usefixtures('closing')
def test_users_by_rank():
  tally = stats.Tally()
  for user, count in {'a': 9, 'b': 2, 'c': 2, 'd': 2}.items():
    for _ in range(count):
      tally.add('test', {'source': 'customer', 'user_id': user}, 1)
  (axis,) = figures._per_user(tally).axes
  (line,) = axis.lines
  assert line.get_xdata().tolist() == [1, 1, 2, 4]
  assert line.get_ydata().tolist() == [9, 9, 2, 2]
