"""The decoder as pure functions: over sequences, or on from a cache.

Parameters are a plain pytree of float32 arrays; the layers' leaves carry a
leading axis L and a scan runs over it:

  {'embedding': {'tokens': [V, D], 'positions': [max_length, D]},
   'layers': {'attention_norm', 'qkv', 'attention_output', 'mlp_norm',
              'mlp_input', 'mlp_output'},
   'final_norm': {'scale': [D], 'bias': [D]}}

That is GPT-2's. What ModelConfig can ask for besides adds leaves or leaves some
out: rotary positions have no table; layers may have 'q' and 'kv' instead of
'qkv', 'q_norm', 'k_norm', 'mlp_gate', 'attention_post_norm', 'mlp_post_norm',
and no biases; 'output' holds 'tokens' [V, D] if it is not tied, and a 'bias'
[V] if the logits have one.
A token's position is the number of kept tokens before it in its sequence, so
padding, on whichever side and whatever it holds, changes nothing at kept
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
import functools
import math
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp

from instructjax import sharding
from instructjax.models import attention as attention_lib
from instructjax.models import cache as cache_lib
from instructjax.models import config as config_lib
from instructjax.models import layers
from instructjax.models import masks
from instructjax.models import rope
from instructjax.models import stack

Array = jax.Array
Params = Any
Cache = cache_lib.Cache
ModelConfig = config_lib.ModelConfig


@struct.dataclass
class Packing:
  """Which tokens see each other where a row holds several sequences.

  A token sees its own segment and the one that this continues, up to itself.
  So a row may hold a prompt once and behind it each of its responses.

  Attributes:
    segments: i32[B, T], which of the row's segments a token belongs to.
    prefixes: i32[B, T], the segment which that one continues; itself if none.
      None: no segment of these rows continues another.
    positions: i32[B, T], of each token in its sequence, from 0.
  """

  segments: Array
  prefixes: Array | None
  positions: Array

  @classmethod
  def of(cls, rows: Mapping[str, Array]) -> Packing | None:
    """Returns the packing of data.packing's rows; None of other rows."""
    if 'segments' not in rows:
      return None
    return cls(rows['segments'], rows.get('prefixes'), rows['positions'])


def init(config: ModelConfig, key: Array) -> Params:
  """Returns float32 parameters drawn as GPT-2's were.

  Embeddings N(0, 0.02), positions N(0, 0.01); blocks as `layers.Block` says.

  Source: Radford et al. 2019 and its released code (positions: model.py).
  """
  token_key, position_key, layer_key = jax.random.split(key, 3)
  normal = functools.partial(jax.random.normal, dtype=jnp.float32)
  table = (config.vocab_size, config.d_model)
  embedding = {'tokens': 0.02 * normal(token_key, table)}
  if config.positions == 'learned':
    shape = (config.max_length + config.position_offset, config.d_model)
    embedding['positions'] = 0.01 * normal(position_key, shape)
  x = jnp.zeros((1, 1, config.d_model), jnp.float32)
  params = {
    'embedding': embedding,
    'layers': jax.vmap(functools.partial(_init_block, config))(
      jax.random.split(layer_key, config.num_layers)
    ),
    'final_norm': layers.norm(config).init(key, x)['params'],
  }
  output = {}
  if not config.tied:
    output_key = jax.random.fold_in(key, 3)
    output['tokens'] = 0.02 * normal(output_key, table)
  if config.output_bias:
    output['bias'] = jnp.zeros(config.vocab_size)
  return params | ({'output': output} if output else {})


def _init_block(config: ModelConfig, key: Array) -> Params:
  x = jnp.zeros((1, 1, config.d_model), jnp.float32)
  variables = layers.Block(config).init(
    key, x, lambda q, k, v: (q, None), lambda y, branch: y
  )
  return variables['params']


def num_parameters(config: ModelConfig) -> int:
  """Returns how many numbers `init` would draw, without drawing them."""
  shapes = jax.eval_shape(functools.partial(init, config), jax.random.key(0))
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def unembedding(config: ModelConfig, params: Params) -> dict[str, Any]:
  """Returns what makes logits of `hidden`.

  Returns:
    'embedding' f32[V, D], 'bias' f32[V] or None, 'softcap' (0: none): keywords
    of losses.language.chunked_token_logprobs.
  """
  own = params.get('output', {})
  return {
    'embedding': own.get('tokens', params['embedding']['tokens']),
    'bias': own.get('bias'),
    'softcap': config.final_softcap,
  }


def hidden(
  config: ModelConfig,
  params: Params,
  tokens: Array,
  mask: Array | None = None,
  *,
  packing: Packing | None = None,
  dropout_keys: Array | None = None,
) -> Array:
  """Returns what the final norm gives at every token.

  Args:
    config: the model's shape.
    params: as `init` returns them.
    tokens: i32[B, T].
    mask: bool[B, T], kept tokens; None keeps all.
    packing: for rows of several sequences; None: each row is one.
    dropout_keys: key[B]; each row's dropout comes from its own key, so that
      neither its neighbours nor the cut into micro-batches matters. None: no
      dropout.

  Returns:
    f[B, T, D] in the compute type; finite but meaningless where not kept.

  Raises:
    UserError: for rows beyond max_length where rope_scaling is 'dynamic'.
  """
  rope.check_reach(config, tokens.shape[1])
  positions = packing.positions if packing else _positions_of(tokens, mask)
  x = _embed(config, params, tokens, mask, positions)
  drop = functools.partial(_dropout, config.dropout, dropout_keys)
  attend = attention_lib.over_rows(config, positions, mask, packing)
  rotate = rope.rotation(config, positions)

  def attention(layer, cache, q, k, v):
    q, k = rotate(layer, q), rotate(layer, k)
    return attend(layer, q, k, v), (cache, None)

  x, _, _ = stack.run_layers(config, params, drop(0, x), attention, None, drop)
  return _final_norm(config, params, x)


def logits(
  config: ModelConfig,
  params: Params,
  tokens: Array,
  mask: Array | None = None,
) -> Array:
  """Returns next-token logits f32[B, T, V]; for small vocabularies and tests.

  Losses use `hidden` and chunks over the sequence instead.
  """
  return project(config, params, hidden(config, params, tokens, mask))


def project(config: ModelConfig, params: Params, x: Array) -> Array:
  """Returns the logits f32[..., V] of what `hidden` gave, f[..., D]."""
  output = unembedding(config, params)
  result = jnp.einsum(
    '...d,vd->...v',
    x,
    output['embedding'].astype(x.dtype),
    preferred_element_type=jnp.float32,
  )
  if output['bias'] is not None:
    result += output['bias']
  return attention_lib.softcapped(result, config.final_softcap)


def prefill(
  config: ModelConfig,
  params: Params,
  tokens: Array,
  mask: Array,
  *,
  length: int,
) -> tuple[Array, Cache]:
  """Runs the prompts and keeps their keys and values.

  Args:
    config: the model's shape.
    params: as `init` returns them.
    tokens: i32[B, T].
    mask: bool[B, T], kept tokens.
    length: S >= T, how many columns the cache will have.

  Returns:
    f[B, T, D], as `hidden`, and the cache with T of S columns written.

  Raises:
    ValueError: while tracing, if length < T.
    UserError: for a length as `hidden` refuses it.
  """
  rope.check_reach(config, length)
  if length < tokens.shape[1]:
    raise ValueError(f'length={length} must be at least T={tokens.shape[1]}.')
  positions = _positions_of(tokens, mask)
  x = _embed(config, params, tokens, mask, positions)
  attend = attention_lib.over_rows(config, positions, mask)
  rotate = rope.rotation(config, positions)

  def attention(layer, cache, q, k, v):
    q, k = rotate(layer, q), rotate(layer, k)
    return attend(layer, q, k, v), (cache, (k, v))

  x, _, written = stack.run_layers(config, params, x, attention)
  cache = cache_lib.of(config, *written, mask, length=length)
  return _final_norm(config, params, x), cache


def extend(
  config: ModelConfig,
  params: Params,
  cache: Cache,
  tokens: Array,
  mask: Array,
) -> tuple[Array, Cache]:
  """Runs T more tokens after those in the cache and writes them there.

  For decoding: a gradient would keep the whole cache once for each layer that
  writes to it. `continue_from` is for scores.

  Args:
    config: the model's shape.
    params: as `init` returns them.
    cache: with at least T free columns (not checked: the index is traced).
    tokens: i32[B, T].
    mask: bool[B, T], kept tokens.

  Returns:
    f[B, T, D], as `hidden` of the whole sequences gives at these tokens, and
    the cache with T more columns written.
  """
  length = tokens.shape[1]
  positions = _positions(mask) + cache.positions[:, None]
  x = _embed(config, params, tokens, mask, positions)
  kept = jax.lax.dynamic_update_slice(cache.mask, mask, (0, cache.index))
  key_positions = _positions(kept)
  columns = jnp.arange(kept.shape[1])
  causal = columns <= cache.index + jnp.arange(length)[:, None]  # bool[T, S]
  visible = masks.visibility(config, positions, key_positions, causal, kept)
  write = functools.partial(cache_lib.write, config, column=cache.index)
  rotate = rope.rotation(config, positions)

  def attention(layer, layer_cache, q, k, v):
    q, k = rotate(layer, q), rotate(layer, k)
    keys, k = write(layer, layer_cache[0], k)
    values, v = write(layer, layer_cache[1], v)
    seen = visible(layer), *attention_lib.scores(config)
    out = attention_lib.attend(q, k, v, *seen)
    return out, ((keys, values), None)

  x, (keys, values), _ = stack.run_layers(
    config, params, x, attention, (cache.keys, cache.values)
  )
  return _final_norm(config, params, x), Cache(
    keys=keys,
    values=values,
    mask=kept,
    positions=cache.positions + jnp.sum(mask, axis=1, dtype=jnp.int32),
    index=cache.index + length,
  )


def continue_from(
  config: ModelConfig,
  params: Params,
  cache: Cache,
  tokens: Array,
  mask: Array,
) -> Array:
  """Runs N / B continuations of each row in a cache, which stays as it is.

  For scores and their gradients: a layer reads its own keys and values alone,
  and copies them for the N rows no longer than it runs (the backward pass keeps
  the copies if config.remat is 'none').

  Args:
    config: the model's shape.
    params: as `init` returns them.
    cache: of B rows, all columns written (S of `prefill`'s tokens).
    tokens: i32[N, T]; rows n N / B to (n + 1) N / B continue row n.
    mask: bool[N, T], kept tokens.

  Returns:
    f[N, T, D], as `hidden` of the whole sequences gives at these tokens.

  Raises:
    ValueError: while tracing, if B does not divide N.
    UserError: for a length as `hidden` refuses it.
  """
  copies, rest = divmod(tokens.shape[0], cache.mask.shape[0])
  if rest:
    raise ValueError(
      f'{tokens.shape[0]} rows cannot continue {cache.mask.shape[0]} evenly.'
    )
  repeat = functools.partial(jnp.repeat, repeats=copies, axis=0)
  kept = jnp.concatenate([repeat(cache.mask), mask], axis=1)  # bool[N, S + T]
  rope.check_reach(config, kept.shape[1])
  positions = _positions(kept)
  own_positions = positions[:, cache.mask.shape[1] :]
  x = _embed(config, params, tokens, mask, own_positions)
  attend = attention_lib.over_rows(
    config, positions, kept, queries=tokens.shape[1]
  )
  rotate = rope.rotation(config, own_positions)

  def after(past, own):  # f[B, K, S, head_dim], f[N, K, T, head_dim]
    past = repeat(jnp.where(cache.mask[:, None, :, None], past, 0.0))
    past = sharding.constrain(config.mesh, 'activation/heads', past)
    return jnp.concatenate([past, own], axis=2)

  def attention(layer, past, q, k, v):
    q, k = rotate(layer, q), rotate(layer, k)
    k, v = after(past[0], k), after(past[1], v)
    return attend(layer, q, k, v), ((), None)

  past = cache.keys, cache.values
  x, _, _ = stack.run_layers(config, params, x, attention, past, writes=False)
  return _final_norm(config, params, x)


def _positions(mask: Array) -> Array:
  """Returns how many kept tokens stand before each token, i32[B, T]."""
  kept = mask.astype(jnp.int32)
  return jnp.cumsum(kept, axis=1) - kept


def _positions_of(tokens: Array, mask: Array | None) -> Array:
  """Returns the positions i32[B or 1, T] of rows that hold one sequence."""
  if mask is None:
    return jnp.arange(tokens.shape[1])[None]
  return _positions(mask)


def _embed(
  config: ModelConfig,
  params: Params,
  tokens: Array,
  mask: Array | None,
  positions: Array,
) -> Array:
  """Returns embeddings f[B, T, D]."""
  if mask is not None:
    # Padding may hold any id, and a NaN row would leak through 0 * NaN.
    tokens = jnp.where(mask, tokens, 0)
  tables = params['embedding']
  table = tables['tokens']
  if tokens.shape[1] > 1:  # a step picks from each device's part of the table
    # In the table's own type: its gradient is summed in that.
    table = sharding.constrain(config.mesh, 'activation/table', table)
  # Rounded as a frozen model's table is, so that a policy and its reference
  # begin as equals.
  x = table[tokens].astype(config.dtype).astype(jnp.float32)
  if config.embedding_scale != 1.0:
    x = config.embedding_scale * x
  if config.positions == 'learned':
    rows = jnp.minimum(positions, config.max_length - 1)
    x += tables['positions'][rows + config.position_offset]
  return x.astype(config.dtype)


def _final_norm(config: ModelConfig, params: Params, x: Array) -> Array:
  return layers.norm(config).apply({'params': params['final_norm']}, x)


def _dropout(
  rate: float, keys: Array | None, site: Array | int, x: Array
) -> Array:
  """Zeroes a share `rate` of x f[B, T, D], each row by its own key."""
  if keys is None or rate == 0.0:
    return x
  length, width = x.shape[1:]

  def keep(key):  # bool[T, D]
    # Two numbers of 16 bits out of each draw: drawing is most of the cost, and
    # a rate within 1 / 65536 of the one asked for is close enough.
    key = jax.random.fold_in(key, site)
    bits = jax.random.bits(key, (length, -(-width // 2)), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(bits, jnp.uint16)
    halves = halves.reshape(length, -1)[:, :width]
    return halves >= round(rate * 2**16)

  return jnp.where(jax.vmap(keep)(keys), x / (1.0 - rate), 0.0)
