"""Llama 2 and 3, and Mistral: RMS norms, gated layers, shared keys and values.

Sources: Touvron et al. 2023 (arXiv:2307.09288), Llama team 2024
(arXiv:2407.21783), Jiang et al. 2023 (arXiv:2310.06825), and transformers'
LlamaForCausalLM and MistralForCausalLM.
"""

from __future__ import annotations

from typing import Any

from instructjax.checkpoints.families import base
from instructjax.checkpoints.families import rotary
from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig


def shape(
  fields: base.Fields,
  *,
  kv_heads: int | None = None,
  width: int | None = None,
  **options: Any,
) -> ModelConfig:
  """What all of them say alike; kv_heads and width as of base.shape."""
  sizes = base.shape(fields, kv_heads, width)
  epsilon = fields.take('rms_norm_eps', 1e-6)
  return ModelConfig(
    **sizes,
    norm='rms',
    norm_epsilon=epsilon,
    qk_norm_epsilon=epsilon,
    activation=fields.chosen('hidden_act', base.ACTIVATIONS, 'silu'),
    gated=True,
    tied=fields.take('tie_word_embeddings', False),
    **rotary.read(fields, head_dim=sizes['head_dim']),
    **{'attention_bias': 'none', 'mlp_bias': False} | options,
  )


def _read_llama(fields: base.Fields) -> ModelConfig:
  fields.take('pretraining_tp', None)  # how products are cut, not what they are
  return shape(
    fields,
    attention_bias='all' if fields.take('attention_bias', False) else 'none',
    mlp_bias=fields.take('mlp_bias', False),
  )


def _read_mistral(fields: base.Fields) -> ModelConfig:
  band = fields.take('sliding_window', 0, absent=4096)
  fields.fixed('layer_types', None)
  count = fields.take('num_hidden_layers')
  bands = base.bands(fields, [bool(band)] * count, band)
  return shape(fields, kv_heads=8, **bands)


def write(config: ModelConfig) -> dict[str, Any]:
  """What all of them say alike, to config.json."""
  return (
    base.shape_fields(config)
    | rotary.write(config)
    | {
      'rms_norm_eps': config.norm_epsilon,
      'hidden_act': base.activation_name(config),
    }
  )


def _write_llama(config: ModelConfig) -> dict[str, Any]:
  return write(config) | {
    'attention_bias': config.attention_bias == 'all',
    'mlp_bias': config.mlp_bias,
  }


def _write_mistral(config: ModelConfig) -> dict[str, Any]:
  band = config.band if config.is_banded(0) else None
  return write(config) | {'sliding_window': band}


def rules(config: ModelConfig, norms: dict[str, str]) -> list[base.Rule]:
  """Returns the name map of Llama's line.

  Args:
    config: the model's shape.
    norms: what each of our norms of a layer is called in theirs.
  """
  rule, layer = base.rule, 'model.layers.{}'
  found = [
    rule('embedding/tokens', 'model.embed_tokens.weight'),
    *base.heads(config, layer + '.self_attn.{qkv}_proj'),
    *base.linear(
      'layers/attention_output',
      f'{layer}.self_attn.o_proj',
      bias=config.attention_bias == 'all',
    ),
    *base.gated_mlp(config, f'{layer}.mlp'),
    *base.norm('final_norm', 'model.norm', bias=False),
  ]
  if config.qk_norm:
    norms = norms | {x: f'self_attn.{x}' for x in ('q_norm', 'k_norm')}
  for leaf, name in norms.items():
    found += base.norm(f'layers/{leaf}', f'{layer}.{name}', bias=False)
  return found


def _rules(config: ModelConfig) -> list[base.Rule]:
  return rules(
    config,
    {
      'attention_norm': 'input_layernorm',
      'mlp_norm': 'post_attention_layernorm',
    },
  )


def family(model_type: str, name: str, read, write) -> base.Family:
  """Returns one of them, of its names and its config's reader and writer."""
  return base.Family(
    model_type=model_type,
    causal=f'{name}ForCausalLM',
    classifier=f'{name}ForSequenceClassification',
    prefix='model.',
    read=read,
    write=write,
    rules=_rules,
  )


FAMILIES = (
  family('llama', 'Llama', _read_llama, _write_llama),
  family('mistral', 'Mistral', _read_mistral, _write_mistral),
)
