"""The counts, held to the programs' own products and to masks."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax import rewards
from instructjax.losses import language
from instructjax.models import config as config_lib
from instructjax.models import flops
from instructjax.models import heads
from instructjax.models import masks
from instructjax.models import transformer
from instructjax.sampling import decode
from instructjax.tasks import sft
from tests import dots
from tests.models import test_options

B, T = 2, 20
CONFIGS = test_options.CONFIGS
SCANNED = dataclasses.replace(test_options.PLAIN, num_layers=7)


def _params(config):
  init = functools.partial(transformer.init, config)
  return jax.eval_shape(init, jax.random.key(0))


def _rows(length=T):
  shape = (B, length)
  return jax.ShapeDtypeStruct(shape, 'int32'), jax.ShapeDtypeStruct(shape, bool)


def _loss(config, params, tokens, mask):
  return sft.token_logprobs(config, params, tokens, mask).sum()


@pytest.mark.parametrize('name', CONFIGS)
def test_a_forward_pass_has_these_products(name):
  config = CONFIGS[name]
  found = dots.flops(
    functools.partial(_loss, config), _params(config), *_rows()
  )
  shape = {'batch': B, 'length': T, 'logits': T - 1}
  assert found == flops.forward(config, **shape, blocks=1)


@pytest.mark.parametrize(
  'config, remat',
  [
    *zip(CONFIGS.values(), itertools.cycle(config_lib.REMATS), strict=False),
    *((SCANNED, remat) for remat in config_lib.REMATS),
  ],
)
def test_a_train_step_has_these_products(config, remat):
  config = dataclasses.replace(config, remat=remat)
  step = jax.grad(functools.partial(_loss, config))
  found = dots.flops(step, _params(config), *_rows())
  shape = {'batch': B, 'length': T, 'logits': T - 1, 'blocks': 1}
  assert found == flops.train_program(config, **shape, logits_passes=3)
  assert found > flops.TRAINING * flops.forward(config, **shape)


def test_what_long_rows_compute_anew_and_leave_out(monkeypatch):
  """Attention skips hidden keys, the logits of chunks are computed twice."""
  monkeypatch.setattr(language, 'MAX_CHUNK_TOKENS', 32)
  config, length = test_options.PLAIN, 128  # two blocks of the least size
  step = jax.grad(functools.partial(_loss, config))
  found = dots.flops(step, _params(config), *_rows(length))
  # The last chunk of the 127 targets is padded.
  shape = {'batch': B, 'length': length, 'logits': 128}
  assert found == flops.train_program(config, **shape, blocks=2)


def test_sampling_is_a_prompt_and_steps_over_all_of_the_cache():
  config, P, R = CONFIGS['gemma'], 6, 5
  tokens, mask = _rows(P)
  keys = jax.eval_shape(lambda: decode.row_keys(jax.random.key(0), B))
  options = {'max_new_tokens': R, 'eos_id': 1, 'pad_id': 0}
  sample = functools.partial(decode.sample, config, **options)
  found = dots.flops(sample, _params(config), tokens, mask, keys, trips=R - 1)
  computed = {'batch': B, 'blocks': 1}
  steps = {'length': R - 1, 'past': P, 'logits': R - 1}
  assert found == flops.forward(
    config, length=P, logits=1, **computed
  ) + flops.forward(config, **steps, columns=P + R - 1, **computed)
  # What has been seen by then makes no difference to the model.
  assert flops.forward(config, batch=B, **steps) == sum(
    flops.forward(config, batch=B, length=1, past=P + t, logits=1)
    for t in range(R - 1)
  )


def test_a_reward_model_reads_a_prompt_once_for_its_responses():
  config, K, P, R = CONFIGS['qwen2'], 3, 6, 5
  params = {
    'transformer': _params(config),
    'head': jax.eval_shape(
      lambda: heads.init_scalar_head(jax.random.key(0), config.d_model)
    ),
  }
  responses, mask = (
    jax.ShapeDtypeStruct((B, K, R), kind) for kind in ('int32', bool)
  )
  score = functools.partial(rewards.reward_model_scores, config)
  found = dots.flops(score, params, *_rows(P), responses, mask)
  computed = {'blocks': 1, 'columns': P + R}
  assert found == flops.forward(
    config, batch=B, length=P, blocks=1
  ) + flops.forward(config, batch=B * K, length=R, scalars=1, **computed)


@pytest.mark.parametrize('remat', ['none', 'full'])
def test_its_gradient_has_these_products(remat):
  # Scanned: a prompt's last layer runs as all do, though but its keys and
  # values are read.
  config, K, P, R = dataclasses.replace(SCANNED, remat=remat), 3, 6, 5
  head = jax.ShapeDtypeStruct((config.d_model, 1), jnp.float32)
  responses, kept = (
    jax.ShapeDtypeStruct((B * K, R), kind) for kind in ('int32', bool)
  )

  def loss(params, head, prompts, mask, responses, kept):
    _, cache = transformer.prefill(config, params, prompts, mask, length=P)
    args = params, cache, responses, kept
    return jnp.sum(transformer.continue_from(config, *args)[:, -1] @ head)

  step = jax.grad(loss, argnums=(0, 1))
  args = _params(config), head, *_rows(P), responses, kept
  found = dots.flops(step, *args)
  prompt = flops.train_program(config, batch=B, length=P, blocks=1)
  after = {'batch': B * K, 'length': R, 'past': P, 'scalars': 1, 'blocks': 1}
  expected = prompt + flops.train_program(config, **after)
  assert found == expected
  longer = flops.train_program(config, **after | {'past': P + 1})
  scores = flops.per_pair(config) // 2 * config.num_layers * B * K * R
  passes = 7 if remat == 'none' else 9
  assert longer - flops.train_program(config, **after) == passes * scores


def test_visible_pairs_are_a_sum():
  for length, past, band in itertools.product((0, 1, 7), repeat=3):
    seen = [past + t for t in range(1, length + 1)]
    if band:
      seen = [min(n, band) for n in seen]
    assert flops.visible_pairs(length, past, band) == sum(seen)


@pytest.mark.parametrize('name', ['opt', 'mistral', 'gemma'])
def test_kept_tokens_are_counted_as_the_masks_show_them(name):
  """Padded on both sides, and packed: what a query sees is what it costs."""
  config = CONFIGS[name]
  rng = np.random.default_rng(0)
  left = np.arange(T) >= rng.integers(0, T, (4, 1))
  right = np.arange(T) < rng.integers(0, T, (4, 1))
  segments = np.sort(rng.integers(0, 3, (4, T)), axis=1)
  starts = np.stack([np.searchsorted(row, row) for row in segments])
  packed = np.arange(T) - starts  # each segment is a sequence
  causal = masks.causal(T)
  for mask, positions, earlier in (
    (left, None, causal),
    (right, None, causal),
    (right, packed, causal & masks.together(segments, segments)),
  ):
    places = flops.positions_of(mask) if positions is None else positions
    visible = masks.visibility(config, places, places, earlier, mask)
    pairs = sum(
      np.sum(np.broadcast_to(visible(layer)[:, 0], (4, T, T))[mask])
      for layer in range(config.num_layers)
    )
    found = flops.kept(config, mask, positions, logits=3, scalars=5)
    assert found == (
      mask.sum() * flops.per_token(config)
      + pairs * flops.per_pair(config)
      + 3 * flops.per_logits(config)
      + 5 * flops.per_scalar(config)
    )


@pytest.mark.parametrize('name', ['opt', 'mistral', 'gemma'])
def test_full_rows_cost_the_same_either_way(name):
  config = CONFIGS[name]
  found = flops.kept(config, np.ones((B, T), bool), logits=B * (T - 1))
  assert found == flops.forward(config, batch=B, length=T, logits=T - 1)


def test_gpt2_by_hand():
  """A token: 12 x 24 x 768^2; logits: 2 x 768 x 50257; 12 x 4 x 768 a pair."""
  config = config_lib.PRESETS['gpt2']
  found = flops.forward(config, batch=1, length=1024, logits=1024)
  assert found == 1024 * (169_869_312 + 77_194_752) + 524_800 * 36_864


def test_gpt3_is_two_flops_a_parameter_and_attention():
  config = dataclasses.replace(config_lib.PRESETS['175B'], attention='dense')
  token = flops.per_token(config)
  assert token == 96 * 24 * 12288**2
  parameters = transformer.num_parameters(config)
  assert token + flops.per_logits(config) == pytest.approx(
    2 * parameters, rel=1e-3
  )
  # Table D.1 of arXiv:2005.14165: 3.14e23 FLOPs on 300 billion tokens, without
  # attention.
  assert 3 * token * 300e9 == pytest.approx(3.14e23, rel=0.005)
  whole = flops.forward(config, batch=1, length=2048)
  assert whole / (2048 * token) == pytest.approx(1 + 2049 / (12 * 12288))
  banded = flops.forward(config_lib.PRESETS['175B'], batch=1, length=2048)
  assert 1 < banded / (2048 * token) < whole / (2048 * token)
