"""GPT-2: learned positions, layer norms, one matrix for q, k and v.

Source: Radford et al. 2019, and transformers' GPT2LMHeadModel.
"""

from __future__ import annotations

from typing import Any

from instructjax.checkpoints.families import base
from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig


def _read(fields: base.Fields) -> ModelConfig:
  fields.fixed('scale_attn_weights', True)
  fields.fixed('scale_attn_by_inverse_layer_idx', False)
  fields.take('reorder_and_upcast_attn', None)  # precision
  fields.take('n_ctx', None)  # n_positions said twice
  width, heads = fields.take('n_embd'), fields.take('n_head')
  return ModelConfig(
    vocab_size=fields.take('vocab_size'),
    num_layers=fields.take('n_layer'),
    d_model=width,
    num_heads=heads,
    head_dim=base.head_dim(fields, width, heads),
    d_ff=fields.take('n_inner', 4 * width),
    max_length=fields.take('n_positions'),
    norm_epsilon=fields.take('layer_norm_epsilon', 1e-5),
    activation=fields.chosen(
      'activation_function', base.ACTIVATIONS, 'gelu_new'
    ),
    tied=fields.take('tie_word_embeddings', True),
  )


def _write(config: ModelConfig) -> dict[str, Any]:
  return {
    'vocab_size': config.vocab_size,
    'n_layer': config.num_layers,
    'n_embd': config.d_model,
    'n_head': config.num_heads,
    'n_inner': config.d_ff,
    'n_positions': config.max_length,
    'layer_norm_epsilon': config.norm_epsilon,
    'activation_function': base.activation_name(config),
    'tie_word_embeddings': config.tied,
  }


def _rules(config: ModelConfig) -> list[base.Rule]:
  rule, layer = base.rule, 'transformer.h.{}'
  found = [
    rule('embedding/tokens', 'transformer.wte.weight'),
    rule('embedding/positions', 'transformer.wpe.weight'),
    *base.norm('layers/attention_norm', f'{layer}.ln_1', bias=True),
    rule(
      'layers/qkv/kernel',
      f'{layer}.attn.c_attn.weight',
      'm (c h d) -> m c h d',
    ),
    rule('layers/qkv/bias', f'{layer}.attn.c_attn.bias', '(c h d) -> c h d'),
    *base.norm('layers/mlp_norm', f'{layer}.ln_2', bias=True),
    *base.norm('final_norm', 'transformer.ln_f', bias=True),
  ]
  for leaf, name in (
    ('attention_output', 'attn.c_proj'),
    ('mlp_input', 'mlp.c_fc'),
    ('mlp_output', 'mlp.c_proj'),
  ):
    found += base.linear(
      f'layers/{leaf}', f'{layer}.{name}', bias=True, transposed=False
    )
  return found


FAMILIES = (
  base.Family(
    model_type='gpt2',
    causal='GPT2LMHeadModel',
    classifier='GPT2ForSequenceClassification',
    prefix='transformer.',
    read=_read,
    write=_write,
    rules=_rules,
    buffers=r'\.attn\.(masked_)?bias$',
  ),
)
