"""What top-k, top-p and the temperature leave, by hand and by property."""

import hypothesis
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np

from instructjax.sampling import logits as logits_lib

# Probabilities 0.5, 0.3, 0.15, 0.05 in mixed order.
PROBS = np.array([0.15, 0.5, 0.05, 0.3], np.float32)


def _kept(**options):
  filtered = logits_lib.filter_logits(jnp.log(PROBS), **options)
  return np.isfinite(filtered).tolist()


def test_temperature_divides():
  x = jnp.array([1.0, -2.0])
  np.testing.assert_allclose(
    logits_lib.filter_logits(x, temperature=0.5), [2.0, -4.0]
  )


def test_top_k_by_hand():
  assert _kept(top_k=1) == [False, True, False, False]
  assert _kept(top_k=2) == [False, True, False, True]
  assert _kept(top_k=4) == _kept(top_k=9) == _kept(top_k=0) == [True] * 4


def test_top_p_by_hand():
  assert _kept(top_p=0.0) == _kept(top_p=0.49) == [False, True, False, False]
  assert _kept(top_p=0.51) == [False, True, False, True]
  assert _kept(top_p=0.79) == [False, True, False, True]
  assert _kept(top_p=0.81) == [True, True, False, True]
  assert _kept(top_p=0.96) == _kept(top_p=1.0) == [True] * 4


def test_top_p_counts_what_top_k_left_at_the_new_temperature():
  # Of 0.5 and 0.3 the first has 0.625, at temperature 1/2 it has 0.735.
  assert _kept(top_k=2, top_p=0.62) == [False, True, False, False]
  assert _kept(top_k=2, top_p=0.63) == [False, True, False, True]
  options = dict(top_k=2, temperature=0.5)
  assert _kept(top_p=0.73, **options) == [False, True, False, False]
  assert _kept(top_p=0.74, **options) == [False, True, False, True]


def test_ties_with_the_last_kept_token_stay():
  filtered = logits_lib.filter_logits(jnp.array([1.0, 2.0, 1.0]), top_k=2)
  np.testing.assert_array_equal(filtered, [1.0, 2.0, 1.0])


@hypothesis.settings(max_examples=40)
@hypothesis.given(
  st.lists(st.floats(-20, 20, width=32), min_size=6, max_size=6),
  st.integers(0, 7),
  st.floats(0.0, 1.0),
)
def test_keeps_a_prefix_of_the_likeliest(values, top_k, top_p):
  values = np.array(values, np.float32)
  filtered = np.asarray(
    logits_lib.filter_logits(values, top_k=top_k, top_p=top_p)
  )
  kept = np.isfinite(filtered)
  assert kept[values.argmax()]
  np.testing.assert_array_equal(filtered[kept], values[kept])
  assert values[kept].min() >= values[~kept].max(initial=-np.inf)
  if len(np.unique(values)) < len(values):
    return
  if 0 < top_k:
    assert kept.sum() <= top_k
  probs = np.exp(values.astype(np.float64) - values.max())
  if 0 < top_k < 6:
    probs[np.argsort(values)[:-top_k]] = 0
  probs /= probs.sum()
  if top_p < 1:
    assert probs[kept].sum() >= top_p - 1e-5  # enough mass ...
    smallest = probs[kept].min()
    fewer = probs[kept].sum() - smallest
    assert kept.sum() == 1 or fewer < top_p + 1e-5  # ... and no more


def test_draws_by_the_cumulative_distribution():
  """Equally spaced numbers hit each token in proportion to its probability."""
  probs = np.array([0.05, 0.4, 0.0, 0.3, 0.25, 0.0, 0.0], np.float32)
  uniform = (np.arange(4000, dtype=np.float32) + 0.5) / 4000
  with np.errstate(divide='ignore'):
    logits = np.tile(np.log(probs), (len(uniform), 1))
  drawn = np.asarray(logits_lib.draw(jnp.asarray(logits), uniform))
  assert drawn.dtype == np.int32 and (np.diff(drawn) >= 0).all()
  counts = np.bincount(drawn, minlength=7) / len(uniform)
  np.testing.assert_allclose(counts, probs, atol=1 / 2000)


@hypothesis.given(
  size=st.sampled_from((1, 2, 9, 50, 66)),
  seed=st.integers(0, 99),
  hidden=st.floats(0, 1),
)
@hypothesis.settings(max_examples=50, deadline=None)
def test_draws_what_a_plain_search_finds(size, seed, hidden):
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 5, (4, size)).astype(np.float32)
  barred = rng.random(logits.shape) < hidden
  barred[:, rng.integers(size)] = False
  logits[barred] = -np.inf
  uniform = np.array([0.0, 1 - 2**-23, *rng.random(2)], np.float32)
  drawn = np.asarray(logits_lib.draw(jnp.asarray(logits), uniform))
  assert np.isfinite(logits[np.arange(4), drawn]).all()
  weights = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
  upto = weights.cumsum(1) / weights.sum(1, keepdims=True)
  for row, token in enumerate(drawn):
    before = upto[row, token] - weights[row, token] / weights[row].sum()
    assert before - 1e-5 <= uniform[row] <= upto[row, token] + 1e-5
