"""Scores from reward models and from Python, and what they refuse."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax import errors
from instructjax import rewards
from instructjax.models import heads
from instructjax.models import transformer
from tests import small

MODEL = rewards.from_model(small.CONFIG)


@functools.partial(jax.jit, static_argnums=0)
def _all_scores(config, params, rows):
  names = ('prompts', 'prompt_mask', 'responses', 'response_mask')
  return rewards.reward_model_scores(config, params, *(rows[n] for n in names))


def _one(rows, k):
  """The k-th response to every prompt."""
  return (
    rows['prompts'],
    rows['prompt_mask'],
    rows['responses'][:, k],
    rows['response_mask'][:, k],
  )


def test_responses_that_share_a_prompt_score_as_if_alone():
  rows, params = small.comparison_rows(8), small.reward_model()
  scores = _all_scores(small.CONFIG, params, rows)
  assert scores.shape == (8, small.K) and scores.dtype == jnp.float32
  for k in range(small.K):
    alone = MODEL(params, *_one(rows, k))
    there = rows['mask'][:, k]
    np.testing.assert_allclose(scores[there, k], alone[there], atol=2e-6)
  assert np.isfinite(scores).all()


def test_score_is_read_at_the_last_kept_token():
  rows, params = small.comparison_rows(8), small.reward_model()
  scores = MODEL(params, *_one(rows, 0))
  tokens = np.zeros((8, small.P + small.R), np.int32)
  for b in range(8):
    prompt = rows['prompts'][b][rows['prompt_mask'][b]]
    response = rows['responses'][b, 0][rows['response_mask'][b, 0]]
    text = np.concatenate([prompt, response])  # from column 0 on
    tokens[b, : len(text)] = text
  mask = tokens > 0
  hidden = transformer.hidden(small.CONFIG, params['transformer'], tokens, mask)
  last = hidden[np.arange(8), mask.sum(axis=1) - 1]
  expected = heads.scalar_head(params['head'], last)
  np.testing.assert_allclose(scores, expected, atol=2e-6)


def test_padding_changes_no_score():
  rows, params = small.comparison_rows(8), small.reward_model()
  other = dict(
    rows,
    prompts=np.where(rows['prompt_mask'], rows['prompts'], 30),
    responses=np.where(rows['response_mask'], rows['responses'], 30),
  )
  for k in range(2):
    np.testing.assert_array_equal(
      MODEL(params, *_one(other, k)), MODEL(params, *_one(rows, k))
    )


# Python functions.

ROWS = (
  np.array([[0, 5, 6], [7, 8, 9]]),
  np.array([[False, True, True], [True, True, True]]),
  np.array([[10, 11, 2], [12, 2, 0]]),
  np.array([[True, True, True], [True, True, False]]),
)


def _decode(ids):
  assert all(type(i) is int for i in ids)
  return ''.join(chr(ord('a') + i) for i in ids)


def _ask(function):
  return rewards.from_python(function, _decode)(None, *ROWS)


def test_function_sees_the_kept_text():
  seen = []

  def function(responses):
    seen.append(responses)
    return [len(text) for text in responses]

  scores = _ask(function)
  assert seen == [['klc', 'mc']]
  np.testing.assert_array_equal(scores, [3, 2])
  assert scores.dtype == jnp.float32  # whole numbers would truncate others


def test_function_may_ask_for_the_prompts():
  def function(responses, prompts):
    assert prompts == ['fg', 'hij']
    return [len(p) - len(r) for p, r in zip(prompts, responses, strict=True)]

  np.testing.assert_array_equal(_ask(function), [-1, 1])


@pytest.mark.parametrize(
  'returned',
  [[0.25, -1.5], [True, False], np.array([1, 2], np.uint8), jnp.ones(2)],
  ids=['floats', 'bools', 'bytes', 'jax'],
)
def test_numbers_of_any_kind_become_float32(returned):
  scores = _ask(lambda responses: returned)
  assert isinstance(scores, jax.Array) and scores.dtype == jnp.float32
  np.testing.assert_array_equal(scores, np.asarray(returned, np.float32))


@pytest.mark.parametrize(
  ('returned', 'told'),
  [
    ([1.0], r"'judge' must return 2 numbers, .* of shape \(1,\)"),
    ([[1.0], [2.0]], r'of shape \(2, 1\)'),
    (1.0, r'of shape \(\)'),
    (None, 'returned object'),
    (['a', 'b'], 'must return 2 numbers'),
    ([1.0, None], 'returned object'),
    ([[1.0], [1.0, 2.0]], 'must return 2 numbers'),
    ([1j, 1.0], 'returned complex128'),
    ([1.0, float('nan')], "not finite in float32, for the response 'mc'"),
    ([float('-inf'), 1.0], "for the response 'klc'"),
    ([1.0, 1e300], "for the response 'mc'"),
  ],
)
def test_anything_else_is_refused(returned, told):
  def judge(responses):
    return returned

  with pytest.raises(errors.UserError, match=told) as raised:
    _ask(judge)
  assert '\n' not in str(raised.value)


def test_callable_objects_are_functions_too():
  class Judge:
    def __call__(self, responses):
      return [0.5] * (len(responses) - 1)

  with pytest.raises(errors.UserError, match='Judge'):
    _ask(Judge())
  np.testing.assert_array_equal(
    _ask(functools.partial(lambda x, responses: [x] * len(responses), 0.5)),
    [0.5, 0.5],
  )


def test_functions_load_from_files_and_modules(tmp_path):
  path = tmp_path / 'judge.py'
  path.write_text(
    'from __future__ import annotations\n'
    'import dataclasses\n'
    '@dataclasses.dataclass\n'
    'class Rule:\n'
    '  worth: float = 2.0\n'
    'def judge(responses):\n'
    '  return [Rule().worth for _ in responses]\n'
    'number = 3\n'
  )
  function = rewards.load_function(f'{path}:judge')
  np.testing.assert_array_equal(_ask(function), [2.0, 2.0])
  assert rewards.load_function('math:sqrt')(4) == 2

  def refused(spec, told):
    with pytest.raises(errors.UserError, match=told) as raised:
      rewards.load_function(spec)
    assert '\n' not in str(raised.value)

  refused('judge', "must read 'MODULE:NAME' or 'FILE.py:NAME'")
  refused(':judge', 'must read')
  refused(f'{path}:', 'must read')
  refused(f'{path}:jury', "has no function 'jury'")
  refused(f'{path}:number', "has no function 'number'")
  refused(f'{tmp_path}/absent.py:judge', 'absent.py cannot be imported')
  refused('no.such.module:judge', 'no.such.module cannot be imported')
