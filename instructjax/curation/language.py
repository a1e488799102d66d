"""Which language a text is written in, by ELD's table of letter groups.

Nothing is downloaded: the package has the table. It knows 60 languages, named
by ISO 639-1. 'und', undetermined, is a text without letters, one of which no
language is likely enough, and one of one or two Latin letters. Accuracy and
cost, and why this library: experiments/pii/README.md.

Source: Efficient Language Detector, https://github.com/nitotm/eldc.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import functools

from instructjax import errors

UNDETERMINED = 'und'
# Below it random letters are as likely as sentences; of the sentences measured
# 0.1% are.
MIN_SCORE = 0.5
# 'hi' and 'ok' are words of many languages; one Chinese character is not.
MIN_LATIN_LETTERS = 3
_LATIN_END = '\u0250'
# The rest costs time and changes nothing.
MAX_CHARS = 1000


def tag(text: str) -> str:
  """Returns the language of a text, as 'en', or 'und'."""
  return _tag(text, _detector())


def tags(texts: Iterable[str]) -> list[str]:
  """Returns the language of each text."""
  detect = _detector()
  return [_tag(text, detect) for text in texts]


def check_tags(given: Iterable[str]) -> None:
  """Raises UserError for a tag that no text can get."""
  import eldc

  known = {*eldc.LANGUAGES, UNDETERMINED}
  for name in given:
    if name not in known:
      raise errors.UserError(
        f'config.languages={name}: needed some of {", ".join(sorted(known))},'
        f' got another.{errors.nearest(name.lower(), known)}'
      )


def _tag(text: str, detect: Callable) -> str:
  if len(text) > MAX_CHARS:
    text = text[:MAX_CHARS]
  if not text.isascii():
    # Half a surrogate pair, which JSON may hold, becomes a question mark.
    text = text.encode('utf-8', 'replace').decode('utf-8')
  found = detect(text)
  if found.scores.get(found.language, 0.0) < MIN_SCORE:
    return UNDETERMINED
  if not any(map(str.isalpha, text)):  # A sign of one script, as U+3007.
    return UNDETERMINED
  if len(text) < 40:
    letters = [c for c in text if c.isalpha()]
    if len(letters) < MIN_LATIN_LETTERS and max(letters) < _LATIN_END:
      return UNDETERMINED
  return found.language


@functools.cache
def _detector() -> Callable:
  """The detector, set up once in a process."""
  import eldc

  eldc.init()
  detector = eldc.instance()
  detector.set_scores(1)
  return detector.detect_details
