"""Whatever stands in a place of a good row: it is read or refused in words."""

from __future__ import annotations

import copy
import json

import hypothesis
from hypothesis import strategies
import pytest

from instructjax.data import records

_REPLY = {
  'message_id': 'm',
  'text': 'b',
  'role': 'assistant',
  'rank': 0,
  'synthetic': False,
  'deleted': False,
  'review_result': True,
  'labels': {'spam': {'value': 0.0, 'count': 3}},
  'replies': [],
}
GOOD = [
  ('prompts', {'question': {'full_text': 'a'}, 'passages': [['b', 'c']]}),
  ('prompts', {'turns': ['a', 'b'], 'category': 'x'}),
  ('prompts', {'prompt': {'text': 'a', 'toxicity': 0.5}}),
  ('prompts', {'history': 'a'}),
  ('prompts', {'text': '### Human: a ### Assistant: b'}),
  ('demonstrations', {'question': 'a', 'context': 'b', 'answer': 'c'}),
  (
    'demonstrations',
    {'instruction': 'a', 'instances': [{'input': 'b', 'output': 'c'}]},
  ),
  (
    'demonstrations',
    {
      'conversations': [
        {'from': 'human', 'value': 'a'},
        {'from': 'gpt', 'value': 'b'},
      ]
    },
  ),
  ('demonstrations', {'prompt': 'a', 'completion': 'b<|endoftext|>'}),
  (
    'comparisons',
    {
      'instruction': 'a',
      'completions': [
        {'response': 'b', 'overall_score': 1.0},
        {'response': 'c', 'overall_score': 2, 'annotations': {'d': {}}},
      ],
    },
  ),
  (
    'comparisons',
    {
      'prompt': 'a',
      'completions': [
        {'text': 'b', 'annotations': {'d': {'Rating': '3'}}},
        {'text': 'c', 'annotations': {'d': {'Rating': 'N/A'}, 'e': 2}},
      ],
    },
  ),
  (
    'comparisons',
    {
      'question': {'full_text': 'a'},
      'answer_0': 'b',
      'answer_1': 'c',
      'score_0': 1,
      'score_1': -1,
    },
  ),
  (
    'comparisons',
    {
      'history': 'a',
      'human_ref_A': 'b',
      'human_ref_B': 'c',
      'labels': 1,
      'score_A': 3,
      'score_B': 1,
    },
  ),
  (
    'comparisons',
    {
      'question': 'a',
      'passages': [['b', 'c']],
      **{f'prediction {i}': f'p{i}' for i in range(1, 5)},
      'preference': [1, 1, 1, 0, 0, 0],
    },
  ),
  *(
    (
      kind,
      {
        'tree_state': 'ready_for_export',
        'prompt': _REPLY
        | {'role': 'prompter', 'rank': None}
        | {'replies': [_REPLY, _REPLY | {'rank': 1}]},
      },
    )
    for kind in ('prompts', 'demonstrations', 'comparisons')
  ),
]
_ANYTHING = strategies.recursive(
  strategies.none()
  | strategies.booleans()
  | strategies.integers(-3, 10**400)
  | strategies.floats()
  | strategies.sampled_from(['', ' ', 'a', '7', 'nan', 'N/A', '\ud83d']),
  lambda inner: (
    strategies.lists(inner, max_size=3)
    | strategies.dictionaries(
      strategies.sampled_from(['a', 'text', 'role', 'name', 'value', 'spam']),
      inner,
      max_size=3,
    )
  ),
  max_leaves=5,
)


def _places(value, path=()):
  yield path
  items = ()
  if isinstance(value, dict):
    items = value.items()
  elif isinstance(value, list):
    items = enumerate(value)
  for key, inner in items:
    yield from _places(inner, (*path, key))


@pytest.mark.parametrize(('kind', 'row'), GOOD)
@hypothesis.given(data=strategies.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_a_row_with_anything_in_one_place(kind, row, data):
  assert records.read(kind, row, 'x:1')
  row = copy.deepcopy(row)
  places = [path for path in _places(row) if path]
  *above, last = data.draw(strategies.sampled_from(places))
  node = row
  for key in above:
    node = node[key]
  if data.draw(strategies.booleans()) and isinstance(node, dict):
    del node[last]
  else:
    node[last] = data.draw(_ANYTHING)
  try:
    found = records.read(kind, row, 'x:1')
  except ValueError as error:
    assert str(error).startswith('needed') and '\n' not in str(error)
  else:
    for one in found:
      if not isinstance(one, str):
        assert records.prompt_of(one).strip()
        json.dumps(records.asked(one)).encode()
