"""What shape a model has: a frozen description and the published sizes."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from instructjax import errors

ATTENTIONS = ('dense', 'alternating')
DTYPES = ('float32', 'bfloat16')
POSITIONS = ('learned', 'rotary')
REMATS = ('none', 'full', 'dots')


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The shape of one decoder; hashable, so that it can be a static argument.

  Attributes:
    vocab_size: number of token ids; the embedding is tied to the output.
    num_layers: number of blocks.
    d_model: width of the residual stream.
    num_heads: attention heads; num_heads * head_dim may differ from d_model.
    head_dim: width of one head.
    d_ff: width of the feed-forward layer.
    max_length: longest sequence it is meant for. Later tokens reuse the last
      learned position; rotary ones go on.
    positions: 'learned' (GPT-2, GPT-3): a vector for each is added to the
      embedding; 'rotary': queries and keys turn with their distance, with
      which a small model learns to copy from few tokens of text.
    rope_theta: rotary's base; the slowest pair of numbers turns once in about
      2 pi rope_theta tokens.
    qk_norm: queries and keys are RMS-normalised in each head, which bounds the
      scores and allows for larger learning rates.
    dropout: residual dropout rate, used only where dropout keys are passed.
    attention: 'dense', or 'alternating': layers 1, 3, 5... see only the last
      `band` positions, as in GPT-3.
    band: width of the local attention, in tokens, the token itself included.
    dtype: what the forward pass computes in; parameters stay float32.
    remat: what the backward pass recomputes: 'none', 'dots' (all but the
      weight products) or 'full' (whole blocks).

  Raises:
    UserError: if a size is not positive or a choice is unknown.
  """

  vocab_size: int
  num_layers: int
  d_model: int
  num_heads: int
  head_dim: int
  d_ff: int
  max_length: int
  positions: str = 'learned'
  rope_theta: float = 10_000.0
  qk_norm: bool = False
  dropout: float = 0.0
  attention: str = 'dense'
  band: int = 256
  dtype: str = 'float32'
  remat: str = 'none'

  def __post_init__(self):
    for name in _SIZES:
      value = getattr(self, name)
      if type(value) is not int or value < 1:
        raise errors.UserError(
          f'model.{name} must be a whole number of at least 1, given {value!r}:'
          ' set it to the size you want.'
        )
    if not 0.0 <= self.dropout < 1.0:
      raise errors.UserError(
        f'model.dropout must be in [0, 1), given {self.dropout!r}: use 0 for'
        ' no dropout.'
      )
    if type(self.qk_norm) is not bool:
      raise errors.UserError(
        f'model.qk_norm must be true or false, given {self.qk_norm!r}: choose'
        ' one.'
      )
    if not (isinstance(self.rope_theta, (int, float)) and self.rope_theta > 1):
      raise errors.UserError(
        f'model.rope_theta must be above 1, given {self.rope_theta!r}: use'
        ' 10000 if in doubt.'
      )
    if self.positions == 'rotary' and self.head_dim % 2:
      raise errors.UserError(
        'rotary positions need an even model.head_dim, given'
        f' {self.head_dim}: use {self.head_dim + 1}.'
      )
    _check_choice('positions', self.positions, POSITIONS)
    _check_choice('attention', self.attention, ATTENTIONS)
    _check_choice('dtype', self.dtype, DTYPES)
    _check_choice('remat', self.remat, REMATS)

  def to_dict(self) -> dict[str, Any]:
    """Returns the fields as a plain dict, fit for JSON."""
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> ModelConfig:
    """Returns the config that `to_dict` wrote.

    Raises:
      UserError: if a field is unknown or one without a default is missing.
    """
    known = {field.name for field in dataclasses.fields(cls)}
    for name in fields:
      if name not in known:
        raise errors.UserError(
          f'model.{name} is not a field of ModelConfig:'
          f' use one of {", ".join(sorted(known))}.'
          f'{errors.nearest(name, known)}'
        )
    required = {
      field.name
      for field in dataclasses.fields(cls)
      if field.default is dataclasses.MISSING
    }
    missing = sorted(required - set(fields))
    if missing:
      raise errors.UserError(
        f'a model needs {", ".join(sorted(required))}, given none for'
        f' {", ".join(missing)}: add them.'
      )
    return cls(**fields)


_SIZES = (
  'vocab_size',
  'num_layers',
  'd_model',
  'num_heads',
  'head_dim',
  'd_ff',
  'max_length',
  'band',
)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]):
  if value not in choices:
    raise errors.UserError(
      f'model.{name} must be one of {", ".join(choices)}, given {value!r}:'
      f' choose one.{errors.nearest(str(value), choices)}'
    )


def _gpt3(num_layers, d_model, num_heads, head_dim) -> ModelConfig:
  return ModelConfig(
    vocab_size=50257,
    num_layers=num_layers,
    d_model=d_model,
    num_heads=num_heads,
    head_dim=head_dim,
    d_ff=4 * d_model,
    max_length=2048,
    attention='alternating',
  )


# GPT-3's Table 2.1 (arXiv:2005.14165). It prints 24 heads for 1.3B, which does
# not fit 2048 = 16 * 128; 16 is what Stiennon et al. (arXiv:2009.01325) list.
# GPT-3 does not print the band's width; 256 is our choice.
PRESETS = {
  'tiny': ModelConfig(
    vocab_size=2048,
    num_layers=4,
    d_model=128,
    num_heads=4,
    head_dim=32,
    d_ff=512,
    max_length=256,
  ),
  'gpt2': ModelConfig(
    vocab_size=50257,
    num_layers=12,
    d_model=768,
    num_heads=12,
    head_dim=64,
    d_ff=3072,
    max_length=1024,
  ),
  '350M': _gpt3(24, 1024, 16, 64),
  '760M': _gpt3(24, 1536, 16, 96),
  '1.3B': _gpt3(24, 2048, 16, 128),
  '2.7B': _gpt3(32, 2560, 32, 80),
  '6B': _gpt3(32, 4096, 32, 128),
  '13B': _gpt3(40, 5140, 40, 128),
  '175B': _gpt3(96, 12288, 96, 128),
}


def preset(name: str, **overrides: Any) -> ModelConfig:
  """Returns a published size by name, with some fields replaced.

  Raises:
    UserError: if there is no such preset or field.
  """
  if name not in PRESETS:
    raise errors.UserError(
      f'a model preset must be one of {", ".join(PRESETS)}, given {name!r}:'
      f' choose one.{errors.nearest(name, PRESETS)}'
    )
  return ModelConfig.from_dict(PRESETS[name].to_dict() | overrides)
