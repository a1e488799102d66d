"""What a family of Hugging Face models is: a config reader and a name map.

A family's file says how its config.json becomes a ModelConfig and back, and
which tensors make which of our leaves. Everything else (files, shards, dtypes,
errors) is the same for all and lies in checkpoints/hf.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import re
from typing import Any

import einops
import numpy as np

from instructjax import errors
from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig
_REQUIRED = object()
_OUTPUT = 'output/tokens'

# Keys of config.json that leave a forward pass as it is: where a file comes
# from, how it was and will be trained or sampled from, special ids. Dropout is
# a stage's to choose, heads of other tasks are not read.
_WITHOUT_EFFECT = frozenset(
  """
  architectures auto_map bos_token_id eos_token_id dtype id2label
  initializer_range keys_to_ignore_at_inference label2id model_type
  num_labels pad_token_id score_bias tokenizer_class torch_dtype
  transformers_version unsloth_version use_cache _attn_implementation_autoset
  _name_or_path
  activation_dropout attention_dropout attn_pdrop classifier_dropout dropout
  embd_pdrop hidden_dropout layerdrop resid_pdrop
  chunk_size_feed_forward gradient_checkpointing output_attentions
  output_hidden_states problem_type return_dict sep_token_id
  summary_activation summary_first_dropout summary_proj_to_labels summary_type
  summary_use_proj
  task_specific_params torchscript use_return_dict use_bfloat16
  bad_words_ids begin_suppress_tokens decoder_start_token_id diversity_penalty
  do_sample early_stopping encoder_no_repeat_ngram_size
  exponential_decay_length_penalty finetuning_task forced_bos_token_id
  forced_eos_token_id length_penalty
  max_length max_new_tokens min_length no_repeat_ngram_size num_beam_groups
  num_beams num_return_sequences output_scores prefix remove_invalid_values
  repetition_penalty return_dict_in_generate suppress_tokens temperature
  tf_legacy_loss top_k top_p typical_p
  """.split()
)
# Old files spell these out; only one value means a plain decoder.
_FIXED = {
  'add_cross_attention': False,
  'cross_attention_hidden_size': None,
  'is_decoder': None,
  'is_encoder_decoder': False,
  'pruned_heads': {},
  'tie_encoder_decoder': False,
}

ACTIVATIONS = {
  'gelu': 'gelu',
  'gelu_new': 'gelu_tanh',
  'gelu_fast': 'gelu_tanh',
  'gelu_pytorch_tanh': 'gelu_tanh',
  'relu': 'relu',
  'silu': 'silu',
  'swish': 'silu',
}
_ACTIVATION_NAMES = {
  'gelu': 'gelu',
  'gelu_tanh': 'gelu_pytorch_tanh',
  'relu': 'relu',
  'silu': 'silu',
}


@dataclasses.dataclass(frozen=True)
class Rule:
  """Which tensors make one of our leaves.

  Attributes:
    leaf: path in the parameters, as 'layers/qkv/kernel'. Of a leaf under
      'layers' the rule is for each layer.
    names: the tensors; '{}' stands for the layer's number.
    pattern: einops' pattern from a tensor, or from several stacked along a new
      first axis, to the leaf; d is the head's width, (c ...) are q, k and v.
      '': as it is.
    rows: for each tensor, in which order its rows are to be read; None, or no
      rows at all: as they are.
  """

  leaf: str
  names: tuple[str, ...]
  pattern: str = ''
  rows: tuple[Sequence[int] | None, ...] = ()

  def read(self, tensors: Sequence[Any], head_dim: int) -> Any:
    """Returns the leaf, or its part of one layer, of the rule's tensors."""
    tensors = [
      tensor if rows is None else tensor[np.asarray(rows)]
      for tensor, rows in self._with_rows(tensors)
    ]
    stacked = tensors[0] if len(tensors) == 1 else tensors
    return _rearrange(stacked, self.pattern, head_dim)

  def write(self, leaf: Any, head_dim: int) -> list[Any]:
    """Returns the tensors of a leaf, or of its part of one layer."""
    left, _, right = self.pattern.partition(' -> ')
    x = _rearrange(leaf, f'{right} -> {left}' if right else '', head_dim)
    tensors = [x] if len(self.names) == 1 else [*x]
    return [
      tensor if rows is None else tensor[np.argsort(rows)]
      for tensor, rows in self._with_rows(tensors)
    ]

  def _with_rows(self, tensors: Sequence[Any]):
    return zip(tensors, self.rows or [None] * len(tensors), strict=True)


def _rearrange(x: Any, pattern: str, head_dim: int) -> Any:
  if not pattern:
    return x
  grouped = ' '.join(re.findall(r'\(([^)]*)\)', pattern)).split()
  known = {'c': 3, 'd': head_dim}
  sizes = {axis: size for axis, size in known.items() if axis in grouped}
  return einops.rearrange(x, pattern, **sizes)


def rule(leaf: str, names: str, pattern: str = '', rows=()) -> Rule:
  """Returns a Rule; `names` are separated by spaces."""
  return Rule(leaf, tuple(names.split()), pattern, rows)


def linear(leaf: str, name: str, *, bias: bool, transposed: bool = True):
  """Rules of a projection of ours and one of theirs.

  Args:
    leaf: path without '/kernel'.
    name: tensor without '.weight'.
    bias: whether there is one.
    transposed: whether theirs is [outputs, inputs], as torch's Linear.
  """
  pattern = 'o i -> i o' if transposed else ''
  found = [rule(f'{leaf}/kernel', f'{name}.weight', pattern)]
  if bias:
    found.append(rule(f'{leaf}/bias', f'{name}.bias'))
  return found


def norm(leaf: str, name: str, *, bias: bool):
  """Rules of a norm: its scale, and a layer norm's bias."""
  found = [rule(f'{leaf}/scale', f'{name}.weight')]
  return found + ([rule(f'{leaf}/bias', f'{name}.bias')] if bias else [])


def heads(config: ModelConfig, name: str) -> list[Rule]:
  """Rules of queries, keys and values that are three tensors.

  Args:
    config: the model's shape.
    name: with '{}' for the layer and '{qkv}' for the letter.
  """
  q, k, v = (name.replace('{qkv}', letter) for letter in 'qkv')
  if config.kv_heads == config.num_heads:
    parts = [('layers/qkv', (q, k, v), 'c (h d) m -> m c h d')]
  else:
    parts = [
      ('layers/q', (q,), '(h d) m -> m h d'),
      ('layers/kv', (k, v), 'c (h d) m -> m c h d'),
    ]
  found = []
  for leaf, names, pattern in parts:
    weights = tuple(f'{n}.weight' for n in names)
    found.append(Rule(f'{leaf}/kernel', weights, pattern))
    if config.attention_bias != 'none':
      biases = tuple(f'{n}.bias' for n in names)
      pattern = pattern.replace(' m', '')
      found.append(Rule(f'{leaf}/bias', biases, pattern))
  return found


@dataclasses.dataclass(frozen=True)
class Family:
  """A kind of model that transformers knows.

  Attributes:
    model_type: what config.json calls it.
    causal: architecture of its language models.
    classifier: architecture of its classifiers, for reward and value models.
    prefix: of its tensors' names; files of the bare decoder leave it out.
    read: Fields -> ModelConfig.
    write: ModelConfig -> what config.json says. What it cannot say `read`
      gives back otherwise, and the model is refused.
    rules: ModelConfig -> the name map, but for the output's embedding.
    output: that one's name; it may be there though it is tied.
    buffers: pattern of tensors that are no parameters.
  """

  model_type: str
  causal: str
  classifier: str
  prefix: str
  read: Callable[[Fields], ModelConfig]
  write: Callable[[ModelConfig], dict[str, Any]]
  rules: Callable[[ModelConfig], list[Rule]]
  output: str = 'lm_head.weight'
  buffers: str = r'rotary_emb\.inv_freq$'

  def name_map(self, config: ModelConfig) -> list[Rule]:
    """Returns the rules of all leaves that a model of this config has."""
    found = self.rules(config)
    return found if config.tied else [*found, rule(_OUTPUT, self.output)]


class Fields:
  """config.json, of which every key must be understood.

  Args:
    fields: its content.
    where: the file, for messages.
  """

  def __init__(self, fields: Mapping[str, Any], where: str):
    self.fields, self.where = fields, where
    self._left = set(fields) - _WITHOUT_EFFECT
    for name, value in _FIXED.items():
      if fields.get(name) is not None and value is not None:
        self.fixed(name, value)
      self._left.discard(name)

  def take(
    self, name: str, default: Any = _REQUIRED, *, absent: Any = None
  ) -> Any:
    """Returns a key's value; the default where it is absent or null.

    Args:
      name: the key.
      default: None is one too; without any, the key is needed.
      absent: where it is not even null, if that means something else.

    Raises:
      UserError: if it is neither there nor has a default.
    """
    self._left.discard(name)
    value = self.fields.get(name, absent)
    if isinstance(default, bool) and value not in (None, True, False):
      raise self.refused(name, 'true or false')
    if value is not None:
      return value
    if default is _REQUIRED:
      raise errors.UserError(
        f'{self.where} has no {name!r}, which its model needs: restore the'
        ' file.'
      )
    return default

  def fixed(self, name: str, *values: Any) -> None:
    """Raises UserError unless a key, if it is there, has one of the values."""
    given = self.take(name, values[0])
    if given not in values:
      raise self.refused(name, ' or '.join(map(json.dumps, values)))

  def chosen(self, name: str, choices: Mapping[Any, Any], default: Any) -> Any:
    """Returns what a key's value means.

    Raises:
      UserError: if it is none of the choices.
    """
    given = self.take(name, default)
    if given not in choices:
      raise self.refused(name, ' or '.join(map(json.dumps, choices)))
    return choices[given]

  def refused(self, name: str, needed: str) -> errors.UserError:
    """Returns the error for a key whose value is not supported."""
    return errors.UserError(
      f'{self.where}: {name!r} must be {needed}, given'
      f' {json.dumps(self.fields.get(name))}: such models are not supported.'
    )

  def finish(self) -> None:
    """Raises UserError for a key that nobody asked for."""
    left = [k for k in sorted(self._left) if self.fields[k] is not None]
    if left:
      raise errors.UserError(
        f'{self.where}: {left[0]!r} ='
        f' {json.dumps(self.fields[left[0]])[:60]} is not understood, and may'
        ' change what the model computes: remove it if it does not.'
      )


def agreed(
  fields: Fields,
  names: Sequence[str],
  default: Any,
  section: dict[str, Any],
  key: str,
) -> Any:
  """Returns a value that several keys may give, or the default.

  Args:
    fields: of config.json.
    names: its keys.
    default: where none of all is there.
    section: of config.json, from which `key` is taken away.
    key: what the section calls it.

  Raises:
    UserError: if they differ.
  """
  given = [fields.take(name, None) for name in names] + [section.pop(key, None)]
  values = {value for value in given if value is not None}
  if len(values) > 1:
    raise fields.refused(next(iter(names), key), f'what {key!r} elsewhere is')
  return values.pop() if values else default


def head_dim(fields: Fields, width: int, heads: int) -> int:
  """Returns the heads' width where they share the model's.

  Raises:
    UserError: if it does not divide.
  """
  if width % heads:
    raise errors.UserError(
      f'{fields.where}: {heads} heads must divide the width {width}.'
    )
  return width // heads


def shape(
  fields: Fields, kv_heads: int | None = None, width: int | None = None
) -> dict[str, Any]:
  """Returns ModelConfig's fields of the sizes that most families call alike.

  Args:
    fields: of config.json.
    kv_heads: heads of keys and values where the file does not name the key;
      None: all.
    width: of a head, the same; None: its share of the model's.
  """
  wide, heads = fields.take('hidden_size'), fields.take('num_attention_heads')
  shared = fields.take('num_key_value_heads', heads, absent=kv_heads)
  return {
    'vocab_size': fields.take('vocab_size'),
    'num_layers': fields.take('num_hidden_layers'),
    'd_model': wide,
    'num_heads': heads,
    'num_kv_heads': 0 if shared == heads else shared,
    'head_dim': fields.take('head_dim', wide // heads, absent=width),
    'd_ff': fields.take('intermediate_size'),
  }


def shape_fields(config: ModelConfig) -> dict[str, Any]:
  """Returns what config.json says of the sizes, for `shape` to read."""
  return {
    'vocab_size': config.vocab_size,
    'num_hidden_layers': config.num_layers,
    'hidden_size': config.d_model,
    'num_attention_heads': config.num_heads,
    'num_key_value_heads': config.kv_heads,
    'head_dim': config.head_dim,
    'intermediate_size': config.d_ff,
    'tie_word_embeddings': config.tied,
  }


def bands(
  fields: Fields, is_banded: Sequence[bool], band: int
) -> dict[str, Any]:
  """Returns ModelConfig's fields of the layers that see only a window.

  Args:
    fields: of config.json, whose 'layer_types' come first.
    is_banded: which layers do where there are no such.
    band: the window's width in tokens.
  """
  kinds = {'sliding_attention': True, 'full_attention': False}
  given = fields.take('layer_types', None)
  if given is not None:
    if len(given) != len(is_banded) or set(given) - set(kinds):
      raise fields.refused(
        'layer_types', f'{len(is_banded)} of {" or ".join(kinds)}'
      )
    is_banded = [kinds[kind] for kind in given]
  listed = tuple(layer for layer, yes in enumerate(is_banded) if yes)
  if not listed:
    return {}
  return {'attention': 'listed', 'banded_layers': listed, 'band': band}


def layer_types(config: ModelConfig) -> list[str]:
  """Returns config.json's 'layer_types'."""
  return [
    'sliding_attention' if config.is_banded(layer) else 'full_attention'
    for layer in range(config.num_layers)
  ]


def gated_mlp(config: ModelConfig, name: str) -> list[Rule]:
  """Rules of a gated feed-forward layer."""
  found = []
  for leaf, part in (
    ('mlp_gate', 'gate_proj'),
    ('mlp_input', 'up_proj'),
    ('mlp_output', 'down_proj'),
  ):
    found += linear(f'layers/{leaf}', f'{name}.{part}', bias=config.mlp_bias)
  return found


def activation_name(config: ModelConfig) -> str:
  """Returns what config.json calls the activation."""
  return _ACTIVATION_NAMES[config.activation]
