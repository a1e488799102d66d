"""Prompts, and demonstrations of answers to them.

Read as they are:
  prompt                       text, messages, or {"text", ...scores}
  prompt, response|completion  a completion's trailing '<|endoftext|>' is the
                               mark of its format and is left out
  messages, conversations      chats: role/content or from/value (ShareGPT)
  instruction, input|context, output|response       Alpaca, Dolly
  instruction, instances [{input, output}]          Self-Instruct's seeds
  question [, context|passages] [, answer]          GSM8K, WebGPT, QA-Feedback
  chosen, rejected; history    prompts of what others compared
  turns                        of a benchmark's dialogue, the first
  text                         ours; as a demonstration, and as a prompt if an
                               answer ends it, '### Human: ... ### Assistant:'
  prompt {text, role, replies} a tree of messages, see trees.py
"""

from __future__ import annotations

import re

from instructjax.data import layouts
from instructjax.data.rows import compared
from instructjax.data.rows import trees

Row = layouts.Row

_END = '<|endoftext|>'
_HASHED = re.compile(r'\s*### (Human|Assistant):\s*')
# Dolly's categories by the paper's names of use cases.
_USE_CASES = {
  'open_qa': 'open_qa',
  'closed_qa': 'closed_qa',
  'general_qa': 'open_qa',
  'information_extraction': 'extract',
  'summarization': 'summarization',
  'brainstorming': 'brainstorming',
  'classification': 'classification',
  'creative_writing': 'generation',
}


def prompts(row: Row) -> list[Row | str] | None:
  """Reads what a row asks, whatever was answered.

  A conversation that the assistant ends is asked without its last message.
  """
  if 'prompt' in row:
    value = row['prompt']
    if isinstance(value, dict):
      if trees.is_tree(value):
        return trees.prompts(row)
      if 'text' in value:
        value = layouts.read_text(value['text'], 'prompt.text')
    return [{**row, **layouts.read_prompt(value, 'text')}]
  if 'messages' in row or 'conversations' in row:
    return [_asked(row, _chat(row)[1])]
  if 'instruction' in row:
    asked = {'use_case': _use_case(row), **row}
    return [
      {**asked, **layouts.read_prompt(_instruction(part), 'text')}
      for part in _instances(row)
    ]
  if 'chosen' in row and 'rejected' in row:
    pair = compared.pair(row)
    told = {'text': pair['prompt'], 'conversation': pair['conversation']}
    return [{**row, **told}]
  if 'text' in row:
    text = row['text']
    turns = _hashed(text) if isinstance(text, str) and text[:1] == '#' else ()
    if turns and turns[-1][0] == 'assistant' and turns[-1][1]:
      return [_asked(row, turns)]
    if 'conversation' not in row:
      return [row]  # ours
    return [{**row, **layouts.read_prompt(text, 'text')}]
  if 'question' in row:
    return [{**row, **layouts.read_prompt(compared.question(row), 'text')}]
  if 'history' in row:
    text = layouts.read_text(row['history'], 'history')
    return [{**row, **layouts.read_prompt(text, 'text')}]
  return _turns(row) if 'turns' in row else None


def demonstrations(row: Row) -> list[Row | str] | None:
  """Reads what a row asks and the answer that it shows."""
  prompt = row.get('prompt')
  if isinstance(prompt, str) and isinstance(row.get('response'), str):
    if 'conversation' not in row:
      return [row]  # ours
  if isinstance(prompt, dict) and trees.is_tree(prompt):
    return trees.demonstrations(row)
  for answer in ('response', 'completion'):
    if 'prompt' in row and answer in row:
      response = layouts.read_answer(row[answer], answer)
      if answer == 'completion' and isinstance(response, str):
        response = response.removesuffix(_END)
      prompt = layouts.read_prompt(row['prompt'])
      return [{**row, **prompt, 'response': response}]
  if {'text', 'response'} <= set(row) and 'instruction' not in row:
    # A prompt record that came with its answer, as `prepare` writes it.
    asked = layouts.read_prompt(row.get('messages', row['text']))
    answer = layouts.read_text(row['response'], 'response')
    return [{**row, **asked, 'response': answer}]
  if 'messages' in row or 'conversations' in row:
    name, conversation = _chat(row)
    return [_answered(row, conversation, name)]
  if 'instruction' in row:
    parts = _instances(row)
    answers = [n for n in ('output', 'response') if n in parts[0]]
    if not answers:
      return None
    return [_followed(row, part) for part in parts]
  if 'question' in row and 'answer' in row:
    asked = layouts.read_prompt(compared.question(row))
    answer = layouts.read_text(row['answer'], 'answer')
    return [{**row, **asked, 'response': answer}]
  turns = _hashed(row.get('text'))
  return [_answered(row, turns, 'text')] if turns else None


def _chat(row: Row) -> tuple[str, layouts.Messages]:
  """Returns the key of a row's chat and its messages."""
  name = 'messages' if 'messages' in row else 'conversations'
  return name, layouts.read_messages(row[name], name)


def _asked(row: Row, conversation: layouts.Messages) -> Row:
  if conversation[-1][0] == 'assistant':
    conversation = conversation[:-1]
  return {**row, **layouts.rendered(conversation, 'text')}


def _answered(row: Row, conversation: layouts.Messages, name: str) -> Row:
  if conversation[-1][0] != 'assistant':
    raise ValueError(
      f"needed '{name}' that end with the assistant's, the last is the "
      f"{conversation[-1][0]}'s: add the response or remove the row."
    )
  prompt = layouts.rendered(conversation[:-1])
  return {**row, **prompt, 'response': conversation[-1][1]}


def _hashed(text: object) -> layouts.Messages:
  """Returns the turns of a '### Human: ... ### Assistant: ...' text, if any."""
  if not isinstance(text, str) or not text.startswith('### Human:'):
    return []
  pieces = _HASHED.split(text)
  roles = ['user' if name == 'Human' else 'assistant' for name in pieces[1::2]]
  return list(zip(roles, (p.strip() for p in pieces[2::2]), strict=True))


def _instances(row: Row) -> list[Row]:
  """Returns a row for each thing that an instruction is followed on."""
  if 'instances' not in row:
    return [row]
  found = row['instances']
  if not isinstance(found, list) or not found:
    raise ValueError(
      "needed 'instances' as a list of inputs and outputs, got "
      f'{layouts.short(found)}: write [{{"input": ..., "output": ...}}].'
    )
  for part in found:
    if not isinstance(part, dict) or not {'input', 'output'} <= set(part):
      raise ValueError(
        "needed every one of 'instances' with 'input' and 'output', got "
        f'{layouts.short(part)}: mend or remove it.'
      )
  kept = {k: v for k, v in row.items() if k != 'instances'}
  return [{**kept, **part} for part in found]


def _followed(row: Row, part: Row) -> Row:
  response = part['output'] if 'output' in part else part['response']
  prompt = layouts.read_prompt(_instruction(part))
  return {**row, **prompt, 'response': response}


def _instruction(row: Row) -> str:
  name = 'input' if 'input' in row else 'context'
  instruction = layouts.read_text(row['instruction'], 'instruction')
  return layouts.within(instruction, row.get(name), name)


def _use_case(row: Row) -> str | None:
  category = row.get('category')
  return _USE_CASES.get(category) if isinstance(category, str) else None


def _turns(row: Row) -> list[Row | str]:
  turns = row['turns']
  if not isinstance(turns, list) or not turns:
    raise ValueError(
      "needed 'turns' as a list of a user's messages, got "
      f'{layouts.short(turns)}: write a JSON list of texts.'
    )
  asked = layouts.read_prompt(layouts.read_text(turns[0], 'turns[0]'), 'text')
  later = ['a later turn, whose context is yet to be answered'] * (
    len(turns) - 1
  )
  return [{**row, **asked}, *later]
