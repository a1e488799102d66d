"""The scalar head is a dot product with the paper's initial spread."""

import jax
import jax.numpy as jnp
import numpy as np

from instructjax.models import heads


def test_initial_spread_and_bias():
  params = heads.init_scalar_head(jax.random.key(0), 4095)
  assert params['kernel'].shape == (4095,)
  assert params['bias'].shape == () and params['bias'] == 0
  np.testing.assert_allclose(np.std(params['kernel']), 1 / 64, rtol=0.05)


def test_matches_a_dot_product_in_any_leading_shape():
  rng = np.random.default_rng(0)
  hidden = rng.normal(size=(2, 3, 8)).astype(np.float32)
  params = {'kernel': rng.normal(size=8).astype(np.float32), 'bias': 0.5}
  expected = hidden.astype(np.float64) @ params['kernel'] + 0.5
  np.testing.assert_allclose(
    heads.scalar_head(params, hidden), expected, atol=1e-6
  )
  np.testing.assert_allclose(
    heads.scalar_head(params, hidden[0, 0]), expected[0, 0], atol=1e-6
  )


def test_low_precision_hidden_gives_float32():
  params = heads.init_scalar_head(jax.random.key(0), 8)
  out = heads.scalar_head(params, jnp.ones((2, 8), jnp.bfloat16))
  assert out.dtype == jnp.float32
