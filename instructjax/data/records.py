"""The four kinds of record, read and validated once, when a file is loaded.

Own layouts (JSON lines; only the text fields are required):
  prompt         {"text", "prompt_id", "user_id", "source", "kind", "use_case"}
  demonstration  {"prompt", "response", "labeler_id"}
  comparison     {"prompt", "responses", "ranks", "labeler_id", "ratings"}
  pretraining    {"text"}, or a .txt or .md file that is one document
Other layouts that are read as they are: see layouts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
import dataclasses
import itertools

from instructjax import errors
from instructjax.data import layouts
from instructjax.data import sources
from instructjax.data import tfds_source

# Messages (role, content) behind a prompt's text, where it was not text.
Conversation = tuple[tuple[str, str], ...]

MIN_RESPONSES, MAX_RESPONSES = 2, 9

_CHOICES = {
  'source': ('labeler', 'customer'),
  'kind': ('plain', 'few_shot', 'user_based'),
  'use_case': (
    'generation',
    'open_qa',
    'brainstorming',
    'chat',
    'rewrite',
    'summarization',
    'classification',
    'other',
    'closed_qa',
    'extract',
  ),
}


@dataclasses.dataclass(frozen=True)
class Prompt:
  """A text to complete; the rest is what the paper's data rules need."""

  text: str
  user_id: str | None = None
  prompt_id: str | None = None
  source: str | None = None
  kind: str | None = None
  use_case: str | None = None
  location: str = ''
  conversation: Conversation | None = None


@dataclasses.dataclass(frozen=True)
class Demonstration:
  """A prompt and the response a labeler wrote."""

  prompt: str
  response: str
  labeler_id: str | None = None
  location: str = ''
  conversation: Conversation | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
  """K responses to one prompt with ranks, 1 best, equal ranks are ties."""

  prompt: str
  responses: tuple[str, ...]
  ranks: tuple[int, ...]
  labeler_id: str | None = None
  ratings: tuple[object, ...] | None = None
  location: str = ''
  conversation: Conversation | None = None


@dataclasses.dataclass(frozen=True)
class Document:
  """A text of the pretraining distribution."""

  text: str
  location: str = ''


Record = Prompt | Demonstration | Comparison | Document


def prompt_of(record: Record) -> str:
  """Returns the text that tells a record from others: prompt or document."""
  if isinstance(record, Demonstration | Comparison):
    return record.prompt
  return record.text


def asked(record: Prompt | Demonstration | Comparison) -> str | Conversation:
  """Returns what a tokenizer encodes as the prompt: messages, or the text."""
  return record.conversation or prompt_of(record)


def pairs(comparisons: Iterable[Comparison]) -> list[Comparison]:
  """Returns every pair of unequal ranks as a comparison of two, best first."""
  found = []
  for row in comparisons:
    ranked = list(zip(row.ranks, row.responses, strict=True))
    for (i, a), (j, b) in itertools.combinations(ranked, 2):
      if i != j:
        both = (a, b) if i < j else (b, a)
        pair = {'responses': both, 'ranks': (1, 2), 'ratings': None}
        found.append(dataclasses.replace(row, **pair))
  return found


def load(
  kind: str, spec: str | Iterable[str], tfds_dir: str = ''
) -> list[Record]:
  """Reads and validates every record of one kind that a spec names.

  Args:
    kind: 'prompts', 'demonstrations', 'comparisons' or 'pretraining'.
    spec: as for `sources.expand`.
    tfds_dir: as for `sources.read_rows`.

  Returns:
    The records in file order.

  Raises:
    UserError: a missing or empty file, or, with FILE:LINE, a row that is no
      record of this kind.
  """
  if kind not in _READERS:
    raise errors.UserError(
      f'needed a record kind of {", ".join(_READERS)}, got {kind!r}.'
      f'{errors.nearest(kind, _READERS)}'
    )
  pretraining = kind == 'pretraining'
  suffixes = sources.SUFFIXES if pretraining else sources.JSON_SUFFIXES
  records = []
  for path in sources.expand(spec, suffixes):
    if not path.endswith(suffixes) and not tfds_source.is_spec(path):
      raise errors.UserError(
        f'{path}: needed {kind} as {" ".join(suffixes)}, got plain text: '
        'write one JSON object a line.'
      )
    for location, row in sources.read_rows(path, tfds_dir):
      try:
        records.append(_read(kind, row, location))
      except ValueError as error:
        raise errors.UserError(f'{location}: {error}') from None
  return records


def _read(kind: str, row: object, location: str) -> Record:
  if not isinstance(row, dict):
    raise ValueError(
      f'needed a JSON object, got {layouts.short(row)}: write '
      f'{layouts.READ[kind]} as keys of an object.'
    )
  normalise, build = _READERS[kind]
  own = normalise(row)
  if own is None:
    keys = ', '.join(repr(str(key)) for key in list(row)[:12]) or 'no keys'
    raise ValueError(
      f'needed a row of {kind} as {layouts.READ[kind]}, got {keys}: rename '
      'the keys or convert the file.'
    )
  return build(own, location)


def _prompt(row: layouts.Row, location: str) -> Prompt:
  fields = {name: _choice(row, name) for name in _CHOICES}
  called = 'prompt' if 'prompt' in row else 'text'
  return Prompt(
    text=_text(row, 'text', called, blank=False),
    conversation=_conversation(row),
    user_id=_identity(row, 'user_id'),
    prompt_id=_identity(row, 'prompt_id'),
    location=location,
    **fields,
  )


def _demonstration(row: layouts.Row, location: str) -> Demonstration:
  return Demonstration(
    prompt=_text(row, 'prompt', blank=False),
    response=_text(row, 'response'),
    conversation=_conversation(row),
    labeler_id=_identity(row, 'labeler_id'),
    location=location,
  )


def _comparison(row: layouts.Row, location: str) -> Comparison:
  prompt = _text(row, 'prompt', blank=False)
  responses = _list(row, 'responses')
  count = len(responses)
  if not MIN_RESPONSES <= count <= MAX_RESPONSES:
    raise ValueError(
      f'needed {MIN_RESPONSES} to {MAX_RESPONSES} responses to compare, got '
      f'{count}: add or remove responses, or remove the row.'
    )
  texts = [
    _checked_text(text, f'responses[{i}]') for i, text in enumerate(responses)
  ]
  ranks = _list(row, 'ranks')
  if len(ranks) != count:
    raise ValueError(
      f'needed one rank for each of the {count} responses, got {len(ranks)} '
      'ranks: give as many ranks as responses.'
    )
  for rank in ranks:
    if type(rank) is not int or rank < 1:
      raise ValueError(
        f'needed ranks that are whole numbers from 1 (best), got '
        f'{layouts.short(rank)}: renumber the ranks.'
      )
  ratings = None if row.get('ratings') is None else _list(row, 'ratings')
  if ratings is not None and len(ratings) != count:
    raise ValueError(
      f'needed one rating for each of the {count} responses, got '
      f'{len(ratings)} ratings: complete or remove them.'
    )
  return Comparison(
    prompt=prompt,
    responses=tuple(texts),
    ranks=tuple(ranks),
    conversation=_conversation(row),
    labeler_id=_identity(row, 'labeler_id'),
    ratings=None if ratings is None else tuple(ratings),
    location=location,
  )


def _document(row: layouts.Row, location: str) -> Document:
  return Document(_text(row, 'text'), location)


def _conversation(row: layouts.Row) -> Conversation | None:
  """Returns the messages that a layout found, each checked like any text."""
  found = row.get('conversation')
  if not found:
    return None
  return tuple((role, _checked_text(text, 'content')) for role, text in found)


def _text(
  row: layouts.Row, name: str, called: str | None = None, blank: bool = True
) -> str:
  text = _checked_text(row[name], called or name)
  if not blank and not text.strip():
    raise ValueError(
      f"needed a '{called or name}' with text in it, got {text[:20]!r}: fill "
      'it or remove the row.'
    )
  return text


def _checked_text(value: object, name: str) -> str:
  if not isinstance(value, str):
    raise ValueError(
      f"needed '{name}' as text, got {layouts.short(value)}: write it as a "
      'JSON string.'
    )
  if not value.isascii():
    try:
      value.encode('utf-8')
    except UnicodeEncodeError as error:
      raise ValueError(
        f"needed '{name}' as Unicode text, got half of a surrogate pair "
        f'({value[error.start]!r} at character {error.start + 1}): remove it '
        'or escape both halves.'
      ) from None
  return value


def _list(row: layouts.Row, name: str) -> list[object]:
  value = row[name]
  if not isinstance(value, list):
    raise ValueError(
      f"needed '{name}' as a list, got {layouts.short(value)}: write a JSON "
      'list.'
    )
  return value


def _identity(row: layouts.Row, name: str) -> str | None:
  value = row.get(name)
  if value is None:
    return None
  if type(value) not in (str, int):
    raise ValueError(
      f"needed '{name}' as text or a whole number, got "
      f'{layouts.short(value)}: mend or remove it.'
    )
  return str(value)


def _choice(row: layouts.Row, name: str) -> str | None:
  value = row.get(name)
  if value is None or value in _CHOICES[name]:
    return value
  hint = errors.nearest(value, _CHOICES[name]) if isinstance(value, str) else ''
  raise ValueError(
    f"needed '{name}' of {', '.join(_CHOICES[name])}, got "
    f'{layouts.short(value)}: mend or remove it.{hint}'
  )


_READERS: dict[str, tuple[Callable, Callable]] = {
  'prompts': (layouts.to_prompt, _prompt),
  'demonstrations': (layouts.to_demonstration, _demonstration),
  'comparisons': (layouts.to_comparison, _comparison),
  'pretraining': (lambda row: row if 'text' in row else None, _document),
}
