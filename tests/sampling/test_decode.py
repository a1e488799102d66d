"""The sampler against a loop over the full forward pass."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax.losses import language
from instructjax.models import config as config_lib
from instructjax.models import transformer
from instructjax.sampling import decode

CONFIG = config_lib.ModelConfig(
  vocab_size=19,
  num_layers=2,
  d_model=16,
  num_heads=2,
  head_dim=8,
  d_ff=32,
  max_length=16,
)
B, P, R = 5, 6, 8
PAD, EOS = 0, 8  # token 8 is drawn early in some rows and never in others


@functools.cache
def make_params():
  """Random enough for tokens to differ in probability, none near 1."""
  init = jax.jit(transformer.init, static_argnums=0)
  leaves, tree = jax.tree.flatten(init(CONFIG, jax.random.key(0)))
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return jax.tree.unflatten(
    tree,
    [
      leaf + 0.3 * jax.random.normal(key, leaf.shape)
      for leaf, key in zip(leaves, keys, strict=True)
    ],
  )


def make_prompts():
  rng = np.random.default_rng(0)
  lengths = np.array([6, 3, 1, 5, 6])
  mask = np.arange(P)[None] >= P - lengths[:, None]
  tokens = rng.integers(1, CONFIG.vocab_size, (B, P)).astype(np.int32)
  return np.where(mask, tokens, PAD), mask


@functools.partial(
  jax.jit, static_argnames=('eos', 'temperature', 'top_k', 'top_p', 'steps')
)
def _draw(
  params,
  prompts,
  mask,
  keys,
  eos=EOS,
  temperature=1.0,
  top_k=0,
  top_p=1.0,
  steps=R,
  rows=None,
):
  return decode.sample(
    CONFIG,
    params,
    prompts,
    mask,
    keys,
    max_new_tokens=steps,
    eos_id=eos,
    pad_id=PAD,
    temperature=temperature,
    top_k=top_k,
    top_p=top_p,
    rows=rows,
  )


def draw(*args, **options):
  return _draw(make_params(), *args, **options)


@functools.partial(jax.jit, static_argnums=4)
def trainer_logprobs(params, prompts, mask, samples, temperature):
  """Scores responses as a training step does: one forward over everything."""
  tokens = jnp.concatenate([prompts, samples.tokens], axis=1)
  kept = jnp.concatenate([mask, samples.mask], axis=1)
  hidden = transformer.hidden(CONFIG, params, tokens, kept)
  return language.chunked_token_logprobs(
    hidden[:, P - 1 : -1],
    targets=samples.tokens,
    temperature=temperature,
    chunk_size=3,
    **transformer.unembedding(CONFIG, params),
  )


def check_form(samples, steps=R):
  tokens, mask = np.asarray(samples.tokens), np.asarray(samples.mask)
  assert tokens.shape == mask.shape == samples.logprobs.shape == (B, steps)
  for row in range(B):
    ends = np.flatnonzero(tokens[row] == EOS)
    length = ends[0] + 1 if len(ends) else steps
    assert mask[row, :length].all() and not mask[row, length:].any()
    assert (tokens[row, length:] == PAD).all()
    assert (np.asarray(samples.logprobs)[row, length:] == 0).all()


def test_greedy_equals_naive_full_forward():
  prompts, mask = make_prompts()
  samples = draw(
    prompts, mask, decode.row_keys(jax.random.key(0), B), temperature=0.0
  )
  check_form(samples)
  full = jax.jit(functools.partial(transformer.logits, CONFIG, make_params()))
  tokens = np.full((B, P + R), PAD, np.int32)
  kept = np.zeros((B, P + R), bool)
  tokens[:, :P], kept[:, :P] = prompts, mask
  alive = np.ones(B, bool)
  for t in range(R):
    choice = np.asarray(full(tokens, kept))[:, P + t - 1].argmax(-1)
    tokens[:, P + t] = np.where(alive, choice, PAD)
    kept[:, P + t] = alive
    alive &= choice != EOS
  np.testing.assert_array_equal(samples.tokens, tokens[:, P:])
  np.testing.assert_array_equal(samples.mask, kept[:, P:])
  expected = trainer_logprobs(make_params(), prompts, mask, samples, 1.0)
  expected = np.where(samples.mask, expected, 0.0)
  np.testing.assert_allclose(samples.logprobs, expected, atol=1e-5)


@pytest.mark.parametrize(
  'options', [{}, {'temperature': 0.7, 'top_k': 5, 'top_p': 0.9}]
)
def test_logprobs_equal_the_trainers(options):
  prompts, mask = make_prompts()
  keys = decode.row_keys(jax.random.key(3), B)
  samples = draw(prompts, mask, keys, **options)
  check_form(samples)
  lengths = np.asarray(samples.mask).sum(1)
  assert lengths.min() < R and lengths.max() == R  # the case is not trivial
  temperature = options.get('temperature', 1.0)
  expected = trainer_logprobs(
    make_params(), prompts, mask, samples, temperature
  )
  expected = np.where(samples.mask, expected, 0.0)
  np.testing.assert_allclose(samples.logprobs, expected, atol=1e-5)


def test_a_row_does_not_depend_on_its_neighbours():
  prompts, mask = make_prompts()
  keys = decode.row_keys(jax.random.key(3), B)
  together = draw(prompts, mask, keys)
  order = np.array([3, 0, 4, 4, 1])
  shuffled = draw(prompts[order], mask[order], keys[order])
  expected = jax.tree.map(lambda leaf: leaf[order], together)
  chex.assert_trees_all_close(shuffled, expected, atol=1e-5)
  fewer = decode.row_keys(jax.random.key(3), 2)
  alone = draw(prompts[:2], mask[:2], fewer)
  expected = jax.tree.map(lambda leaf: leaf[:2], together)
  chex.assert_trees_all_close(alone, expected, atol=1e-5)


def test_a_prompt_with_several_responses_is_run_once(monkeypatch):
  prompts, mask = make_prompts()
  keys = decode.row_keys(jax.random.key(3), B)
  rows = np.array([2, 0, 0, 3, 2])
  expected = draw(prompts[rows], mask[rows], keys)
  prefill, run = transformer.prefill, []

  def counted(config, params, tokens, *args, **options):
    run.append(len(tokens))
    return prefill(config, params, tokens, *args, **options)

  monkeypatch.setattr(transformer, 'prefill', counted)
  found = draw(prompts[:4], mask[:4], keys, rows=rows)
  chex.assert_trees_all_close(found, expected, atol=1e-5)
  check_form(found)
  assert run == [4]


def test_distinct():
  different, rows = decode.distinct([[1, 2], [3], [1, 2], []])
  assert different == [(1, 2), (3,), ()] and rows.tolist() == [0, 1, 0, 2]
  assert rows.dtype == np.int32


def test_keys_decide_the_sample():
  prompts, mask = make_prompts()
  keys = decode.row_keys(jax.random.key(3), B)
  first, again = draw(prompts, mask, keys), draw(prompts, mask, keys)
  chex.assert_trees_all_equal(first, again)
  same = draw(prompts[[0] * B], mask[[0] * B], keys, eos=-1)
  assert len({tuple(row) for row in np.asarray(same.tokens).tolist()}) == B


def test_one_token_is_drawn_from_the_softmax():
  """Frequencies of many first tokens against the model's probabilities."""
  prompts, mask = make_prompts()
  rows = 4000
  keys = decode.row_keys(jax.random.key(5), rows)
  many = [np.repeat(x[:1], rows, axis=0) for x in (prompts, mask)]
  samples = draw(*many, keys, steps=1, temperature=2.0)
  logits = transformer.logits(CONFIG, make_params(), prompts[:1], mask[:1])
  expected = jax.nn.softmax(logits[0, -1] / 2.0)
  counts = np.bincount(samples.tokens[:, 0], minlength=CONFIG.vocab_size)
  spread = np.sqrt(expected * (1 - expected) / rows)
  assert (np.abs(counts / rows - expected) < 4 * spread + 1e-9).all()
  assert (counts > 0).sum() > 5


def test_top_k_one_is_greedy():
  prompts, mask = make_prompts()
  keys = decode.row_keys(jax.random.key(0), B)
  greedy = draw(prompts, mask, keys, temperature=0.0)
  chex.assert_trees_all_close(draw(prompts, mask, keys, top_k=1), greedy)


def test_stops_when_every_row_has_ended(monkeypatch):
  """If every token is the end, no step after the first is run."""
  prompts, mask = make_prompts()
  steps = []
  extend = transformer.extend

  def counted(*args):
    jax.debug.callback(lambda: steps.append(1))
    return extend(*args)

  monkeypatch.setattr(transformer, 'extend', counted)
  params = make_params()
  keys = decode.row_keys(jax.random.key(0), B)

  def count(eos):
    steps.clear()
    samples = jax.jit(
      functools.partial(
        decode.sample,
        CONFIG,
        max_new_tokens=R,
        eos_id=eos,
        pad_id=PAD,
        temperature=0.0,
      )
    )(params, prompts[:1], mask[:1], keys[:1])
    jax.block_until_ready(samples)
    jax.effects_barrier()
    return len(steps), samples

  taken, samples = count(eos=-1)
  assert taken == R - 1 and samples.mask.all()
  taken, samples = count(eos=int(samples.tokens[0, 0]))
  assert taken == 0 and samples.mask.sum() == 1
  assert (samples.tokens[0, 1:] == PAD).all()


def test_second_call_does_not_recompile():
  prompts, mask = make_prompts()

  @jax.jit
  @chex.assert_max_traces(n=1)
  def step(params, prompts, mask, keys):
    return decode.sample(
      CONFIG,
      params,
      prompts,
      mask,
      keys,
      max_new_tokens=R,
      eos_id=EOS,
      pad_id=PAD,
    )

  for seed in range(2):
    keys = decode.row_keys(jax.random.key(seed), B)
    step(make_params(), prompts, mask, keys)


def test_row_keys_do_not_depend_on_the_number_of_rows():
  few = decode.row_keys(jax.random.key(0), 2)
  many = decode.row_keys(jax.random.key(0), 7)
  assert (few == many[:2]).all()
  assert len(np.unique(jax.random.key_data(many), axis=0)) == 7
