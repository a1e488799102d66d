"""Qwen 2, 2.5 and 3: Llama's shape with biases, or with normed heads.

Sources: Qwen team 2024 (arXiv:2407.10671, arXiv:2412.15115) and 2025
(arXiv:2505.09388), and transformers' Qwen2ForCausalLM and Qwen3ForCausalLM.
"""

from __future__ import annotations

from typing import Any

from instructjax.checkpoints.families import base
from instructjax.checkpoints.families import llama
from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig


def _windows(fields: base.Fields) -> dict[str, Any]:
  """Qwen's: the layers from max_window_layers on, if they are used at all."""
  used = fields.take('use_sliding_window', False)
  band = fields.take('sliding_window', 0, absent=4096) if used else 0
  fields.take('sliding_window', None)
  first = fields.take('max_window_layers', 28)
  count = fields.take('num_hidden_layers')
  is_banded = [bool(band) and layer >= first for layer in range(count)]
  return base.bands(fields, is_banded, band)


def _read_qwen2(fields: base.Fields) -> ModelConfig:
  fields.fixed('use_mrope', False)
  windows = _windows(fields)
  return llama.shape(fields, kv_heads=32, attention_bias='qkv', **windows)


def _read_qwen3(fields: base.Fields) -> ModelConfig:
  bias = 'all' if fields.take('attention_bias', False) else 'none'
  windows = _windows(fields)
  return llama.shape(
    fields,
    kv_heads=32,
    width=128,
    attention_bias=bias,
    qk_norm=True,
    **windows,
  )


def _write_qwen(config: ModelConfig) -> dict[str, Any]:
  banded = [n for n in range(config.num_layers) if config.is_banded(n)]
  return llama.write(config) | {
    'use_sliding_window': bool(banded),
    'sliding_window': config.band if banded else None,
    'max_window_layers': banded[0] if banded else config.num_layers,
    'layer_types': base.layer_types(config),
  }


def _write_qwen3(config: ModelConfig) -> dict[str, Any]:
  bias = config.attention_bias == 'all'
  return _write_qwen(config) | {'attention_bias': bias}


FAMILIES = (
  llama.family('qwen2', 'Qwen2', _read_qwen2, _write_qwen),
  llama.family('qwen3', 'Qwen3', _read_qwen3, _write_qwen3),
)
