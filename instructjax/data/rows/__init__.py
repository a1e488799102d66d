"""Rows of other layouts to ours, one file a family of layouts.

A reader takes one row and returns what it holds: dicts in our own record
layout, and a string for each part of it that is no record on purpose, saying
why (a deleted reply, say). Most rows hold one record, a tree of messages many.
`None` says that the row has none of the layouts, `ValueError` that it has one
and its content is wrong.
"""

from __future__ import annotations

from instructjax.data import layouts
from instructjax.data.rows import compared
from instructjax.data.rows import written

# What error messages say of the layouts that are read.
KEYS = {
  'prompts': (
    "'text', 'prompt', 'messages', 'conversations', 'instruction', "
    "'question', 'history', 'turns' or chosen/rejected"
  ),
  'demonstrations': (
    'prompt/response, text/response, prompt/completion, messages, '
    'conversations, '
    'instruction/input/output, instruction/context/response, '
    'question/answer or a tree of messages'
  ),
  'comparisons': (
    'prompt/responses/ranks, [prompt/]chosen/rejected, '
    'instruction/completions with scores, question/answer_0/answer_1, '
    'history/human_ref_A/human_ref_B or a tree of messages'
  ),
  'pretraining': "'text'",
}


def pretraining(row: layouts.Row) -> list[layouts.Row] | None:
  """Reads text."""
  return [row] if 'text' in row else None


READERS = {
  'prompts': written.prompts,
  'demonstrations': written.demonstrations,
  'comparisons': compared.comparisons,
  'pretraining': pretraining,
}
