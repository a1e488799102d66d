"""Slow, obvious float64 twins of the losses, and how close we must come."""

import jax
import numpy as np

TOLERANCE = 1e-6


def assert_close(actual, expected, tolerance=TOLERANCE):
  """Asserts leaves equal to `tolerance` times their scale (1 at least)."""
  jax.tree.map(lambda a, e: _assert_close(a, e, tolerance), actual, expected)


def _assert_close(actual, expected, tolerance):
  actual, expected = np.asarray(actual, np.float64), np.asarray(expected)
  assert actual.shape == expected.shape
  scale = max(1.0, np.max(np.abs(expected), initial=0.0))
  np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)
