"""The decoder against its NumPy twin, and the paths against one another."""

import dataclasses
import functools

import chex
from flax import errors as flax_errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax.models import cache as cache_lib
from instructjax.models import config as config_lib
from instructjax.models import layers
from instructjax.models import transformer
from instructjax.sampling import decode
from tests.reference import transformer as reference

DENSE = config_lib.ModelConfig(
  vocab_size=31,
  num_layers=2,
  d_model=16,
  num_heads=2,
  head_dim=6,  # 2 * 6 != 16: the 13B preset has such a shape
  d_ff=40,
  max_length=12,
)
BANDED = dataclasses.replace(DENSE, attention='alternating', band=3)
# Deep enough for the scan over layers; the others run one after the other.
DEEP = dataclasses.replace(BANDED, num_layers=7)
ROTARY = dataclasses.replace(
  DENSE, positions='rotary', rope_theta=50.0, qk_norm=True
)
KINDS = pytest.mark.parametrize(
  'config', [DENSE, DEEP, ROTARY], ids=['dense', 'deep', 'rotary']
)
B, P, R = 3, 6, 4
T = P + R


@functools.cache
def make_params(config):
  """Random everywhere, or zero biases and unit scales would hide mistakes."""
  init = jax.jit(transformer.init, static_argnums=0)
  params = init(config, jax.random.key(0))
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  leaves = [
    leaf + 0.2 * jax.random.normal(key, leaf.shape)
    for leaf, key in zip(leaves, keys, strict=True)
  ]
  return jax.tree.unflatten(tree, leaves)


def make_batch():
  """Rows of 10 tokens: full, left-padded, padded on both sides with a hole."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, DENSE.vocab_size, (B, T)).astype(np.int32)
  mask = np.ones((B, T), bool)
  mask[1, :4] = False
  mask[2, :2] = mask[2, 6] = mask[2, 9:] = False
  return tokens, mask


@functools.partial(jax.jit, static_argnums=0)
def run(config, params, tokens, mask, keys=None):
  return transformer.hidden(config, params, tokens, mask, dropout_keys=keys)


@functools.partial(jax.jit, static_argnums=(0, 4))
def prefill(config, params, tokens, mask, length):
  return transformer.prefill(config, params, tokens, mask, length=length)


extend = jax.jit(transformer.extend, static_argnums=0)
make_logits = jax.jit(transformer.logits, static_argnums=0)


@KINDS
def test_forward_equals_numpy_twin(config):
  params = make_params(config)
  tokens, mask = make_batch()
  got = run(config, params, tokens, mask)
  expected = reference.hidden(config, params, tokens, mask)
  assert np.isfinite(got).all()
  np.testing.assert_allclose(got[mask], expected[mask], atol=1e-5)
  got = make_logits(config, params, tokens)
  assert got.dtype == jnp.float32
  expected = reference.logits(config, params, tokens)
  np.testing.assert_allclose(got, expected, atol=1e-5)


@KINDS
def test_long_sequences_equal_numpy_twin(config):
  """Long enough for several blocks of queries, the last one cut short."""
  config = dataclasses.replace(config, max_length=80, band=70)
  params = make_params(config)
  tokens = np.random.default_rng(1).integers(0, 31, (2, 150))
  mask = np.ones((2, 150), bool)
  mask[1, :75] = False
  got = run(config, params, tokens, mask)
  expected = reference.hidden(config, params, tokens, mask)
  np.testing.assert_allclose(got[mask], expected[mask], atol=1e-5)


def test_rotary_scores_depend_on_distance_only():
  rng = np.random.default_rng(0)
  q, k = rng.normal(size=(2, 1, 1, 5, 6)).astype(np.float32)
  near, far = np.arange(5)[None], 37 + np.arange(5)[None]
  rates = jnp.asarray([1.0, 0.2, 0.05])
  scores = [
    jnp.einsum(
      'bhtd,bhsd->bhts',
      layers.rotate(q, positions, rates),
      layers.rotate(k, positions, rates),
    )
    for positions in (near, far)
  ]
  np.testing.assert_allclose(*scores, atol=1e-4)
  half = layers.rotate(q.astype(jnp.bfloat16), near, rates)
  assert half.dtype == jnp.bfloat16


@KINDS
def test_what_padding_holds_changes_nothing(config):
  params = make_params(config)
  tokens, mask = make_batch()
  mask[0] = False  # a row of padding only
  clean = run(config, params, np.where(mask, tokens, 0), mask)
  for filler in (7, -1, 10**6):
    dirty = run(config, params, np.where(mask, tokens, filler), mask)
    chex.assert_trees_all_equal(clean, dirty)
  assert np.isfinite(clean).all()


@KINDS
def test_left_padding_changes_nothing(config):
  params = make_params(config)
  tokens, _ = make_batch()
  alone = run(config, params, tokens[:, 5:], np.ones((B, 5), bool))
  padded = run(config, params, tokens, np.arange(T)[None].repeat(B, 0) >= 5)
  np.testing.assert_allclose(padded[:, 5:], alone, atol=1e-5)


@KINDS
def test_packed_sequences_do_not_see_each_other(config):
  """A prompt with two responses, a sequence of its own, and padding."""
  params = make_params(config)
  tokens = np.random.default_rng(0).integers(0, 31, (1, 12))
  packing = transformer.Packing(
    segments=np.array([[0, 0, 0, 1, 1, 2, 2, 2, 3, 3, -1, -1]]),
    prefixes=np.array([[0, 0, 0, 0, 0, 0, 0, 0, 3, 3, -1, -1]]),
    positions=np.array([[0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 0, 0]]),
  )
  mask = packing.segments >= 0
  got = jax.jit(transformer.hidden, static_argnums=0)(
    config, params, tokens, mask, packing=packing
  )
  for columns in ([0, 1, 2, 3, 4], [0, 1, 2, 5, 6, 7], [8, 9]):
    expected = reference.hidden(config, params, tokens[:, columns])
    np.testing.assert_allclose(got[:, columns], expected, atol=1e-5)
  assert np.isfinite(got).all()


def test_padding_has_no_gradient():
  params = make_params(BANDED)
  tokens, mask = make_batch()
  mask[0] = False
  tokens = np.where(mask, tokens % 20, 25)  # ids above 19 are padding only

  def loss(params):
    hidden = transformer.hidden(BANDED, params, tokens, mask)
    return jnp.sum(jnp.where(mask[..., None], hidden, 0.0) ** 2)

  grads = jax.jit(jax.grad(loss))(params)
  chex.assert_tree_all_finite(grads)
  table = grads['embedding']['tokens']
  assert not table[20:].any() and table[:20].any()


@KINDS
@pytest.mark.parametrize('step', [1, R], ids=['one', 'all'])
def test_cached_equals_full_forward(config, step):
  params = make_params(config)
  tokens, mask = make_batch()
  full = run(config, params, tokens, mask)
  prompt, cache = prefill(config, params, tokens[:, :P], mask[:, :P], T)
  parts = [prompt]
  for start in range(P, T, step):
    columns = slice(start, start + step)
    part, cache = extend(
      config, params, cache, tokens[:, columns], mask[:, columns]
    )
    parts.append(part)
  got = jnp.concatenate(parts, axis=1)
  np.testing.assert_allclose(got[mask], full[mask], atol=1e-5)
  np.testing.assert_array_equal(cache.mask, mask)
  np.testing.assert_array_equal(cache.positions, mask.sum(1))
  assert cache.index == T


@KINDS
def test_the_cache_of_other_rows(config):
  """Rows in another order, some twice, extend as where they came from."""
  params = make_params(config)
  tokens, mask = map(jnp.asarray, make_batch())
  rows = np.array([2, 0, 2])

  def extended(rows):
    _, cache = transformer.prefill(
      config, params, tokens[:, :P], mask[:, :P], length=T
    )
    cache = cache_lib.take(cache, rows)
    return transformer.extend(
      config, params, cache, tokens[rows, P:], mask[rows, P:]
    )[0]

  found, expected = jax.jit(extended)(rows), jax.jit(extended)(np.arange(B))
  np.testing.assert_allclose(found, expected[rows], atol=1e-5)


@functools.partial(jax.jit, static_argnums=0)
def grads_of(config, params, tokens, mask, keys):
  def loss(params):
    hidden = transformer.hidden(config, params, tokens, mask, dropout_keys=keys)
    return jnp.mean(jnp.sin(3 * hidden))

  return jax.value_and_grad(loss)(params)


# Dropout only in the deep one: its masks are slow to compile without the scan.
@pytest.mark.parametrize(
  'config',
  [BANDED, dataclasses.replace(DEEP, dropout=0.2)],
  ids=['few', 'deep'],
)
def test_remat_policies_change_no_number(config):
  tokens, mask = make_batch()
  keys = decode.row_keys(jax.random.key(0), B)
  params = make_params(dataclasses.replace(config, dropout=0.0))
  results = {}
  for remat in config_lib.REMATS:
    changed = dataclasses.replace(config, remat=remat)
    results[remat] = grads_of(changed, params, tokens, mask, keys)
  chex.assert_trees_all_close(results['none'], results['full'], atol=1e-6)
  chex.assert_trees_all_close(results['none'], results['dots'], atol=1e-6)


DROPPING = dataclasses.replace(DENSE, dropout=0.3)


def test_dropout_of_a_row_is_its_own():
  params = make_params(DENSE)
  tokens, mask = make_batch()
  keys = decode.row_keys(jax.random.key(0), B)
  together = run(DROPPING, params, tokens, mask, keys)
  swapped = run(DROPPING, params, tokens[::-1], mask[::-1], keys[::-1])
  np.testing.assert_allclose(together[::-1], swapped, atol=1e-5)
  alone = run(DROPPING, params, tokens[1:2], mask[1:2], keys[1:2])
  np.testing.assert_allclose(together[1:2], alone, atol=1e-5)
  twins = run(DROPPING, params, tokens[[0, 0, 0]], mask[[0, 0, 0]], keys)
  assert np.abs(twins[0] - twins[1]).max() > 0.1


def test_dropout_needs_keys_and_a_rate():
  params = make_params(DENSE)
  tokens, mask = make_batch()
  keys = decode.row_keys(jax.random.key(0), B)
  plain = run(DENSE, params, tokens, mask)
  chex.assert_trees_all_equal(plain, run(DENSE, params, tokens, mask, keys))
  chex.assert_trees_all_equal(plain, run(DROPPING, params, tokens, mask))
  dropped = run(DROPPING, params, tokens, mask, keys)
  assert np.abs(plain - dropped).max() > 0.1


def test_dropout_keeps_the_mean_and_the_rate():
  x = jnp.ones((4, 50, 64))
  keys = decode.row_keys(jax.random.key(0), 4)
  y = np.asarray(transformer._dropout(0.2, keys, 3, x))
  assert set(np.unique(y)) == {0.0, np.float32(1.25)}
  np.testing.assert_allclose(np.mean(y == 0), 0.2, atol=0.02)
  other = np.asarray(transformer._dropout(0.2, keys, 4, x))
  both = np.mean((y == 0) & (other == 0))
  np.testing.assert_allclose(both, 0.04, atol=0.01)


def test_initial_spread():
  config = dataclasses.replace(
    DENSE, d_model=256, d_ff=512, vocab_size=512, max_length=128, num_layers=2
  )
  params = jax.jit(transformer.init, static_argnums=0)(
    config, jax.random.key(0)
  )
  stacked = params['layers']
  spreads = {
    0.02: [
      params['embedding']['tokens'],
      stacked['qkv']['kernel'],
      stacked['mlp_input']['kernel'],
    ],
    0.01: [
      params['embedding']['positions'],
      stacked['mlp_output']['kernel'],  # 0.02 / sqrt(2 * 2)
      stacked['attention_output']['kernel'],
    ],
  }
  for std, leaves in spreads.items():
    for leaf in leaves:
      np.testing.assert_allclose(np.std(leaf), std, rtol=0.05)
  biases = [stacked[name]['bias'] for name in stacked]
  chex.assert_trees_all_equal(biases, jax.tree.map(jnp.zeros_like, biases))
  assert (stacked['mlp_norm']['scale'] == 1).all()
  assert (stacked['attention_norm']['scale'] == 1).all()
  kernels = stacked['mlp_input']['kernel']
  assert np.abs(kernels[0] - kernels[1]).max() > 0.01  # layers differ


@pytest.mark.parametrize(
  'path', [('final_norm', 'bias'), ('layers', 'mlp_input', 'kernel')]
)
def test_a_parameter_of_another_shape_is_refused(path):
  params = jax.eval_shape(lambda: transformer.init(DENSE, jax.random.key(0)))
  *above, last = path
  holder = functools.reduce(dict.__getitem__, above, params)
  shape = (*holder[last].shape[:-1], 5)
  holder[last] = jax.ShapeDtypeStruct(shape, holder[last].dtype)
  tokens = jax.ShapeDtypeStruct((B, T), jnp.int32)
  with pytest.raises(flax_errors.ScopeParamShapeError, match=last):
    jax.eval_shape(lambda p, t: transformer.logits(DENSE, p, t), params, tokens)


def test_bfloat16_compute_keeps_float32_masters():
  config = dataclasses.replace(DENSE, dtype='bfloat16')
  shapes = jax.eval_shape(
    functools.partial(transformer.init, config), jax.random.key(0)
  )
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {
    np.dtype('float32')
  }
  tokens, mask = make_batch()
  low = run(config, make_params(DENSE), tokens, mask)
  assert low.dtype == jnp.bfloat16
  high = run(DENSE, make_params(DENSE), tokens, mask)
  error = (low.astype(jnp.float32) - high)[mask]
  assert np.abs(error).mean() < 0.05
  logits = make_logits(config, make_params(DENSE), tokens)
  assert logits.dtype == jnp.float32


def test_a_repeated_tokens_gradient_is_summed_in_float32():
  """In bfloat16 a sum of ones ends at 256."""
  config = dataclasses.replace(DENSE, dtype='bfloat16', max_length=1000)
  params = jax.eval_shape(
    functools.partial(transformer.init, config), jax.random.key(0)
  )
  params = jax.tree.map(lambda x: jnp.zeros(x.shape), params)
  tokens = jnp.full((1, 1000), 7).at[0, :3].set(5)
  positions = jnp.arange(1000)[None]

  @jax.jit
  @jax.grad
  def gradient(params):
    x = transformer._embed(config, params, tokens, None, positions)
    assert x.dtype == jnp.bfloat16
    return jnp.sum(x.astype(jnp.float32))

  found = gradient(params)['embedding']['tokens']
  expected = np.zeros(found.shape, np.float32)
  expected[7], expected[5] = 997, 3
  np.testing.assert_array_equal(found, expected)


def test_second_call_does_not_recompile():
  params = make_params(DENSE)
  tokens, mask = make_batch()

  @jax.jit
  @chex.assert_max_traces(n=1)
  def step(params, cache, tokens, mask):
    return transformer.extend(DENSE, params, cache, tokens, mask)

  _, cache = prefill(DENSE, params, tokens, mask, T + 2)
  for _ in range(2):
    _, cache = step(params, cache, tokens[:, :1], mask[:, :1])


def test_prefill_refuses_a_short_cache():
  tokens, mask = make_batch()
  with pytest.raises(ValueError, match='length=9 must be at least T=10'):
    transformer.prefill(DENSE, make_params(DENSE), tokens, mask, length=9)


@pytest.mark.parametrize('name', ['gpt2', '13B', '175B'])
def test_presets_run_abstractly_at_their_size(name):
  config = config_lib.preset(name, dtype='bfloat16', remat='full')
  params = jax.eval_shape(
    functools.partial(transformer.init, config), jax.random.key(0)
  )
  tokens = jax.ShapeDtypeStruct((2, config.max_length), jnp.int32)
  out = jax.eval_shape(
    functools.partial(transformer.hidden, config), params, tokens
  )
  assert out.shape == (2, config.max_length, config.d_model)
  assert out.dtype == jnp.bfloat16
