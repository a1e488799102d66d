"""The one exception for mistakes a user can mend.

Entry points turn it into a single line on standard error and exit status 2;
anything else is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
import difflib


class UserError(Exception):
  """A wrong config, path or data file: what was needed, given, how to mend."""


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns ` Did you mean 'x'?` for the closest known name, or ''."""
  close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
  return f" Did you mean '{close[0]}'?" if close else ''


def line(error: UserError) -> str:
  """Returns the one line that an entry point says."""
  return f'error: {" ".join(str(error).split())}'


def first_line(error: object) -> str:
  """Returns what another library's error says first, to be quoted in ours."""
  lines = str(error).strip().splitlines()
  return lines[0][:200] if lines else type(error).__name__
