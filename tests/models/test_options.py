"""What a ModelConfig can ask for beyond GPT-2, against the NumPy twin."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax import errors
from instructjax import optim
from instructjax import sharding
from instructjax.checkpoints import hf
from instructjax.losses import language
from instructjax.models import attention
from instructjax.models import config as config_lib
from instructjax.models import rope
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
  'qwen2': dataclasses.replace(RMS, attention_bias='qkv', num_kv_heads=1),
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


@pytest.mark.parametrize(
  'config, expected',
  [
    # Worked out by hand for heads of 8 and base 50: rates 50^(-i / 4), that is
    # 1, 0.3761, 0.1414, 0.0532, which turn 1.27, 0.48, 0.18, 0.07 times in 8.
    (_scaled('linear'), [0.25, 0.0940, 0.0354, 0.0133]),
    # Kept in full from 1 turn on, a quarter below 0.2, (0.48 - 0.2) / 0.8 of
    # the way between.
    (_scaled('llama3', low=0.2, high=1.0), [1.0, 0.1925, 0.0354, 0.0133]),
  ],
  ids=['linear', 'llama3'],
)
def test_scaled_rates_by_hand(config, expected):
  x = jnp.zeros((1, 1, 1, 8)).at[..., :4].set(1.0)
  turned = rope.rotation(config, jnp.ones((1, 1), jnp.int32))(0, x)[0, 0, 0]
  np.testing.assert_allclose(
    np.arctan2(turned[4:], turned[:4]), expected, atol=2e-4
  )


@KINDS
def test_what_padding_holds_and_neighbours_change_nothing(config):
  params = make_params(config)
  tokens, mask = make_batch()
  logits, _, _ = _all(config, params, tokens, mask)
  other = np.where(mask, tokens, 5)
  other[0] = (other[0] + 1) % 31
  changed, _, _ = _all(config, params, other, mask)
  kept = mask[1:]
  np.testing.assert_array_equal(changed[1:][kept], logits[1:][kept])


def test_keys_are_not_copied_for_each_query():
  q, k = jnp.ones((2, 16, 1, 32)), jnp.ones((2, 2, 512, 32))
  mask = jnp.ones((2, 1, 1, 512), bool)
  compiled = jax.jit(attention.attend).lower(q, k, k, mask).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 2 * k.nbytes


def test_a_reward_model_has_no_logits_of_its_own():
  config = CONFIGS['gptj']
  params = hf.abstract_params(config, 'reward')
  assert 'output' in hf.abstract_params(config, 'policy')
  assert 'output' not in params['transformer']


def test_configs_survive_json():
  for config in (*CONFIGS.values(), DEEP):
    told = config.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert config_lib.ModelConfig.from_dict(told) == config


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'num_kv_heads': 3}, ('num_kv_heads', 'num_heads=4')),
    ({'activation': 'geglu'}, ('activation', 'gelu_tanh')),
    ({'banded_layers': (2,)}, ('banded_layers', 'from 0 to 1')),
    ({'banded_layers': (1,)}, ('banded_layers', "attention='listed'")),
    ({'attention': 'listed'}, ('banded_layers', 'give both')),
    ({'num_kv_heads': -2}, ('num_kv_heads', 'at least 0', '-2')),
    ({'rotary_dim': 2.0}, ('rotary_dim', 'whole number')),
    ({'local_rope_theta': -3.0}, ('local_rope_theta', 'at least 0')),
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
    ({'high': 0.5}, ('rope_scaling.low', '0.5')),
    ({'factor': 0.5}, ('rope_scaling.factor', 'at least 1')),
    ({'original_length': 0}, ('original_length', "'yarn'")),
    ({'low': 40.0}, ('rope_scaling.low', 'below high', '32')),
  ],
)
def test_mistakes_of_scaling_are_named(fields, words):
  right = {'kind': 'yarn', 'factor': 4.0, 'original_length': 8}
  with pytest.raises(errors.UserError) as caught:
    config_lib.RopeScaling(**right | fields)
  assert all(word in str(caught.value) for word in words)


def test_fields_of_scaling_are_checked_when_read():
  told = CONFIGS['llama'].to_dict()
  told['rope_scaling']['facto'] = 1
  with pytest.raises(errors.UserError, match='facto'):
    config_lib.ModelConfig.from_dict(told)


def test_fields_that_did_not_exist_then_are_the_default():
  told = PLAIN.to_dict()
  old = {key: told[key] for key in told if key not in ('gated', 'rope_scaling')}
  assert config_lib.with_defaults(old) == told
