"""Log-probabilities of responses: aligned, and the sampler's own."""

from __future__ import annotations

import jax
import numpy as np

from instructjax.models import transformer
from instructjax.sampling import decode
from instructjax.sampling import logprobs
from tests import small
from tests.reference import language as language_twin

TEMPERATURE = 0.6  # not 1, which would hide where it is forgotten


@jax.jit
def _logprobs(params, rows):
  return logprobs.response_logprobs(
    small.CONFIG, params, rows, temperature=TEMPERATURE
  )


def _rows(n=8):
  found = small.comparison_rows(n, count=2)
  return small.prompt_rows(n) | {
    name: found[name][:, 0] for name in ('responses', 'response_mask')
  }


def test_joined_puts_prompt_and_response_side_by_side():
  rows = _rows()
  tokens, mask = logprobs.joined(rows)
  assert tokens.shape == mask.shape == (8, small.P + small.R)
  np.testing.assert_array_equal(tokens[:, : small.P], rows['prompts'])
  np.testing.assert_array_equal(tokens[:, small.P :], rows['responses'])
  np.testing.assert_array_equal(mask[:, : small.P], rows['prompt_mask'])
  np.testing.assert_array_equal(mask[:, small.P :], rows['response_mask'])


def test_each_token_is_scored_by_what_stands_before_it():
  rows, params = _rows(), small.policy()
  got = _logprobs(params, rows)
  assert got.shape == (8, small.R) and got.dtype == np.float32
  logits = transformer.logits(small.CONFIG, params, *logprobs.joined(rows))
  before = np.asarray(logits, np.float64)[:, small.P - 1 : -1] / TEMPERATURE
  expected = language_twin.token_logprobs(before, rows['responses'])
  mask = rows['response_mask']
  np.testing.assert_allclose(got[mask], expected[mask], atol=1e-5)


def test_padding_changes_nothing():
  rows, params = _rows(), small.policy()
  mask = rows['response_mask']
  other = dict(
    rows,
    prompts=np.where(rows['prompt_mask'], rows['prompts'], 31),
    responses=np.where(mask, rows['responses'], 31),
  )
  np.testing.assert_array_equal(
    _logprobs(params, other)[mask], _logprobs(params, rows)[mask]
  )


def test_equal_the_samplers_to_rounding():
  """PPO takes the sampler's as the old ones; see tasks.ppo."""
  rows, params = small.prompt_rows(8), small.policy()

  @jax.jit
  def sample(params, rows):
    return decode.sample(
      small.CONFIG,
      params,
      rows['prompts'],
      rows['prompt_mask'],
      decode.row_keys(jax.random.key(0), 8),
      max_new_tokens=small.R,
      eos_id=small.EOS,
      pad_id=small.PAD,
      temperature=TEMPERATURE,
    )

  samples = sample(params, rows)
  rows |= {'responses': samples.tokens, 'response_mask': samples.mask}
  mask = np.asarray(samples.mask)
  assert mask.all(axis=1).any()
  np.testing.assert_allclose(
    _logprobs(params, rows)[mask],
    samples.logprobs[mask],
    atol=5e-6,
  )
