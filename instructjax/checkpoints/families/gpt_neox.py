"""GPT-NeoX and Pythia: two norms side by side, a quarter of each head turns.

Source: Black et al. 2022 (arXiv:2204.06745), Biderman et al. 2023
(arXiv:2304.01373), and transformers' GPTNeoXForCausalLM.
"""

from __future__ import annotations

from typing import Any

from instructjax.checkpoints.families import base
from instructjax.checkpoints.families import rotary
from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig
_BRANCHES = {True: 'parallel_two_norms', False: 'sequential'}


def _read(fields: base.Fields) -> ModelConfig:
  width, heads = fields.take('hidden_size'), fields.take('num_attention_heads')
  size = base.head_dim(fields, width, heads)
  bias = fields.take('attention_bias', True)
  return ModelConfig(
    vocab_size=fields.take('vocab_size'),
    num_layers=fields.take('num_hidden_layers'),
    d_model=width,
    num_heads=heads,
    head_dim=size,
    d_ff=fields.take('intermediate_size'),
    norm_epsilon=fields.take('layer_norm_eps', 1e-5),
    branches=fields.chosen('use_parallel_residual', _BRANCHES, True),
    activation=fields.chosen('hidden_act', base.ACTIVATIONS, 'gelu'),
    attention_bias='all' if bias else 'none',
    tied=fields.take('tie_word_embeddings', False),
    **rotary.read_part(
      fields,
      head_dim=size,
      theta_keys=('rotary_emb_base', 'rope_theta'),
      part=0.25,
      part_keys=('rotary_pct', 'partial_rotary_factor'),
    ),
  )


def _write(config: ModelConfig) -> dict[str, Any]:
  turning = rotary.write(config, part=True)
  theta = turning.pop('rope_theta')
  share = turning.pop('partial_rotary_factor')
  return turning | {
    'rotary_emb_base': theta,
    'rotary_pct': share,
    'vocab_size': config.vocab_size,
    'num_hidden_layers': config.num_layers,
    'hidden_size': config.d_model,
    'num_attention_heads': config.num_heads,
    'intermediate_size': config.d_ff,
    'layer_norm_eps': config.norm_epsilon,
    'use_parallel_residual': config.branches == _BRANCHES[True],
    'hidden_act': base.activation_name(config),
    'attention_bias': config.attention_bias == 'all',
    'tie_word_embeddings': config.tied,
  }


def _rules(config: ModelConfig) -> list[base.Rule]:
  rule, layer = base.rule, 'gpt_neox.layers.{}'
  qkv = f'{layer}.attention.query_key_value'
  bias = config.attention_bias == 'all'
  found = [
    rule('embedding/tokens', 'gpt_neox.embed_in.weight'),
    *base.norm('layers/attention_norm', f'{layer}.input_layernorm', bias=True),
    rule('layers/qkv/kernel', f'{qkv}.weight', '(h c d) m -> m c h d'),
    *base.linear(
      'layers/attention_output', f'{layer}.attention.dense', bias=bias
    ),
    *base.norm(
      'layers/mlp_norm', f'{layer}.post_attention_layernorm', bias=True
    ),
    *base.linear('layers/mlp_input', f'{layer}.mlp.dense_h_to_4h', bias=True),
    *base.linear('layers/mlp_output', f'{layer}.mlp.dense_4h_to_h', bias=True),
    *base.norm('final_norm', 'gpt_neox.final_layer_norm', bias=True),
  ]
  if bias:
    found.append(rule('layers/qkv/bias', f'{qkv}.bias', '(h c d) -> c h d'))
  return found


FAMILIES = (
  base.Family(
    model_type='gpt_neox',
    causal='GPTNeoXForCausalLM',
    classifier='GPTNeoXForSequenceClassification',
    prefix='gpt_neox.',
    read=_read,
    write=_write,
    rules=_rules,
    output='embed_out.weight',
    buffers=r'\.attention\.((masked_)?bias|rotary_emb\.inv_freq)$',
  ),
)
