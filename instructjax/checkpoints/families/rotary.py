"""Rotary positions in config.json, old keys and new, to ours and back."""

from __future__ import annotations

import math
from typing import Any

from instructjax import errors
from instructjax.checkpoints.families import base
from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig
RopeScaling = config_lib.RopeScaling


def read(
  fields: base.Fields,
  *,
  head_dim: int,
  theta: float = 10_000.0,
  theta_key: str = 'rope_theta',
  part_key: str = 'partial_rotary_factor',
  part: float = 1.0,
  local: float = 0.0,
) -> dict[str, Any]:
  """Returns ModelConfig's fields of rotary positions.

  Args:
    fields: of config.json. Since transformers 5 all is in 'rope_parameters';
      before, the base and the part stood for themselves, and 'rope_scaling'.
    head_dim: a head's width.
    theta: the base where none is given.
    theta_key: what old files call the base.
    part_key: what old files call the part of a head that turns.
    part: that part where none is given.
    local: the base of layers with a window where none is given, of families
      that have another one there.

  Raises:
    UserError: for a kind of scaling that is not supported.
  """
  theta = fields.take(theta_key, theta)
  part = fields.take(part_key, part)
  scaling = fields.take('rope_scaling', None)
  given = fields.take('rope_parameters', None) or scaling or {}
  if local and 'full_attention' in given:
    near = given['sliding_attention']
    if near.get('rope_type', 'default') != 'default':
      raise fields.refused('rope_parameters', 'default in sliding_attention')
    given, local = given['full_attention'], near['rope_theta']
  options = dict(given)
  theta = options.pop('rope_theta', theta)
  part = options.pop('partial_rotary_factor', part)
  width = int(head_dim * part)
  length = fields.take('max_position_embeddings')
  return {
    'positions': 'rotary',
    'rope_theta': float(theta),
    'local_rope_theta': float(local),
    'rotary_dim': 0 if width == head_dim else width,
    'rope_scaling': _scaling(fields, options, length),
    'max_length': length,
  }


def _scaling(
  fields: base.Fields, options: dict[str, Any], length: int
) -> RopeScaling:
  """What 'rope_scaling' means; it may lack what the config says elsewhere."""
  kinds = options.pop('rope_type', None), options.pop('type', None)
  kind = kinds[0] or kinds[1] or 'default'
  options = {k: v for k, v in options.items() if v is not None}
  original = fields.take('original_max_position_embeddings', length)
  original = options.pop('original_max_position_embeddings', original)
  if kind == 'default':
    found = RopeScaling()
  elif kind in ('linear', 'dynamic'):
    found = RopeScaling(kind, float(options.pop('factor')))
  elif kind == 'llama3':
    found = RopeScaling(
      kind,
      float(options.pop('factor')),
      original,
      low=float(options.pop('low_freq_factor')),
      high=float(options.pop('high_freq_factor')),
    )
  elif kind == 'yarn':
    found = _yarn(options, original, length)
  else:
    found = None
  if found is None or options:
    what = f'{kind!r}' if found is None else f'key {sorted(options)[0]!r}'
    raise errors.UserError(
      f"{fields.where}: 'rope_scaling' or 'rope_parameters' with {what} is not"
      ' supported: use default, linear, dynamic, llama3 or yarn and their own'
      ' keys.'
    )
  return found


def _yarn(options: dict[str, Any], original: int, length: int) -> RopeScaling:
  factor = float(options.pop('factor', length / original))
  scales = options.pop('mscale', 0), options.pop('mscale_all_dim', 0)
  sharpness = options.pop('attention_factor', 0.0)
  if not sharpness and all(scales) and factor > 1:
    above, below = (0.1 * s * math.log(factor) + 1 for s in scales)
    sharpness = above / below
  return RopeScaling(
    'yarn',
    factor,
    original,
    low=float(options.pop('beta_slow', 0) or 1),
    high=float(options.pop('beta_fast', 0) or 32),
    attention_factor=float(sharpness),
    truncate=options.pop('truncate', True),
  )


def write(config: ModelConfig, *, part: bool = False) -> dict[str, Any]:
  """Returns config.json's keys, in the old manner and in the new.

  Args:
    config: the model's shape.
    part: whether the family's heads may turn in part.
  """
  scaling, theta = config.rope_scaling, config.rope_theta
  turning = config.rotary_dim or config.head_dim
  share = {'partial_rotary_factor': turning / config.head_dim} if part else {}
  options = {'rope_type': 'default'}
  if scaling.kind != 'none':
    options = {'rope_type': scaling.kind, 'factor': scaling.factor}
  if scaling.original_length:
    options['original_max_position_embeddings'] = scaling.original_length
  if scaling.kind == 'llama3':
    options['low_freq_factor'] = scaling.low
    options['high_freq_factor'] = scaling.fast
  if scaling.kind == 'yarn':
    options['beta_slow'], options['beta_fast'] = scaling.low, scaling.fast
    options['truncate'] = scaling.truncate
    if scaling.attention_factor:
      options['attention_factor'] = scaling.attention_factor
  return {
    'max_position_embeddings': config.max_length,
    'rope_theta': theta,
    'rope_scaling': None if scaling.kind == 'none' else options,
    'rope_parameters': options | {'rope_theta': theta} | share,
  } | share
