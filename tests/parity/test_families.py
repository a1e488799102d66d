"""Every family against transformers: logits, decoding, export and scores.

Each model is small, drawn at random and has the odd options of its family on.
"""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers

from instructjax.checkpoints import hf
from instructjax.checkpoints import hf_config
from instructjax.models import heads
from instructjax.models import transformer
from instructjax.sampling import decode

_VOCAB, _LENGTH, _NEW = 96, 40, 64
_TOLERANCE = 1e-4
_SIZES = {
  'vocab_size': _VOCAB,
  'hidden_size': 32,
  'intermediate_size': 48,
  'num_hidden_layers': 2,
  'num_attention_heads': 4,
  'max_position_embeddings': 128,
}
_GROUPED = _SIZES | {'num_key_value_heads': 2}
_WIDE = _GROUPED | {'head_dim': 16}
_GPT = {'vocab_size': _VOCAB, 'n_embd': 32, 'n_layer': 2, 'n_positions': 128}
_OPT = {k: v for k, v in _SIZES.items() if k != 'intermediate_size'} | {
  'ffn_dim': 48,
  'word_embed_proj_dim': 32,
}


def _rope(kind: str, **options: Any) -> dict[str, Any]:
  return {
    'rope_parameters': {'rope_type': kind, 'rope_theta': 1000.0} | options
  }


# name: (config class, its arguments)
_MODELS = {
  'gpt2': ('GPT2', _GPT | {'n_head': 4, 'layer_norm_epsilon': 1e-3}),
  'gpt2-untied-relu': (
    'GPT2',
    _GPT
    | {'n_head': 2, 'n_inner': 40, 'activation_function': 'relu'}
    | {'tie_word_embeddings': False},
  ),
  'gpt2-deep': ('GPT2', _GPT | {'n_head': 4, 'n_layer': 8}),
  'opt': ('OPT', _OPT),
  'opt-galactica': (
    'OPT',
    _OPT
    | {'enable_bias': False, 'activation_function': 'gelu'}
    | {'tie_word_embeddings': False},
  ),
  'gptj': ('GPTJ', _GPT | {'n_head': 2, 'rotary_dim': 8}),
  'gptj-whole-heads': ('GPTJ', _GPT | {'n_head': 4, 'rotary_dim': 8}),
  'gpt_neox': ('GPTNeoX', _SIZES | {'hidden_act': 'gelu_fast'}),
  'gpt_neox-sequential': (
    'GPTNeoX',
    _SIZES
    | {'use_parallel_residual': False, 'attention_bias': False}
    | _rope('linear', factor=2.0, partial_rotary_factor=0.5),
  ),
  'llama-2': ('Llama', _SIZES | {'rms_norm_eps': 1e-3}),
  'llama-3': (
    'Llama',
    _WIDE
    | _rope(
      'llama3',
      factor=8.0,
      low_freq_factor=1.0,
      high_freq_factor=4.0,
      original_max_position_embeddings=16,
    ),
  ),
  'llama-biases': (
    'Llama',
    _SIZES
    | {'attention_bias': True, 'mlp_bias': True, 'tie_word_embeddings': True}
    | _rope('linear', factor=4.0),
  ),
  'llama-dynamic': ('Llama', _GROUPED | _rope('dynamic', factor=2.0)),
  'mistral-window': ('Mistral', _WIDE | {'sliding_window': 7}),
  'mistral': ('Mistral', _GROUPED | {'sliding_window': None}),
  'qwen2-windows': (
    'Qwen2',
    _GROUPED
    | {'use_sliding_window': True, 'sliding_window': 6, 'max_window_layers': 1},
  ),
  'qwen2-yarn': (
    'Qwen2',
    _GROUPED
    | {'tie_word_embeddings': True}
    | _rope('yarn', factor=4.0, original_max_position_embeddings=16),
  ),
  'qwen3': ('Qwen3', _WIDE | {'attention_bias': True, 'rms_norm_eps': 1e-4}),
  'qwen3-yarn': (
    'Qwen3',
    _WIDE
    | _rope(
      'yarn',
      factor=3.0,
      original_max_position_embeddings=32,
      beta_fast=20.0,
      beta_slow=2.0,
      attention_factor=1.3,
      truncate=False,
    ),
  ),
  'gemma2': (
    'Gemma2',
    _WIDE
    | {'sliding_window': 6, 'query_pre_attn_scalar': 24}
    | {'attn_logit_softcapping': 5.0, 'final_logit_softcapping': 3.0},
  ),
  'gemma3': (
    'Gemma3Text',
    _WIDE
    | {'sliding_window': 6, 'query_pre_attn_scalar': 24}
    | {'layer_types': [f'{k}_attention' for k in ('sliding', 'full')]}
    | {
      'rope_parameters': {
        'full_attention': {
          'rope_type': 'linear',
          'factor': 8.0,
          'rope_theta': 100_000.0,
        },
        'sliding_attention': {'rope_type': 'default', 'rope_theta': 1000.0},
      }
    },
  ),
}
# One of each kind of file; a classifier differs from its policy in the head.
_CLASSIFIERS = (
  *('gpt2', 'opt', 'gptj', 'gpt_neox', 'llama-2', 'mistral', 'qwen2-yarn'),
  *('qwen3', 'gemma2', 'gemma3'),
)


def _make(name: str, auto: Any, **options: Any) -> Any:
  """A model with random weights, large enough that all of them matter."""
  cls, arguments = _MODELS[name]
  ids = {'bos_token_id': 1, 'eos_token_id': 2, 'pad_token_id': 0}
  config = getattr(transformers, f'{cls}Config')(**arguments, **ids, **options)
  torch.manual_seed(0)
  model = auto.from_config(config).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.copy_(0.3 * torch.randn_like(parameter))
  return model


@pytest.fixture(scope='module', params=_MODELS)
def made(request, tmp_path_factory):
  """A model of transformers', and the folder that it was saved in."""
  folder = tmp_path_factory.mktemp(request.param)
  model = _make(request.param, transformers.AutoModelForCausalLM)
  model.save_pretrained(folder)
  return model, folder


@pytest.fixture(scope='module')
def loaded(made):
  """The same model, read by us."""
  return hf.load_pretrained(made[1])


def _batch(padded: bool) -> tuple[np.ndarray, np.ndarray]:
  tokens = np.random.default_rng(0).integers(3, _VOCAB, (3, _LENGTH))
  mask = np.ones(tokens.shape, bool)
  if padded:
    mask[1, :7] = False
    mask[2, :13] = False
  return tokens.astype(np.int32), mask


def _theirs(model: Any, tokens: np.ndarray, mask: np.ndarray) -> np.ndarray:
  inputs = {
    'input_ids': torch.tensor(tokens, dtype=torch.long),
    'attention_mask': torch.tensor(mask, dtype=torch.long),
  }
  if model.config.model_type != 'opt':  # which counts its mask
    positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
    inputs['position_ids'] = torch.tensor(positions, dtype=torch.long)
  with torch.no_grad():
    return model(**inputs).logits.numpy()


def _close(found: Any, wanted: np.ndarray, mask: np.ndarray) -> None:
  assert np.abs(wanted[mask]).max() > 0.5  # or nearness would mean little
  np.testing.assert_allclose(
    np.asarray(found)[mask], wanted[mask], rtol=0, atol=_TOLERANCE
  )


@pytest.mark.parametrize('padded', [False, True])
def test_logits(made, loaded, padded):
  tokens, mask = _batch(padded)
  found = jax.jit(transformer.logits, static_argnums=0)(*loaded, tokens, mask)
  _close(found, _theirs(made[0], tokens, mask), mask)


def test_cached_decoding(made, loaded):
  config, params = loaded
  tokens, mask = _batch(True)
  split = 20
  hidden, cache = jax.jit(
    transformer.prefill, static_argnums=0, static_argnames='length'
  )(config, params, tokens[:, :split], mask[:, :split], length=_LENGTH)
  found = [hidden]
  step = jax.jit(transformer.extend, static_argnums=0)
  for t in range(split, _LENGTH):
    hidden, cache = step(
      config, params, cache, tokens[:, t : t + 1], mask[:, t : t + 1]
    )
    found.append(hidden)
  hidden = np.concatenate(found, axis=1)
  _close(
    transformer.project(config, params, hidden),
    _theirs(made[0], tokens, mask),
    mask,
  )


def test_greedy_generation(made, loaded):
  config, params = loaded
  tokens, mask = _batch(True)
  tokens, mask = tokens[:, :20], mask[:, :20]
  with torch.no_grad():
    wanted = made[0].generate(
      input_ids=torch.tensor(tokens, dtype=torch.long),
      attention_mask=torch.tensor(mask, dtype=torch.long),
      do_sample=False,
      max_new_tokens=_NEW,
      min_new_tokens=_NEW,
      eos_token_id=[_VOCAB + 1],
    )[:, 20:]
  ours = functools.partial(
    decode.sample,
    config,
    max_new_tokens=_NEW,
    eos_id=-1,
    pad_id=0,
    temperature=0.0,
  )
  keys = decode.row_keys(jax.random.key(0), len(tokens))
  found = jax.jit(ours)(params, tokens, mask, keys)
  np.testing.assert_array_equal(found.tokens, wanted.numpy())


def _equal_trees(a: Any, b: Any) -> None:
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def _loads_whole(auto: Any, folder: pathlib.Path) -> Any:
  """Loads a folder with transformers, which must find nothing amiss."""
  model, info = auto.from_pretrained(folder, output_loading_info=True)
  amiss = {name: found for name, found in info.items() if found}
  assert not amiss
  return model.eval()


def test_export(made, loaded, tmp_path):
  config, params = loaded
  family = hf_config.describe(made[1]).family.model_type
  out = tmp_path / 'out'
  hf.save_pretrained(out, config, params, family=family, max_shard_bytes=9000)
  assert len(list(out.glob('*.safetensors'))) > 1
  again, same = hf.load_pretrained(out)
  assert again == config
  _equal_trees(params, same)
  tokens, mask = _batch(True)
  model = _loads_whole(transformers.AutoModelForCausalLM, out)
  wanted = _theirs(made[0], tokens, mask)
  np.testing.assert_allclose(
    _theirs(model, tokens, mask)[mask], wanted[mask], rtol=0, atol=1e-6
  )


def test_export_in_bfloat16(made, loaded, tmp_path):
  config, params = loaded
  family = made[0].config.model_type
  out = tmp_path / 'out'
  hf.save_pretrained(out, config, params, family=family, dtype='bfloat16')
  model = _loads_whole(transformers.AutoModelForCausalLM, out)
  assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
  _, found = hf.load_pretrained(out)
  rounded = jax.tree.map(lambda x: x.astype('bfloat16'), params)
  _equal_trees(found, rounded)


def _scores(config: Any, params: Any, tokens: Any, mask: Any) -> np.ndarray:
  """The head at each row's last kept token."""
  run = jax.jit(transformer.hidden, static_argnums=0)
  hidden = run(config, params['transformer'], tokens, mask)
  scores = np.asarray(heads.scalar_head(params['head'], hidden))
  last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
  return scores[np.arange(len(scores)), last]


@pytest.mark.parametrize('name', _CLASSIFIERS)
def test_reward_models(name, tmp_path):
  auto = transformers.AutoModelForSequenceClassification
  model = _make(name, auto, num_labels=1)
  model.save_pretrained(tmp_path / 'theirs')
  assert hf_config.describe(tmp_path / 'theirs').kind == 'reward'
  config, params = hf.load_pretrained(tmp_path / 'theirs')
  tokens, mask = _batch(False)
  mask[1, 30:], mask[2, 22:] = False, False
  tokens = np.where(mask, tokens, 0).astype(np.int32)  # 0 is their padding
  wanted = _theirs(model, tokens, mask)[:, 0]
  found = _scores(config, params, tokens, mask)
  np.testing.assert_allclose(found, wanted, rtol=0, atol=_TOLERANCE)

  params['head']['bias'] = params['head']['bias'] + 0.75
  hf.save_pretrained(
    tmp_path / 'ours', config, params, family=model.config.model_type
  )
  again, same = hf.load_pretrained(tmp_path / 'ours')
  assert again == config
  _equal_trees(params, same)
  path = tmp_path / 'ours' / 'config.json'
  fields = json.loads(path.read_text())
  assert fields['score_bias'] == 0.75
  path.write_text(json.dumps(fields | {'pad_token_id': 0}))
  scores = _theirs(_loads_whole(auto, tmp_path / 'ours'), tokens, mask)[:, 0]
  np.testing.assert_allclose(
    scores + 0.75, _scores(config, params, tokens, mask), rtol=0, atol=1e-4
  )
