"""What every loss owes its callers, held by one table of all of them."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

from absl.testing import parameterized
import chex
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from instructjax.losses import language
from instructjax.losses import policy_gradient
from instructjax.losses import preference
from tests import reference
from tests.reference import language as language_twin
from tests.reference import policy_gradient as policy_gradient_twin
from tests.reference import preference as preference_twin

VOCAB, DIM = 7, 3


@dataclasses.dataclass(frozen=True)
class Case:
  """One loss, its twin, and how to make arguments for both.

  inputs(rng, mask) gives the arguments; `padded` says which of them may hold
  anything where `kept(arguments)` is false, `differentiable` which of them the
  loss has gradients for.
  """

  loss: Callable[..., Any]
  twin: Callable[..., Any]
  inputs: Callable[..., tuple]
  padded: tuple[int, ...] = ()
  kept: Callable[[tuple], np.ndarray] = lambda arguments: arguments[-1] != 0
  differentiable: tuple[int, ...] = (0,)


def _case(loss, twin, inputs, *, coefficients=None, loss_only=None, **kwargs):
  loss = functools.partial(loss, **(coefficients or {}), **(loss_only or {}))
  twin = functools.partial(twin, **(coefficients or {}))
  return Case(loss, twin, inputs, **kwargs)


def _normal(rng, *shape):
  return rng.normal(size=shape).astype(np.float32)


def _targets(rng, mask):
  return rng.integers(0, VOCAB, mask.shape).astype(np.int32)


def _ranks(rng, mask):
  return rng.integers(1, 4, mask.shape).astype(np.int32)


def _weights(rng, mask):
  weights = mask * rng.uniform(0.5, 1.5, mask.shape)
  return (weights / max(weights.sum(), 1e-3)).astype(np.float32)


def _pair_weights(rng, mask):
  beats = (mask[:, :, None] & mask[:, None, :]) & np.tri(mask.shape[1], k=-1)[
    None
  ].astype(bool)
  weights = beats * rng.uniform(0.5, 1.5, beats.shape)
  return (weights / max(weights.sum(), 1e-3)).astype(np.float32)


def _policy_inputs(rng, mask):
  old = _normal(rng, *mask.shape)
  new = old + 0.3 * _normal(rng, *mask.shape)
  return new, old, _normal(rng, *mask.shape), _weights(rng, mask)


CASES = {
  'token_logprobs': _case(
    language.token_logprobs,
    language_twin.token_logprobs,
    lambda r, m: (3 * _normal(r, *m.shape, VOCAB), _targets(r, m)),
  ),
  'chunked_token_logprobs': _case(
    language.chunked_token_logprobs,
    language_twin.chunked_token_logprobs,
    lambda r, m: (
      _normal(r, *m.shape, DIM),
      _normal(r, VOCAB, DIM),
      _targets(r, m),
    ),
    coefficients={'temperature': 0.7},
    loss_only={'chunk_size': 2},
    differentiable=(0, 1),
  ),
  'language_model_loss': _case(
    language.language_model_loss,
    language_twin.language_model_loss,
    lambda r, m: (_normal(r, *m.shape), _weights(r, m)),
    padded=(0,),
  ),
  'normalized_weights': _case(
    language.normalized_weights,
    language_twin.normalized_weights,
    lambda r, m: (m,),
    differentiable=(),
  ),
  'pair_weights': _case(
    preference.pair_weights,
    preference_twin.pair_weights,
    lambda r, m: (_ranks(r, m), m),
    padded=(0,),
    differentiable=(),
  ),
  'weighted_ranking_loss': _case(
    preference.weighted_ranking_loss,
    preference_twin.weighted_ranking_loss,
    lambda r, m: (_normal(r, *m.shape), _pair_weights(r, m)),
    padded=(0,),
    kept=lambda a: (a[1] + a[1].transpose(0, 2, 1)).sum(2) != 0,
  ),
  'ranking_loss': _case(
    preference.ranking_loss,
    preference_twin.ranking_loss,
    lambda r, m: (_normal(r, *m.shape), _ranks(r, m), m),
    padded=(0, 1),
  ),
  'kl_penalized_rewards': _case(
    policy_gradient.kl_penalized_rewards,
    policy_gradient_twin.kl_penalized_rewards,
    lambda r, m: (
      _normal(r, len(m)),
      _normal(r, *m.shape),
      _normal(r, *m.shape),
      m,
    ),
    coefficients={'kl_coef': 0.3},
    padded=(0, 1, 2),
    differentiable=(0, 1, 2),
  ),
  'gae': _case(
    policy_gradient.gae,
    policy_gradient_twin.gae,
    lambda r, m: (_normal(r, *m.shape), _normal(r, *m.shape), m),
    coefficients={'discount': 0.9, 'gae_lambda': 0.95},
    padded=(0, 1),
    differentiable=(0, 1),
  ),
  'whiten': _case(
    policy_gradient.whiten,
    policy_gradient_twin.whiten,
    lambda r, m: (3 + _normal(r, *m.shape), m),
    padded=(0,),
  ),
  'whiten_without_shift': _case(
    policy_gradient.whiten,
    policy_gradient_twin.whiten,
    lambda r, m: (3 + _normal(r, *m.shape), m),
    coefficients={'shift_mean': False},
    padded=(0,),
  ),
  'clipped_policy_loss': _case(
    policy_gradient.clipped_policy_loss,
    policy_gradient_twin.clipped_policy_loss,
    _policy_inputs,
    coefficients={'clip_eps': 0.2},
    padded=(0, 1, 2),
  ),
  'clipped_value_loss': _case(
    policy_gradient.clipped_value_loss,
    policy_gradient_twin.clipped_value_loss,
    _policy_inputs,
    coefficients={'clip_eps': 0.2},
    padded=(0, 1, 2),
  ),
  'adaptive_kl_coef': _case(
    policy_gradient.adaptive_kl_coef,
    policy_gradient_twin.adaptive_kl_coef,
    lambda r, m: (np.float32(0.02), np.float32(r.uniform(3, 9))),
    coefficients={'target': 6.0, 'horizon': 1e4, 'num_episodes': 512},
    differentiable=(0,),
  ),
}

# A full row, a row with padding, one with a hole, and an empty one.
MASK = np.array(
  [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]], bool
)
EVERY_CASE = tuple((name, name) for name in CASES)
GARBAGE = (np.nan, np.inf, -np.inf, 3e38)


def _arguments(name, mask=MASK, seed=0):
  case = CASES[name]
  return case, case.inputs(np.random.default_rng(seed), mask)


def _readout(result):
  """One number that moves with every entry of a result, metrics aside."""
  if isinstance(result, tuple) and isinstance(result[1], dict):
    result = result[0]
  total = 0.0
  for leaf in jax.tree.leaves(result):
    # Uneven weights, since whitening holds the plain sum constant.
    weights = np.cos(1.0 + np.arange(leaf.size)).reshape(leaf.shape)
    total += (leaf * weights).sum()
  return total


def _with_gradient(case):
  """A jitted function from arguments to a result and its gradients."""

  def readout(*arguments):
    result = case.loss(*arguments)
    return _readout(result), result

  if not case.differentiable:
    return jax.jit(lambda *arguments: (readout(*arguments)[1], ()))

  def run(*arguments):
    gradient = jax.value_and_grad(readout, case.differentiable, has_aux=True)
    (_, result), gradients = gradient(*arguments)
    return result, gradients

  return jax.jit(run)


def _fill_padding(case, arguments, garbage):
  """Puts garbage into every entry that the case calls padding."""
  kept = case.kept(arguments)
  filled = list(arguments)
  for i in case.padded:
    x = arguments[i]
    keep = kept if x.ndim == 2 else kept.any(axis=1)
    if not np.issubdtype(x.dtype, np.floating):
      garbage = -7 if garbage < 0 else 10**6
    filled[i] = np.where(keep, x, garbage).astype(x.dtype)
  return filled


def _finite_differences(function, arguments, index, step=1e-5):
  arguments = [
    np.array(a, np.float64 if a.dtype.kind == 'f' else a.dtype)
    for a in arguments
  ]
  gradient = np.zeros(arguments[index].shape)
  for entry in np.ndindex(*gradient.shape):
    value = arguments[index][entry]
    sides = []
    for shifted in (value + step, value - step):
      arguments[index][entry] = shifted
      sides.append(_readout(function(*arguments)))
    arguments[index][entry] = value
    gradient[entry] = (sides[0] - sides[1]) / (2 * step)
  return gradient


class ConformanceTest(chex.TestCase):
  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.named_parameters(*EVERY_CASE)
  def test_equals_its_float64_twin(self, name):
    case, arguments = _arguments(name)
    result = self.variant(case.loss)(*arguments)
    reference.assert_close(result, case.twin(*arguments))
    # A float mask says the same as a bool one.
    arguments = [
      a.astype(np.float32) if a.dtype == bool else a for a in arguments
    ]
    chex.assert_trees_all_equal(self.variant(case.loss)(*arguments), result)

  @parameterized.named_parameters(*EVERY_CASE)
  def test_gradient_equals_finite_differences_of_the_twin(self, name):
    case, arguments = _arguments(name)
    _, gradients = _with_gradient(case)(*arguments)
    assert len(gradients) == len(case.differentiable)
    for index, gradient in zip(case.differentiable, gradients, strict=True):
      expected = _finite_differences(case.twin, arguments, index)
      assert np.any(expected != 0)
      reference.assert_close(gradient, expected, tolerance=1e-5)

  @parameterized.named_parameters(
    *(c for c in EVERY_CASE if CASES[c[0]].padded)
  )
  def test_padding_changes_neither_value_nor_gradient(self, name):
    case, arguments = _arguments(name)
    kept = case.kept(arguments)
    assert not kept.all() and kept.any()
    run = _with_gradient(case)
    expected, expected_gradients = run(*arguments)
    for garbage in GARBAGE:
      result, gradients = run(*_fill_padding(case, arguments, garbage))
      chex.assert_tree_all_finite((result, gradients))
      chex.assert_trees_all_equal(result, expected)
      chex.assert_trees_all_equal(gradients, expected_gradients)
    for index, gradient in zip(case.differentiable, gradients, strict=True):
      if index in case.padded:
        keep = kept if gradient.ndim == 2 else kept.any(axis=1)
        np.testing.assert_array_equal(np.asarray(gradient)[~keep], 0)

  @parameterized.named_parameters(
    *(c for c in EVERY_CASE if CASES[c[0]].padded)
  )
  def test_nothing_kept_gives_zero_and_no_gradient(self, name):
    case, arguments = _arguments(name, np.zeros_like(MASK))
    arguments = _fill_padding(case, arguments, np.nan)
    result, gradients = _with_gradient(case)(*arguments)
    for leaf in jax.tree.leaves((result, gradients)):
      np.testing.assert_array_equal(leaf, 0)

  @parameterized.named_parameters(*EVERY_CASE)
  def test_results_are_float32_whatever_comes_in(self, name):
    case, arguments = _arguments(name)
    for dtype in (jnp.bfloat16, np.float16, np.float64):
      cast = [a.astype(dtype) if a.dtype.kind == 'f' else a for a in arguments]
      for leaf in jax.tree.leaves(jax.eval_shape(case.loss, *cast)):
        assert leaf.dtype == jnp.float32, (dtype, leaf)

  @parameterized.named_parameters(
    *(c for c in EVERY_CASE if c[0] != 'chunked_token_logprobs')
  )
  def test_integers_count_as_the_floats_they_are(self, name):
    case, arguments = _arguments(name)
    rounded = [np.round(a) if a.dtype.kind == 'f' else a for a in arguments]
    # Learned scores meet integer arrays one argument at a time.
    for i, a in enumerate(rounded):
      if a.dtype.kind == 'f':
        mixed = list(arguments)
        mixed[i] = a
        as_floats = case.loss(*mixed)
        mixed[i] = a.astype(np.int32)
        chex.assert_trees_all_equal(case.loss(*mixed), as_floats)

  @parameterized.named_parameters(*EVERY_CASE)
  def test_second_call_does_not_recompile(self, name):
    case, arguments = _arguments(name)
    chex.clear_trace_counter()
    loss = jax.jit(chex.assert_max_traces(lambda *a: case.loss(*a), n=1))
    first = loss(*arguments)
    second = loss(*_arguments(name, seed=1)[1])
    if name != 'normalized_weights':
      assert _readout(first) != _readout(second)

  @parameterized.named_parameters(
    *(
      c
      for c in EVERY_CASE
      if c[0] not in ('normalized_weights', 'adaptive_kl_coef')
    )
  )
  def test_differing_shapes_are_refused(self, name):
    case, arguments = _arguments(name)
    axis = min(1, arguments[0].ndim - 1)
    short = np.delete(arguments[0], -1, axis=axis)
    with self.assertRaises(AssertionError):
      case.loss(short, *arguments[1:])


@st.composite
def masks(draw):
  """Masks of any content, holes and empty rows included, in few shapes."""
  batch, length = draw(st.sampled_from([(1, 1), (1, 4), (3, 2), (2, 5)]))
  bits = draw(
    st.lists(st.booleans(), min_size=batch * length, max_size=batch * length)
  )
  return np.array(bits, bool).reshape(batch, length)


JITTED = {name: jax.jit(case.loss) for name, case in CASES.items()}


@given(mask=masks(), seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_every_loss_equals_its_twin_for_any_mask(mask, seed):
  for name in CASES:
    case, arguments = _arguments(name, mask, seed)
    expected = case.twin(*arguments)
    reference.assert_close(JITTED[name](*arguments), expected)
    filled = _fill_padding(case, arguments, np.nan)
    reference.assert_close(JITTED[name](*filled), expected)
