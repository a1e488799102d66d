"""The pictures, drawn from invented numbers; people have looked at them."""

from __future__ import annotations

from matplotlib import pyplot as plt
import numpy as np
import pytest

from instructjax.microworld import figures
from tests.microworld import fake_reports

ALL = [
  'win_rates.png',
  'metadata.png',
  'truthfulness.png',
  'toxicity.png',
  'alignment_tax.png',
  'reward_vs_kl.png',
  'learning_curves.png',
]


def test_every_figure_is_drawn_and_closed(tmp_path):
  folder = tmp_path / 'new' / 'figures'
  report, history = fake_reports.report(), fake_reports.history()
  assert figures.draw(report, folder, history) == ALL
  for name in ALL:
    assert plt.imread(folder / name).std() > 0.01, f'{name} is blank'
  assert not plt.get_fignums()


def test_without_history_and_public_tasks_the_rest_is_drawn(tmp_path):
  report = fake_reports.report()
  report['intervals']['public_tasks'] = {}
  assert figures.draw(report, tmp_path) == ALL[:4]


@pytest.fixture
def closing():
  yield
  plt.close('all')


@pytest.mark.usefixtures('closing')
def test_bars_have_the_length_the_order_and_the_whisker_of_the_numbers():
  report = fake_reports.report()
  figure = figures._win_rates(report)
  (axis, _) = figure.axes
  names = [tick.get_text() for tick in axis.get_yticklabels()]
  assert names == ['base', 'SFT', 'PPO-ptx', 'mine']
  assert axis.yaxis_inverted()  # the first model on top
  widths = [bar.get_width() for bar in axis.patches]
  assert widths == [0.12, 0.5, 0.68, 0.4]
  assert [text.get_text() for text in axis.texts] == [
    '12%',
    '50%',
    '68%',
    '40%',
  ]
  whiskers = [line.get_xdata() for line in axis.lines][: len(widths)]
  np.testing.assert_allclose(whiskers[0], (0.07, 0.17))
  np.testing.assert_allclose(axis.lines[-1].get_xdata(), (0.5, 0.5))


@pytest.mark.usefixtures('closing')
def test_a_model_without_a_number_has_no_bar():
  report = fake_reports.report()
  del report['intervals']['toxicity']['sft']['rude']
  panels = figures._toxicity(report).axes
  assert [len(panel.patches) for panel in panels] == [4, 4, 3]


@pytest.mark.usefixtures('closing')
def test_titles_say_which_way_is_better():
  report = fake_reports.report()
  for make in figures._OF_REPORT.values():
    figure = make(report)
    title = figure.get_suptitle()
    for axis in figure.axes:
      said = title + axis.get_title()
      assert 'better' in said or 'obeying' in said


@pytest.mark.usefixtures('closing')
def test_reward_against_kl_begins_hollow_and_ends_filled():
  (axis,) = figures._reward_vs_kl(fake_reports.history()).axes
  raw, smooth, start, end = axis.lines
  np.testing.assert_allclose(raw.get_xdata()[[0, -1]], (0.2, 8.0))
  assert smooth.get_label() == 'PPO-ptx'
  assert start.get_xdata()[0] == smooth.get_xdata()[0]
  assert end.get_xdata()[0] == smooth.get_xdata()[-1]
  assert start.get_markerfacecolor() == 'white' != end.get_markerfacecolor()


def test_smoothing_keeps_the_ends_and_a_straight_line_between():
  line = np.stack([np.arange(200.0), 3 * np.arange(200.0)], 1)
  smooth = figures._smooth(line)
  np.testing.assert_allclose(smooth[5:-5], line[5:-5])
  assert smooth.shape == line.shape
  np.testing.assert_array_equal(figures._smooth(line[:10]), line[:10])


@pytest.mark.usefixtures('closing')
def test_stages_that_a_run_lacks_have_no_panel():
  history = fake_reports.history()
  titles = [
    axis.get_title()
    for axis in figures._learning_curves(history).axes
    if axis.get_visible()
  ]
  assert titles == [
    'sft: loss (lower is better)',
    'reward_model: accuracy (higher is better)',
    'PPO: reward (higher is better)',
    'PPO: KL to the start, nats',
  ]
  assert figures._learning_curves({'collect': []}) is None
  assert figures._reward_vs_kl({'sft': history['sft']}) is None
