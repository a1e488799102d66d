"""The pictures of prepared prompts, drawn of the same counts as stats.md."""

from __future__ import annotations

import functools
import math
import pathlib
from typing import Any

import numpy as np

from instructjax import plots
from instructjax.curation import lengths
from instructjax.curation import paper
from instructjax.curation import settings
from instructjax.curation import stats

COLOURS = {'customer': plots.BLUE, 'labeler': plots.ORANGE}
MAX_LANGUAGES = 12


def draw(
  folder: pathlib.Path, tally: stats.Tally, ledger: stats.Ledger
) -> list[str]:
  """Draws all figures.

  Args:
    folder: where the PNG files go; made if it is missing.
    tally: of all that was written.
    ledger: as ledger.json, with its rules in order.

  Returns:
    The names of the files drawn. What has no numbers is not drawn.
  """
  makers = {
    'rules.png': functools.partial(_rules, ledger),
    'use_cases.png': functools.partial(_use_cases, tally),
    'lengths.png': functools.partial(_lengths, tally),
    'prompts_per_user.png': functools.partial(_per_user, tally),
    'languages.png': functools.partial(_languages, tally),
  }
  return plots.save(folder, makers)


def _rules(ledger: stats.Ledger) -> Any:
  """A bar a rule: what it left, and what it dropped beyond."""
  steps = [('input', 0, ledger['input']), *stats.remaining(ledger)]
  most = max(left + dropped for _, dropped, left in steps)
  if not most:
    return None
  figure, axis = _lines(
    [stats.called(name) for name, _, _ in steps], 'What each rule dropped'
  )
  for row, (_, dropped, left) in enumerate(steps):
    axis.barh(row, left, height=0.72, color=plots.BLUE)
    axis.barh(row, dropped, left=left, height=0.72, color=plots.RED)
    told = f'{left:,}' + (f'   −{dropped:,}' if dropped else '')
    axis.text(left + dropped + most / 80, row, told, va='center', fontsize=9)
  axis.set_xlim(0, most * 1.3)
  axis.set_xlabel('rows left (blue) and dropped (red)', fontsize=9)
  axis.xaxis.set_major_formatter('{x:,.0f}')
  axis.xaxis.set_major_locator(_locator(4))
  return figure


def _use_cases(tally: stats.Tally) -> Any:
  """A bar a use case, with the paper's share as a mark."""
  found = {name: n.total() for name, n in tally.by_use_case().items()}
  total = sum(found.values())
  if not total:
    return None
  figure, axis = _lines(
    [stats.called(name) for name in found],
    'Use cases (diamonds: API prompts of the paper’s RM data)',
  )
  for row, (name, count) in enumerate(found.items()):
    share, papers = count / total, paper.USE_CASES[name][0]
    axis.barh(row, share, height=0.72, color=plots.BLUE)
    axis.plot(papers, row, 'D', color=plots.RED, ms=6, mec='white')
    told = f'{share:.1%} (paper {papers:.1%})'
    axis.text(max(share, papers) + 0.02, row, told, va='center', fontsize=9)
  most = max(*found.values(), paper.USE_CASES['generation'][0] * total) / total
  axis.set_xlim(0, most + 0.25)
  axis.set_xlabel('share of the prompts that name a use case', fontsize=9)
  axis.xaxis.set_major_formatter(_percents())
  return figure


def _lengths(tally: stats.Tally) -> Any:
  """A panel a dataset: density of the logarithm of the length."""
  from matplotlib import ticker
  import matplotlib.pyplot as plt

  found = {file: n for file, n in tally.by_file().items() if n}
  if not found:
    return None
  longest = max(max(n) for n in found.values())
  edges = _edges(longest)
  datasets = list(dict.fromkeys(file.partition('_')[0] for file in found))
  figure, axes = plt.subplots(
    len(datasets),
    1,
    figsize=(6.4, 0.9 + 1.5 * len(datasets)),
    layout='constrained',
    sharex=True,
    squeeze=False,
  )
  for axis, dataset in zip(axes[:, 0], datasets, strict=True):
    for file, counted in found.items():
      if file.partition('_')[0] == dataset:
        _density(axis, file, counted, edges)
    axis.set_xscale('log', base=2)
    axis.xaxis.set_major_formatter(ticker.ScalarFormatter())
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(_percents())
    axis.yaxis.set_major_locator(_locator(3))
    axis.tick_params(labelsize=8)
    plots.bare(axis)
    axis.legend(
      frameon=False, fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5)
    )
  figure.suptitle('Lengths of prompts', fontsize=11, fontweight='bold')
  figure.supylabel(
    'share of the prompts per doubling of the length', fontsize=9
  )
  axes[-1, 0].set_xlabel('length of a prompt, tokens', fontsize=9)
  return figure


def _density(
  axis: Any, file: str, counted: lengths.Lengths, edges: np.ndarray
) -> None:
  """Draws one file's steps, training filled and validation as a line."""
  values = np.maximum(list(counted), 1)
  counts, _ = np.histogram(values, edges, weights=list(counted.values()))
  heights = counts / counts.sum() / np.diff(np.log2(edges))
  told = lengths.describe(counted)
  label = f'{stats.called(file)}\nmedian {told.median:,.0f}, n {told.n:,}'
  if file.endswith('_valid'):
    axis.stairs(heights, edges, color=plots.RED, lw=1.5, label=label)
  else:
    axis.stairs(heights, edges, color=plots.SKY, fill=True, label=label)


def _edges(longest: int) -> np.ndarray:
  """Returns bins of half a doubling, of whole lengths: 1, 2, 3, 4, 6, 8 ..."""
  halves = np.arange(2 * math.ceil(math.log2(longest + 1)) + 2)
  edges = np.unique(np.ceil(2 ** (halves / 2) - 1e-9))
  return edges[: np.searchsorted(edges, longest, side='right') + 1]


def _per_user(tally: stats.Tally) -> Any:
  """Users by rank, both axes logarithmic."""
  import matplotlib.pyplot as plt

  sizes = {
    source: tally.per_user(source, settings.FILES) for source in stats.SOURCES
  }
  if not any(sizes.values()):
    return None
  figure, axis = plt.subplots(figsize=(6, 4.2), layout='constrained')
  for source, counts in sizes.items():
    if not counts:
      continue
    written = np.array(sorted(counts, reverse=True))
    last = np.cumsum([counts[size] for size in written])
    # A user for each end of a stretch of equals draws the same as all users.
    ranks = np.stack([np.append(1, last[:-1] + 1), last], 1).ravel()
    label = f'{source}s: {last[-1]:,}'
    axis.plot(
      ranks, np.repeat(written, 2), '.-', color=COLOURS[source], label=label
    )
  axis.set_xscale('log')
  axis.set_yscale('log')
  axis.set_ylim(bottom=0.8)
  for which in (axis.xaxis, axis.yaxis):
    which.set_major_formatter('{x:,.0f}')
  axis.set_xlabel('rank of the user')
  axis.set_ylabel('prompts kept of the user')
  axis.set_title('Prompts per user, all files', fontsize=11, fontweight='bold')
  axis.grid(alpha=0.25)
  axis.legend(frameon=False)
  plots.bare(axis)
  return figure


def _languages(tally: stats.Tally) -> Any:
  """A bar a language; a logarithmic axis, as one of them has nearly all."""
  found = stats.ranked(tally.languages)
  if not found:
    return None
  total, rest = tally.languages.total(), found[MAX_LANGUAGES:]
  shown = found[:MAX_LANGUAGES]
  if rest:
    shown.append((f'{len(rest)} others', sum(count for _, count in rest)))
  figure, axis = _lines([tag for tag, _ in shown], 'Languages')
  for row, (_, count) in enumerate(shown):
    axis.barh(row, count, height=0.72, color=plots.BLUE)
    told = f' {count:,} ({count / total:.2%})'
    axis.text(count, row, told, va='center', fontsize=9)
  axis.set_xscale('log')
  axis.set_xlim(0.7, shown[0][1] * 12)
  axis.xaxis.set_major_formatter('{x:,.0f}')
  axis.set_xlabel('prompts', fontsize=9)
  return figure


def _lines(names: list[str], title: str) -> tuple[Any, Any]:
  """Returns a figure and its axis, a named line for each bar."""
  import matplotlib.pyplot as plt

  figure, axis = plt.subplots(
    figsize=(6.4, 1.3 + 0.3 * len(names)), layout='constrained'
  )
  axis.set_yticks(range(len(names)), names)
  axis.invert_yaxis()
  axis.tick_params(axis='y', length=0)
  axis.set_title(title, fontsize=11, fontweight='bold')
  plots.bare(axis)
  return figure, axis


def _percents() -> Any:
  from matplotlib import ticker

  return ticker.PercentFormatter(1.0, decimals=0)


def _locator(count: int) -> Any:
  from matplotlib import ticker

  return ticker.MaxNLocator(count)
