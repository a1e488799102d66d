"""Trees of messages: what each kind takes of them, what is left and why."""

from __future__ import annotations

import json

import hypothesis
from hypothesis import strategies
import pytest

from instructjax import errors
from instructjax.data import records


def message(text, *replies, role=None, **fields):
  """A message; the roles of those below it take turns."""
  fields = {
    'message_id': f'id of {text}',
    'text': text,
    'review_result': True,
    'deleted': False,
    'synthetic': False,
    'user_id': f'user of {text}',
    **fields,
  }
  return fields | {'role': role, 'replies': list(replies)}


def tree(root, **fields):
  def with_roles(one, role):
    if not isinstance(one, dict):
      return one
    other = 'assistant' if role == 'prompter' else 'prompter'
    below = one['replies']
    if isinstance(below, list):
      below = [with_roles(reply, other) for reply in below]
    return one | {'role': one['role'] or role, 'replies': below}

  row = {'message_tree_id': 't', 'tree_state': 'ready_for_export'}
  return row | {'prompt': with_roles(root, 'prompter')} | fields


@pytest.fixture
def gather(tmp_path):
  """gather(kind, *rows): what is read of rows written as JSON lines."""

  def gather(kind, *rows):
    path = tmp_path / 'rows.jsonl'
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return records.gather(kind, str(path))

  return gather


# a -> b (second), c (best) -> d -> e (sole)
#                           -> f -> g, h (unranked)
#      b -> i -> j (third), k (second), l (best)
WHOLE = message(
  'a',
  message(
    'b',
    message(
      'i',
      message('j', rank=2),
      message('k', rank=1),
      message('l', rank=0),
    ),
    rank=1,
  ),
  message(
    'c',
    message('d', message('e')),
    message('f', message('g'), message('h')),
    rank=0,
  ),
)
ABOVE_I = 'Human: a\n\nAssistant: b\n\nHuman: i\n\nAssistant:'
ABOVE_D = 'Human: a\n\nAssistant: c\n\nHuman: d\n\nAssistant:'
ABOVE_F = 'Human: a\n\nAssistant: c\n\nHuman: f\n\nAssistant:'


def test_every_prompters_message_is_a_prompt(gather):
  found = gather('prompts', tree(WHOLE), tree(message('x')))
  texts = [prompt.text for prompt in found.records]
  assert texts == ['a', ABOVE_I, ABOVE_D, ABOVE_F, 'x']
  assert found.records[1].prompt_id == 'id of i'
  assert found.records[1].user_id == 'user of i'
  assert [p.location[-2:] for p in found.records] == [':1'] * 4 + [':2']
  assert found.left_out == {}


def test_replies_with_ranks_are_compared(gather):
  found = gather('comparisons', tree(WHOLE))
  told = [(c.prompt, c.responses, c.ranks) for c in found.records]
  assert told == [
    ('a', ('b', 'c'), (2, 1)),
    (ABOVE_I, ('j', 'k', 'l'), (3, 2, 1)),
  ]
  assert found.records[1].conversation == (
    ('user', 'a'),
    ('assistant', 'b'),
    ('user', 'i'),
  )
  assert found.left_out == {
    'a reply without a rank': 2,
    'fewer than two ranked replies': 1,
  }


def test_the_best_reply_demonstrates_on_the_best_path(gather):
  found = gather('demonstrations', tree(WHOLE))
  told = [(d.prompt, d.response) for d in found.records]
  assert told == [('a', 'c'), (ABOVE_D, 'e')]
  assert found.records[1].labeler_id == 'user of e'
  assert found.left_out == {
    'follows a reply that is not the best': 1,
    'no reply, or none that is known to be the best': 1,
  }


def test_models_replies_are_ranked_but_demonstrate_nothing(gather):
  best = message('b', rank=0, synthetic=True, model_name='m')
  row = tree(message('a', best, message('c', rank=1)))
  (found,) = gather('comparisons', row).records
  assert found.responses == ('b', 'c')
  other = tree(message('x', message('y')))
  found = gather('demonstrations', row, other)
  assert [d.response for d in found.records] == ['y']
  assert found.left_out == {'the best reply is synthetic': 1}


UNFIT = [
  ({'deleted': True}, 'deleted'),
  ({'review_result': False}, 'failed or lacks its review'),
  ({'review_result': None}, 'failed or lacks its review'),
  ({'labels': {'spam': {'value': 0.5, 'count': 2}}}, 'spam'),
  ({'labels': {'name': ['quality', 'spam'], 'value': [0.1, 1.0]}}, 'spam'),
  ({'text': ' \n'}, 'empty'),
]


@pytest.mark.parametrize(('fields', 'why'), UNFIT)
def test_unfit_messages_are_left_out_with_what_is_below(gather, fields, why):
  bad = message('b', message('x', message('y')), rank=0) | fields
  row = tree(message('a', bad, message('c', rank=1), message('d', rank=2)))
  (found,) = gather('comparisons', row).records
  assert (found.responses, found.ranks) == (('c', 'd'), (2, 3))
  found = gather('prompts', row)
  assert [p.text for p in found.records] == ['a']
  assert found.left_out == {why: 1}
  found = gather('demonstrations', row)
  assert [d.response for d in found.records] == ['c']


@pytest.mark.parametrize(
  'fields',
  [
    {'labels': {'spam': {'value': 0.4}, 'quality': {'value': 1.0}}},
    {'labels': {'name': ['quality'], 'value': [1.0]}},
    {'labels': None},
    {'labels': {'name': 5, 'spam': {}}},
    {'lang': 'de', 'emojis': {'+1': 3}},
  ],
)
def test_others_stay(gather, fields):
  row = tree(message('a', message('b', rank=0) | fields))
  (found,) = gather('demonstrations', row).records
  assert found.response == 'b'


def test_a_message_without_a_review_key_was_not_to_be_reviewed(gather):
  root = message('a')
  del root['review_result']
  assert gather('prompts', tree(root)).records


@pytest.mark.parametrize('state', ['aborted_low_grade', 'halted_by_moderator'])
def test_halted_trees_are_left_out(gather, state):
  row = tree(WHOLE, tree_state=state)
  found = gather('prompts', row, tree(message('x')))
  assert [p.text for p in found.records] == ['x']
  assert found.left_out == {f'tree {state}': 1}


def test_of_more_than_nine_the_nine_best_are_kept(gather):
  ranks = [11, *range(11)]
  replies = [message(f'r{rank}', rank=rank) for rank in ranks]
  found = gather('comparisons', tree(message('a', *replies)))
  (one,) = found.records
  assert one.ranks == tuple(range(1, 10))
  assert one.responses == tuple(f'r{i}' for i in range(9))
  assert found.left_out == {'a reply below the ninth': 3}


@pytest.mark.parametrize(
  ('root', 'said'),
  [
    (message('a', 'b'), "list of messages, got str 'b' in it"),
    (message('a', message('b', role='prompter')), "role 'assistant', for"),
    (message('a', role='assistant'), "role 'prompter', for roles take turns"),
    (message('a', message('b') | {'text': 5}), "text of message 'id of b'"),
    (message('a') | {'text': None}, "text of message 'id of a'"),
    (message('a') | {'replies': 'b'}, "'replies' as a list, got str 'b'"),
    (message('a', message('b', rank=0.5)), 'from 0 (best), got float 0.5'),
    (message('a', message('b', rank=-1)), 'from 0 (best), got int -1'),
    (message('a', message('b', rank=True)), 'from 0 (best), got bool True'),
    (
      message('a\ud83d', message('b', rank=0), message('c', rank=1)),
      'half of a surrogate pair',
    ),
  ],
)
@pytest.mark.parametrize('kind', ['prompts', 'demonstrations', 'comparisons'])
def test_mistakes(gather, tmp_path, kind, root, said):
  good = tree(message('a', message('b', rank=0), message('c', rank=1)))
  with pytest.raises(errors.UserError) as caught:
    gather(kind, good, good, tree(root))
  text = str(caught.value)
  assert text.startswith(f'{tmp_path}/rows.jsonl:3: needed')
  assert said in text
  assert '\n' not in text


_TEXTS = strategies.sampled_from(['', 'a', 'b'])
_MAYBE = strategies.sampled_from([None, True, False])


def _messages(depth):
  return strategies.builds(
    lambda text, below, rank, deleted, review, synthetic: (
      message(text, *below)
      | {'rank': rank, 'deleted': deleted, 'review_result': review}
      | {'synthetic': synthetic}
    ),
    _TEXTS,
    strategies.lists(_messages(depth - 1), max_size=3)
    if depth
    else strategies.just([]),
    strategies.none() | strategies.integers(0, 3),
    _MAYBE,
    _MAYBE,
    _MAYBE,
  )


@hypothesis.given(_messages(4))
@hypothesis.settings(deadline=None)
def test_every_kept_message_of_a_prompter_is_accounted_for(root):
  row = tree(root)
  asked = records.read('prompts', row, 'x:1')
  prompts = [one for one in asked if not isinstance(one, str)]
  unfit = [one for one in asked if isinstance(one, str)]
  shown = records.read('demonstrations', row, 'x:1')
  # One demonstration or one reason for each prompt, besides who is unfit.
  assert len(shown) == len(prompts) + len(unfit)
  for one in records.read('comparisons', row, 'x:1'):
    if not isinstance(one, str):
      assert one.prompt in {prompt.text for prompt in prompts}
      assert all(text.strip() for text in one.responses)
