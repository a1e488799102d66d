"""What shape a model has: a frozen description and the published sizes."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

from instructjax import errors

ACTIVATIONS = ('gelu_tanh', 'gelu', 'relu', 'silu')
ATTENTIONS = ('dense', 'alternating', 'listed')
ATTENTION_BIASES = ('all', 'qkv', 'none')
# The last two are what the first two kernels would compute, anywhere, slowly.
ATTENTION_KERNELS = (
  *('xla', 'splash', 'cudnn'),
  *('splash_interpreted', 'cudnn_emulated'),
)
BRANCHES = ('sequential', 'parallel', 'parallel_two_norms')
DTYPES = ('float32', 'bfloat16')
NORMS = ('layer', 'rms')
POSITIONS = ('learned', 'rotary')
REMATS = ('none', 'full', 'dots')
ROPE_SCALINGS = ('none', 'linear', 'dynamic', 'llama3', 'yarn')


# Turns from which on RopeScaling leaves a pair as it is.
_FAST = {'llama3': 4.0, 'yarn': 32.0}


def _check_choice(name: str, value: Any, choices: tuple[str, ...]):
  if value not in choices:
    raise errors.UserError(
      f'model.{name} must be one of {", ".join(choices)}, given {value!r}:'
      f' choose one.{errors.nearest(str(value), choices)}'
    )


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """How rotary positions reach further than the model was trained on.

  Attributes:
    kind: 'none': not at all; 'linear': all angles shrink by the factor (Chen et
      al. 2023, arXiv:2306.15595); 'dynamic': not up to max_length, which such
      a model must not exceed here (beyond, its angles would depend on the
      longest sequence of the batch); 'llama3': slow pairs shrink, fast ones
      stay (Llama 3.1's release); 'yarn': the same with a ramp in pairs, and
      sharper attention (Peng et al. 2023, arXiv:2309.00071).
    factor: by which positions reach further, at least 1.
    original_length: positions that it was trained on, for 'llama3' and 'yarn'.
    low: 'llama3': pairs of fewer turns in original_length shrink fully;
      'yarn': beta_slow, the same.
    high: 'llama3': pairs of more turns stay as they are; 'yarn': beta_fast; 0:
      4 for 'llama3', 32 for 'yarn'.
    attention_factor: 'yarn' multiplies queries and keys by it; 0:
      1 + 0.1 log(factor).
    truncate: 'yarn': the ramp begins and ends at whole pairs.

  Raises:
    UserError: for an unknown kind or an impossible number.
  """

  kind: str = 'none'
  factor: float = 1.0
  original_length: int = 0
  low: float = 1.0
  high: float = 0.0
  attention_factor: float = 0.0
  truncate: bool = True

  def __post_init__(self):
    _check_choice('rope_scaling.kind', self.kind, ROPE_SCALINGS)
    if self.factor < 1:
      raise errors.UserError(
        f'model.rope_scaling.factor must be at least 1, given {self.factor!r}:'
        ' leave rope_scaling out for no scaling.'
      )
    if self.kind in _FAST and self.original_length < 1:
      raise errors.UserError(
        f'model.rope_scaling.original_length must be given for {self.kind!r},'
        f' got {self.original_length!r}: the length it was trained on.'
      )
    if self.kind in _FAST and not 0 < self.low < self.fast:
      raise errors.UserError(
        'model.rope_scaling.low must be above 0 and below high, given'
        f' {self.low!r} and {self.fast!r}.'
      )

  @property
  def fast(self) -> float:
    """Turns from which on a pair stays as it is."""
    return self.high or _FAST[self.kind]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The shape of one decoder; hashable, so that it can be a static argument.

  Attributes:
    vocab_size: number of token ids.
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
    rope_scaling: how they reach further.
    rotary_dim: how many of a head's numbers turn, the first ones; 0: all.
    local_rope_theta: rotary's base in banded layers, which know no scaling
      (Gemma 3); 0: theirs is rope_theta, scaled like the others.
    position_offset: rows of the table of learned positions before the first
      (OPT: 2).
    qk_norm: queries and keys are RMS-normalised in each head, which bounds the
      scores and allows for larger learning rates.
    qk_norm_epsilon: of these norms.
    num_kv_heads: heads of keys and values, each shared by as many heads of
      queries (Ainslie et al. 2023, arXiv:2305.13245); 0: num_heads.
    norm: 'layer', or 'rms': without mean and bias.
    norm_epsilon: added to the variance.
    norm_offset: RMS norms multiply by 1 + scale (Gemma).
    post_norms: each branch is normalised once more before it is added (Gemma 2
      and 3).
    branches: 'sequential': the feed-forward layer reads what attention has
      added; 'parallel': both read the same normed input (GPT-J);
      'parallel_two_norms': each reads it through a norm of its own (GPT-NeoX).
    activation: of the feed-forward layer; 'gelu_tanh' is GPT-2's.
    gated: the activation multiplies a second projection (Shazeer 2020,
      arXiv:2002.05202).
    attention_bias: 'all', 'qkv' (not the output's; Qwen 2) or 'none'.
    mlp_bias: whether the feed-forward layer has biases.
    attention_scale: multiplies the scores; 0: 1 / sqrt(head_dim).
    attention_softcap: c of c tanh(score / c); 0: none (Gemma 2).
    final_softcap: the same of the logits.
    tied: the output's embedding is the input's.
    output_bias: the logits have a bias (GPT-J).
    embedding_scale: multiplies the input's embeddings (Gemma: sqrt(d_model)).
    dropout: residual dropout rate, used only where dropout keys are passed.
    attention: 'dense'; 'alternating': layers 1, 3, 5... see only the last
      `band` positions, as in GPT-3; 'listed': those in banded_layers do.
    banded_layers: of 'listed', numbers of layers, from 0.
    band: width of the local attention, in tokens, the token itself included.
    dtype: what the forward pass computes in; parameters stay float32.
    remat: what the backward pass recomputes: 'none', 'dots' (all but the
      weight products) or 'full' (whole blocks).
    mesh: over which activations are spread (sharding.RULES); None leaves that
      to the compiler. Not written down: it is of a run, not of a model.
    attention_kernel: what computes attention over whole rows, where it can (see
      attention.kernel_for): 'xla' anywhere, 'splash' on TPUs, 'cudnn' on NVIDIA
      GPUs; 'splash_interpreted' and 'cudnn_emulated' for tests of these two.
      It belongs to a run, so `to_dict` leaves it out.

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
  rope_scaling: RopeScaling = RopeScaling()
  rotary_dim: int = 0
  local_rope_theta: float = 0.0
  position_offset: int = 0
  qk_norm: bool = False
  qk_norm_epsilon: float = 1e-6
  num_kv_heads: int = 0
  norm: str = 'layer'
  norm_epsilon: float = 1e-5
  norm_offset: bool = False
  post_norms: bool = False
  branches: str = 'sequential'
  activation: str = 'gelu_tanh'
  gated: bool = False
  attention_bias: str = 'all'
  mlp_bias: bool = True
  attention_scale: float = 0.0
  attention_softcap: float = 0.0
  final_softcap: float = 0.0
  tied: bool = True
  output_bias: bool = False
  embedding_scale: float = 1.0
  dropout: float = 0.0
  attention: str = 'dense'
  banded_layers: tuple[int, ...] = ()
  band: int = 256
  dtype: str = 'float32'
  remat: str = 'none'
  mesh: Any = None  # jax.sharding.Mesh; this module does without JAX
  attention_kernel: str = 'xla'

  def __post_init__(self):
    for name, least in _WHOLE.items():
      value = getattr(self, name)
      if type(value) is not int or value < least:
        raise errors.UserError(
          f'model.{name} must be a whole number of at least {least}, given'
          f' {value!r}: set it to the size you want.'
        )
    for name in _AMOUNTS:
      value = getattr(self, name)
      if not isinstance(value, (int, float)) or value < 0:
        raise errors.UserError(
          f'model.{name} must be a number of at least 0, given {value!r}.'
        )
    for name in _FLAGS:
      if type(getattr(self, name)) is not bool:
        raise errors.UserError(
          f'model.{name} must be true or false, given {getattr(self, name)!r}:'
          ' choose one.'
        )
    for name, choices in _CHOICES.items():
      _check_choice(name, getattr(self, name), choices)
    if not 0.0 <= self.dropout < 1.0:
      raise errors.UserError(
        f'model.dropout must be in [0, 1), given {self.dropout!r}: use 0 for'
        ' no dropout.'
      )
    if not (isinstance(self.rope_theta, (int, float)) and self.rope_theta > 1):
      raise errors.UserError(
        f'model.rope_theta must be above 1, given {self.rope_theta!r}: use'
        ' 10000 if in doubt.'
      )
    self._check_heads()
    self._check_bands()

  def _check_heads(self) -> None:
    """Raises UserError if heads cannot turn, or not share keys and values."""
    turning = self.rotary_dim or self.head_dim
    if self.positions == 'rotary' and (turning % 2 or turning > self.head_dim):
      name = 'rotary_dim' if self.rotary_dim else 'head_dim'
      fitting = turning + turning % 2
      if self.rotary_dim and fitting > self.head_dim:
        fitting = self.head_dim // 2 * 2
      raise errors.UserError(
        f'rotary positions need an even model.{name} of at most head_dim, given'
        f' {turning}: use {fitting}.'
      )
    if self.num_heads % self.kv_heads:
      raise errors.UserError(
        f'model.num_kv_heads must divide num_heads={self.num_heads}, given'
        f' {self.num_kv_heads}: 0 gives every head its own.'
      )

  def _check_bands(self) -> None:
    """Raises UserError unless the listed layers exist and are asked for."""
    listed = self.banded_layers
    fitting = type(listed) is tuple and all(
      type(layer) is int and 0 <= layer < self.num_layers for layer in listed
    )
    if not fitting:
      raise errors.UserError(
        'model.banded_layers must be numbers of layers, from 0 to'
        f' {self.num_layers - 1}, given {listed!r}.'
      )
    if bool(listed) != (self.attention == 'listed'):
      raise errors.UserError(
        "model.banded_layers belongs to attention='listed', given"
        f' {listed!r} and {self.attention!r}: give both or neither.'
      )

  @property
  def kv_heads(self) -> int:
    """Heads of keys and values."""
    return self.num_kv_heads or self.num_heads

  def is_banded(self, layer: int) -> bool:
    """Whether a layer sees only the last `band` positions."""
    if self.attention == 'alternating':
      return layer % 2 == 1
    return self.attention == 'listed' and layer in self.banded_layers

  def to_dict(self) -> dict[str, Any]:
    """Returns the fields as a plain dict, fit for JSON."""
    told = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in _OF_THE_RUN
    }
    return told | {
      'banded_layers': list(self.banded_layers),
      'rope_scaling': dataclasses.asdict(self.rope_scaling),
    }

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> ModelConfig:
    """Returns the config that `to_dict` wrote, or of any fields.

    Raises:
      UserError: if a field is unknown or one without a default is missing.
    """
    _check_fields('model', fields, cls)
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
    fields = dict(fields)
    scaling = fields.get('rope_scaling')
    if isinstance(scaling, Mapping):
      _check_fields('model.rope_scaling', scaling, RopeScaling)
      fields['rope_scaling'] = RopeScaling(**scaling)
    if isinstance(fields.get('banded_layers'), list):
      fields['banded_layers'] = tuple(fields['banded_layers'])
    return cls(**fields)


def with_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Returns `to_dict`'s fields, those added that it did not yet have then."""
  defaults = {
    field.name: field.default
    for field in dataclasses.fields(ModelConfig)
    if field.default is not dataclasses.MISSING
    and field.name not in _OF_THE_RUN
  }
  defaults['rope_scaling'] = dataclasses.asdict(RopeScaling())
  return defaults | {'banded_layers': []} | dict(fields)


def _check_fields(name: str, fields: Mapping[str, Any], cls: type) -> None:
  known = {field.name for field in dataclasses.fields(cls)}
  for key in fields:
    if key not in known:
      raise errors.UserError(
        f'{name}.{key} is not a field of {cls.__name__}:'
        f' use one of {", ".join(sorted(known))}.{errors.nearest(key, known)}'
      )


_CHOICES = {
  'positions': POSITIONS,
  'norm': NORMS,
  'branches': BRANCHES,
  'activation': ACTIVATIONS,
  'attention_bias': ATTENTION_BIASES,
  'attention': ATTENTIONS,
  'attention_kernel': ATTENTION_KERNELS,
  'dtype': DTYPES,
  'remat': REMATS,
}
# A saved model may go on where there are other devices.
_OF_THE_RUN = ('attention_kernel', 'mesh')
_FLAGS = (
  *('qk_norm', 'norm_offset', 'post_norms', 'gated', 'mlp_bias', 'tied'),
  'output_bias',
)
_AMOUNTS = (
  *('norm_epsilon', 'qk_norm_epsilon', 'local_rope_theta', 'attention_scale'),
  *('attention_softcap', 'final_softcap', 'embedding_scale'),
)
# Whole numbers, and the least each may be.
_WHOLE = {
  'vocab_size': 1,
  'num_layers': 1,
  'd_model': 1,
  'num_heads': 1,
  'head_dim': 1,
  'd_ff': 1,
  'max_length': 1,
  'band': 1,
  'num_kv_heads': 0,
  'rotary_dim': 0,
  'position_offset': 0,
}


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
