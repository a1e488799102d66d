"""GPT-J: attention and feed-forward side by side, a part of each head turns.

Its pairs of turning numbers are neighbours; ours are halves. The scores do not
see in which order a head's numbers stand, so the rows of queries and keys are
read, and written, in the other order.

Source: Wang and Komatsuzaki 2021, and transformers' GPTJForCausalLM.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from instructjax.checkpoints.families import base
from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig


def _read(fields: base.Fields) -> ModelConfig:
  fields.fixed('rotary', True)
  fields.fixed('scale_attn_weights', True)
  fields.take('n_ctx', None)  # n_positions said twice
  width, heads = fields.take('n_embd'), fields.take('n_head')
  turning = fields.take('rotary_dim', absent=64)
  return ModelConfig(
    vocab_size=fields.take('vocab_size'),
    num_layers=fields.take('n_layer'),
    d_model=width,
    num_heads=heads,
    head_dim=base.head_dim(fields, width, heads),
    d_ff=fields.take('n_inner', 4 * width),
    max_length=fields.take('n_positions'),
    positions='rotary',
    rotary_dim=0 if turning == width // heads else turning,
    norm_epsilon=fields.take('layer_norm_epsilon', 1e-5),
    branches='parallel',
    activation=fields.chosen(
      'activation_function', base.ACTIVATIONS, 'gelu_new'
    ),
    attention_bias='none',
    tied=fields.take('tie_word_embeddings', False),
    output_bias=True,
  )


def _write(config: ModelConfig) -> dict[str, Any]:
  return {
    'vocab_size': config.vocab_size,
    'n_layer': config.num_layers,
    'n_embd': config.d_model,
    'n_head': config.num_heads,
    'n_inner': config.d_ff,
    'n_positions': config.max_length,
    'rotary_dim': config.rotary_dim or config.head_dim,
    'layer_norm_epsilon': config.norm_epsilon,
    'activation_function': base.activation_name(config),
    'tie_word_embeddings': config.tied,
  }


def _halves(config: ModelConfig) -> tuple[int, ...]:
  """Where the rows of our queries and keys stand in theirs."""
  turning = config.rotary_dim or config.head_dim
  within = [
    *range(0, turning, 2),
    *range(1, turning, 2),
    *range(turning, config.head_dim),
  ]
  starts = np.arange(config.num_heads) * config.head_dim
  return tuple((starts[:, None] + np.asarray(within)).ravel().tolist())


def _rules(config: ModelConfig) -> list[base.Rule]:
  rule, layer = base.rule, 'transformer.h.{}'
  attention, rows = f'{layer}.attn', _halves(config)
  return [
    rule('embedding/tokens', 'transformer.wte.weight'),
    *base.norm('layers/attention_norm', f'{layer}.ln_1', bias=True),
    rule(
      'layers/qkv/kernel',
      f'{attention}.q_proj.weight {attention}.k_proj.weight'
      f' {attention}.v_proj.weight',
      'c (h d) m -> m c h d',
      (rows, rows, None),
    ),
    *base.linear(
      'layers/attention_output', f'{attention}.out_proj', bias=False
    ),
    *base.linear('layers/mlp_input', f'{layer}.mlp.fc_in', bias=True),
    *base.linear('layers/mlp_output', f'{layer}.mlp.fc_out', bias=True),
    *base.norm('final_norm', 'transformer.ln_f', bias=True),
    rule('output/bias', 'lm_head.bias'),
  ]


FAMILIES = (
  base.Family(
    model_type='gptj',
    causal='GPTJForCausalLM',
    classifier='GPTJForSequenceClassification',
    prefix='transformer.',
    read=_read,
    write=_write,
    rules=_rules,
    buffers=r'\.attn\.((masked_)?bias|embed_positions)$',
  ),
)
