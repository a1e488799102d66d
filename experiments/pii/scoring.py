"""How much of what is planted is found, and how much of what is found is not.

Recall of a kind: the share of planted values of which spans of that kind cover
every letter and digit, so that nothing of it would remain. Precision: the share
of spans, over all texts, that touch something planted of their kind.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from typing import Any

from experiments.pii import languages
from experiments.pii import planted

# kind, start, end
Spans = Iterable[tuple[str, int, int]]


def score(
  rows: list[planted.Row], find: Callable[[planted.Row], Spans]
) -> dict[str, Any]:
  """Returns counts by kind, and what was missed or wrong by family."""
  planted_, found = collections.Counter(), collections.Counter()
  wrong = collections.Counter()
  missed, mistaken = collections.Counter(), collections.Counter()
  for row in rows:
    spans = list(find(row))
    start = row.text.index(row.value) if row.kind else 0
    end = start + len(row.value)
    if row.kind:
      planted_[row.kind] += 1
      if _covered(row, spans, start, end):
        found[row.kind] += 1
      else:
        missed[row.family] += 1
    for kind, first, last in spans:
      if kind != row.kind or last <= start or end <= first:
        wrong[kind] += 1
        mistaken[f'{row.family} as {kind}'] += 1
  kinds = {}
  for kind, count in planted_.items():
    total = found[kind] + wrong[kind]
    kinds[kind] = {
      'planted': count,
      'found': found[kind],
      'wrong': wrong[kind],
      'recall': round(found[kind] / count, 4),
      'precision': round(found[kind] / total, 4) if total else None,
    }
  return {
    'positives': sum(bool(row.kind) for row in rows),
    'negatives': sum(not row.kind for row in rows),
    'kinds': kinds,
    'missed': dict(sorted(missed.items())),
    'mistaken': dict(sorted(mistaken.items())),
  }


def _covered(row: planted.Row, spans: list, start: int, end: int) -> bool:
  covered = {i for kind, a, b in spans if kind == row.kind for i in range(a, b)}
  return all(
    i in covered or not row.text[i].isalnum() for i in range(start, end)
  )


def accuracy(expected: list[str], tags: list[str]) -> dict[str, float]:
  """Returns the shares of texts with the right tag, a wrong one, and none."""
  pairs = list(zip(expected, tags, strict=True))
  right = sum(a == b for a, b in pairs)
  none = sum(b == 'und' != a for a, b in pairs)
  return {
    'texts': len(pairs),
    'right': round(right / len(pairs), 4),
    'wrong': round((len(pairs) - right - none) / len(pairs), 4),
    'undetermined': round(none / len(pairs), 4),
  }


def language_sets() -> dict[str, list[tuple[str, str]]]:
  """Returns (language, text) of the prompts of `languages`, and their heads."""
  whole = [
    (k, text) for k, texts in languages.PROMPTS.items() for text in texts
  ]
  spaced = [(k, text) for k, text in whole if text.count(' ') >= 2]
  return {
    'prompts': whole,
    'first three words': [
      (k, ' '.join(text.split()[:3])) for k, text in spaced
    ],
    'no language': [('und', text) for text in languages.WITHOUT],
  }
