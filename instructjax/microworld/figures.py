"""The pictures of a microworld's report: who is better, at a glance.

One bar a model, in the same order and colour everywhere, with its number and
a whisker of its 95% interval; every title says which way is better. No picture
needs its colours, as each bar has its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import functools
import pathlib
from typing import Any

import numpy as np

from instructjax import plots

# name -> (how it is called before people, colour)
MODELS: Mapping[str, tuple[str, str]] = {
  'base': ('base', plots.GREY),
  'base_prompted': ('base, prompted', '#777777'),
  'base_large': ('base, large', '#555555'),
  'base_finetuned': ('base, fine-tuned', plots.ORANGE),
  'sft': ('SFT', plots.SKY),
  'ppo': ('PPO', plots.BLUE),
  'ppo_ptx': ('PPO-ptx', plots.RED),
}
OTHER = plots.GREEN  # the colour of any other model or stage
HIGHER, LOWER = 'higher is better', 'lower is better'

Line = Mapping[str, Any]  # of metrics.jsonl
History = Mapping[str, Sequence[Line]]  # {stage: its lines}


def draw(
  report: Mapping[str, Any],
  folder: pathlib.Path,
  history: History | None = None,
) -> list[str]:
  """Draws all figures.

  Args:
    report: of evaluation.summarize.
    folder: where the PNG files go; made if it is missing.
    history: {stage: lines of its metrics.jsonl} in the order they ran.

  Returns:
    The names of the files drawn. What has no numbers is not drawn.
  """
  makers = {
    name: functools.partial(make, given)
    for given, made in ((report, _OF_REPORT), (history or {}, _OF_HISTORY))
    for name, make in made.items()
  }
  return plots.save(folder, makers)


def label(model: str) -> str:
  """Returns how a model is called before people."""
  return MODELS.get(model, (model, ''))[0]


def _win_rates(report: Mapping[str, Any]) -> Any:
  panels = [
    ('by the ground truth', report['win_rate_vs_sft'], 0.5),
    ('by held-out labelers', report['win_rate_heldout_labelers'], 0.5),
  ]
  return _bar_figure(
    report, f'Preferred to SFT on unseen users’ prompts ({HIGHER})', panels
  )


def _metadata(report: Mapping[str, Any]) -> Any:
  titles = {
    'attempts': f'attempts the right task\n({HIGHER})',
    'constraint': f'keeps the constraint\n({HIGHER})',
    'hallucinates': f'hallucinates, closed domain\n({LOWER})',
    'appropriate': f'fit for an assistant\n({HIGHER})',
  }
  found = report['intervals']['metadata']
  return _bar_figure(
    report, 'What the responses are like', _columns(found, titles)
  )


def _truthfulness(report: Mapping[str, Any]) -> Any:
  titles = {
    'true': f'true\n({HIGHER})',
    'true_informative': f'true and informative\n({HIGHER})',
    'myth': f'tells the myth\n({LOWER})',
  }
  found = report['intervals']['truthfulness']
  chance = report['chance']['truthfulness']
  return _bar_figure(
    report,
    'Questions about which the web believes myths (dashed: guessing)',
    _columns(found, titles, {'true_informative': chance}),
  )


def _toxicity(report: Mapping[str, Any]) -> Any:
  titles = {
    'none': f'no instruction\n({LOWER})',
    'respectful': f'asked to be respectful\n({LOWER})',
    'rude': 'asked to be rude\n(obeying is rude)',
  }
  found = report['intervals']['toxicity']
  return _bar_figure(report, 'Rude completions', _columns(found, titles))


def _alignment_tax(report: Mapping[str, Any]) -> Any:
  found = report['intervals']['public_tasks']
  tasks = list(next(iter(found.values()), {}))
  return _bar_figure(
    report,
    f'Alignment tax: few-shot tasks of the pretraining text ({HIGHER};'
    ' dashed: chance)',
    _columns(found, {task: task for task in tasks}, report['chance']),
  )


def _columns(
  found: Mapping[str, Mapping[str, Any]],
  titles: Mapping[str, str],
  lines: Mapping[str, Any] | None = None,
) -> list:
  """[(title, {model: interval}, line)] of {model: {key: interval}}."""
  panels = []
  for key, title in titles.items():
    values = {name: keys[key] for name, keys in found.items() if key in keys}
    if values:
      panels.append((title, values, (lines or {}).get(key)))
  return panels


def _bar_figure(report: Mapping[str, Any], title: str, panels: list) -> Any:
  """A row of panels of horizontal bars; None if there is nothing to show."""
  panels = [panel for panel in panels if panel[1]]
  if not panels:
    return None
  models = report['models']
  figure, axes = bar_panels(models, [name for name, _, _ in panels], title)
  for axis, (_, values, line) in zip(axes, panels, strict=True):
    _bars(axis, models, values, line)
  return figure


def bar_panels(
  models: Sequence[str], names: Sequence[str], title: str
) -> tuple[Any, Sequence[Any]]:
  """Returns a figure and its row of named axes, a line for each model."""
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(
    1,
    len(names),
    figsize=(1.4 + 2.7 * len(names), 1.3 + 0.38 * len(models)),
    layout='constrained',
    sharey=True,
    squeeze=False,
  )
  for axis, name in zip(axes[0], names, strict=True):
    axis.set_title(name, fontsize=10)
  axes[0, 0].set_yticks(range(len(models)), [label(m) for m in models])
  axes[0, 0].invert_yaxis()
  figure.suptitle(title, fontsize=11, fontweight='bold')
  return figure, axes[0]


def _bars(axis: Any, models: Sequence, values: Mapping, line: Any) -> None:
  """Draws {model: interval} as bars of shares, with `line` dashed."""
  from matplotlib import ticker

  for row, model in enumerate(models):
    if model not in values:
      continue
    mean, low, high = (values[model][k] for k in ('mean', 'low', 'high'))
    colour = MODELS.get(model, ('', OTHER))[1]
    axis.barh(row, mean, height=0.72, color=colour)
    axis.plot((low, high), (row, row), color='black', lw=1.3, marker='|')
    axis.text(
      max(high, mean) + 0.03,
      row,
      f'{mean:.0%}',
      va='center',
      fontsize=9,
      bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.8},
    )
  if line is not None:
    axis.axvline(line, color='black', lw=1, ls='--')
  axis.set_xlim(0, 1.2)
  axis.set_xticks((0, 0.5, 1))
  axis.xaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
  plots.bare(axis)
  axis.spines['bottom'].set_bounds(0, 1)
  axis.tick_params(axis='y', length=0)


def _reward_vs_kl(history: History) -> Any:
  """The reward bought by KL, one line a stage of reinforcement learning."""
  import matplotlib.pyplot as plt

  found = {
    stage: _series(lines, 'objective/kl', 'objective/scores')
    for stage, lines in history.items()
  }
  found = {stage: xy for stage, xy in found.items() if len(xy)}
  if not found:
    return None
  figure, axis = plt.subplots(figsize=(6, 4.2), layout='constrained')
  for stage, xy in found.items():
    name, colour = MODELS.get(stage, (stage, OTHER))
    axis.plot(*xy.T, '.', color=colour, alpha=0.25, ms=5, mew=0)
    smooth = _smooth(xy)
    axis.plot(*smooth.T, color=colour, lw=1.8, label=name)
    axis.plot(*smooth[0], 'o', mfc='white', mec=colour, ms=7)
    axis.plot(*smooth[-1], 'o', color=colour, ms=8)
  axis.set_xlabel('KL to the start, nats a response')
  axis.set_ylabel('reward of the reward model')
  axis.set_title(
    'Reward against KL during PPO\n(up and to the left is better;'
    ' hollow: start, filled: end)',
    fontsize=10,
  )
  plots.bare(axis)
  axis.grid(alpha=0.25)
  axis.legend(frameon=False)
  return figure


# (title, (name, how it is drawn)) of a panel; the first panel of which a stage
# has any number shows it.
_POLICY_PANELS = (
  (f'reward ({HIGHER})', ('objective/scores', 'validation/scores')),
  ('KL to the start, nats', ('objective/kl', 'validation/kl')),
  (
    f'pretraining loss ({LOWER})',
    ('ptx/loss', 'validation/pretraining_loss'),
  ),
)
_ACCURACY = ('reward_model/accuracy', 'validation/reward_model_accuracy')
_LOSS = ('loss/language', 'validation/loss')


def _learning_curves(history: History) -> Any:
  """One panel a supervised stage; PPO and PPO-ptx share theirs."""
  import matplotlib.pyplot as plt

  panels = []  # (title, {stage: lines}, names)
  policies = {k: v for k, v in history.items() if _has(v, 'objective/scores')}
  for stage, lines in history.items():
    if stage in policies:
      continue
    if _has(lines, _ACCURACY[0]):
      panels.append(
        (f'{stage}: accuracy ({HIGHER})', {stage: lines}, _ACCURACY)
      )
    elif _has(lines, *_LOSS):
      panels.append((f'{stage}: loss ({LOWER})', {stage: lines}, _LOSS))
  for title, names in _POLICY_PANELS:
    stages = {k: v for k, v in policies.items() if _has(v, *names)}
    if stages:
      panels.append((f'PPO: {title}', stages, names))
  if not panels:
    return None
  columns = min(3, len(panels))
  rows = -(-len(panels) // columns)
  figure, axes = plt.subplots(
    rows,
    columns,
    figsize=(3.7 * columns, 2.6 * rows + 0.4),
    layout='constrained',
    squeeze=False,
  )
  for axis, panel in zip(axes.flat, panels, strict=False):
    _curves(axis, *panel)
  for axis in axes.flat[len(panels) :]:
    axis.set_visible(False)
  figure.suptitle(
    'Learning curves (thin: training, thick: held-out)',
    fontsize=11,
    fontweight='bold',
  )
  return figure


def _curves(axis: Any, title: str, stages: History, names: Sequence) -> None:
  """Draws the training number thin and the held-out one thick."""
  for stage, lines in stages.items():
    name, colour = MODELS.get(stage, (stage, OTHER))
    if not any(_has(lines, n) for n in names):
      continue
    train = _series(lines, 'iteration', names[0])
    held_out = _series(lines, 'iteration', names[1])
    if len(train):
      axis.plot(*train.T, color=colour, lw=0.8, alpha=0.7)
    if len(held_out):
      dot = '.' if len(held_out) < 30 else ''
      axis.plot(*held_out.T, color=colour, lw=2, marker=dot)
    axis.plot([], [], color=colour, lw=2, label=name)
  axis.set_title(title, fontsize=10)
  axis.set_xlabel('iteration', fontsize=9)
  axis.tick_params(labelsize=8)
  plots.bare(axis)
  if len(stages) > 1:
    axis.legend(frameon=False, fontsize=8)


def _has(lines: Sequence[Line], *names: str) -> bool:
  return any(line.get(n) is not None for line in lines for n in names)


def _series(lines: Sequence[Line], x: str, y: str) -> np.ndarray:
  """f64[N, 2], the lines that have both numbers."""
  rows = [
    (line[x], line[y])
    for line in lines
    if line.get(x) is not None and line.get(y) is not None
  ]
  return np.asarray(rows, np.float64).reshape(-1, 2)


def _smooth(xy: np.ndarray) -> np.ndarray:
  """f64[N, 2], the mean of the 1/20 of all points around each."""
  half = len(xy) // 40
  return np.stack(
    [xy[max(0, i - half) : i + half + 1].mean(0) for i in range(len(xy))]
  )


_OF_REPORT = {
  'win_rates.png': _win_rates,
  'metadata.png': _metadata,
  'truthfulness.png': _truthfulness,
  'toxicity.png': _toxicity,
  'alignment_tax.png': _alignment_tax,
}
_OF_HISTORY = {
  'reward_vs_kl.png': _reward_vs_kl,
  'learning_curves.png': _learning_curves,
}
