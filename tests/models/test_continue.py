"""Responses that continue a prompt's cache: as whole rows, at less memory."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax.models import cache as cache_lib
from instructjax.models import transformer
from tests.models import test_transformer as decoders

B, P, R = 3, 6, 4
BANDED = decoders.BANDED
DEEP = dataclasses.replace(decoders.DEEP, remat='full')
GROUPED = dataclasses.replace(decoders.ROTARY, num_heads=4, num_kv_heads=2)
KERNEL = dataclasses.replace(DEEP, num_kv_heads=1)
SPLASH = dataclasses.replace(KERNEL, attention_kernel='splash_interpreted')
CUDNN = dataclasses.replace(KERNEL, attention_kernel='cudnn_emulated')
LONG = dataclasses.replace(BANDED, max_length=P + 70)
# (config, columns of a prompt).
CONTINUED = {
  'banded': (BANDED, P),
  'long': (LONG, P),
  'deep': (DEEP, P),
  'grouped': (GROUPED, P),
  'splash': (SPLASH, 130),
  'cudnn': (CUDNN, P),
}


def _loss(hidden, mask):
  return jnp.sum(jnp.where(mask[..., None], jnp.sin(hidden), 0.0))


@pytest.mark.parametrize('name', CONTINUED)
def test_continuations_share_a_prompt(name):
  """Values and gradients of K responses equal those of whole rows, and those
  of a cache that is copied and written to; whatever the padding holds."""
  config, length = CONTINUED[name]
  params, k = decoders.make_params(config), 2
  size = 70 if name == 'long' else R  # two blocks of queries
  rng = np.random.default_rng(2)
  prompts = rng.integers(0, config.vocab_size, (B, length))
  kept = np.arange(length) >= np.array([[0], [length // 2], [length - 1]])
  responses = rng.integers(0, config.vocab_size, (B * k, size))
  lengths = np.array([size, 1, 2, size, 3, 0])
  response_mask = np.arange(size) < lengths[:, None]
  if config.attention_kernel == 'xla':  # others take no holes
    response_mask[0, 1] = False
  rows = np.repeat(np.arange(B), k)

  def of_cache(params, filler, run, size):
    _, cache = transformer.prefill(config, params, prompts, kept, length=size)
    there = cache.mask[:, None, :, None]
    keys, values = jax.tree.map(
      lambda x: jnp.where(there, x, filler), (cache.keys, cache.values)
    )
    cache = cache.replace(keys=keys, values=values)
    return run(config, params, cache, responses, response_mask)

  def written(config, params, cache, *args):
    cache = cache_lib.take(cache, rows)
    return transformer.extend(config, params, cache, *args)[0]

  def whole(params, filler):
    del filler
    tokens = np.concatenate([prompts[rows], responses], 1)
    mask = np.concatenate([kept[rows], response_mask], 1)
    return transformer.hidden(config, params, tokens, mask)[:, length:]

  def gradients(run):
    def loss(params, filler):
      hidden = run(params, filler)
      kept = jnp.where(response_mask[..., None], hidden, 0.0)
      return _loss(hidden, response_mask), kept

    return jax.jit(jax.value_and_grad(loss, has_aux=True))

  go_on = transformer.continue_from
  continued = gradients(functools.partial(of_cache, run=go_on, size=length))
  found = continued(params, 0.0)
  (_, hidden), grads = found
  extended = functools.partial(of_cache, run=written, size=length + size)
  for run in [whole, extended] if name == 'deep' else [whole]:
    (_, expected_hidden), expected = gradients(run)(params, 0.0)
    np.testing.assert_allclose(hidden, expected_hidden, atol=1e-5)
    chex.assert_trees_all_close(grads, expected, atol=2e-4, rtol=1e-4)
  assert np.abs(grads['embedding']['tokens']).max() > 0.1
  chex.assert_trees_all_equal(continued(params, jnp.nan), found)


def test_continuations_need_as_many_of_each_row():
  tokens, mask = decoders.make_batch()
  config = decoders.DENSE
  params = decoders.make_params(config)
  cache = decoders.prefill(config, params, tokens[:2], mask[:2], P + R)[1]
  with pytest.raises(ValueError, match='3 rows cannot continue 2 evenly'):
    transformer.continue_from(config, params, cache, tokens, mask)


def _temporary_bytes(num_layers, k):
  """Returns what the gradient of k responses' scores keeps meanwhile."""
  rows, length, width = 2, 128, 16
  config = dataclasses.replace(
    DEEP, attention='dense', num_layers=num_layers, max_length=2 * length
  )
  assert config.d_model == width

  def loss(params, prompts, kept, responses, mask):
    cache = transformer.prefill(config, params, prompts, kept, length=length)[1]
    hidden = transformer.continue_from(config, params, cache, responses, mask)
    return _loss(hidden, mask)

  params = jax.eval_shape(
    functools.partial(transformer.init, config), jax.random.key(0)
  )
  shapes = [
    jax.ShapeDtypeStruct((n, size), kind)
    for n, size in ((rows, length), (rows * k, R))
    for kind in (jnp.int32, jnp.bool_)
  ]
  compiled = jax.jit(jax.grad(loss)).lower(params, *shapes).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_the_backward_pass_keeps_the_cache_once():
  """Not once for each response, and not once more for each layer."""
  short = {k: _temporary_bytes(8, k) for k in (2, 8)}
  a_layer = {k: (_temporary_bytes(16, k) - short[k]) / 8 for k in (2, 8)}
  cached = 4 * 2 * 2 * 128 * 2 * 6  # keys and values of a layer, both prompts
  # Six more responses cost their own streams, far less than a cache each.
  assert a_layer[8] - a_layer[2] < cached
  # What a layer keeps does not grow with their number, or it were 24 of them.
  assert a_layer[8] < 6 * cached
