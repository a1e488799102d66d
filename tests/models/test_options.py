"""What a ModelConfig can ask for beyond GPT-2, against the NumPy twin."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax import errors
from instructjax import optim
from instructjax import sharding
from instructjax.losses import language
from instructjax.models import config as config_lib
from instructjax.models import transformer
from tests.reference import transformer as reference

PLAIN = config_lib.ModelConfig(
  vocab_size=31,
  num_layers=2,
  d_model=16,
  num_heads=4,
  head_dim=8,
  d_ff=24,
  max_length=32,
)
ROTARY = dataclasses.replace(PLAIN, positions='rotary', rope_theta=50.0)
RMS = dataclasses.replace(
  ROTARY,
  norm='rms',
  activation='silu',
  gated=True,
  attention_bias='none',
  mlp_bias=False,
  num_kv_heads=2,
  tied=False,
)


def _scaled(kind, **fields):
  scaling = config_lib.RopeScaling(kind, 4.0, 8, **fields)
  return dataclasses.replace(RMS, rope_scaling=scaling)


# Each has the options of a family of models; together they have all.
CONFIGS = {
  'opt': dataclasses.replace(PLAIN, activation='relu', position_offset=2),
  'gptj': dataclasses.replace(
    ROTARY,
    branches='parallel',
    attention_bias='none',
    rotary_dim=4,
    tied=False,
    output_bias=True,
  ),
  'gpt_neox': dataclasses.replace(
    ROTARY,
    branches='parallel_two_norms',
    activation='gelu',
    rotary_dim=2,
    tied=False,
    norm_epsilon=1e-3,
  ),
  'llama': _scaled('llama3', low=0.2, high=1.0),
  'mistral': dataclasses.replace(
    RMS, attention='listed', band=3, banded_layers=(0, 1)
  ),
  'qwen2': dataclasses.replace(
    _scaled('dynamic'), attention_bias='qkv', num_kv_heads=1
  ),
  'qwen3': dataclasses.replace(
    _scaled('yarn', low=0.1, high=1.5), qk_norm=True, qk_norm_epsilon=1e-3
  ),
  'yarn_in_fractions': _scaled(
    'yarn', low=0.1, high=1.5, attention_factor=1.3, truncate=False
  ),
  'gemma': dataclasses.replace(
    _scaled('linear'),
    tied=True,
    activation='gelu_tanh',
    norm_offset=True,
    post_norms=True,
    qk_norm=True,
    attention='listed',
    band=3,
    banded_layers=(0,),
    local_rope_theta=5.0,
    attention_scale=0.2,
    attention_softcap=1.5,
    final_softcap=2.0,
    embedding_scale=4.0,
  ),
}
# Deep enough for the scan over layers.
DEEP = dataclasses.replace(
  CONFIGS['gemma'], num_layers=7, banded_layers=(0, 1, 3, 4, 6)
)
KINDS = pytest.mark.parametrize(
  'config', [*CONFIGS.values(), DEEP], ids=[*CONFIGS, 'deep']
)


@functools.cache
def make_params(config):
  """Random everywhere, or zero biases and unit scales would hide mistakes."""
  shapes = jax.eval_shape(
    functools.partial(transformer.init, config), jax.random.key(0)
  )
  leaves, tree = jax.tree.flatten(shapes)
  rng = np.random.default_rng(0)
  leaves = [
    jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32)
    for leaf in leaves
  ]
  return jax.tree.unflatten(tree, leaves)


def make_batch():
  """Rows of 12 tokens: full, left-padded, padded on both sides with a hole."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, 31, (3, 12)).astype(np.int32)
  mask = np.ones((3, 12), bool)
  mask[1, :4] = False
  mask[2, :2] = mask[2, 6] = mask[2, 11] = False
  return tokens, mask


@functools.partial(jax.jit, static_argnums=0)
def _all(config, params, tokens, mask):
  """Logits at once, and by prefill and one extension; log-probabilities."""
  hidden = transformer.hidden(config, params, tokens, mask)
  output = transformer.unembedding(config, params)
  found = language.chunked_token_logprobs(
    hidden, targets=tokens, chunk_size=5, **output
  )
  first, cache = transformer.prefill(
    config, params, tokens[:, :7], mask[:, :7], length=12
  )
  last, _ = transformer.extend(
    config, params, cache, tokens[:, 7:], mask[:, 7:]
  )
  cached = jnp.concatenate([first, last], axis=1)
  project = functools.partial(transformer.project, config, params)
  return project(hidden), project(cached), found


@KINDS
def test_logits_equal_numpy_twin(config):
  params = make_params(config)
  tokens, mask = make_batch()
  logits, cached, logprobs = _all(config, params, tokens, mask)
  expected = reference.logits(config, params, tokens, mask)
  np.testing.assert_allclose(logits[mask], expected[mask], atol=3e-5)
  if config.rope_scaling and config.rope_scaling.kind == 'dynamic':
    # What the cache holds has turned at the rates of the length there was then.
    expected = reference.logits(config, params, tokens[:, :7], mask[:, :7])
    cached, kept = cached[:, :7], mask[:, :7]
    np.testing.assert_allclose(cached[kept], expected[kept], atol=3e-5)
  else:
    np.testing.assert_allclose(cached[mask], logits[mask], atol=3e-5)
  chosen = jax.nn.log_softmax(logits)
  chosen = jnp.take_along_axis(chosen, tokens[..., None], -1)[..., 0]
  np.testing.assert_allclose(logprobs[mask], chosen[mask], atol=1e-5)


@KINDS
def test_every_parameter_has_a_gradient(config):
  params = make_params(config)
  tokens, mask = make_batch()

  @jax.jit
  def loss(params):
    hidden = transformer.hidden(config, params, tokens, mask)
    output = transformer.unembedding(config, params)
    found = language.chunked_token_logprobs(hidden, targets=tokens, **output)
    return jnp.sum(jnp.where(mask, found, 0.0))

  gradients = jax.grad(loss)(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    assert np.isfinite(leaf).all() and np.any(leaf != 0), path


@KINDS
def test_initialised_sharded_and_trained_by_muon(config):
  init = jax.jit(transformer.init, static_argnums=0)
  params = init(config, jax.random.key(0))
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(
    jnp.shape, make_params(config)
  )
  mesh = sharding.make_mesh()
  assert jax.tree.structure(params) == jax.tree.structure(
    sharding.shardings(params, mesh)
  )
  optimizer = optim.muon(optim.schedule('constant', 1e-3, total_steps=1))
  gradients = make_params(config)
  update = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p)[0])
  updates = update(gradients, params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
    assert np.isfinite(leaf).all() and np.any(leaf != 0), path


def test_configs_survive_json():
  for config in (*CONFIGS.values(), DEEP):
    told = config.to_dict()
    told['banded_layers'] = list(told['banded_layers'])
    assert config_lib.ModelConfig.from_dict(told) == config


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'num_kv_heads': 3}, ('num_kv_heads', 'num_heads=4')),
    ({'activation': 'geglu'}, ('activation', 'gelu_tanh')),
    ({'banded_layers': (2,)}, ('banded_layers', 'from 0 to 1')),
    ({'gated': 1}, ('gated', 'true or false')),
    ({'positions': 'rotary', 'rotary_dim': 5}, ('rotary_dim', 'use 6')),
    ({'positions': 'rotary', 'rotary_dim': 12}, ('rotary_dim', 'use 8')),
  ],
)
def test_mistakes_are_named(fields, words):
  with pytest.raises(errors.UserError) as caught:
    dataclasses.replace(PLAIN, **fields)
  assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'kind': 'longrope'}, ('rope_scaling.kind', 'llama3')),
    ({'factor': 0.5}, ('rope_scaling.factor', 'at least 1')),
    ({'original_length': 0}, ('original_length', "'yarn'")),
    ({'low': 4.0}, ('rope_scaling.low', 'below high')),
  ],
)
def test_mistakes_of_scaling_are_named(fields, words):
  right = {'kind': 'yarn', 'factor': 4.0, 'original_length': 8}
  with pytest.raises(errors.UserError) as caught:
    config_lib.RopeScaling(**right | fields)
  assert all(word in str(caught.value) for word in words)
