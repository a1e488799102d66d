"""Prompts as `prepare` might have written them, and what it says it did."""

from __future__ import annotations

from collections.abc import Iterator
import random
from typing import Any

from instructjax.curation import paper
from instructjax.curation import settings
from instructjax.curation import stats

LEDGER = {
  'input': 700,
  'rules': [
    {
      'rule': 'valid_row',
      'dropped': 3,
      'by_split': {'train': 2, 'valid': 1, 'test': 0},
    },
    {'rule': 'few_shot', 'dropped': 0, 'added': 103},
    {'rule': 'user_cap', 'dropped': 150},
    {
      'rule': 'pii',
      'dropped': 50,
      'by_kind': {'email': 40, 'phone': 10},
      'redacted': 0,
    },
  ],
  'output': {'test': 600},
}


def rows(
  count: int = 600,
) -> Iterator[tuple[str, dict[str, Any], int, int | None]]:
  """Yields (file, row, tokens, tokens of its response)."""
  draw = random.Random(0)
  cases = list(paper.USE_CASES)
  for _ in range(count):
    file = draw.choice(settings.FILES)
    labeler = file.startswith('sft') and draw.random() < 0.9
    row = {
      'source': 'labeler' if labeler else 'customer',
      'language': draw.choices(('en', 'fr', 'und'), (96, 3, 1))[0],
    }
    if draw.random() < 0.8:
      row['use_case'] = draw.choice(cases)
    if draw.random() < 0.9:
      row['user_id'] = f'u{int(draw.paretovariate(0.7)) % 500}'
    length = 1 + int(draw.lognormvariate(4, 1.3)) % 1000
    answer = int(draw.lognormvariate(3, 1)) if file == 'sft_train' else None
    yield file, row, length, answer


def tally(count: int = 600) -> stats.Tally:
  """Returns what is counted of these rows."""
  found = stats.Tally()
  for row in rows(count):
    found.add(*row)
  return found
