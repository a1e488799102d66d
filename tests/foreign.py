"""A small Hugging Face folder of any family: random weights, a tokenizer."""

from __future__ import annotations

import pathlib

import jax

from instructjax.checkpoints import hf
from instructjax.data import foreign_tokenizer
from instructjax.models import config as config_lib
from instructjax.models import transformer
from tests import tokenizer_folders

CHATML = (
  "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
  '<|im_end|>\n{% endfor %}'
  '{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}'
)
_SIZES = {
  'num_layers': 1,
  'd_model': 32,
  'num_heads': 2,
  'head_dim': 16,
  'd_ff': 64,
  'max_length': 64,
}
_LLAMA = {
  'positions': 'rotary',
  'num_kv_heads': 1,
  'norm': 'rms',
  'norm_epsilon': 1e-6,
  'activation': 'silu',
  'gated': True,
  'attention_bias': 'none',
  'mlp_bias': False,
  'tied': False,
}
_OPTIONS = {
  'gpt2': {},
  'opt': {'position_offset': 2, 'activation': 'relu'},
  'llama': _LLAMA,
  'qwen3': _LLAMA | {'qk_norm': True},
}


def write(folder: pathlib.Path, family: str) -> pathlib.Path:
  """Writes a model; those of Llama's line have a chat template.

  Args:
    folder: to write.
    family: 'gpt2', 'opt', 'llama' or 'qwen3'.
  """
  has_chat = family in ('llama', 'qwen3')
  encoder = tokenizer_folders.gpt2()
  settings = {'eos_token': '<|endoftext|>', 'bos_token': '<|endoftext|>'}
  if has_chat:
    encoder.add_special_tokens(['<|im_start|>', '<|im_end|>'])
    settings |= {'eos_token': '<|im_end|>', 'chat_template': CHATML}
  source = tokenizer_folders.write(
    folder.with_name(f'{folder.name}_tokenizer'), encoder, settings
  )
  tokenizer = foreign_tokenizer.ForeignTokenizer.load(source)
  config = config_lib.ModelConfig(
    vocab_size=tokenizer.vocab_size, **_SIZES, **_OPTIONS[family]
  )
  init = jax.jit(transformer.init, static_argnums=0)
  params = init(config, jax.random.key(0))
  hf.save_pretrained(folder, config, params, family=family, tokenizer=tokenizer)
  return folder
