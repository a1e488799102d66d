"""Log-probabilities by hand, chunked as unchunked, and never all at once."""

from __future__ import annotations

import math

import chex
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax.losses import language
from tests import reference


class TokenLogprobsTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    logits = np.array([[[0, math.log(3)], [5, 5]]])
    logprobs = self.variant(language.token_logprobs)(logits, np.array([[1, 0]]))
    reference.assert_close(logprobs, [[math.log(3 / 4), -math.log(2)]])

  @chex.variants(with_jit=True, without_jit=True)
  def test_large_logits_cost_no_digits(self):
    logits = np.array([[[0.0, 1.5, -2.0], [0.25, 0.0, 3.0]]], np.float32)
    targets = np.array([[1, 0]])
    token_logprobs = self.variant(language.token_logprobs)
    expected = token_logprobs(logits, targets)
    for shift in (1e4, -1e4, 2.0**20):
      shifted = token_logprobs(logits + np.float32(shift), targets)
      reference.assert_close(shifted, expected)

  @chex.variants(with_jit=True, without_jit=True)
  def test_tokens_ruled_out_leave_no_trace(self):
    logits = np.array([[[0.0, -np.inf, 0.0]]], np.float32)
    targets = np.array([[2]])
    loss = self.variant(
      lambda logits: language.token_logprobs(logits, targets).sum()
    )
    reference.assert_close(loss(logits), -math.log(2))
    reference.assert_close(jax.grad(loss)(logits), [[[-0.5, 0.0, 0.5]]])

  def test_targets_must_be_integers(self):
    with pytest.raises(AssertionError):
      language.token_logprobs(np.zeros((1, 2, 3)), np.zeros((1, 2)))


def _random(batch, length, vocab=11, dim=4, dtype=np.float32):
  rng = np.random.default_rng(batch * 100 + length)
  hidden = jnp.asarray(rng.normal(size=(batch, length, dim)), dtype)
  embedding = jnp.asarray(rng.normal(size=(vocab, dim)), jnp.float32)
  targets = jnp.asarray(rng.integers(0, vocab, (batch, length)), jnp.int32)
  return hidden, embedding, targets


def _value_and_gradients(hidden, embedding, targets, **options):
  """Log-probabilities and the gradients of a weighted sum of them."""
  weights = jnp.cos(jnp.arange(targets.size)).reshape(targets.shape)

  def loss(hidden, embedding):
    logprobs = language.chunked_token_logprobs(
      hidden, embedding, targets, **options
    )
    return jnp.sum(weights * logprobs), logprobs

  return jax.grad(loss, (0, 1), has_aux=True)(hidden, embedding)


RUN = jax.jit(_value_and_gradients, static_argnames='chunk_size')


@given(length=st.integers(1, 5), chunk=st.integers(1, 5))
@settings(max_examples=12)
def test_chunked_equals_unchunked(length, chunk):
  inputs = _random(2, length)
  reference.assert_close(
    RUN(*inputs, chunk_size=chunk, temperature=0.7),
    RUN(*inputs, chunk_size=length, temperature=0.7),
  )


@pytest.mark.parametrize('jit', [False, True])
@pytest.mark.parametrize('chunk_size', [3, 7, None])
def test_chunked_equals_plain_softmax_of_all_logits(jit, chunk_size):
  hidden, embedding, targets = _random(2, 7)

  def plain(hidden, embedding):
    logits = jnp.einsum('btd,vd->btv', hidden, embedding) / 0.5
    logprobs = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(logprobs, targets[..., None], -1)[..., 0]
    weights = jnp.cos(jnp.arange(targets.size)).reshape(targets.shape)
    return jnp.sum(weights * picked), picked

  expected = jax.grad(plain, (0, 1), has_aux=True)(hidden, embedding)

  def chunked(*inputs):
    return _value_and_gradients(*inputs, chunk_size=chunk_size, temperature=0.5)

  run = jax.jit(chunked) if jit else chunked
  reference.assert_close(run(hidden, embedding, targets), expected)


@pytest.mark.parametrize('chunk_size', [3, None])
def test_bfloat16_multiplies_rounded_numbers_and_sums_in_float32(chunk_size):
  hidden, embedding, targets = _random(2, 7, dtype=jnp.bfloat16)
  gradients, logprobs = RUN(hidden, embedding, targets, chunk_size=chunk_size)
  rounded = embedding.astype(jnp.bfloat16).astype(jnp.float32)
  expected_gradients, expected = RUN(
    hidden.astype(jnp.float32), rounded, targets, chunk_size=chunk_size
  )
  # Products of two bfloat16 are exact in float32: the forward pass loses
  # nothing but what rounding the inputs cost.
  reference.assert_close(logprobs, expected)
  assert logprobs.dtype == jnp.float32
  assert gradients[0].dtype == jnp.bfloat16
  assert gradients[1].dtype == jnp.float32
  # The embedding's gradient is not rounded on the way.
  assert np.any(gradients[1] != gradients[1].astype(jnp.bfloat16))
  # Backward, the cotangent is rounded too (8 bits).
  reference.assert_close(gradients, expected_gradients, tolerance=2**-7)


def test_integers_are_refused_where_products_would_truncate():
  hidden, embedding, targets = _random(1, 2)
  for inputs in (
    (hidden.astype(jnp.int32), embedding, targets),
    (hidden, embedding.astype(jnp.int32), targets),
    (hidden, embedding, targets.astype(jnp.float32)),
  ):
    with pytest.raises(AssertionError):
      language.chunked_token_logprobs(*inputs)


def test_chunk_size_must_be_positive():
  with pytest.raises(AssertionError, match='chunk_size=0'):
    language.chunked_token_logprobs(*_random(1, 2), chunk_size=0)


def _inner_jaxprs(value):
  if isinstance(value, (tuple, list)):
    for item in value:
      yield from _inner_jaxprs(item)
  elif hasattr(value, 'eqns'):
    yield value
  elif hasattr(value, 'jaxpr'):
    yield value.jaxpr


def _shapes(jaxpr):
  """The shapes of all that a jaxpr computes, inner jaxprs included."""
  for equation in jaxpr.eqns:
    for variable in equation.outvars:
      yield variable.aval.shape
    for parameter in equation.params.values():
      for inner in _inner_jaxprs(parameter):
        yield from _shapes(inner)


def _primitives(jaxpr):
  for equation in jaxpr.eqns:
    yield equation.primitive.name
    for parameter in equation.params.values():
      for inner in _inner_jaxprs(parameter):
        yield from _primitives(inner)


def _abstract(batch, length, vocab, dim, dtype=jnp.float32):
  return (
    jax.ShapeDtypeStruct((batch, length, dim), dtype),
    jax.ShapeDtypeStruct((vocab, dim), jnp.float32),
    jax.ShapeDtypeStruct((batch, length), jnp.int32),
  )


def _jaxprs(inputs, **options):
  """Jaxprs of the forward pass and of the gradient."""

  def forward(*inputs):
    return language.chunked_token_logprobs(*inputs, **options)

  def gradient(*inputs):
    return _value_and_gradients(*inputs, **options)

  return [jax.make_jaxpr(f)(*inputs).jaxpr for f in (forward, gradient)]


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
  ('batch', 'length', 'vocab'),
  [(32, 256, 2048), (8, 1024, 50257), (2, 512, 50257), (512, 2048, 50257)],
)
def test_logits_of_all_positions_never_exist(batch, length, vocab, dtype):
  dim = 64
  for jaxpr in _jaxprs(_abstract(batch, length, vocab, dim, dtype)):
    largest = max(math.prod(shape) for shape in _shapes(jaxpr))
    # A chunk of logits (one position of every row at least) and, padded, what
    # comes in and goes out.
    allowed = max(
      min(language.MAX_CHUNK_LOGITS, language.MAX_CHUNK_TOKENS * vocab),
      batch * vocab,
      batch * (length + language.MAX_CHUNK_TOKENS) * dim,
      vocab * dim,
    )
    assert largest <= allowed <= batch * length * vocab / 2


def test_the_search_for_logits_finds_them_where_they_are():
  for jaxpr in _jaxprs(_abstract(2, 8, 64, 4), chunk_size=8):
    assert (2, 8, 64) in set(_shapes(jaxpr))
  forward, gradient = _jaxprs(_abstract(2, 8, 64, 4), chunk_size=4)
  assert (2, 4, 64) in set(_shapes(forward))
  assert (2, 4, 64) in set(_shapes(gradient))


def test_compiled_gradient_needs_less_memory_than_the_logits():
  inputs = _abstract(8, 512, 8192, 16)
  compiled = jax.jit(_value_and_gradients).lower(*inputs).compile()
  logits_bytes = 4 * 8 * 512 * 8192
  assert compiled.memory_analysis().temp_size_in_bytes < 0.75 * logits_bytes


def test_scans_only_what_does_not_fit_into_one_chunk():
  for inputs, scans in (
    (_abstract(4, 256, 2048, 8), False),
    (_abstract(4, 257, 2048, 8), True),
    (_abstract(1, 256, 2**16, 8), False),
    (_abstract(1, 257, 2**16, 8), True),
  ):
    for jaxpr in _jaxprs(inputs):
      assert ('scan' in set(_primitives(jaxpr))) == scans


class LanguageModelLossTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  def test_by_hand(self):
    logprobs = np.array([[-1.0, -2.0, np.nan], [-4.0, np.inf, -np.inf]])
    weights = np.array([[0.25, 0.25, 0.0], [0.5, 0.0, 0.0]])
    loss, metrics = self.variant(language.language_model_loss)(
      logprobs, weights
    )
    reference.assert_close(loss, 2.75)
    reference.assert_close(metrics, {'loss/language': 2.75})

  @chex.variants(with_jit=True, without_jit=True)
  def test_uniform_logits_give_log_of_the_vocabulary(self):
    logprobs = language.token_logprobs(
      np.zeros((2, 3, 50)), np.zeros((2, 3), np.int32)
    )
    weights = language.normalized_weights(np.ones((2, 3)))
    loss, _ = self.variant(language.language_model_loss)(logprobs, weights)
    reference.assert_close(loss, math.log(50))

  def test_micro_batches_add_up(self):
    rng = np.random.default_rng(0)
    logprobs = rng.normal(size=(4, 6)).astype(np.float32)
    weights = language.normalized_weights(rng.random((4, 6)) < 0.7)
    whole, _ = language.language_model_loss(logprobs, weights)
    parts = sum(
      language.language_model_loss(logprobs[i : i + 1], weights[i : i + 1])[0]
      for i in range(4)
    )
    reference.assert_close(parts, whole)


def test_normalized_weights_by_hand():
  weights = language.normalized_weights(np.array([[1, 1, 0], [1, 0, 1]], bool))
  reference.assert_close(weights, [[0.25, 0.25, 0], [0.25, 0, 0.25]])
  nothing = language.normalized_weights(np.zeros((2, 3)))
  np.testing.assert_array_equal(nothing, np.zeros((2, 3)))
