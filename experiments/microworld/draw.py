"""The pictures of results.json: a dot a seed, their mean a bar or a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import functools
import pathlib
from typing import Any

import numpy as np

from instructjax import plots
from instructjax.microworld import evaluation
from instructjax.microworld import figures

Results = Mapping[str, Any]
TAXED = ('base', 'sft', 'ppo', 'ppo_ptx')


def draw(results: Results, folder: pathlib.Path) -> list[str]:
  """Draws all figures.

  Args:
    results: of summarize.summarize.
    folder: where the PNG files go; made if it is missing.

  Returns:
    The names of the files drawn; the sweep's only if it was run.
  """
  made = {'win_rates.png': win_rates, 'alignment_tax.png': alignment_tax}
  if 'sweep' in results:
    made['kl_sweep.png'] = sweep
  makers = {name: functools.partial(f, results) for name, f in made.items()}
  return plots.save(folder, makers)


def win_rates(results: Results) -> Any:
  """How often each model is preferred to SFT, by the truth and by people."""
  panels = {
    'by the ground truth': 'win_rate_vs_sft',
    'by held-out labelers': 'win_rate_heldout_labelers',
  }
  found = {
    title: {
      model: _of_seeds(results, lambda r, m=model, k=key: r[k][m]['mean'])
      for model in evaluation.NAMES
      if model in results['report'][key]
    }
    for title, key in panels.items()
  }
  title = 'Preferred to SFT on unseen users’ prompts (higher is better)'
  return _bar_figure(found, title, line=0.5)


def alignment_tax(results: Results) -> Any:
  """What PPO forgets of the pretraining text's tasks, with and without ptx."""
  scores = results['report']['public_tasks']
  models = [model for model in TAXED if model in scores]
  found = {
    'mean of the tasks': {
      m: _of_seeds(results, lambda r, m=m: _mean(r['public_tasks'][m]))
      for m in models
    }
  }
  for task in scores['base']:
    found[task] = {
      m: _of_seeds(results, lambda r, m=m, t=task: r['public_tasks'][m][t])
      for m in models
    }
  title = 'Alignment tax: few-shot tasks of the web (higher is better)'
  return _bar_figure(found, title)


def sweep(results: Results) -> Any:
  """Public tasks and reward against gamma and beta: figures 33 and 34."""
  import matplotlib.pyplot as plt

  default = results['sweep']
  columns = (
    (
      'ptx_coef',
      f'pretraining coefficient gamma (beta = {default["kl_coef"]["mean"]:g})',
      lambda point: point['kl_coef'] == default['kl_coef']['mean'],
    ),
    (
      'kl_coef',
      'KL coefficient beta (gamma = 0)',
      lambda point: point['ptx_coef'] == 0,
    ),
  )
  rows = (
    ('public_tasks', 'public tasks, mean score'),
    ('reward', 'reward on held-out prompts'),
  )
  figure, axes = plt.subplots(
    2, 2, figsize=(9, 6), layout='constrained', sharex='col', sharey='row'
  )
  for row, (number, said) in enumerate(rows):
    for column, (key, label, chosen) in enumerate(columns):
      axis = axes[row, column]
      _curve(axis, results, key, number, chosen)
      _levels(axis, default, number)
      if row:
        axis.set_xlabel(label)
      if not column:
        axis.set_ylabel(said)
  for axis in axes[:, 0]:
    axis.legend(frameon=False, fontsize=8)
  figure.suptitle(
    'What undoes the alignment tax: the pretraining mix (left) or a higher'
    ' KL penalty (right)?\n(higher is better; dots: seeds, line: their mean)',
    fontsize=10,
  )
  return figure


def _curve(
  axis: Any, results: Results, key: str, number: str, chosen: Callable
) -> None:
  """Draws one number of the chosen points at evenly spaced coefficients."""
  found: dict[float, list[float]] = {}
  for seed in results['seeds'].values():
    for point in seed.get('sweep', {}).get('points', {}).values():
      if chosen(point):
        found.setdefault(point[key], []).append(point[number])
  order = sorted(found)
  for x, value in enumerate(order):
    axis.plot([x] * len(found[value]), found[value], '.', color='#0072B2')
  means = [np.mean(found[value]) for value in order]
  axis.plot(range(len(order)), means, color='#0072B2', lw=1.8)
  axis.set_xticks(range(len(order)), [f'{value:g}' for value in order])
  plots.bare(axis)
  axis.grid(alpha=0.25)


def _levels(axis: Any, default: Mapping[str, Any], number: str) -> None:
  """Draws what the curve is to be held against."""
  lines = {'start': default['start_reward']}
  if number == 'public_tasks':  # SFT's is so low that nothing else would show
    lines = {'base': default['public_tasks']['base']}
  for name, value in lines.items():
    colour = figures.MODELS.get(name, ('', '#333333'))[1]
    axis.axhline(
      value['mean'], color=colour, lw=1.4, ls='--', label=figures.label(name)
    )


def _of_seeds(results: Results, number: Callable) -> list[float]:
  """A number of every seed's report that has it."""
  found = []
  for seed in results['seeds'].values():
    try:
      found.append(number(seed['report']))
    except KeyError:  # base_large, say, in some seeds only
      continue
  return found


def _mean(scores: Mapping[str, float]) -> float:
  return float(np.mean(list(scores.values())))


def _bar_figure(
  panels: Mapping[str, Mapping[str, Sequence[float]]],
  title: str,
  line: float | None = None,
) -> Any:
  """A row of panels {title: {model: a number a seed}} of shares as bars."""
  models = list(next(iter(panels.values())))
  figure, axes = figures.bar_panels(models, list(panels), title)
  for axis, values in zip(axes, panels.values(), strict=True):
    for row, model in enumerate(models):
      _bar(axis, row, model, values[model])
    if line is not None:
      axis.axvline(line, color='black', lw=1, ls='--')
    axis.set_xlim(0, 1.2)
    axis.set_xticks((0, 0.5, 1), ('0%', '50%', '100%'))
    plots.bare(axis)
    axis.tick_params(axis='y', length=0)
  return figure


def _bar(axis: Any, row: int, model: str, values: Sequence[float]) -> None:
  """One model's mean as a bar with its number, and a dot for every seed."""
  colour = figures.MODELS.get(model, ('', figures.OTHER))[1]
  mean = float(np.mean(values))
  axis.barh(row, mean, height=0.72, color=colour)
  axis.plot(values, [row] * len(values), 'o', color='black', ms=3)
  axis.text(
    max(values) + 0.04,
    row,
    f'{mean:.0%}',
    va='center',
    fontsize=9,
    bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.8},
  )
