"""Which language a text is written in, by ELD's table of letter groups.

Nothing is downloaded: the package has the table. It knows 60 languages, named
by ISO 639-1; 'und', undetermined, is what has no letter, or no language that
is likely enough. Accuracy and cost: experiments/pii/README.md.

Source: Efficient Language Detector, https://github.com/nitotm/eldc.
"""

from __future__ import annotations

from collections.abc import Iterable
import functools

UNDETERMINED = 'und'
# More characters cost time and change nothing.
MAX_CHARS = 2000


def tag(text: str) -> str:
  """Returns the language of a text, as 'en', or 'und'."""
  return tags((text,))[0]


def tags(texts: Iterable[str]) -> list[str]:
  """Returns the language of each text."""
  detect = _detector().detect
  return [detect(_encodable(text[:MAX_CHARS])) for text in texts]


def _encodable(text: str) -> str:
  """Half a surrogate pair, which JSON may hold, becomes a question mark."""
  if text.isascii():
    return text
  return text.encode('utf-8', 'replace').decode('utf-8')


@functools.cache
def _detector():
  """The detector, set up once in a process."""
  import eldc

  eldc.init()
  return eldc
