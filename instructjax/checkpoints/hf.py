"""Hugging Face folders: config.json and safetensors, to our trees and back.

Which tensor is which leaf is said once for each family, in families/; here are
the ways of reading and writing that all share. Tensors go one by one from the
file to the devices, so that the host never holds the model twice.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import functools
import logging
import math
import pathlib
import re
import shutil
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from instructjax import errors
from instructjax import sharding as sharding_lib
from instructjax.checkpoints import families
from instructjax.checkpoints import hf_config
from instructjax.checkpoints import orbax_io
from instructjax.checkpoints import tensors
from instructjax.checkpoints.families import base
from instructjax.models import config as config_lib
from instructjax.models import heads
from instructjax.models import transformer

ModelConfig = config_lib.ModelConfig
PyTree = Any
log = logging.getLogger('instructjax')

MAX_SHARD_BYTES = 5_000_000_000
_LAYERS = 'layers/'
_ROWS = 16  # of a matrix, transposed at once
_SCORE = base.rule('head/kernel', 'score.weight', '1 m -> m')
_SCORE_BIAS = 'score_bias'
_DTYPES = {
  'float32': np.dtype(np.float32),
  'bfloat16': np.dtype(ml_dtypes.bfloat16),
}


def load_pretrained(
  folder: str | pathlib.Path,
  *,
  dtype: Any = None,
  sharding: Any = None,
) -> tuple[ModelConfig, PyTree]:
  """Reads a model from a Hugging Face folder.

  Args:
    folder: with config.json and safetensors, in one file or in shards.
    dtype: of the parameters, and what the model computes in: float32 or
      bfloat16. None: the parameters as they are stored, computing in float32.
    sharding: a jax.sharding.Mesh, whose table of rules then holds; one Sharding
      for all; or a pytree of them like the parameters. None: the default
      device.

  Returns:
    The config, and the parameters as `transformer.init` lays them out; of a
    classifier with one label {'transformer', 'head'}.

  Raises:
    UserError: for a family or a key that is not supported, a pickle, a damaged
      file, and for a missing, surplus or misshapen tensor, which it names.
  """
  found = hf_config.describe(folder)
  config = found.config
  if dtype is not None:
    dtype = _known_dtype(dtype)
    config = dataclasses.replace(config, dtype=dtype.name)
  stored = tensors.Folder(found.folder)
  names = _found_names(found, stored)
  rules = _rules(found.family, config, found.kind)
  shapes = traverse_util.flatten_dict(
    abstract_params(config, found.kind), sep='/'
  )
  _check(found, stored, names)
  places = _places(shapes, sharding)
  leaves = {}
  for rule in rules:
    shape = shapes[rule.leaf].shape
    parts = [names[name] for name in _names(rule, config.num_layers)]
    kind = dtype or jnp.result_type(*map(stored.dtype, parts))
    read = functools.partial(_read, stored, names, rule, config.head_dim, kind)
    if _is_stacked(rule):
      leaf = _stack(read, shape, kind, places[rule.leaf])
    else:
      leaf = _put(read(0), places[rule.leaf])
    leaves[rule.leaf] = leaf
  if found.kind == 'reward':
    bias = np.asarray(found.fields.get(_SCORE_BIAS, 0.0), np.float32)
    leaves['head/bias'] = _put(bias, places['head/bias'])
  return config, traverse_util.unflatten_dict(leaves, sep='/')


def _known_dtype(given: Any) -> np.dtype:
  try:
    name = jnp.dtype(given).name
  except TypeError:
    name = given
  if name not in _DTYPES:
    raise errors.UserError(
      f'dtype must be one of {", ".join(_DTYPES)}, given {name!r}: choose one.'
    )
  return _DTYPES[name]


def abstract_params(config: ModelConfig, kind: str) -> PyTree:
  """Returns the shapes of a policy's or a reward model's parameters."""
  key = jax.random.key(0)
  shapes = jax.eval_shape(functools.partial(transformer.init, config), key)
  if kind == 'policy':
    return shapes
  head = jax.eval_shape(
    lambda k: heads.init_scalar_head(k, config.d_model), key
  )
  return heads.with_head(shapes, head)


def _rules(
  family: base.Family, config: ModelConfig, kind: str
) -> list[base.Rule]:
  """The family's rules for a policy or, with its head, a reward model."""
  rules = family.name_map(config)
  if kind == 'policy':
    return rules
  trunk = [
    dataclasses.replace(rule, leaf=f'transformer/{rule.leaf}')
    for rule in rules
    if not rule.leaf.startswith('output/')
  ]
  return [*trunk, _SCORE]


def _is_stacked(rule: base.Rule) -> bool:
  return _LAYERS in rule.leaf


def _names(rule: base.Rule, layers: int) -> list[str]:
  """All tensors of a rule."""
  count = layers if _is_stacked(rule) else 1
  return [name.format(i) for i in range(count) for name in rule.names]


def _found_names(
  found: hf_config.Description, stored: tensors.Folder
) -> dict[str, str]:
  """Returns {the family's name of a tensor: the one in the files}.

  A bare decoder's file leaves out the prefix of all names.
  """
  prefix = found.family.prefix
  if any(name.startswith(prefix) for name in stored.entries):
    return {name: name for name in stored.entries}
  own = ('lm_head.', 'score.', 'embed_out.')
  return {
    name if name.startswith(own) else prefix + name: name
    for name in stored.entries
  }


def tensor_shapes(found: hf_config.Description) -> dict[str, tuple[int, ...]]:
  """Returns {name: shape} of the tensors that a folder has to hold."""
  config = found.config
  shapes = traverse_util.flatten_dict(
    abstract_params(config, found.kind), sep='/'
  )
  needed = {}
  for rule in _rules(found.family, config, found.kind):
    leaf = shapes[rule.leaf].shape
    layer = leaf[1:] if _is_stacked(rule) else leaf
    parts = _part_shapes(rule, layer, config.head_dim)
    for i, name in enumerate(_names(rule, config.num_layers)):
      needed[name] = parts[i % len(parts)]
  return needed


def _check(
  found: hf_config.Description,
  stored: tensors.Folder,
  names: Mapping[str, str],
) -> None:
  """Raises UserError unless the files hold what the config says, no more."""
  family, needed = found.family, tensor_shapes(found)
  for name, shape in needed.items():
    if name not in names:
      raise errors.UserError(
        f'{found.folder} has no tensor {name!r}, which a {family.model_type}'
        ' of its config.json has: get the files again.'
      )
    given = stored.entries[names[name]].shape
    if given != shape:
      raise errors.UserError(
        f'{found.folder}: tensor {names[name]!r} has the shape'
        f' {list(given)}, its config.json needs {list(shape)}: get the files'
        ' again.'
      )
    stored.dtype(names[name])
  surplus = sorted(
    name
    for name in set(names) - set(needed)
    if not re.search(family.buffers, name)
  )
  if family.output in surplus and (found.kind == 'reward' or found.config.tied):
    if found.kind == 'policy':  # a classifier has no use for it
      _check_tied(found, stored, names)
    surplus.remove(family.output)
  if surplus:
    raise errors.UserError(
      f'{found.folder} has a tensor {names[surplus[0]]!r}, which a'
      f' {family.model_type} of its config.json has not'
      f' ({len(surplus)} such): it may be of another architecture.'
    )


def _check_tied(
  found: hf_config.Description,
  stored: tensors.Folder,
  names: Mapping[str, str],
) -> None:
  """Raises UserError if an output that is said to be tied is another one."""
  rules = found.family.rules(found.config)
  [embedding] = [r.names[0] for r in rules if r.leaf == 'embedding/tokens']
  output = found.family.output
  if not np.array_equal(*(stored.read(names[n]) for n in (embedding, output))):
    raise errors.UserError(
      f'{found.folder}: tensor {output!r} differs from {embedding!r}, though'
      " config.json ties them: set 'tie_word_embeddings' to false to keep both."
    )


def _part_shapes(
  rule: base.Rule, shape: tuple[int, ...], head_dim: int
) -> list[tuple[int, ...]]:
  """The shapes of a rule's tensors, from that of its leaf (of one layer)."""
  unordered = dataclasses.replace(rule, rows=())
  parts = jax.eval_shape(
    lambda x: unordered.write(x, head_dim),
    jax.ShapeDtypeStruct(shape, jnp.float32),
  )
  return [part.shape for part in parts]


def _places(shapes: Mapping[str, Any], sharding: Any) -> dict[str, Any]:
  """Where each leaf goes."""
  if sharding is None:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  if isinstance(sharding, jax.sharding.Sharding):
    return dict.fromkeys(shapes, sharding)
  if isinstance(sharding, jax.sharding.Mesh):
    tree = traverse_util.unflatten_dict(dict(shapes), sep='/')
    sharding = sharding_lib.shardings(tree, sharding)
  return traverse_util.flatten_dict(sharding, sep='/')


def _read(stored, names, rule, head_dim, dtype, layer: int) -> np.ndarray:
  """A leaf, or its part of one layer, from the files."""
  parts = [stored.read(names[name.format(layer)]) for name in rule.names]
  # NumPy moves plain integers faster than bfloat16.
  plain = np.dtype(f'u{dtype.itemsize}')
  parts = [part.astype(dtype, copy=False).view(plain) for part in parts]
  return _contiguous(rule.read(parts, head_dim)).view(dtype)


def _contiguous(view: np.ndarray) -> np.ndarray:
  """Copies a transposed view, a few rows at a time so that caches hold them."""
  fast = int(np.argmin(view.strides)) if view.ndim else 0
  if view.flags.c_contiguous or fast == view.ndim - 1:
    return np.ascontiguousarray(view)
  out = np.empty(view.shape, view.dtype)
  source, target = (np.moveaxis(x, fast, 0) for x in (view, out))
  *outer, last = source.shape[1:]
  for index in np.ndindex(*outer):
    for start in range(0, last, _ROWS):
      part = (slice(None), *index, slice(start, start + _ROWS))
      target[part] = source[part]
  return out


def _put(array: np.ndarray, place: jax.sharding.Sharding) -> jax.Array:
  return jax.make_array_from_callback(array.shape, place, lambda i: array[i])


def _stack(read, shape, dtype, place) -> jax.Array:
  """Fills a leaf layer by layer, where it lies."""
  of_layer = place
  if isinstance(place, jax.sharding.NamedSharding):
    spec = jax.sharding.PartitionSpec(*tuple(place.spec)[1:])
    of_layer = jax.sharding.NamedSharding(place.mesh, spec)
  zeros = functools.partial(jnp.zeros, shape, dtype)
  stack = jax.jit(zeros, out_shardings=place)()
  for layer in range(shape[0]):
    part = _put(read(layer), of_layer)
    stack = _set_layer(stack, part, layer)
    # One layer on its way at a time, or the host would run ahead.
    stack.block_until_ready()
  return stack


@functools.partial(jax.jit, donate_argnums=0)
def _set_layer(stack: jax.Array, part: jax.Array, layer: Any) -> jax.Array:
  return jax.lax.dynamic_update_index_in_dim(stack, part, layer, 0)


def save_pretrained(
  folder: str | pathlib.Path,
  config: ModelConfig,
  params: PyTree,
  *,
  family: str,
  tokenizer: Any = None,
  max_shard_bytes: int = MAX_SHARD_BYTES,
  dtype: Any = None,
) -> None:
  """Writes a folder that transformers and what builds on it can load.

  A reward or value model becomes a classifier with one label. Those have no
  bias: ours is kept in config.json as 'score_bias', where load_pretrained
  finds it, and transformers' scores are lower by it.

  Args:
    folder: to write; it must be empty or not be there.
    config: the model's shape.
    params: as `transformer.init` lays them out, or {'transformer', 'head'}.
    family: its model_type, as 'llama'.
    tokenizer: a data.foreign_tokenizer.ForeignTokenizer or a
      data.tokenizer.Tokenizer, whose files go along; None: none do.
    max_shard_bytes: of a file; one tensor may be larger.
    dtype: of the tensors, float32 or bfloat16; None: as they are.

  Raises:
    UserError: for an unknown family, or one that cannot express the config;
      the message names the first difference.
  """
  folder = pathlib.Path(folder).absolute()
  orbax_io.check_new(folder)
  kind = 'reward' if 'head' in params else 'policy'
  fields = hf_config.config_fields(config, family, kind)
  if kind == 'reward':
    fields[_SCORE_BIAS] = float(params['head']['bias'])
  dtype = None if dtype is None else _known_dtype(dtype)
  leaves = traverse_util.flatten_dict(params, sep='/')
  rules = _rules(families.FAMILIES[family], config, kind)
  fields['torch_dtype'] = jnp.dtype(dtype or leaves[rules[0].leaf].dtype).name
  part = orbax_io.part_of(folder)
  try:
    part.mkdir(parents=True)
    generation = _special_ids(tokenizer, kind)
    if tokenizer is not None:
      tokenizer.export(part)
    orbax_io.write_json(part / 'config.json', fields | generation)
    if kind == 'policy':
      orbax_io.write_json(part / 'generation_config.json', generation)
    _write_tensors(part, rules, leaves, config, dtype, max_shard_bytes)
    if folder.exists():
      folder.rmdir()
    part.rename(folder)
  except OSError as error:
    raise errors.UserError(
      f'{folder} cannot be written ({error.strerror}): choose another folder.'
    ) from error
  finally:
    shutil.rmtree(part, ignore_errors=True)


def _special_ids(tokenizer: Any, kind: str) -> dict[str, int | None]:
  """bos, eos and pad as config.json and generation_config.json name them.

  None says that there is none; a key left out would be the family's default.
  """
  ids = {f'{name}_token_id': None for name in ('bos', 'eos', 'pad')}
  if tokenizer is None:
    return ids
  ids['bos_token_id'] = tokenizer.bos_id
  ids['eos_token_id'] = tokenizer.eos_id
  ids['pad_token_id'] = tokenizer.pad_token_id
  if kind == 'reward' and ids['pad_token_id'] in (None, tokenizer.eos_id):
    # A classifier looks for the last token that is no padding.
    ids['pad_token_id'] = None
    log.warning(
      'the tokenizer has no padding of its own: give the exported classifier'
      ' one response at a time, or a pad token that ends none.'
    )
  return ids


def _write_tensors(
  folder: pathlib.Path,
  rules: list[base.Rule],
  leaves: Mapping[str, Any],
  config: ModelConfig,
  dtype: Any,
  max_shard_bytes: int,
) -> None:
  """Writes all tensors, no more than a shard of them in memory at once."""
  where = {}
  sizes = {}
  for rule in rules:
    leaf = leaves[rule.leaf]
    kind = jnp.dtype(dtype or leaf.dtype)
    layers = config.num_layers if _is_stacked(rule) else 1
    names = _names(rule, layers)
    for i, name in enumerate(names):
      where[name] = rule, i // len(rule.names), i % len(rule.names), kind
      sizes[name] = math.prod(leaf.shape) * kind.itemsize // len(names)
  files = tensors.shards(sizes, max_shard_bytes)

  @functools.lru_cache(maxsize=1)  # the tensors of a rule are neighbours
  def written(rule, layer):
    leaf = leaves[rule.leaf]
    value = np.asarray(leaf[layer] if _is_stacked(rule) else leaf)
    return rule.write(value, config.head_dim)

  for file, names in files:
    arrays = {}
    for name in names:
      rule, layer, part, kind = where[name]
      array = written(rule, layer)[part]
      arrays[name] = np.ascontiguousarray(array, dtype=kind)
    tensors.write_shard(folder / file, arrays)
  if len(files) > 1:
    tensors.write_index(folder, files, sizes)
