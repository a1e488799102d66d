"""Trees of messages (OpenAssistant): one row holds many records.

  {"message_tree_id", "tree_state", "prompt": {"message_id", "text", "role":
   "prompter"|"assistant", "rank", "replies": [...], "deleted", "synthetic",
   "review_result", "labels", ...}}

A prompter's message and the path to it from the root is a conversation that
awaits an answer, and its replies are answers. Rank 0 is the best of siblings.
Left out, with all replies below them: messages that are deleted, failed or
lack their review, are taken for spam by half or more of those who judged, or
are empty; and trees that moderators halted or aborted.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses

from instructjax.data import layouts

Row = layouts.Row

MOST = 9  # responses of one comparison
_ROLES = {'prompter': 'user', 'assistant': 'assistant'}
_HALTED = ('aborted_low_grade', 'halted_by_moderator')


@dataclasses.dataclass(frozen=True)
class _Asked:
  """A prompter's message.

  Attributes:
    message: as it is in the row.
    conversation: the path from the root to it.
    replies: those that are kept, in the row's order.
    best_path: whether each reply on the path is the best of its siblings.
  """

  message: Row
  conversation: layouts.Messages
  replies: list[Row]
  best_path: bool


def is_tree(value: object) -> bool:
  """Whether a row's 'prompt' is the root of a tree."""
  return isinstance(value, dict) and {'text', 'replies'} <= set(value)


def prompts(row: Row) -> list[Row | str]:
  """Reads every message of a prompter, with the path to it."""
  found: list[Row | str] = []
  for asked in _walk(row, found):
    told = {'prompt_id': asked.message.get('message_id')}
    told |= {'user_id': asked.message.get('user_id')}
    found.append(told | layouts.rendered(asked.conversation, 'text'))
  return found


def demonstrations(row: Row) -> list[Row | str]:
  """Reads the best reply, if a person wrote it, to each prompter's message.

  Messages below a reply that is not the best are passed over: they would
  demonstrate it too, as an earlier turn of theirs.
  """
  found: list[Row | str] = []
  for asked in _walk(row, found):
    best = _best(asked.replies)
    if not asked.best_path:
      found.append('follows a reply that is not the best')
    elif best is None:
      found.append('no reply, or none that is known to be the best')
    elif best.get('synthetic'):
      found.append('the best reply is synthetic')
    else:
      told = {'response': best['text'], 'labeler_id': best.get('user_id')}
      found.append(told | layouts.rendered(asked.conversation))
  return found


def comparisons(row: Row) -> list[Row | str]:
  """Reads the ranked replies to each prompter's message that has several.

  Replies of models (`synthetic`) are ranked as those of people are. Of more
  than nine the nine best are kept.
  """
  found: list[Row | str] = []
  for asked in _walk(row, found):
    if len(asked.replies) < 2:
      continue
    ranked = [reply for reply in asked.replies if _rank(reply) is not None]
    unranked = len(asked.replies) - len(ranked)
    found += ['a reply without a rank'] * unranked
    if len(ranked) < 2:
      found.append('fewer than two ranked replies')
      continue
    last = sorted(_rank(reply) for reply in ranked)[:MOST][-1]
    kept = [reply for reply in ranked if _rank(reply) <= last][:MOST]
    found += ['a reply below the ninth'] * (len(ranked) - len(kept))
    told = {
      'responses': [reply['text'] for reply in kept],
      'ranks': [_rank(reply) + 1 for reply in kept],
    }
    found.append(told | layouts.rendered(asked.conversation))
  return found


def _walk(row: Row, left: list[Row | str]) -> Iterator[_Asked]:
  """Yields the messages of prompters; adds to `left` why others are not."""
  if row.get('tree_state') in _HALTED:
    left.append(f'tree {row["tree_state"]}')
    return
  stack = [(row['prompt'], [], 'prompter', True)]
  while stack:
    message, above, role, best_path = stack.pop()
    reason = _unfit(message, role)
    if reason:
      left.append(reason)
      continue
    conversation = [*above, (_ROLES[role], message['text'])]
    other = 'assistant' if role == 'prompter' else 'prompter'
    replies, kept = message['replies'], []
    if role == 'prompter':
      kept = [reply for reply in replies if not _unfit(reply, other)]
      yield _Asked(message, conversation, kept, best_path)
    best = _best(kept)
    for reply in reversed(replies):
      on = best_path and (role == 'assistant' or reply is best)
      stack.append((reply, conversation, other, on))


def _unfit(message: object, role: str) -> str | None:
  """Returns why a message is left out; ValueError if it is none."""
  if not isinstance(message, dict):
    raise ValueError(
      f"needed 'replies' as a list of messages, got {layouts.short(message)} "
      'in it: mend or remove it.'
    )
  name = f'message {message.get("message_id")!r}'
  if message.get('role') != role:
    raise ValueError(
      f"needed {name} with the role '{role}', for roles take turns, got "
      f'{layouts.short(message.get("role"))}: mend or remove it.'
    )
  if not isinstance(message.get('replies'), list):
    raise ValueError(
      f"needed {name} with 'replies' as a list, got "
      f'{layouts.short(message.get("replies"))}: write [] for none.'
    )
  if message.get('deleted'):
    return 'deleted'
  if not message.get('review_result', True):
    return 'failed or lacks its review'
  if _spam(message.get('labels')) >= 0.5:
    return 'spam'
  if not layouts.read_text(message.get('text'), f'text of {name}').strip():
    return 'empty'
  _rank(message)
  return None


def _spam(labels: object) -> float:
  """Returns the share of judges who took a message for spam; 0 if none did.

  Labels are {'spam': {'value'}}, or lists {'name', 'value'} in Parquet.
  """
  if not isinstance(labels, dict):
    return 0.0
  names, values = labels.get('name'), labels.get('value')
  if isinstance(names, list) and isinstance(values, list):
    pairs = zip(names, values, strict=False)
    value = next((value for name, value in pairs if name == 'spam'), 0.0)
  else:
    spam = labels.get('spam')
    value = spam.get('value') if isinstance(spam, dict) else spam
  return value if isinstance(value, int | float) else 0.0


def _rank(message: Row) -> int | None:
  rank = message.get('rank')
  if rank is not None and (type(rank) is not int or rank < 0):
    raise ValueError(
      f'needed ranks that are whole numbers from 0 (best), got '
      f'{layouts.short(rank)} in message {message.get("message_id")!r}: '
      'renumber the ranks.'
    )
  return rank


def _best(replies: list[Row]) -> Row | None:
  """Returns the best of the replies that are kept, where that is known."""
  ranked = [reply for reply in replies if _rank(reply) is not None]
  if ranked:
    return min(ranked, key=_rank)
  return replies[0] if len(replies) == 1 else None
