"""Completing a batch of prompts with a cache, until every row has ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any, NamedTuple

import chex
from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from instructjax import sharding
from instructjax.models import cache as cache_lib
from instructjax.models import config as config_lib
from instructjax.models import transformer
from instructjax.sampling import logits as logits_lib

Array = jax.Array


@struct.dataclass
class Samples:
  """Responses and how likely the model found them.

  Attributes:
    tokens: i32[B, R], pad_id after the end-of-text token.
    mask: bool[B, R], true up to and including the end-of-text token.
    logprobs: f32[B, R], log softmax(logits / temperature) of each token,
      before top-k and top-p; 0 where masked.
  """

  tokens: Array
  mask: Array
  logprobs: Array


def row_keys(key: Array, num_rows: int) -> Array:
  """Returns key[B], one for each row, whatever B is."""
  return jax.vmap(lambda row: jax.random.fold_in(key, row))(
    jnp.arange(num_rows)
  )


def distinct(
  prompts: Sequence[Sequence[int]],
) -> tuple[list[Sequence[int]], np.ndarray]:
  """Returns the different prompts, and i32[B], which of them each is."""
  numbers: dict[tuple[int, ...], int] = {}
  rows = [numbers.setdefault(tuple(ids), len(numbers)) for ids in prompts]
  return list(numbers), np.asarray(rows, np.int32)


def sample(
  config: config_lib.ModelConfig,
  params: Any,
  prompts: Array,
  prompt_mask: Array,
  keys: Array,
  *,
  max_new_tokens: int,
  eos_id: int,
  pad_id: int,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
  rows: Array | None = None,
) -> Samples:
  """Draws one response for each key; jit it with the sizes bound.

  Token t of row b is drawn with fold_in(keys[b], t), so it depends on its own
  prompt and key alone.

  Args:
    config: the model's shape.
    params: of the transformer.
    prompts: i32[U, P], left-padded: the last column is each prompt's end.
    prompt_mask: bool[U, P], kept tokens.
    keys: key[B], see `row_keys`.
    max_new_tokens: R.
    eos_id: the token after which a response is over.
    pad_id: what `tokens` holds after that.
    temperature: 0 takes the likeliest token, with log-probs at temperature 1.
    top_k: see `logits.filter_logits`.
    top_p: see `logits.filter_logits`.
    rows: i32[B], which prompt each response is to: a prompt with several is run
      once. None: U = B, one response each.

  Returns:
    Samples of [B, R].

  Raises:
    AssertionError: while tracing, if the shapes do not fit.
  """
  options = Options(eos_id, pad_id, temperature, top_k, top_p)
  mesh, args = config.mesh, (params, prompts, prompt_mask, keys)
  if rows is None and _has_whole_models(mesh) and not len(keys) % mesh.size:
    # A loop a device, which asks no other and ends with its own last row.
    alone = dataclasses.replace(config, mesh=None)
    return jax.shard_map(
      lambda *args: _sample(alone, *args, options, max_new_tokens),
      mesh=mesh,
      in_specs=(sharding.P(), *3 * [sharding.BATCH]),
      out_specs=sharding.BATCH,
      check_vma=False,
    )(*args)
  return _sample(config, *args, options, max_new_tokens, rows)


def _has_whole_models(mesh: jax.sharding.Mesh | None) -> bool:
  """Whether there are several devices, each with all of the parameters."""
  return mesh is not None and mesh.size > 1 and mesh.shape['data'] == mesh.size


def _sample(
  config, params, prompts, mask, keys, options, max_new_tokens, rows=None
) -> Samples:
  """As `sample`, by one loop."""
  state = begin(
    config, params, prompts, mask, keys, options, max_new_tokens, rows
  )

  def proceed(state):
    return (state.step < max_new_tokens) & jnp.any(state.alive)

  def body(state):
    return advance(config, params, keys, state, options)

  return jax.lax.while_loop(proceed, body, state).samples


def stream(
  config: config_lib.ModelConfig,
  params: Any,
  prompts: Array,
  prompt_mask: Array,
  keys: Array,
  *,
  max_new_tokens: int,
  **options: Any,
) -> Iterator[np.ndarray]:
  """Yields what `sample` would return, i32[B] by i32[B], as it is drawn.

  Args:
    config, params, prompts, prompt_mask, keys: as of `sample`.
    max_new_tokens: R.
    **options: of `Options`.
  """
  chosen = Options(**options)
  state = _begin(
    config, params, prompts, prompt_mask, keys, chosen, max_new_tokens
  )
  yield np.asarray(state.token)
  for _ in range(max_new_tokens - 1):
    if not np.any(state.alive):
      return
    state = _advance(config, params, keys, state, chosen)
    yield np.asarray(state.token)


class Options(NamedTuple):
  """How tokens are drawn, as `sample` says; hashable, a static argument."""

  eos_id: int
  pad_id: int
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0


@struct.dataclass
class State:
  """How far sampling has come.

  Attributes:
    step: i32[], tokens drawn for each row.
    token: i32[B], the last ones.
    alive: bool[B], rows that have not ended.
    cache: of the transformer, the last token not yet in it.
    samples: filled up to `step`.
  """

  step: Array
  token: Array
  alive: Array
  cache: cache_lib.Cache
  samples: Samples


def begin(
  config: config_lib.ModelConfig,
  params: Any,
  prompts: Array,
  prompt_mask: Array,
  keys: Array,
  options: Options,
  max_new_tokens: int,
  rows: Array | None = None,
) -> State:
  """Runs the prompts and draws each row's first token; see `sample`."""
  batch, prompt_length = len(keys), prompts.shape[1]
  chex.assert_equal_shape([prompts, prompt_mask])
  chex.assert_shape(prompts if rows is None else rows, (batch, ...))
  hidden, cache = transformer.prefill(
    config,
    params,
    prompts,
    prompt_mask,
    length=prompt_length + max_new_tokens - 1,
  )
  hidden = hidden[:, -1]
  if rows is not None:
    hidden, cache = hidden[rows], cache_lib.take(cache, rows)
  shape = (batch, max_new_tokens)
  samples = Samples(
    tokens=jnp.full(shape, options.pad_id, jnp.int32),
    mask=jnp.zeros(shape, bool),
    logprobs=jnp.zeros(shape, jnp.float32),
  )
  state = State(
    step=jnp.asarray(0, jnp.int32),
    token=jnp.full(batch, options.pad_id, jnp.int32),
    alive=jnp.ones(batch, bool),
    cache=cache,
    samples=samples,
  )
  draw = _make_draw(config, params, keys, options)
  return _write(state, draw(0, hidden), options)


def advance(
  config: config_lib.ModelConfig,
  params: Any,
  keys: Array,
  state: State,
  options: Options,
) -> State:
  """Draws the next token of each row that has not ended; see `sample`."""
  hidden, cache = transformer.extend(
    config, params, state.cache, state.token[:, None], state.alive[:, None]
  )
  draw = _make_draw(config, params, keys, options)
  drawn = draw(state.step, hidden[:, 0])
  return _write(state.replace(cache=cache), drawn, options)


_begin = jax.jit(begin, static_argnums=(0, 5, 6))
_advance = jax.jit(advance, static_argnums=(0, 4), donate_argnums=3)


def _write(state: State, drawn: tuple[Array, Array], options: Options) -> State:
  """Takes what was drawn, for the rows that have not ended."""
  token, logprob = drawn
  token = jnp.where(state.alive, token, options.pad_id)
  columns = (token, state.alive, jnp.where(state.alive, logprob, 0.0))
  samples = jax.tree.map(
    lambda all_steps, column: all_steps.at[:, state.step].set(column),
    state.samples,
    Samples(*columns),
  )
  return state.replace(
    step=state.step + 1,
    token=token,
    alive=state.alive & (token != options.eos_id),
    samples=samples,
  )


def _make_draw(config, params, keys, options: Options):
  """Returns (step, f[B, D]) -> (token i32[B], logprob f32[B])."""
  temperature, greedy = options.temperature, options.temperature == 0

  def choose(step, logits):  # logits f32[B, V], not yet divided
    if greedy:
      return _argmax(logits)
    filtered = logits_lib.filter_logits(
      logits, temperature=temperature, top_k=options.top_k, top_p=options.top_p
    )
    step_keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(keys)
    return logits_lib.draw(filtered, jax.vmap(jax.random.uniform)(step_keys))

  def draw(step, hidden):
    logits = transformer.project(config, params, hidden)
    token = choose(step, logits)
    scaled = logits if greedy else logits / temperature
    chosen = jnp.take_along_axis(scaled, token[:, None], axis=-1)[:, 0]
    return token, chosen - jax.nn.logsumexp(scaled, axis=-1)

  return draw


def _argmax(x: Array) -> Array:
  """Returns the first index of the largest entry, i32[B], for f32[B, V].

  Two plain reductions, which XLA vectorises on a CPU; jnp.argmax is one over
  pairs, which it does not: four times slower, and it drags the noise along.
  """
  size = x.shape[-1]
  largest = jnp.max(x, axis=-1, keepdims=True)
  index = jnp.where(x == largest, jnp.arange(size), size - 1)
  return jnp.min(index, axis=-1).astype(jnp.int32)
