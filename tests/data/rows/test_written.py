"""Prompts and demonstrations in layouts of others; mistakes by their line."""

from __future__ import annotations

import json

import pytest

from instructjax import errors
from instructjax.data import records


@pytest.fixture
def load(tmp_path):
  """load(kind, *rows): the records of rows written as JSON lines."""

  def load(kind, *rows):
    path = tmp_path / 'rows.jsonl'
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return records.load(kind, str(path))

  return load


def _shared(*values):
  names = ('human', 'gpt') * len(values)
  return [{'from': n, 'value': v} for n, v in zip(names, values, strict=False)]


SEED = {
  'instruction': 'Add.',
  'is_classification': False,
  'instances': [{'input': '1 1', 'output': '2'}, {'input': '', 'output': '?'}],
}
PASSAGES = [['Ant', 'It is small.', 'It digs.'], ['Bee', 'Bee\n\nIt flies.']]
TREE = {'text': 'a', 'role': 'prompter', 'replies': []}


@pytest.mark.parametrize(
  ('row', 'texts'),
  [
    ('Why?', ['Why?']),
    ({'question': 'Why?', 'answer': 'So.'}, ['Why?']),
    ({'question': {'full_text': 'Why?', 'id': '7'}}, ['Why?']),
    ({'question': 'Why?', 'context': 'It is.'}, ['Why?\n\nIt is.']),
    ({'question': 'Why?', 'context': None}, ['Why?']),
    (
      {'question': 'Why?', 'passages': PASSAGES},
      ['Why?\n\nAnt\n\nIt is small. It digs.\n\nBee\n\nIt flies.'],
    ),
    ({'history': 'Why?', 'human_ref_A': 'x'}, ['Why?']),
    ({'turns': ['Why?'], 'category': 'generic'}, ['Why?']),
    ({'turns': ['Why?', 'And now?']}, ['Why?']),
    ({'prompt': {'text': 'Then he', 'toxicity': 0.1}}, ['Then he']),
    ({'prompt': {'text': 'Then he', 'profanity': None}}, ['Then he']),
    ({'conversations': _shared('a', 'b')}, ['a']),
    (
      {'conversations': _shared('a', 'b', 'c')},
      ['Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:'],
    ),
    (SEED, ['Add.\n\n1 1', 'Add.']),
    ({'text': '### Human: a ### Assistant: b'}, ['a']),
    # No answer ends it: it is a prompt as somebody wants it.
    (
      {'text': '### Human: a ### Assistant:'},
      ['### Human: a ### Assistant:'],
    ),
    ({'prompt': TREE}, ['a']),
  ],
)
def test_prompts(load, row, texts):
  found = load('prompts', row)
  assert [prompt.text for prompt in found] == texts
  assert {prompt.location.rpartition(':')[2] for prompt in found} == {'1'}


def test_a_chat_keeps_its_messages_for_templates(load):
  (prompt,) = load('prompts', {'conversations': _shared('a', 'b', 'c')})
  assert prompt.conversation == (
    ('user', 'a'),
    ('assistant', 'b'),
    ('user', 'c'),
  )


@pytest.mark.parametrize(
  ('row', 'pairs'),
  [
    ({'question': 'Why?', 'answer': 'So.'}, [('Why?', 'So.')]),
    (
      {'question': 'Why?', 'context': 'It is.', 'answer': 'So.'},
      [('Why?\n\nIt is.', 'So.')],
    ),
    ({'text': 'a', 'response': 'b', 'user_id': 'u'}, [('a', 'b')]),
    (
      {'text': 'a', 'messages': [{'role': 'user', 'content': 'a'}]}
      | {'response': 'b'},
      [('a', 'b')],
    ),
    (
      {'instruction': 'a', 'response': 'b', 'text': 'a and b'},
      [('a', 'b')],
    ),
    ({'prompt': 'a', 'completion': 'b<|endoftext|>'}, [('a', 'b')]),
    # Only a completion's end is a mark of its format.
    (
      {'prompt': 'a', 'response': 'b<|endoftext|>'},
      [('a', 'b<|endoftext|>')],
    ),
    (
      {'prompt': 'a', 'completion': '<|endoftext|>b'},
      [('a', '<|endoftext|>b')],
    ),
    ({'conversations': _shared('a', 'b')}, [('a', 'b')]),
    (SEED, [('Add.\n\n1 1', '2'), ('Add.', '?')]),
    ({'text': '### Human: a ### Assistant: b'}, [('a', 'b')]),
    (
      {'text': '### Human: a### Assistant: b### Human: c### Assistant: d\n'},
      [('Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:', 'd')],
    ),
  ],
)
def test_demonstrations(load, row, pairs):
  found = load('demonstrations', row)
  assert [(one.prompt, one.response) for one in found] == pairs


@pytest.mark.parametrize(
  ('category', 'use_case'),
  [
    ('open_qa', 'open_qa'),
    ('closed_qa', 'closed_qa'),
    ('general_qa', 'open_qa'),
    ('information_extraction', 'extract'),
    ('summarization', 'summarization'),
    ('brainstorming', 'brainstorming'),
    ('classification', 'classification'),
    ('creative_writing', 'generation'),
    ('of somebody else', None),
    (7, None),
  ],
)
def test_dollys_categories_are_use_cases(load, category, use_case):
  row = {'instruction': 'a', 'context': '', 'category': category}
  (prompt,) = load('prompts', row)
  assert prompt.use_case == use_case
  (prompt,) = load('prompts', row | {'use_case': 'chat'})
  assert prompt.use_case == 'chat'


BAD = [
  ('prompts', {'question': 5}, "needed 'question' as text, got int 5"),
  ('prompts', {'question': ' '}, "needed a 'text' with text in it"),
  ('prompts', {'question': {}}, "'question.full_text' as text, got NoneType"),
  ('prompts', {'question': 'a', 'context': 5}, "'context' as text, got int 5"),
  ('prompts', {'question': 'a', 'passages': 5}, "'passages' as text"),
  ('prompts', {'question': 'a', 'passages': [[]]}, "'passages' as text"),
  ('prompts', {'question': 'a', 'passages': [['b', 5]]}, 'got int 5'),
  ('prompts', {'history': 5}, "'history' as text, got int 5"),
  ('prompts', {'turns': []}, "'turns' as a list"),
  ('prompts', {'turns': 'a'}, "'turns' as a list"),
  ('prompts', {'turns': [5]}, "'turns[0]' as text, got int 5"),
  ('prompts', {'prompt': {'text': 5}}, "'prompt.text' as text, got int 5"),
  ('prompts', {'prompt': {'id': 5}}, "'prompt' as text, got dict"),
  ('prompts', {'conversations': 'a'}, "'conversations' as a list of messages"),
  (
    'prompts',
    {'conversations': [{'from': 'bot', 'value': 'a'}]},
    "in 'conversations', got str 'bot'",
  ),
  (
    'prompts',
    {'conversations': [{'from': 'human', 'value': 5}]},
    "'value' as text in 'conversations', got int 5",
  ),
  ('prompts', {'conversations': _shared('a', 'b')[1:]}, "a user's message"),
  ('prompts', '', "needed a 'text' with text in it"),
  ('demonstrations', 'a', "needed a JSON object, got str 'a'"),
  ('demonstrations', {'question': 'a'}, "got 'question': rename"),
  ('demonstrations', {'question': 'a', 'answer': 5}, "'answer' as text"),
  ('demonstrations', {'text': 'a'}, "got 'text': rename"),
  ('demonstrations', {'text': 'a', 'response': 5}, "'response' as text"),
  ('demonstrations', {'text': '### Human: a'}, "the last is the user's"),
  ('demonstrations', {'text': '### Human:'}, "the last is the user's"),
  (
    'demonstrations',
    {'conversations': _shared('a', 'b', 'c')},
    "needed 'conversations' that end with the assistant's",
  ),
  ('demonstrations', {'prompt': 'a', 'completion': 5}, "'response' as text"),
  ('demonstrations', {'instruction': 'a', 'instances': 5}, "'instances' as a"),
  ('demonstrations', {'instruction': 'a', 'instances': []}, "'instances' as a"),
  (
    'demonstrations',
    {'instruction': 'a', 'instances': [{'input': 'b'}]},
    "with 'input' and 'output'",
  ),
  (
    'demonstrations',
    {'instruction': 'a', 'instances': [{'input': 5, 'output': 'b'}]},
    "'input' as text, got int 5",
  ),
]


@pytest.mark.parametrize(('kind', 'row', 'said'), BAD)
def test_mistakes(load, tmp_path, kind, row, said):
  good = {'prompt': 'a', 'response': 'b'}
  with pytest.raises(errors.UserError) as caught:
    load(kind, good, good, row)
  message = str(caught.value)
  assert message.startswith(f'{tmp_path}/rows.jsonl:3: needed')
  assert said in message
  assert '\n' not in message
