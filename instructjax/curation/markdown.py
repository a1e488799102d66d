"""Tables of Markdown, and numbers as they stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

OPEN = '–'  # a cell without a number


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """Returns a table whose first column holds names, the others numbers.

  Names may be a log's own: what would end a cell is escaped.
  """
  rule = ['---', *['--:'] * (len(head) - 1)]
  lines = [[_cell(text) for text in row] for row in (head, *rows)]
  lines.insert(1, rule)
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)


def _cell(text: str) -> str:
  return ' '.join(text.split()).replace('|', '\\|')


def number(value: Any) -> str:
  """Returns a whole number with commas, another with a digit, or as it is."""
  if value is None or value != value:
    return OPEN
  if isinstance(value, float) and not value.is_integer():
    return f'{value:,.1f}'
  return f'{value:,.0f}' if isinstance(value, int | float) else str(value)


def whole(value: int | None) -> str:
  """Returns a whole number with commas."""
  return OPEN if value is None else f'{value:,}'


def percent(share: float | None) -> str:
  """Returns a share in percent with a digit."""
  return OPEN if share is None else f'{share:.1%}'


def decimal(value: float | None) -> str:
  """Returns a number with two digits."""
  return OPEN if value is None else f'{value:,.2f}'
