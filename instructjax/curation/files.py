"""What is written: rows of prompts, and where each dropped row went."""

from __future__ import annotations

from collections.abc import Mapping
import json
from typing import Any

from instructjax.curation import rows

_FIELDS = (
  'user_id',
  'organization_id',
  'source',
  'kind',
  'use_case',
  'response',
)


def output_row(prompt: rows.RawPrompt, language: str) -> dict[str, Any]:
  """Returns a prompt as a record that `data.records` reads.

  {"prompt_id", "text", "messages", "user_id", "organization_id", "source",
  "kind", "use_case", "response", "language"}, without what it does not have.
  """
  row = {'prompt_id': prompt.prompt_id, 'text': prompt.text}
  if prompt.conversation:
    row['messages'] = [
      {'role': role, 'content': text} for role, text in prompt.conversation
    ]
  for name in _FIELDS:
    value = getattr(prompt, name)
    if value is not None:
      row[name] = value
  row['language'] = language
  return row


def encode(row: Mapping[str, Any]) -> bytes:
  """Returns a row as one line of UTF-8 JSON, the newline included."""
  return json.dumps(row, ensure_ascii=False).encode() + b'\n'
