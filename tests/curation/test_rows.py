"""Raw rows to prompts."""

from __future__ import annotations

import datetime

import pytest

from instructjax.curation import rows
from instructjax.curation import rules


def _one(**row):
  (prompt,) = rows.parse(row, 'raw.jsonl:3')
  return prompt


def test_text_is_enough_and_stays_as_it_was():
  prompt = _one(text='  Ｆｕｌｌ width\n')
  assert prompt.text == '  Ｆｕｌｌ width\n'
  assert prompt.location == 'raw.jsonl:3'
  assert prompt.source == 'customer' and prompt.kind is None
  assert prompt.prompt_id == prompt.content and len(prompt.content) == 16
  given = {name: getattr(prompt, name) for name in ('user_id', 'time')}
  assert given == {'user_id': None, 'time': None}
  empty = _one(text='x', user_id='', organization_id='', prompt_id='')
  assert empty.user_id is None and empty.organization_id is None
  assert empty.prompt_id == empty.content


def test_all_fields():
  prompt = _one(
    text='hello', prompt_id=7, user_id='u', organization_id=9, time=12.5,
    source='labeler', kind='user_based', use_case='chat', response='Hi.',
  )  # fmt: skip
  assert (prompt.prompt_id, prompt.user_id) == ('7', 'u')
  assert (prompt.organization_id, prompt.time) == ('9', 12.5)
  assert (prompt.source, prompt.kind) == ('labeler', 'user_based')
  assert (prompt.use_case, prompt.response) == ('chat', 'Hi.')


def test_a_null_among_annotations_is_an_absent_one():
  told = {'opinion': True, 'sensitive': None}
  assert _one(text='x', annotations=told).annotations == (('opinion', True),)


def test_annotations_are_names_with_truth_values():
  told = {'opinion': False, 'ambiguous': True}
  prompt = _one(text='x', annotations=told)
  assert prompt.annotations == (('ambiguous', True), ('opinion', False))
  assert prompt.content != _one(text='x').content
  for wrong in ([], {'opinion': 'yes'}, {'opinion': 1}, 'opinion'):
    with pytest.raises(ValueError, match="'annotations' as names"):
      _one(text='x', annotations=wrong)


def test_messages_are_rendered_and_kept():
  said = ('user', 'a'), ('assistant', 'b'), ('user', 'c')
  answered = (*said, ('assistant', 'the log has this too'))
  messages = [{'role': role, 'content': text} for role, text in answered]
  prompt = _one(messages=messages)
  assert prompt.text == 'Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:'
  assert prompt.conversation == said
  assert _one(instruction='sum', input='1 2').text == 'sum\n\n1 2'


@pytest.mark.parametrize(
  'time, seconds',
  [
    (1643277600, 1643277600),
    (1643277600123, 1643277600.123),
    ('2022-01-27T10:00:00Z', 1643277600),
    ('2022-01-27 11:00:00+01:00', 1643277600),
    ('2022-01-27T10:00', 1643277600),
    ('2022-01-27', 1643241600),
    # Of a table.
    (datetime.date(2022, 1, 27), 1643241600),
    (datetime.datetime(2022, 1, 27, 10), 1643277600),
    (datetime.datetime(2022, 1, 27, 10, tzinfo=datetime.UTC), 1643277600),
  ],
)
def test_times(time, seconds):
  assert _one(text='x', time=time).time == seconds


def test_content_tells_rows_apart_but_not_places():
  same = rows.parse({'text': 'x'}, 'a:1') + rows.parse({'text': 'x'}, 'b:2')
  assert same[0].content == same[1].content
  others = [
    _one(text='x', **more)
    for more in (
      {},
      {'user_id': 'u'},
      {'user_id': 'None'},
      {'organization_id': 'None'},
      {'time': 1},
      {'response': 'r'},
    )
  ]
  others += [_one(messages=[{'role': 'user', 'content': 'x'}]), _one(text='x ')]
  assert len({prompt.content for prompt in others}) == len(others)


class TestFewShot:
  ROW = {
    'kind': 'few_shot',
    'source': 'labeler',
    'prompt_id': 'p',
    'user_id': 'u',
    'text': 'Give the sentiment.',
    'examples': [
      {'input': 'I love it', 'output': 'positive'},
      {'input': 'It broke', 'output': 'negative'},
      {'input': 'It is blue', 'output': 'neutral'},
    ],
  }

  def test_each_pair_is_asked_once_with_the_others_before_it(self):
    found = rows.parse(self.ROW, 'f:1')
    assert [prompt.text for prompt in found[:2]] == [
      'Give the sentiment.\n\nInput: It broke\nOutput: negative\n\n'
      'Input: It is blue\nOutput: neutral\n\nInput: I love it\nOutput:',
      'Give the sentiment.\n\nInput: It is blue\nOutput: neutral\n\n'
      'Input: I love it\nOutput: positive\n\nInput: It broke\nOutput:',
    ]
    said = [prompt.response for prompt in found]
    assert said == ['positive', 'negative', 'neutral']
    assert [prompt.prompt_id for prompt in found] == ['p/1', 'p/2', 'p/3']
    assert {p.location for p in found} == {'f:1'}
    assert {(p.kind, p.source, p.user_id) for p in found} == {
      ('few_shot', 'labeler', 'u')
    }
    assert len({prompt.content for prompt in found}) == 3

  def test_they_are_no_twins_of_one_another(self):
    """Though each but the last has the same examples in front of the query."""
    pairs = [
      {'input': f'{word} ' * 30, 'output': word} for word in ('a', 'b', 'c')
    ]
    found = rows.parse({**self.ROW, 'examples': pairs}, 'f:1')
    keys = [rules.comparison_key(prompt.text) for prompt in found]
    twins = rules.twins(keys, [0, 1, 2], min_chars=20, min_share=0.5)
    assert twins.tolist() == [-1, -1, -1]

  def test_one_pair_and_no_id(self):
    row = {**self.ROW, 'examples': self.ROW['examples'][:1]}
    del row['prompt_id']
    (prompt,) = rows.parse(row, 'f:1')
    assert prompt.text == 'Give the sentiment.\n\nInput: I love it\nOutput:'
    other = {**self.ROW, 'examples': self.ROW['examples'][1:2]}
    del other['prompt_id']
    assert rows.parse(other, 'f:1')[0].prompt_id != prompt.prompt_id
    assert prompt.prompt_id.endswith('/1')

  def test_what_else_a_pair_holds_changes_nothing(self):
    at = datetime.date(2020, 1, 1)
    pairs = [
      {'output': p['output'], 'input': p['input'], 'at': at}
      for p in self.ROW['examples']
    ]
    found = rows.parse({**self.ROW, 'examples': pairs}, 'f:1')
    assert found == rows.parse(self.ROW, 'f:1')

  def test_one_that_was_written_out_is_a_prompt_like_any(self):
    text = 'Input: a\nOutput: b\n\nInput: c\nOutput:'
    assert _one(kind='few_shot', text=text).text == text
    assert _one(text='x', examples=['of something else']).text == 'x'


@pytest.mark.parametrize(
  'row, said',
  [
    (['x'], 'needed a JSON object, got list'),
    ({'txt': 'x'}, "needed a row of prompts as 'text'"),
    ({'text': ' \n'}, "needed a 'text' with text in it"),
    ({'text': 7}, "needed 'text' as text, got int 7"),
    ({'text': 'x\ud800'}, 'got half of a surrogate pair'),
    ({'text': 'x', 'source': 'costumer'}, "Did you mean 'customer'?"),
    ({'text': 'x', 'user_id': 1.5}, "needed 'user_id' as text or a whole"),
    ({'text': 'x', 'organization_id': []}, "needed 'organization_id' as text"),
    ({'text': 'x', 'time': 'noon'}, "needed 'time' in seconds since 1970"),
    ({'text': 'x', 'time': True}, "needed 'time' in seconds since 1970"),
    ({'text': 'x', 'time': float('nan')}, "needed 'time' in seconds"),
    ({'text': 'x', 'time': 10**400}, "needed 'time' in seconds"),
    ({'text': 'x', 'response': 3}, "needed 'response' as text"),
    ({'text': 'x', 'kind': 'few_shot', 'examples': []}, "needed 'examples' as"),
    (
      {'text': 'x', 'kind': 'few_shot', 'examples': [{'input': 'a'}]},
      'needed examples[0] with input and output',
    ),
    (
      {
        'text': 'x',
        'kind': 'few_shot',
        'examples': [{'input': 'a', 'output': None}],
      },
      "needed 'examples[0].output' as text, got NoneType",
    ),
    (
      {
        'messages': [{'role': 'user', 'content': 'a'}],
        'kind': 'few_shot',
        'examples': [{'input': 'a', 'output': 'b'}],
      },
      "needed a few-shot row's instruction as text, got messages",
    ),
  ],
)
def test_what_is_no_prompt(row, said):
  with pytest.raises(ValueError) as refused:
    rows.parse(row, 'f:1')
  assert said in str(refused.value)
