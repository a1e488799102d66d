"""A model that is asked: every manner, against the same done by hand."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np
import pytest

from instructjax.data import tokenizer as tokenizer_lib
from instructjax.models import config as model_config
from instructjax.models import transformer
from instructjax.sampling import decode
from instructjax.stages import answers

TEXTS = (
  'who eats hay?',
  'the fox',
  'why\nnot, ben?',
  'hay',
  'is it a fox, ben?',
)
OPTIONS = {
  'max_prompt_length': 24,
  'max_response_length': 6,
  'temperature': 1.0,
  'batch_size': 2,
  'seed': 7,
}


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
  text = [f'{text} the fox eats hay, and ben eats nuts.' for text in TEXTS]
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.model'
  return tokenizer_lib.Tokenizer.train(text, 290, str(path))


@pytest.fixture(scope='module')
def model(tokenizer):
  """A model whose next token is far from certain, and from uniform."""
  config = model_config.ModelConfig(
    vocab_size=290,
    num_layers=2,
    d_model=32,
    num_heads=2,
    head_dim=16,
    d_ff=64,
    max_length=40,
  )
  init = jax.jit(transformer.init, static_argnums=0)
  params = init(config, jax.random.key(0))
  params = jax.tree.map(lambda x: 4 * x, params)
  return answers.Model('it', config, params, tokenizer, **OPTIONS)


def _like(model, **options):
  """The model, asked in another way."""
  told = OPTIONS | {'form': model.form, 'one_line': model.one_line} | options
  return answers.Model(
    'other', model.config, model.params, model.tokenizer, **told
  )


@functools.partial(jax.jit, static_argnums=0)
def _all_logits(config, params, tokens, mask):
  hidden = transformer.hidden(config, params, tokens, mask)
  return transformer.project(config, params, hidden[0])


def _logits(model, ids):
  """f32[T, V] of one sequence by a plain forward pass."""
  mask = np.arange(model.config.max_length) < len(ids)
  tokens = np.zeros((1, len(mask)), np.int32)
  tokens[0, : len(ids)] = ids
  found = _all_logits(model.config, model.params, tokens, mask[None])
  return np.asarray(found)[: len(ids)]


@functools.partial(jax.jit, static_argnames=('config', 'eos_id', 'pad_id'))
def _drawn(config, params, tokens, mask, row, **special):
  key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), row), 0)
  return decode.sample(
    config, params, tokens, mask, key[None], max_new_tokens=6, **special
  )


def test_an_answer_is_the_samplers(model):
  tokenizer = model.tokenizer
  found = model.answer(TEXTS)
  assert len(found) == len(TEXTS)
  for row, (text, answer) in enumerate(zip(TEXTS, found, strict=True)):
    ids = tokenizer.encode_prompt(text)
    tokens = np.zeros((1, 32), np.int32)
    tokens[0, 32 - len(ids) :] = ids
    samples = _drawn(
      model.config,
      model.params,
      tokens,
      np.arange(32)[None] >= 32 - len(ids),
      row,
      eos_id=tokenizer.eos_id,
      pad_id=tokenizer.pad_id,
    )
    tokens = np.asarray(samples.tokens[0])[np.asarray(samples.mask[0])]
    ended = tokenizer.eos_id in tokens
    assert answer == (tokenizer.decode(tokens.tolist()), ended)


def test_answers_depend_on_prompt_key_and_seed_alone(model):
  found = model.answer(TEXTS)
  assert _like(model, batch_size=4).answer(TEXTS) == found
  assert _like(model, max_prompt_length=32).answer(TEXTS) == found
  assert _like(model, seed=8).answer(TEXTS) != found
  assert model.answer(TEXTS[:3]) == found[:3]
  # Copies of a prompt have keys of their own, and batches come one by one.
  texts, numbers = [TEXTS[1]] * 3, [(1, 0), (1, 1), (0, 1)]
  batches = list(model.answers(texts, numbers))
  assert [len(batch) for batch in batches] == [2, 1]
  assert batches[0][0] == found[1]
  assert len({answer for batch in batches for answer in batch}) == 3


def test_copies_of_a_prompt_are_answered_as_if_alone(model):
  """Of the 20 rows of a batch 3 prompts are distinct: 16 are run, not 20."""
  texts = [text for text in TEXTS[:3] for _ in range(9)]
  numbers = [(row // 9, row % 9) for row in range(27)]
  (first, second) = _like(model, batch_size=20).answers(texts, numbers)
  one_by_one = _like(model, batch_size=1).answers(texts, numbers)
  assert first + second == [answer for (answer,) in one_by_one]


def test_manners(model):
  tokenizer = model.tokenizer
  assert model.encode('a fox') == tokenizer.encode_prompt('a fox')
  plain = _like(model, form='{text}\n')
  page = [tokenizer.eos_id, *tokenizer.encode('{text} fox\n')]
  assert plain.encode('{text} fox') == page
  shown = _like(model, form='q: hay\na: no\nq: {text}\na:')
  assert tokenizer.decode(shown.encode('why')) == 'q: hay\na: no\nq: why\na:'


@pytest.mark.parametrize(
  'text, ended, answer',
  [
    (' hay, ben \nquestion: why', False, ('hay, ben', True)),
    (' hay', True, ('hay', True)),
    (' hay', False, ('hay', False)),
    ('\nhay\n', False, ('hay', True)),
    ('', True, ('', True)),
  ],
)
def test_an_answer_of_one_line(model, text, ended, answer):
  asked = _like(model, one_line=True)
  assert asked._read(model.tokenizer.encode(text), ended) == answer
  assert model._read(model.tokenizer.encode(text), ended) == (text, ended)


def test_a_continuation_is_the_likeliest_line(model):
  tokenizer = model.tokenizer
  found = model.continue_text(TEXTS[:2])
  for text, told in zip(TEXTS[:2], found, strict=True):
    ids = [tokenizer.eos_id, *tokenizer.encode(text)]
    start = len(ids)
    while len(ids) < start + 16 and ids[-1] != tokenizer.eos_id:
      ids.append(int(_logits(model, ids)[-1].argmax()))
    assert told == tokenizer.decode(ids[start:]).partition('\n')[0]


def test_the_weight_of_a_completion(model):
  tokenizer = model.tokenizer
  pairs = [('the fox', ' eats hay.'), ('', 'ben'), ('who eats', ' nuts, ben')]
  for (first, second), nats in zip(pairs, model.logprob(pairs), strict=True):
    ids = [tokenizer.eos_id, *tokenizer.encode(first)]
    end = tokenizer.encode(second)
    logits = _logits(model, ids + end).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    wanted = sum(
      logprobs[len(ids) - 1 + i, token] for i, token in enumerate(end)
    )
    assert nats == pytest.approx(wanted, rel=1e-5)


def test_of_too_long_a_prompt_the_end_is_asked(model):
  room = model.config.max_length - OPTIONS['max_response_length']
  long = 'ben and ' * 30 + TEXTS[0]
  ids = model.encode(long)
  assert len(ids) > room
  (whole,), (cut,) = (
    next(model._sample([x], [(0, 0)], 6, 1.0)) for x in (ids, ids[-room:])
  )
  assert whole == cut
  assert model.answer([long])


def test_nothing_is_asked(model):
  assert model.answer([]) == model.continue_text([]) == model.logprob([]) == []


def test_models_of_one_config_share_their_programs(model):
  model.answer(TEXTS)
  before = answers._sampler.cache_info().misses
  like = dataclasses.replace(model.config)
  params = jax.tree.map(lambda x: x + 1, model.params)
  answers.Model('b', like, params, model.tokenizer, **OPTIONS).answer(TEXTS)
  assert answers._sampler.cache_info().misses == before
