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
  local: float = 0.0,
) -> dict[str, Any]:
  """Returns ModelConfig's fields of rotary positions, in whole heads.

  Args:
    fields: of config.json. Since transformers 5 all is in 'rope_parameters';
      before, the base stood for itself, and 'rope_scaling'.
    head_dim: a head's width.
    theta: the base where none is given.
    local: the base of layers with a window where none is given, of families
      that have another one there.

  Raises:
    UserError: for a kind of scaling that is not supported, and where old and
      new keys say different things.
  """
  fields.fixed('partial_rotary_factor', 1.0)
  found = read_part(fields, head_dim=head_dim, theta=theta, local=local)
  if found['rotary_dim']:
    raise fields.refused('rope_parameters', 'of whole heads')
  return found


def read_part(
  fields: base.Fields,
  *,
  head_dim: int,
  theta: float = 10_000.0,
  theta_keys: tuple[str, ...] = ('rope_theta',),
  part: float = 1.0,
  part_keys: tuple[str, ...] = (),
  local: float = 0.0,
) -> dict[str, Any]:
  """As `read`, of a part of each head.

  Args:
    fields, head_dim, theta, local: as of `read`.
    theta_keys: what old files call the base; where there are several they must
      agree.
    part: the part of a head that turns where none is given.
    part_keys: what old files call it.
  """
  length = fields.take('max_position_embeddings')
  old = fields.take('rope_scaling', None)
  new = fields.take('rope_parameters', None)
  if new is not None and local:
    if not set(new) <= {'full_attention', 'sliding_attention'}:
      raise fields.refused('rope_parameters', 'one for each kind of layer')
    near = dict(new.get('sliding_attention') or {})
    if near.pop('rope_type', 'default') != 'default':
      raise fields.refused('rope_parameters', 'default in sliding_attention')
    local = near.pop('rope_theta', local)
    new = new.get('full_attention')
  new = dict(new or {})
  theta = base.agreed(fields, theta_keys, theta, new, 'rope_theta')
  part = base.agreed(fields, part_keys, part, new, 'partial_rotary_factor')
  scaling = _scaling(fields, new if new else dict(old or {}), length)
  if old and _scaling(fields, dict(old), length) != scaling:
    raise fields.refused('rope_scaling', "what 'rope_parameters' says")
  width = int(head_dim * part)
  return {
    'positions': 'rotary',
    'rope_theta': float(theta),
    'local_rope_theta': float(local),
    'rotary_dim': 0 if width == head_dim else width,
    'rope_scaling': scaling,
    'max_length': length,
  }


def _scaling(
  fields: base.Fields, options: dict[str, Any], length: int
) -> RopeScaling:
  """What 'rope_scaling' means; it may lack what the config says elsewhere."""
  kinds = options.pop('rope_type', None), options.pop('type', None)
  kind = kinds[0] or kinds[1] or 'default'
  options = {k: v for k, v in options.items() if v is not None}
  key = 'original_max_position_embeddings'
  original = base.agreed(fields, (key,), length, options, key)
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
