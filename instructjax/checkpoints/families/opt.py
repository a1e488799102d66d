"""OPT, the public twin of GPT-3: learned positions that begin in row 2.

OPT-350M is another model (norms after its branches, embeddings projected to
its width) and is refused.

Source: Zhang et al. 2022 (arXiv:2205.01068), and transformers' OPTForCausalLM.
"""

from __future__ import annotations

from typing import Any

from instructjax.checkpoints.families import base
from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig
_OFFSET = 2


def _read(fields: base.Fields) -> ModelConfig:
  fields.fixed('do_layer_norm_before', True)
  fields.fixed('_remove_final_layer_norm', False)
  fields.fixed('layer_norm_elementwise_affine', True)
  fields.take('init_std', None)
  width, heads = fields.take('hidden_size'), fields.take('num_attention_heads')
  fields.fixed('word_embed_proj_dim', width)
  bias = fields.take('enable_bias', True)
  return ModelConfig(
    vocab_size=fields.take('vocab_size'),
    num_layers=fields.take('num_hidden_layers'),
    d_model=width,
    num_heads=heads,
    head_dim=base.head_dim(fields, width, heads),
    d_ff=fields.take('ffn_dim'),
    max_length=fields.take('max_position_embeddings'),
    position_offset=_OFFSET,
    activation=fields.chosen('activation_function', base.ACTIVATIONS, 'relu'),
    attention_bias='all' if bias else 'none',
    mlp_bias=bias,
    tied=fields.take('tie_word_embeddings', True),
  )


def _write(config: ModelConfig) -> dict[str, Any]:
  return {
    'vocab_size': config.vocab_size,
    'num_hidden_layers': config.num_layers,
    'hidden_size': config.d_model,
    'word_embed_proj_dim': config.d_model,
    'num_attention_heads': config.num_heads,
    'ffn_dim': config.d_ff,
    'max_position_embeddings': config.max_length,
    'activation_function': base.activation_name(config),
    'enable_bias': config.mlp_bias,
    'tie_word_embeddings': config.tied,
  }


def _rules(config: ModelConfig) -> list[base.Rule]:
  rule, top = base.rule, 'model.decoder'
  layer, bias = top + '.layers.{}', config.mlp_bias
  return [
    rule('embedding/tokens', f'{top}.embed_tokens.weight'),
    rule('embedding/positions', f'{top}.embed_positions.weight'),
    *base.norm(
      'layers/attention_norm', f'{layer}.self_attn_layer_norm', bias=True
    ),
    *base.heads(config, layer + '.self_attn.{qkv}_proj'),
    *base.linear(
      'layers/attention_output', f'{layer}.self_attn.out_proj', bias=bias
    ),
    *base.norm('layers/mlp_norm', f'{layer}.final_layer_norm', bias=True),
    *base.linear('layers/mlp_input', f'{layer}.fc1', bias=bias),
    *base.linear('layers/mlp_output', f'{layer}.fc2', bias=bias),
    *base.norm('final_norm', f'{top}.final_layer_norm', bias=True),
  ]


FAMILIES = (
  base.Family(
    model_type='opt',
    causal='OPTForCausalLM',
    classifier='OPTForSequenceClassification',
    prefix='model.',
    read=_read,
    write=_write,
    rules=_rules,
  ),
)
