"""Raw rows to prompts, a few-shot row to one for each of its examples.

A raw row is a prompt record in any layout of `data.layouts`, with, where the
log has them, 'user_id', 'organization_id', 'time', 'source', 'response' and
'annotations'.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import datetime
import hashlib
import json
import math

from instructjax.data import layouts
from instructjax.data import records

DEFAULT_SOURCE = 'customer'
_EARLY = 1e11  # Seconds beyond year 5138: such a number counts milliseconds.


@dataclasses.dataclass(frozen=True, slots=True)
class RawPrompt:
  """A prompt of a raw log, validated, with its text as it was.

  Attributes:
    location: 'FILE:LINE' of its row.
    text: the prompt; messages are rendered as everywhere.
    conversation: the (role, content) messages it came as, or None.
    prompt_id: its row's, or a digest of the row's content.
    user_id, organization_id: who wrote it, or None.
    time: seconds since 1970 (UTC), or None.
    source: 'labeler' or 'customer'.
    kind, use_case: as in records, or None.
    response: a demonstration that came with it, or None.
    annotations: what a labeler said of it, (name, true or not), or None.
    content: digest of all of that but the location, 16 hex digits.
  """

  location: str
  text: str
  conversation: records.Conversation | None
  prompt_id: str
  user_id: str | None
  organization_id: str | None
  time: float | None
  source: str
  kind: str | None
  use_case: str | None
  response: str | None
  annotations: tuple[tuple[str, bool], ...] | None
  content: str


def parse(row: object, location: str) -> list[RawPrompt]:
  """Returns the prompts of one raw row.

  Most rows are one prompt. A few-shot row is one for each of its examples, a
  tree of messages may be several, or none if what it asked was deleted.

  Raises:
    ValueError: the row is none; says what was needed, given, how to mend it.
  """
  told = row if isinstance(row, dict) else {}
  if told.get('kind') == 'few_shot' and told.get('examples') is not None:
    return _few_shot(told, location)
  parts = records.read('prompts', row, location)
  found = [part for part in parts if not isinstance(part, str)]
  prompts = [_raw_prompt(prompt, told) for prompt in found]
  return prompts if len(prompts) == 1 else _numbered(prompts)


def few_shot(
  instruction: str, examples: list[Mapping[str, str]]
) -> list[tuple[str, str]]:
  """Returns (prompt, response) for each of N examples (appendix A.1).

  A prompt is the instruction, the other N - 1 pairs as context, and the input
  of the one that is asked for; its response is that pair's output. The others
  stand in the order that follows it, around the end of the list: so no two of
  the N prompts begin with the same examples, and de-duplication by prefix
  leaves them alone unless the instruction is nearly all there is.
  """
  found = []
  for i, asked in enumerate(examples):
    others = [*examples[i + 1 :], *examples[:i]]
    shown = [f'Input: {o["input"]}\nOutput: {o["output"]}' for o in others]
    query = f'Input: {asked["input"]}\nOutput:'
    found.append(('\n\n'.join([instruction, *shown, query]), asked['output']))
  return found


def _few_shot(row: Mapping[str, object], location: str) -> list[RawPrompt]:
  examples = _examples(row['examples'])
  (found,) = records.read('prompts', row, location)
  if found.conversation:
    raise ValueError(
      "needed a few-shot row's instruction as text, got messages: write it as "
      "'text'."
    )
  whole = _raw_prompt(found, row, examples)
  return _numbered(
    [
      dataclasses.replace(whole, text=text, response=response)
      for text, response in few_shot(whole.text, examples)
    ]
  )


def _numbered(prompts: list[RawPrompt]) -> list[RawPrompt]:
  """Tells the prompts of one row apart: PROMPT_ID/1, PROMPT_ID/2 ..."""
  return [
    dataclasses.replace(
      prompt,
      prompt_id=f'{prompt.prompt_id}/{i}',
      content=_digest(prompt.content, i),
    )
    for i, prompt in enumerate(prompts, 1)
  ]


def _examples(given: object) -> list[dict[str, str]]:
  if not isinstance(given, list) or not given:
    raise ValueError(
      f"needed 'examples' as a list of pairs, got {layouts.short(given)}: "
      'write [{"input": ..., "output": ...}].'
    )
  for i, pair in enumerate(given):
    if not isinstance(pair, dict) or not {'input', 'output'} <= set(pair):
      raise ValueError(
        f'needed examples[{i}] with input and output, got '
        f'{layouts.short(pair)}: complete or remove it.'
      )
    for name in 'input', 'output':
      records.checked_text(pair[name], f'examples[{i}].{name}')
  # Not what else a pair may hold: it is nothing of the prompt.
  return [{name: pair[name] for name in ('input', 'output')} for pair in given]


def _raw_prompt(
  found: records.Prompt,
  row: Mapping[str, object],
  examples: list[dict[str, str]] | None = None,
) -> RawPrompt:
  time = _time(row.get('time'))
  # An empty id is a column that was not filled, not one user.
  user_id = found.user_id or None
  organization_id = records.identity(row, 'organization_id') or None
  response = row.get('response')
  if response is not None:
    records.checked_text(response, 'response')
  annotations = _annotations(row.get('annotations'))
  source = found.source or DEFAULT_SOURCE
  content = _digest(
    found.text, found.conversation, found.prompt_id, user_id,
    organization_id, time, source, found.kind, found.use_case, response,
    examples, annotations,
  )  # fmt: skip
  return RawPrompt(
    location=found.location,
    text=found.text,
    conversation=found.conversation,
    prompt_id=found.prompt_id or content,
    user_id=user_id,
    organization_id=organization_id,
    time=time,
    source=source,
    kind=found.kind,
    use_case=found.use_case,
    response=response,
    annotations=annotations,
    content=content,
  )


def _annotations(value: object) -> tuple[tuple[str, bool], ...] | None:
  if value is None:
    return None
  if not isinstance(value, dict) or not all(
    said is None or isinstance(said, bool) for said in value.values()
  ):
    raise ValueError(
      "needed 'annotations' as names with true or false, got "
      f'{layouts.short(value)}: mend or remove them.'
    )
  for name in value:
    records.checked_text(name, 'annotations')
  # As everywhere in a table, a null is an absent key.
  return tuple(sorted((k, v) for k, v in value.items() if v is not None))


def _time(value: object) -> float | None:
  """Reads seconds or milliseconds since 1970, or an ISO 8601 date and time."""
  if value is None:
    return None
  if isinstance(value, datetime.date):  # of a table; so is a datetime
    value = value.isoformat()
  try:
    if type(value) in (int, float) and math.isfinite(value):
      return value / 1000 if abs(value) >= _EARLY else float(value)
    moment = datetime.datetime.fromisoformat(value)
    if moment.tzinfo is None:
      moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()
  except (TypeError, ValueError, OverflowError):
    raise ValueError(
      "needed 'time' in seconds since 1970 or as ISO 8601 "
      f'(2022-01-27T10:00:00Z), got {layouts.short(value)}: mend or remove it.'
    ) from None


def _digest(*fields: object) -> str:
  """Returns a digest of texts, numbers, None, and lists of them.

  None and 'None' differ: who stays of rows that are alike is not to depend on
  where they stand.
  """
  told = json.dumps(fields)
  return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
