"""The four kinds of record, read and validated once, when a file is loaded.

Own layouts (JSON lines; only the text fields are required):
  prompt         {"text", "prompt_id", "user_id", "source", "kind", "use_case"}
  demonstration  {"prompt", "response", "labeler_id"}
  comparison     {"prompt", "responses", "ranks", "labeler_id", "ratings"}
  pretraining    {"text"}, or a .txt or .md file that is one document
Other layouts that are read as they are: see rows.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
import dataclasses
import itertools

from instructjax import errors
from instructjax.data import layouts
from instructjax.data import rows
from instructjax.data import sources
from instructjax.data import tfds_source

# Messages (role, content) behind a prompt's text, where it was not text.
Conversation = tuple[tuple[str, str], ...]

MIN_RESPONSES, MAX_RESPONSES = 2, 9
LISTED = 100  # bad rows that are told one by one

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


@dataclasses.dataclass
class Gathered:
  """What was read of one kind.

  Attributes:
    records: in file order.
    rows: how many rows there were, bad ones among them.
    left_out: {why: how many} of what a layout leaves out on purpose.
    bad_rows: how many rows were no record of this kind.
    bad: ('FILE:LINE', why) of the first of them.
  """

  records: list[Record] = dataclasses.field(default_factory=list)
  rows: int = 0
  left_out: collections.Counter[str] = dataclasses.field(
    default_factory=collections.Counter
  )
  bad_rows: int = 0
  bad: list[tuple[str, str]] = dataclasses.field(default_factory=list)

  def counts(self) -> dict[str, int]:
    """Returns the numbers by name, what was left out by its reason."""
    told = {'rows': self.rows, 'records': len(self.records)}
    told['bad_rows'] = self.bad_rows
    left = sorted(self.left_out.items())
    return told | {f'left out: {why}': count for why, count in left}


def load(
  kind: str, spec: str | Iterable[str], tfds_dir: str = ''
) -> list[Record]:
  """Reads every record of one kind; a bad row is refused. See `gather`."""
  return gather(kind, spec, tfds_dir=tfds_dir).records


def gather(
  kind: str,
  spec: str | Iterable[str],
  *,
  on_bad_row: str = 'refuse',
  max_bad_share: float = 0.01,
  tfds_dir: str = '',
) -> Gathered:
  """Reads and validates every record of one kind that a spec names.

  Args:
    kind: 'prompts', 'demonstrations', 'comparisons' or 'pretraining'.
    spec: as for `sources.expand`.
    on_bad_row: 'refuse', or 'skip' a row that is broken or no record.
    max_bad_share: of all rows, in [0, 1]; more bad ones are refused.
    tfds_dir: as for `sources.read_rows`.

  Returns:
    The records and what there was beside them.

  Raises:
    UserError: a missing or empty file, no record at all, more bad rows than
      are taken, or, with FILE:LINE, a row that is no record of this kind.
  """
  if kind not in _BUILDERS:
    raise errors.UserError(
      f'needed a record kind of {", ".join(_BUILDERS)}, got {kind!r}.'
      f'{errors.nearest(kind, _BUILDERS)}'
    )
  found = Gathered()

  def on_broken(location: str, reason: str) -> None:
    if on_bad_row != 'skip':
      raise errors.UserError(f'{location}: {reason}')
    found.bad_rows += 1
    if len(found.bad) < LISTED:
      found.bad.append((location, reason))

  good, found_in = 0, paths(kind, spec)
  for path in found_in:
    for location, row in sources.read_rows(path, on_broken, tfds_dir):
      try:
        parts = read(kind, row, location)
      except ValueError as error:
        on_broken(location, str(error))
        continue
      good += 1
      for part in parts:
        if type(part) is str:
          found.left_out[part] += 1
        else:
          found.records.append(part)
  found.rows = good + found.bad_rows
  _check_enough(found, kind, found_in, max_bad_share)
  return found


def paths(kind: str, spec: str | Iterable[str]) -> list[str]:
  """Returns the files that a spec names, all of a kind's formats.

  Raises:
    UserError: as `sources.expand`; plain text where rows are needed.
  """
  pretraining = kind == 'pretraining'
  suffixes = sources.SUFFIXES if pretraining else sources.ROW_SUFFIXES
  found = sources.expand(spec, suffixes)
  for path in found:
    if not path.endswith(suffixes) and not tfds_source.is_spec(path):
      raise errors.UserError(
        f'{path}: needed {kind} as {" ".join(suffixes)}, got plain text: '
        'write one JSON object a line.'
      )
  return found


def _check_enough(
  found: Gathered, kind: str, paths: list[str], max_bad_share: float
) -> None:
  """Raises UserError if too many rows are bad, or none holds a record."""
  if found.bad_rows > max_bad_share * found.rows:
    location, reason = found.bad[0]
    raise errors.UserError(
      f'{location}: {reason} It is the first of {found.bad_rows} bad rows of '
      f'{found.rows} rows of {kind}, more than the share of max_bad_share='
      f'{max_bad_share}: mend them, or raise --config.data.max_bad_share.'
    )
  if not found.records:
    reasons = ', '.join(f'{n} x {why}' for why, n in found.left_out.items())
    raise errors.UserError(
      f'{paths[0]}: needed at least one record of {kind}, got none in '
      f'{found.rows} rows ({reasons}): name another file.'
    )


def read(kind: str, row: object, location: str) -> list[Record | str]:
  """Returns the records of one row; most have one, a tree of messages many.

  A string says of a part of the row why it is no record, on purpose.

  Raises:
    ValueError: the row is none of this kind; says what was needed and given.
  """
  if kind == 'prompts' and isinstance(row, str):
    row = {'text': row}
  if not isinstance(row, dict):
    raise ValueError(
      f'needed a JSON object, got {layouts.short(row)}: write '
      f'{rows.KEYS[kind]} as keys of an object.'
    )
  # As in a table, a null is an absent key; one that is needed is told of.
  filled = {key: value for key, value in row.items() if value is not None}
  parts = rows.READERS[kind](filled)
  if parts is None:
    parts = rows.READERS[kind](row)
  if parts is None:
    keys = ', '.join(repr(str(key)) for key in list(row)[:12]) or 'no keys'
    raise ValueError(
      f'needed a row of {kind} as {rows.KEYS[kind]}, got {keys}: rename '
      'the keys or convert the file.'
    )
  build = _BUILDERS[kind]
  if len(parts) == 1 and type(parts[0]) is dict:
    return [build(parts[0], location)]
  return [p if type(p) is str else build(p, location) for p in parts]


def _prompt(row: layouts.Row, location: str) -> Prompt:
  fields = {name: _choice(row, name) for name in _CHOICES}
  called = 'prompt' if 'prompt' in row else 'text'
  return Prompt(
    text=_text(row, 'text', called, blank=False),
    conversation=_conversation(row),
    user_id=identity(row, 'user_id'),
    prompt_id=identity(row, 'prompt_id'),
    location=location,
    **fields,
  )


def _demonstration(row: layouts.Row, location: str) -> Demonstration:
  return Demonstration(
    prompt=_text(row, 'prompt', blank=False),
    response=_text(row, 'response'),
    conversation=_conversation(row),
    labeler_id=identity(row, 'labeler_id'),
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
    checked_text(text, f'responses[{i}]') for i, text in enumerate(responses)
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
    labeler_id=identity(row, 'labeler_id'),
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
  return tuple((role, checked_text(text, 'content')) for role, text in found)


def _text(
  row: layouts.Row, name: str, called: str | None = None, blank: bool = True
) -> str:
  text = checked_text(row[name], called or name)
  if not blank and not text.strip():
    raise ValueError(
      f"needed a '{called or name}' with text in it, got {text[:20]!r}: fill "
      'it or remove the row.'
    )
  return text


def checked_text(value: object, name: str) -> str:
  """Returns a value that is Unicode text; raises ValueError otherwise."""
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


def identity(row: layouts.Row, name: str) -> str | None:
  """Returns a row's id as text, None without; ValueError if it is no id."""
  value = row.get(name)
  if value is None:
    return None
  if type(value) not in (str, int):
    raise ValueError(
      f"needed '{name}' as text or a whole number, got "
      f'{layouts.short(value)}: mend or remove it.'
    )
  return checked_text(str(value), name)


def _choice(row: layouts.Row, name: str) -> str | None:
  value = row.get(name)
  if value is None or value in _CHOICES[name]:
    return value
  hint = errors.nearest(value, _CHOICES[name]) if isinstance(value, str) else ''
  raise ValueError(
    f"needed '{name}' of {', '.join(_CHOICES[name])}, got "
    f'{layouts.short(value)}: mend or remove it.{hint}'
  )


_BUILDERS: dict[str, Callable[[layouts.Row, str], Record]] = {
  'prompts': _prompt,
  'demonstrations': _demonstration,
  'comparisons': _comparison,
  'pretraining': _document,
}
