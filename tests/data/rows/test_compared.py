"""Comparisons in the schemas that others publish; mistakes by their line."""

from __future__ import annotations

import itertools
import json

import hypothesis
from hypothesis import strategies
import pytest

from instructjax import errors
from instructjax.data import records
from instructjax.data.rows import compared


@pytest.fixture
def load(tmp_path):
  """load(*rows): the comparisons of rows written as JSON lines."""

  def load(*rows):
    path = tmp_path / 'rows.jsonl'
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return records.load('comparisons', str(path))

  return load


def webgpt(**changes):
  quotes = {'title': ['A page'], 'extract': ['It digs.']}
  return {
    'question': {'dataset': 'eli5', 'id': '7', 'full_text': 'Why?'},
    'quotes_0': quotes,
    'answer_0': 'So [1].',
    'tokens_0': {'prefix': [1], 'completion': [2]},
    'score_0': -0.5,
    'quotes_1': quotes,
    'answer_1': 'Thus [1].',
    'tokens_1': {'prefix': [1], 'completion': [3]},
    'score_1': 0.5,
  } | changes


def shp(**changes):
  return {
    'post_id': 'p1',
    'domain': 'askbaking_train',
    'upvote_ratio': 0.9,
    'history': 'Why does it rise?',
    'c_root_id_A': 'a',
    'c_root_id_B': 'b',
    'created_at_utc_A': 1,
    'created_at_utc_B': 2,
    'score_A': 3,
    'score_B': 9,
    'human_ref_A': 'Yeast.',
    'human_ref_B': 'Yeast makes gas.',
    'labels': 0,
    'seconds_difference': 1.0,
    'score_ratio': 3.0,
  } | changes


def _annotations(*ratings):
  names = ('instruction_following', 'honesty', 'truthfulness', 'helpfulness')
  return {
    name: {'Rating': rating, 'Rationale': '...'}
    for name, rating in zip(names, ratings, strict=False)
  }


def ultrafeedback(*scores, **changes):
  completions = [
    {
      'model': f'm{i}',
      'principle': 'helpfulness',
      'custom_system_prompt': 'Be helpful.',
      'response': f'r{i}',
      'annotations': _annotations('5', '4'),
      'overall_score': score,
      'fine-grained_score': 4.5,
      'critique': '...',
    }
    for i, score in enumerate(scores)
  ]
  return {
    'source': 'evol_instruct',
    'instruction': 'Say a word.',
    'models': [one['model'] for one in completions],
    'completions': completions,
    'correct_answers': ['None'],
    'incorrect_answers': ['None'],
  } | changes


def qa_feedback(*labels, **changes):
  return {
    'question': 'Why?',
    'passages': [['Ant', 'It digs.']],
    'gold': 'So.',
    **{f'prediction {i}': f'p{i}' for i in range(1, 5)},
    'feedback': {'errors': []},
    'preference': list(labels),
  } | changes


@pytest.mark.parametrize(
  ('row', 'prompt', 'responses', 'ranks'),
  [
    (webgpt(), 'Why?', ('So [1].', 'Thus [1].'), (2, 1)),
    (webgpt(score_0=0.0, score_1=0.0), 'Why?', None, (1, 1)),
    (webgpt(score_0=1, score_1=-1, question='Who?'), 'Who?', None, (1, 2)),
    # What is the same cannot be preferred.
    (webgpt(answer_0='Thus [1].'), 'Why?', None, (1, 1)),
    (
      shp(),
      'Why does it rise?',
      ('Yeast.', 'Yeast makes gas.'),
      (2, 1),
    ),
    (shp(labels=1), 'Why does it rise?', None, (1, 2)),
    (shp(labels=None), 'Why does it rise?', None, (2, 1)),
    (shp(labels=None, score_A=9), 'Why does it rise?', None, (1, 1)),
    (
      ultrafeedback(7.0, 8.5, 7.0, 2.0),
      'Say a word.',
      ('r0', 'r1', 'r2', 'r3'),
      (2, 1, 2, 3),
    ),
    (ultrafeedback('7', '8'), 'Say a word.', None, (2, 1)),
    (ultrafeedback(*range(9)), 'Say a word.', None, tuple(range(9, 0, -1))),
    (
      qa_feedback(0, 1, 2, 1, 0, 2) | {'preference': [1, 1, 1, 0, 1, 1]},
      'Why?\n\nAnt\n\nIt digs.',
      ('p1', 'p2', 'p3', 'p4'),
      (1, 2, 2, 3),
    ),
    (qa_feedback(*[0] * 6), 'Why?\n\nAnt\n\nIt digs.', None, (1, 1, 1, 1)),
  ],
)
def test_comparisons(load, row, prompt, responses, ranks):
  (found,) = load(row)
  assert found.prompt == prompt
  assert found.ranks == ranks
  if responses:
    assert found.responses == responses


def test_scores_stay_as_ratings(load):
  (found,) = load(ultrafeedback(7, 8.5))
  assert found.ratings == (7.0, 8.5)


def test_a_prompt_may_be_messages(load):
  messages = [{'role': 'user', 'content': 'a'}]
  (found,) = load({'prompt': messages, **_completions(score=[1, 2])})
  assert found.conversation == (('user', 'a'),)


def _completions(**scores):
  ((name, values),) = scores.items()
  name = name.replace('_grained', '-grained')
  rows = [{'text': f't{i}', name: v} for i, v in enumerate(values)]
  return {'completions': rows}


@pytest.mark.parametrize(
  ('completions', 'ranks'),
  [
    (_completions(score=[1, 3, 2]), (3, 1, 2)),
    (_completions(rating=[1, 1]), (1, 1)),
    (_completions(fine_grained_score=[4.0, 4.25]), (2, 1)),
    (
      _completions(annotations=[_annotations('5', '4'), _annotations('5')]),
      (2, 1),
    ),
    (
      _completions(annotations=[_annotations('5', 'N/A'), _annotations('5')]),
      (1, 1),
    ),
    (_completions(annotations=[{'a': 5, 'b': None}, {'a': 4.5}]), (1, 2)),
  ],
)
def test_scores_by_other_names(load, completions, ranks):
  (found,) = load({'instruction': 'a', **completions})
  assert found.ranks == ranks
  assert found.responses[:2] == ('t0', 't1')


def test_a_row_may_have_too_few_completions(tmp_path):
  path = tmp_path / 'rows.jsonl'
  some = ultrafeedback(1, 2, None)
  rows = [ultrafeedback(), ultrafeedback(3), some, ultrafeedback(1, None)]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  found = records.gather('comparisons', str(path))
  assert [len(one.responses) for one in found.records] == [2]
  assert found.counts() == {
    'rows': 4,
    'records': 1,
    'bad_rows': 0,
    'left out: a completion without a score': 2,
    'left out: fewer than two completions': 3,
  }
  path.write_text(json.dumps(rows[0]) + '\n')
  with pytest.raises(errors.UserError, match='none in 1 rows .1 x fewer than'):
    records.load('comparisons', str(path))


@pytest.mark.parametrize(
  ('row', 'said'),
  [
    (webgpt(question={}), "'question.full_text' as text, got NoneType"),
    (webgpt(question=5), "'question' as text, got int 5"),
    (webgpt(answer_0=5), "'responses[0]' as text, got int 5"),
    (webgpt(score_1='high'), "'score_1' as a number, got str 'high'"),
    (webgpt(score_1=None), "'score_1' as a number, got NoneType"),
    (webgpt(score_0=float('nan')), "'score_0' as a number, got float nan"),
    (webgpt(score_0=True), "'score_0' as a number, got bool True"),
    (webgpt(score_0=10**400), "'score_0' as a number, got int 1"),
    (shp(labels=2), "'labels' of 1 (A is better) or 0, got int 2"),
    (shp(labels=True), 'got bool True'),
    (shp(labels=None, score_B=None), "'score_B' as a number"),
    (shp(history=None), "'history' as text, got NoneType"),
    (shp(history=' '), "needed a 'prompt' with text in it"),
    (shp(human_ref_B=5), "'responses[1]' as text, got int 5"),
    (ultrafeedback(*range(10)), '2 to 9 responses to compare, got 10'),
    (ultrafeedback(1, 2, completions='a'), "'completions' as a list"),
    (ultrafeedback(1, 2, completions=['a']), "'completions' as a list"),
    (ultrafeedback(1, 'good'), "'completions.overall_score' as a number"),
    (ultrafeedback(1, 2, instruction=5), "'prompt' as text, got int 5"),
    (
      {'instruction': 'a', 'completions': [{'response': 'b'}] * 2},
      "needed a score in 'completions' (overall_score, score, rating,",
    ),
    (
      {'instruction': 'a', 'completions': [{'score': 1}, {'score': 2}]},
      "'responses[0]' as text, got NoneType",
    ),
    (
      {'prompt': 'a', **_completions(annotations=[{'x': 'y'}, {'x': 1}])},
      "'completions.annotations' as a number, got str 'y'",
    ),
    (qa_feedback(1, 1, 1), "'preference' as 6 labels of 0, 1 or 2"),
    (qa_feedback(1, 1, 1, 1, 1, 3), "'preference' as 6 labels of 0, 1 or 2"),
    (qa_feedback(preference=5), "'preference' as 6 labels of 0, 1 or 2"),
    (qa_feedback(*[1] * 6, question=5), "'question' as text, got int 5"),
    (
      qa_feedback(*[1] * 6) | {'prediction 2': 5},
      "'responses[1]' as text, got int 5",
    ),
    ({'question': 'a', 'answer_0': 'b'}, "got 'question', 'answer_0': rename"),
    ({'history': 'a', 'human_ref_A': 'b'}, "'human_ref_A': rename"),
    ({'completions': []}, "got 'completions': rename"),
  ],
)
def test_mistakes(load, tmp_path, row, said):
  good = {'prompt': 'a', 'responses': ['b', 'c'], 'ranks': [1, 2]}
  with pytest.raises(errors.UserError) as caught:
    load(good, good, row)
  message = str(caught.value)
  assert message.startswith(f'{tmp_path}/rows.jsonl:3: needed')
  assert said in message
  assert '\n' not in message


def _labels(ranks):
  pairs = itertools.combinations(ranks, 2)
  return [0 if a == b else 1 if a < b else 2 for a, b in pairs]


def test_labels_of_an_order_give_it_back():
  for ranks in itertools.product(range(1, 5), repeat=4):
    (found,) = compared.comparisons(qa_feedback(*_labels(ranks)))
    order = sorted(set(ranks))
    assert found['ranks'] == [order.index(rank) + 1 for rank in ranks]


def test_a_circle_of_labels_is_a_tie():
  # 1 before 2, 2 before 3, 3 before 1, all of them before 4.
  (found,) = compared.comparisons(qa_feedback(1, 2, 1, 1, 1, 1))
  assert found['ranks'] == [1, 1, 1, 2]


def test_ranks_turn_no_more_labels_round_than_they_keep():
  for labels in itertools.product((0, 1, 2), repeat=6):
    (found,) = compared.comparisons(qa_feedback(*labels))
    told = _labels(found['ranks'])
    asked = [(a, b) for a, b in zip(labels, told, strict=True) if a]
    kept = sum(a == b for a, b in asked)
    assert kept >= sum(b not in (a, 0) for a, b in asked), labels


@hypothesis.given(
  strategies.lists(strategies.floats(-9, 9), min_size=2, max_size=9)
)
def test_ranks_follow_scores(scores):
  (found,) = compared.comparisons(ultrafeedback(*scores))
  assert _labels(found['ranks']) == [
    0 if a == b else 1 if a > b else 2
    for a, b in itertools.combinations(scores, 2)
  ]
  assert set(found['ranks']) == set(range(1, max(found['ranks']) + 1))
