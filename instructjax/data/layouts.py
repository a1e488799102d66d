"""Messages, and the plain text they are as a prompt: what all layouts share.

Conversations become plain text the way the paper's prompts were plain text, and
stand beside it as 'conversation', for a tokenizer that has a template of its
own; a prompt that was text has none. A helper raises `ValueError` in words that
want only FILE:LINE before them. Which keys make which layout: see `rows`.
"""

from __future__ import annotations

Row = dict[str, object]
Messages = list[tuple[str, str]]

_ROLES = {
  'system': 'system',
  'developer': 'system',
  'user': 'user',
  'human': 'user',
  'prompter': 'user',
  'assistant': 'assistant',
  'gpt': 'assistant',
}
_NAMES = {'user': 'Human', 'assistant': 'Assistant', 'system': 'System'}


def render(conversation: Messages) -> str:
  """Returns the plain-text prompt of messages that await an answer.

  One user message is its content; several become Human: and Assistant: turns
  and an open Assistant: turn. A system message stands before, a blank line
  between.

  Args:
    conversation: (role, content) with roles system, user, assistant.

  Raises:
    ValueError: the last message is not the user's.
  """
  system = [content for role, content in conversation if role == 'system']
  turns = [message for message in conversation if message[0] != 'system']
  if not turns or turns[-1][0] != 'user':
    raise ValueError(
      "needed a user's message before the assistant's answer, got "
      f'{[role for role, _ in conversation]}: mend the roles.'
    )
  if len(turns) == 1:
    return '\n\n'.join(system + [turns[0][1]])
  return '\n\n'.join(system + [transcript(turns), 'Assistant:'])


def answered(conversation: Messages) -> list[tuple[int, int]]:
  """Returns where the assistant's earlier turns lie in `render`'s text.

  Args:
    conversation: as `render` takes it.

  Returns:
    [start, end) in characters of each turn: its content and the space before
    it, with which a word's token begins.
  """
  turns = [message for message in conversation if message[0] != 'system']
  start = sum(len(text) + 2 for role, text in conversation if role == 'system')
  spans = []
  for role, text in turns if len(turns) > 1 else ():
    name, length = _NAMES[role], len(text)
    if role == 'assistant':
      spans.append((start + len(name) + 1, start + len(name) + 2 + length))
    start += len(name) + 2 + length + 2
  return spans


def transcript(turns: Messages) -> str:
  """Returns turns as text, each named, blank lines between."""
  return '\n\n'.join(f'{_NAMES[role]}: {text}' for role, text in turns)


def read_messages(value: object, name: str = 'messages') -> Messages:
  """Returns [(role, content)] of a chat: role/content or from/value pairs."""
  if not isinstance(value, list) or not value:
    raise ValueError(
      f"needed '{name}' as a list of messages, got {short(value)}: "
      'write [{"role": ..., "content": ...}].'
    )
  conversation = []
  for message in value:
    keys = 'role', 'content'
    if isinstance(message, dict) and 'role' not in message:
      keys = ('from', 'value') if 'from' in message else keys
    role, content = (
      message.get(key) if isinstance(message, dict) else None for key in keys
    )
    if not isinstance(role, str) or role.lower() not in _ROLES:
      raise ValueError(
        f"needed messages of roles system, user, assistant in '{name}', got "
        f'{short(role if isinstance(message, dict) else message)}: mend it.'
      )
    if not isinstance(content, str):
      raise ValueError(
        f"needed every message's '{keys[1]}' as text in '{name}', got "
        f'{short(content)}: write it as one string.'
      )
    conversation.append((_ROLES[role.lower()], content))
  return conversation


def read_prompt(value: object, name: str = 'prompt') -> Row:
  """Returns a prompt that is text or messages as {name, 'conversation'}."""
  if isinstance(value, list):
    return rendered(read_messages(value, 'prompt'), name)
  return {name: value, 'conversation': None}


def rendered(conversation: Messages, name: str = 'prompt') -> Row:
  """Returns messages that await an answer as {name, 'conversation'}."""
  if conversation and conversation[-1][0] != 'user':
    raise ValueError(
      "needed messages whose last, before the answer, is the user's, got "
      f'{[role for role, _ in conversation]}: mend the roles.'
    )
  return {name: render(conversation), 'conversation': conversation}


def read_answer(value: object, name: str) -> object:
  """Returns the text of an answer given as text or as one message."""
  if not isinstance(value, list):
    return value
  messages = read_messages(value, name)
  if len(messages) != 1 or messages[0][0] != 'assistant':
    raise ValueError(
      f"needed one assistant message in '{name}', got "
      f'{[role for role, _ in messages]}: move the others to the prompt.'
    )
  return messages[0][1]


def read_text(value: object, name: str) -> str:
  """Returns a text that others are going to be joined to."""
  if not isinstance(value, str):
    raise ValueError(
      f"needed '{name}' as text, got {short(value)}: write it as one string."
    )
  return value


def within(question: str, context: object, name: str) -> str:
  """Returns a question or instruction with what it is about below it."""
  if context is None:
    return question
  context = read_text(context, name)
  return f'{question}\n\n{context}' if context.strip() else question


def short(value: object) -> str:
  """Returns a value's type and the beginning of its repr, on one line."""
  text = repr(value)
  text = text if len(text) <= 40 else text[:37] + '...'
  return f'{type(value).__name__} {text}'
