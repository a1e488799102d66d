"""Foreign row layouts to ours: pairs, messages, instructions, completions.

A row that matches comes back as one of our own records' dicts. Conversations
become plain text the way the paper's prompts were plain text, and stand beside
it as 'conversation', for a tokenizer that has a template of its own; a prompt
that was text has none. `None` says that no layout fits, `ValueError` that one
fits and its content is wrong.
"""

from __future__ import annotations

import re

Row = dict[str, object]
Messages = list[tuple[str, str]]

READ = {
  'prompts': "'text', 'prompt', 'messages', 'instruction' or chosen/rejected",
  'demonstrations': (
    'prompt/response, prompt/completion, messages, '
    'instruction/input/output or instruction/context/response'
  ),
  'comparisons': 'prompt/responses/ranks or [prompt/]chosen/rejected',
  'pretraining': "'text'",
}

_ROLES = {
  'system': 'system',
  'developer': 'system',
  'user': 'user',
  'human': 'user',
  'assistant': 'assistant',
}
_NAMES = {'user': 'Human', 'assistant': 'Assistant', 'system': 'System'}
_TURN = re.compile(r'(?:^|\n\n)(Human|Assistant):')


def to_prompt(row: Row) -> Row | None:
  """Returns {'text', ...} of a row that holds a prompt in some layout."""
  if 'prompt' in row:
    return {**row, **_prompt(row['prompt'], 'text')}
  if 'messages' in row:
    conversation = _messages(row['messages'], 'messages')
    if conversation[-1][0] == 'assistant':
      conversation = conversation[:-1]
    return {**row, **_rendered(conversation, 'text')}
  if 'instruction' in row:
    return {**row, **_prompt(_instruction(row), 'text')}
  if 'chosen' in row and 'rejected' in row:
    pair = _pair(row)
    told = {'text': pair['prompt'], 'conversation': pair['conversation']}
    return {**row, **told}
  return {**row, **_prompt(row['text'], 'text')} if 'text' in row else None


def to_demonstration(row: Row) -> Row | None:
  """Returns {'prompt', 'response', ...} of a row that demonstrates."""
  for answer in ('response', 'completion'):
    if 'prompt' in row and answer in row:
      response = _completion(row[answer], answer)
      return {**row, **_prompt(row['prompt']), 'response': response}
  if 'messages' in row:
    conversation = _messages(row['messages'], 'messages')
    if conversation[-1][0] != 'assistant':
      raise ValueError(
        f"needed 'messages' that end with the assistant's, the last is the "
        f"{conversation[-1][0]}'s: add the response or remove the row."
      )
    prompt = _rendered(conversation[:-1])
    return {**row, **prompt, 'response': conversation[-1][1]}
  for answer in ('output', 'response'):
    if 'instruction' in row and answer in row:
      return {**row, **_prompt(_instruction(row)), 'response': row[answer]}
  return None


def to_comparison(row: Row) -> Row | None:
  """Returns {'prompt', 'responses', 'ranks', ...} of a row that compares."""
  if 'responses' in row or 'ranks' in row:
    if not {'prompt', 'responses', 'ranks'} <= set(row):
      return None
    return {**row, **_prompt(row['prompt'])}
  if 'chosen' in row and 'rejected' in row:
    return {**row, **_pair(row)}
  return None


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
  return '\n\n'.join(system + [_transcript(turns), 'Assistant:'])


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


def _transcript(turns: Messages) -> str:
  return '\n\n'.join(f'{_NAMES[role]}: {text}' for role, text in turns)


def _messages(value: object, name: str) -> Messages:
  """Returns [(role, content)] of a chat-layout list."""
  if not isinstance(value, list) or not value:
    raise ValueError(
      f"needed '{name}' as a list of messages, got {short(value)}: "
      'write [{"role": ..., "content": ...}].'
    )
  conversation = []
  for message in value:
    role = message.get('role') if isinstance(message, dict) else None
    content = message.get('content') if isinstance(message, dict) else None
    if not isinstance(role, str) or role.lower() not in _ROLES:
      raise ValueError(
        f"needed messages of roles system, user, assistant in '{name}', got "
        f'{short(role if isinstance(message, dict) else message)}: mend it.'
      )
    if not isinstance(content, str):
      raise ValueError(
        f"needed every message's 'content' as text in '{name}', got "
        f'{short(content)}: write it as one string.'
      )
    conversation.append((_ROLES[role.lower()], content))
  return conversation


def _prompt(value: object, name: str = 'prompt') -> Row:
  """Returns a prompt that is text or messages as {name, 'conversation'}."""
  if isinstance(value, list):
    return _rendered(_messages(value, 'prompt'), name)
  return {name: value, 'conversation': None}


def _rendered(conversation: Messages, name: str = 'prompt') -> Row:
  if conversation and conversation[-1][0] != 'user':
    raise ValueError(
      "needed messages whose last, before the answer, is the user's, got "
      f'{[role for role, _ in conversation]}: mend the roles.'
    )
  return {name: render(conversation), 'conversation': conversation}


def _completion(value: object, name: str) -> object:
  """Returns the text of an answer given as text or as one message."""
  if not isinstance(value, list):
    return value
  messages = _messages(value, name)
  if len(messages) != 1 or messages[0][0] != 'assistant':
    raise ValueError(
      f"needed one assistant message in '{name}', got "
      f'{[role for role, _ in messages]}: move the others to the prompt.'
    )
  return messages[0][1]


def _instruction(row: Row) -> str:
  instruction = row['instruction']
  name = 'input' if 'input' in row else 'context'
  context = row.get(name)
  if not isinstance(instruction, str):
    raise ValueError(
      f"needed 'instruction' as text, got {short(instruction)}: write one "
      'string.'
    )
  if context is None:
    return instruction
  if not isinstance(context, str):
    raise ValueError(
      f"needed '{name}' as text, got {short(context)}: write it as one string."
    )
  return f'{instruction}\n\n{context}' if context.strip() else instruction


def _pair(row: Row) -> Row:
  """Returns prompt, two responses and ranks of a chosen/rejected row."""
  answers = row['chosen'], row['rejected']
  kinds = {type(answer) for answer in answers}
  if kinds not in ({str}, {list}):
    given = ' and '.join(type(answer).__name__ for answer in answers)
    raise ValueError(
      "needed 'chosen' and 'rejected' both as text or both as messages, got "
      f'{given}: mend or remove the row.'
    )
  prompt = row.get('prompt')
  if prompt is None and all(isinstance(a, str) for a in answers):
    return _diverging(*(_dialogue(a) for a in answers))
  if prompt is None or _opens_conversation(answers[0]):
    pair = _diverging(
      _messages(answers[0], 'chosen'), _messages(answers[1], 'rejected')
    )
    given = pair['prompt'] if prompt is None else _prompt(prompt)['prompt']
    if isinstance(given, str) and given not in pair['prompt']:
      raise ValueError(
        "needed 'chosen' and 'rejected' to open with 'prompt', got another "
        f'opening {short(pair["prompt"])}: mend or drop one of the two.'
      )
    return pair
  texts = [
    _completion(a, n)
    for a, n in zip(answers, ('chosen', 'rejected'), strict=True)
  ]
  return _ranked(_prompt(prompt), *texts)


def _opens_conversation(answer: object) -> bool:
  first = answer[0] if isinstance(answer, list) and answer else None
  return isinstance(first, dict) and first.get('role') != 'assistant'


def _dialogue(text: str) -> Messages:
  """Returns the turns of a '\\n\\nHuman: ...\\n\\nAssistant: ...' string."""
  pieces = _TURN.split(text)
  if len(pieces) < 3 or pieces[0].strip():
    raise ValueError(
      "needed 'prompt' beside chosen/rejected, or dialogues that begin with "
      f"'\\n\\nHuman:', got {short(text)}: add the prompt."
    )
  roles = [_ROLES[name.lower()] for name in pieces[1::2]]
  return list(zip(roles, (p.strip() for p in pieces[2::2]), strict=True))


def _diverging(chosen: Messages, rejected: Messages) -> Row:
  """Splits two conversations into the prompt they share and what follows.

  The prompt ends with the last user message before they part, so each response
  begins with an assistant's turn; turns that follow it stay in the response.
  """
  shared = 0
  limit = min(len(chosen), len(rejected)) - 1
  while shared < limit and chosen[shared] == rejected[shared]:
    shared += 1
  while shared and chosen[shared - 1][0] != 'user':
    shared -= 1
  rest = chosen[shared:], rejected[shared:]
  if not shared or any(r[0][0] != 'assistant' for r in rest):
    raise ValueError(
      "needed 'chosen' and 'rejected' to share a user's message that an "
      'assistant answers, got none: mend or remove the row.'
    )
  texts = [_transcript(r).removeprefix('Assistant: ') for r in rest]
  return _ranked(_rendered(chosen[:shared]), *texts)


def _ranked(prompt: Row, chosen: object, rejected: object) -> Row:
  # Equal texts carry no preference: a tie, which makes no pair.
  ranks = [1, 1 if chosen == rejected else 2]
  return {**prompt, 'responses': [chosen, rejected], 'ranks': ranks}


def short(value: object) -> str:
  """Returns a value's type and the beginning of its repr, on one line."""
  text = repr(value)
  text = text if len(text) <= 40 else text[:37] + '...'
  return f'{type(value).__name__} {text}'
