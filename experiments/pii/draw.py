"""The picture of results.json: recall and precision by kind, and cost."""

from __future__ import annotations

from collections.abc import Mapping
import pathlib
from typing import Any

import numpy as np

from instructjax import plots

_NAMES = {
  'email': 'e-mail',
  'phone': 'telephone',
  'credit_card': 'credit card',
  'iban': 'IBAN',
  'ssn': 'social security',
  'ip_address': 'IP address',
}


def draw(
  results: Mapping[str, Any], first: Mapping[str, Any], folder: pathlib.Path
) -> list[str]:
  """Draws recall.png, and languages.png if there were rivals."""
  makers = {'recall.png': lambda: _recall(results, first)}
  if 'language_rivals' in results:
    makers['languages.png'] = lambda: _languages(results)
  return plots.save(folder, makers)


def _recall(results: Mapping[str, Any], first: Mapping[str, Any]) -> Any:
  """Recall and precision by kind, ours and the others'."""
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout='constrained')
  shown = {'instructjax': results['default']}
  for name in ('presidio', 'piigex', 'datafog'):
    if name in results.get('rivals', {}):
      shown[name] = results['rivals'][name]
  kinds = list(_NAMES)
  width = 0.8 / len(shown)
  for axis, measure in zip(axes, ('recall', 'precision'), strict=True):
    for i, (name, of) in enumerate(shown.items()):
      at = np.arange(len(kinds)) + (i - (len(shown) - 1) / 2) * width
      totals = [_pooled(of, kind, measure) for kind in kinds]
      axis.bar(at, totals, width * 0.92, label=name)
    axis.set_xticks(range(len(kinds)), _NAMES.values(), rotation=25, ha='right')
    axis.set_ylim(0, 1.02)
    axis.set_title(measure)
    axis.grid(axis='y', alpha=0.3)
    axis.set_axisbelow(True)
  unseen = [_pooled(first, kind, 'recall') for kind in kinds]
  axes[0].plot(
    np.arange(len(kinds)) - 0.4 + width / 2,
    unseen,
    'k_',
    markersize=14,
    label='instructjax, at first sight of the formats',
  )
  figure.legend(
    *axes[0].get_legend_handles_labels(),
    loc='outside lower center',
    ncols=5,
    fontsize=8,
  )
  figure.suptitle(
    'Planted personal information; ours mended after a first sight of these'
    ' formats, the others not'
  )
  return figure


def _pooled(of: Mapping[str, Any], kind: str, measure: str) -> float:
  """Recall or precision over the parts that were not in view."""
  rows = [of[part]['kinds'][kind] for part in ('held_out', 'fresh')]
  found = sum(row['found'] for row in rows)
  rest = 'planted' if measure == 'recall' else 'wrong'
  total = sum(row[rest] for row in rows) + found * (measure == 'precision')
  return found / total if total else 0.0


def _languages(results: Mapping[str, Any]) -> Any:
  """Share of wrong or missing tags against microseconds, a library a dot."""
  import matplotlib.pyplot as plt

  sets = ['prompts', 'first three words', 'Tatoeba, French', 'Dolly', 'books']
  ours = {name: dict(results['languages'][name]) for name in sets}
  ours['books']['us'] = results['seconds'][
    '700 characters, language, us a text'
  ]
  shown = {'ELD (chosen)': ours, **results['language_rivals']}
  figure, axes = plt.subplots(figsize=(8, 4.8), layout='constrained')
  marks = 'osD^v'
  for i, (name, of) in enumerate(shown.items()):
    for mark, key in zip(marks, sets, strict=True):
      axes.plot(
        of['books']['us'],
        max(1 - of[key]['right'], 5e-4),
        mark,
        color=f'C{i}',
        alpha=0.85,
      )
    axes.plot([], [], 'o', color=f'C{i}', label=name)
  for mark, key in zip(marks, sets, strict=True):
    axes.plot([], [], mark, color='k', label=key)
  axes.axvline(30, color='k', linewidth=0.8, linestyle=':')
  axes.set_xscale('log')
  axes.set_yscale('log')
  axes.set_xlabel('microseconds for 700 characters (budget: 30, dotted)')
  axes.set_ylabel('share not tagged right (0 is drawn at 0.0005)')
  axes.grid(alpha=0.3, which='both')
  axes.legend(fontsize=8, ncols=1, loc='center left', bbox_to_anchor=(1, 0.5))
  axes.set_title('Languages: share of wrong tags against cost')
  return figure
