"""Gemma 2 and the text models of Gemma 3: norms on both sides, local layers.

Sources: Gemma team 2024 (arXiv:2408.00118) and 2025 (arXiv:2503.19786), and
transformers' Gemma2ForCausalLM and Gemma3ForCausalLM.
"""

from __future__ import annotations

import math
from typing import Any

from instructjax.checkpoints.families import base
from instructjax.checkpoints.families import llama
from instructjax.checkpoints.families import rotary
from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig


def _shape(
  fields: base.Fields, cap: float, final_cap: float, **options: Any
) -> ModelConfig:
  """What both say alike; soft caps where the file does not name them."""
  fields.fixed('use_bidirectional_attention', None, False)
  sizes = base.shape(fields, kv_heads=4, width=256)
  epsilon = fields.take('rms_norm_eps', 1e-6)
  # An earlier key that the models never followed.
  fields.take('hidden_act', None)
  return ModelConfig(
    **sizes,
    norm='rms',
    norm_epsilon=epsilon,
    norm_offset=True,
    post_norms=True,
    qk_norm_epsilon=epsilon,
    activation=fields.chosen(
      'hidden_activation', base.ACTIVATIONS, 'gelu_pytorch_tanh'
    ),
    gated=True,
    attention_bias='all' if fields.take('attention_bias', False) else 'none',
    mlp_bias=False,
    attention_scale=fields.take('query_pre_attn_scalar', 256) ** -0.5,
    attention_softcap=fields.take('attn_logit_softcapping', 0.0, absent=cap),
    final_softcap=fields.take('final_logit_softcapping', 0.0, absent=final_cap),
    embedding_scale=math.sqrt(sizes['d_model']),
    tied=fields.take('tie_word_embeddings', True),
    **options,
  )


def _bands(fields: base.Fields, every: int) -> dict[str, Any]:
  """All layers but each `every`-th see only a window."""
  count = fields.take('num_hidden_layers')
  is_banded = [(layer + 1) % every != 0 for layer in range(count)]
  return base.bands(fields, is_banded, fields.take('sliding_window', 4096))


def _read_gemma2(fields: base.Fields) -> ModelConfig:
  fields.take('cache_implementation', None)
  fields.take('sliding_window_size', None)  # the window said twice
  turning = rotary.read(fields, head_dim=fields.take('head_dim', 256))
  return _shape(fields, 50.0, 30.0, **turning, **_bands(fields, 2))


def _read_gemma3(fields: base.Fields) -> ModelConfig:
  fields.take('cache_implementation', None)
  every = fields.take('_sliding_window_pattern', 0)
  every = fields.take('sliding_window_pattern', every or 6)
  turning = rotary.read(
    fields,
    head_dim=fields.take('head_dim', 256),
    theta=1_000_000.0,
    local=fields.take('rope_local_base_freq', 10_000.0),
  )
  return _shape(
    fields, 0.0, 0.0, **turning, **_bands(fields, every), qk_norm=True
  )


def _write(config: ModelConfig) -> dict[str, Any]:
  scale = config.attention_scale or config.head_dim**-0.5
  return (
    base.shape_fields(config)
    | rotary.write(config)
    | {
      'rms_norm_eps': config.norm_epsilon,
      'hidden_activation': base.activation_name(config),
      'attention_bias': config.attention_bias == 'all',
      'query_pre_attn_scalar': round(scale**-2),
      'attn_logit_softcapping': config.attention_softcap or None,
      'final_logit_softcapping': config.final_softcap or None,
      'sliding_window': config.band,
      'layer_types': base.layer_types(config),
    }
  )


def _write_gemma3(config: ModelConfig) -> dict[str, Any]:
  found = _write(config)
  local = config.local_rope_theta or config.rope_theta
  found['rope_local_base_freq'] = local
  found['rope_parameters'] = {
    'full_attention': found['rope_parameters'],
    'sliding_attention': {'rope_type': 'default', 'rope_theta': local},
  }
  return found


def _rules(config: ModelConfig) -> list[base.Rule]:
  return llama.rules(
    config,
    {
      'attention_norm': 'input_layernorm',
      'attention_post_norm': 'post_attention_layernorm',
      'mlp_norm': 'pre_feedforward_layernorm',
      'mlp_post_norm': 'post_feedforward_layernorm',
    },
  )


FAMILIES = (
  base.Family(
    model_type='gemma2',
    causal='Gemma2ForCausalLM',
    classifier='Gemma2ForSequenceClassification',
    prefix='model.',
    read=_read_gemma2,
    write=_write,
    rules=_rules,
  ),
  base.Family(
    model_type='gemma3_text',
    causal='Gemma3ForCausalLM',
    classifier='Gemma3TextForSequenceClassification',
    prefix='model.',
    read=_read_gemma3,
    write=_write_gemma3,
    rules=_rules,
  ),
)
