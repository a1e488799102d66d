"""How queries attend to keys: XLA everywhere, a kernel where there is one.

`over_rows` is what training, scoring and prefill call, for whole rows at once
or for all of a row behind what is in a cache;
`kernel_for` says which kernel they get. Decoding against a cache is `attend`.

Each kernel needs the kept tokens of a sequence to lie side by side, with
nothing of another between them, as in all rows of `data` and `sampling`:
prompts are padded on the left, responses on the right. XLA alone takes a
sequence with a hole: 'splash' would count it in a band, 'cudnn' would see it.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import math
from typing import Any

import jax

# Not where it is used: JAX traces all programs anew after this import.
from jax.experimental.pallas.ops.tpu import splash_attention as splash
import jax.numpy as jnp

from instructjax import sharding
from instructjax.models import config as config_lib
from instructjax.models import masks

Array = jax.Array
ModelConfig = config_lib.ModelConfig
P = jax.sharding.PartitionSpec

_MAX_QUERY_BLOCKS = 4
_MIN_QUERY_BLOCK = 64
_HIDDEN_SCORE = -1e30  # finite: a query that sees nothing must not give NaN
_SPLASH_UNIT = 128  # columns; its blocks are multiples of a TPU's lanes
_SPLASH_BLOCK = 512
_SPLASH_BLOCKS_Q = ('block_q', 'block_q_dkv', 'block_q_dq')
_SPLASH_BLOCKS_KV = ('block_kv', 'block_kv_dkv', 'block_kv_dq')
_CUDNN_MAX_HEAD_DIM = 128


def for_device(device: Any) -> str:
  """Returns the kernel for a device, also one of an ahead-of-time topology.

  'splash' on a TPU; 'cudnn' on an NVIDIA GPU of compute capability 8.0 (Ampere)
  or more; otherwise 'xla'.
  """
  if device.platform == 'tpu':
    return 'splash'
  # AMD's GPUs call theirs gfx942 or the like, and a CPU has none.
  major = getattr(device, 'compute_capability', '').partition('.')[0]
  return 'cudnn' if major.isdigit() and int(major) >= 8 else 'xla'


def kernel_for(config: ModelConfig, length: int, packing: Any = None) -> str:
  """Returns which kernel runs rows: config.attention_kernel, or 'xla' instead.

  Neither kernel knows rows where segments continue another (a prompt once, and
  behind it its responses). Besides,

  * splash works in blocks of 128 columns at least: not for shorter rows;
  * cuDNN computes in 16 bits, has no soft cap, and takes heads of up to 128
    numbers, in eights, on all its GPUs. JAX's interface to it has no segments;
    a mask would become a bias of T x T numbers a row, with a gradient.

  Args:
    config: the model's shape.
    length: T, tokens of a row.
    packing: transformer.Packing of rows of several sequences, or None.
  """
  kernel = config.attention_kernel
  if packing and packing.prefixes is not None:
    return 'xla'
  if kernel.startswith('splash') and length < _SPLASH_UNIT:
    return 'xla'
  if kernel.startswith('cudnn') and (
    packing
    or config.attention_softcap
    or config.head_dim > _CUDNN_MAX_HEAD_DIM
    or config.head_dim % 8
    or (kernel == 'cudnn' and config.dtype == 'float32')
  ):
    return 'xla'
  return kernel


def over_rows(
  config: ModelConfig,
  positions: Array,
  mask: Array | None,
  packing: Any = None,
  *,
  queries: int | None = None,
) -> Callable[..., Array]:
  """Returns causal self-attention over whole rows, or of their last tokens.

  Args:
    config: the model's shape.
    positions: i32[B or 1, S], of each token in its sequence.
    mask: bool[B, S], kept tokens; None: all.
    packing: transformer.Packing of rows of several sequences, or None.
    queries: T <= S, how many tokens at the end of a row ask; None: all.

  Returns:
    (layer, q f[B, H, T, head_dim], k and v f[B, K, S, head_dim]) ->
    f[B, H, T, head_dim]. A layer is a number, or traced where layers are
    scanned. What padding holds changes no kept token; its own output is finite
    and meaningless, its gradient 0 if the loss leaves it out. (Under XLA keys
    and values must be finite there; the kernels clear them.)
  """
  length = positions.shape[1]
  first = 0 if queries is None else length - queries  # column that asks
  name = kernel_for(config, length, packing)
  if name == 'xla':
    return _by_xla(config, positions, mask, packing, first)
  if name.startswith('cudnn'):
    implementation = 'cudnn' if name == 'cudnn' else 'xla'
    run = functools.partial(_cudnn, config, implementation)
    rows = None if mask is None else jnp.argmax(mask, axis=1)
  else:
    run = functools.partial(_splash, config, name == 'splash_interpreted')
    rows = _segments(mask, packing)
  # A band as wide as the row hides nothing.
  widths = [
    min(config.band, length) if config.is_banded(layer) else length
    for layer in range(config.num_layers)
  ]

  def attend(layer, q, k, v):
    if mask is not None:
      kept = mask[:, None, :, None]
      q = jnp.where(kept[:, :, first:], q, 0.0)
      k, v = (jnp.where(kept, x, 0.0) for x in (k, v))
    of_width = functools.partial(_on_shards, run, config.mesh, rows)
    if isinstance(layer, int) or len(set(widths)) == 1:
      width = widths[layer if isinstance(layer, int) else 0]
      return of_width(width, q, k, v)
    # One program serves all scanned layers, and a kernel's mask is fixed.
    return jax.lax.cond(
      jnp.asarray(widths)[layer] < length,
      functools.partial(of_width, min(widths)),
      functools.partial(of_width, length),
      *(q, k, v),
    )

  return attend


def _by_xla(config, positions, mask, packing, first) -> Callable[..., Array]:
  """`over_rows` with a mask bool[B, 1, T, S]; `first` is the first to ask."""
  causal = masks.causal(positions.shape[1])
  if packing:
    causal = causal & masks.together(packing.segments, packing.prefixes)
  visible = masks.visibility(
    config, positions[:, first:], positions, causal[..., first:, :], mask
  )

  def attend(layer, q, k, v):
    seen = sharding.constrain(config.mesh, 'activation/mask', visible(layer))
    return causal_attend(q, k, v, seen, *scores(config))

  return attend


def _segments(mask: Array | None, packing: Any) -> Array | None:
  """i32[B, T], -1 for padding; None where all tokens of a row belong together.

  Padding sees padding, so that no query is left without a key.
  """
  if mask is None:
    return packing.segments if packing else None
  return jnp.where(mask, packing.segments if packing else 0, -1)


def _on_shards(
  kernel: Callable[..., Array],
  mesh: jax.sharding.Mesh | None,
  rows: Array | None,
  width: int,
  q: Array,
  k: Array,
  v: Array,
) -> Array:
  """Runs a kernel where the mesh has its rows and heads; XLA cannot split it.

  Sizes that do not divide stay whole, on every device. Keys and values of fewer
  heads than a device group has devices are repeated until each has one.

  Args:
    kernel: (width, rows, q, k, v) -> as q.
    mesh: None or of one device: all is in one place.
    rows: what the kernel wants to know of each row, i32[B, ...].
    width: of the band.
    q: f[B, H, T, head_dim].
    k: f[B, K, S, head_dim].
    v: f[B, K, S, head_dim].
  """
  run = functools.partial(kernel, width)
  if mesh is None or mesh.size == 1:
    return run(rows, q, k, v)
  head_shards = mesh.shape['tensor']
  by_row, by_head, *_ = sharding.spec_of('activation/heads', q.shape, mesh)
  if by_head:
    copies = math.lcm(k.shape[1], head_shards) // k.shape[1]
    k, v = (jnp.repeat(x, copies, axis=1) for x in (k, v))
  places = P(by_row, by_head)
  return jax.shard_map(
    run,
    mesh=mesh,
    in_specs=(P(by_row), places, places, places),
    out_specs=places,
    check_vma=False,  # a kernel does not tell what varies over which axis
  )(rows, q, k, v)


def _splash(
  config: ModelConfig,
  interpret: bool,
  width: int,
  segments: Array | None,
  q: Array,
  k: Array,
  v: Array,
) -> Array:
  """Splash attention: a kernel that leaves out the blocks that a mask hides.

  Source: JAX's own kernel for TPUs, after Dao et al. 2022 (arXiv:2205.14135).
  """
  (heads, queries), length = q.shape[1:3], k.shape[2]
  block_q, block_kv = _splash_block(queries), _splash_block(length)
  # Columns to add, which come after all that is seen.
  free_q, free_kv = -queries % block_q, -length % block_kv
  scale = config.attention_scale or 1.0 / math.sqrt(q.shape[-1])
  q = _pad_columns(q * scale, free_q)
  k, v = (_pad_columns(x, free_kv) for x in (k, v))
  shape, first = (queries + free_q, length + free_kv), length - queries
  seen = splash.CausalMask(shape, offset=first)
  if width < length:
    seen = splash.LocalMask(shape, window_size=(width - 1, 0), offset=first)
  blocks = dict.fromkeys(_SPLASH_BLOCKS_Q, block_q)
  blocks |= dict.fromkeys(_SPLASH_BLOCKS_KV, block_kv)
  kernel = splash.make_splash_mha(
    splash.MultiHeadMask([seen] * heads),
    block_sizes=splash.BlockSizes(**blocks),
    attn_logits_soft_cap=config.attention_softcap or None,
    head_shards=1,
    q_seq_shards=1,
    interpret=interpret,
  )
  told = ()
  if segments is not None:
    pad = functools.partial(jnp.pad, constant_values=-1)
    own = pad(segments[:, first:], ((0, 0), (0, free_q)))
    told = (splash.SegmentIds(own, pad(segments, ((0, 0), (0, free_kv)))),)
  return jax.vmap(kernel)(q, k, v, *told)[:, :, :queries]


def _pad_columns(x: Array, free: int) -> Array:
  return jnp.pad(x, ((0, 0), (0, 0), (0, free), (0, 0)))


def _splash_block(length: int) -> int:
  """The width of a block: as few as can be, none wider than _SPLASH_BLOCK.

  Wide blocks are fast, and the last one should hold little but the row.
  """
  blocks = -(-length // _SPLASH_BLOCK)
  return -(-length // (blocks * _SPLASH_UNIT)) * _SPLASH_UNIT


def _cudnn(
  config: ModelConfig,
  implementation: str,
  width: int,
  first: Array | None,
  q: Array,
  k: Array,
  v: Array,
) -> Array:
  """cuDNN's flash attention, or the same call as XLA computes it.

  Each row is rolled until its kept tokens come first, from `first` i32[B] on:
  then causality alone keeps padding from them, and no lengths need be told.
  Where only the last tokens ask, those before ask in vain: cuDNN takes the
  first query for the first token.
  """
  q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
  silent = k.shape[1] - q.shape[1]
  q = jnp.pad(q, ((0, 0), (silent, 0), (0, 0), (0, 0)))
  if first is not None:
    q, k, v = (_rolled(x, first) for x in (q, k, v))
  out = jax.nn.dot_product_attention(
    q,
    k,
    v,
    scale=config.attention_scale or None,
    is_causal=True,
    local_window_size=(width - 1, 0) if width < q.shape[1] else None,
    implementation=implementation,
  )
  if first is not None:
    out = _rolled(out, -first)
  return jnp.swapaxes(out[:, silent:], 1, 2)


@jax.custom_vjp
def _rolled(x: Array, first: Array) -> Array:
  """Returns y of y[b, t] = x[b, (t + first[b]) modulo T], x f[B, T, ...]."""
  columns = (jnp.arange(x.shape[1]) + first[:, None]) % x.shape[1]
  return jnp.take_along_axis(x, columns[:, :, None, None], axis=1)


# Its transpose is a roll back; that of a gather would be a scatter.
_rolled.defvjp(
  lambda x, first: (_rolled(x, first), first),
  lambda first, g: (_rolled(g, -first), None),
)


def scores(config: ModelConfig) -> tuple[float, float]:
  """Returns what becomes of scores: their scale, their soft cap."""
  return config.attention_scale, config.attention_softcap


def attend(
  q: Array,
  k: Array,
  v: Array,
  mask: Array,
  scale: float = 0.0,
  softcap: float = 0.0,
) -> Array:
  """Softmax attention of each head, scores and softmax in float32.

  out_t = sum_s softmax_s(cap(scale q_t . k_s), over s with mask) v_s

  Args:
    q: f[B, H, T, head_dim].
    k: f[B, K, S, head_dim]; each of its heads serves H / K of the queries'.
    v: f[B, K, S, head_dim].
    mask: bool, broadcast to [B, H, T, S]; true where query t may see key s.
      A query that may see nothing gets a finite, meaningless value.
    scale: of the scores; 0: 1 / sqrt(head_dim).
    softcap: c of cap(x) = c tanh(x / c); 0: x itself.

  Returns:
    f[B, H, T, head_dim] in the type of v.
  """
  scale = scale or 1.0 / math.sqrt(q.shape[-1])

  # Recomputing the probabilities in the backward pass costs one product and an
  # exponential; keeping them costs f32[B, H, T, S] a layer.
  @jax.checkpoint
  def run(q, k, v, mask):
    scores = jnp.einsum(
      'b...td,b...sd->b...ts', q * scale, k, preferred_element_type=jnp.float32
    )
    scores = softcapped(scores, softcap)
    probs = jax.nn.softmax(jnp.where(mask, scores, _HIDDEN_SCORE), axis=-1)
    return jnp.einsum('b...ts,b...sd->b...td', probs.astype(v.dtype), v)

  if q.shape[1] == k.shape[1]:
    return run(q, k, v, mask)
  # Copies of keys and values for every head would be as large as their cache.
  groups = (q.shape[0], k.shape[1], -1, *q.shape[2:])
  k, v, mask = k[:, :, None], v[:, :, None], mask[:, :, None]
  return run(q.reshape(groups), k, v, mask).reshape(q.shape)


def softcapped(x: Array, cap: float) -> Array:
  """Returns cap * tanh(x / cap), which is x where x is small; x if cap is 0."""
  return cap * jnp.tanh(x / cap) if cap else x


def query_block(length: int) -> int:
  """Returns how many queries of a row `causal_attend` takes at a time."""
  return max(_MIN_QUERY_BLOCK, -(-length // _MAX_QUERY_BLOCKS))


def causal_attend(
  q: Array,
  k: Array,
  v: Array,
  mask: Array,
  scale: float = 0.0,
  softcap: float = 0.0,
) -> Array:
  """As `attend`, for the last T of S tokens and none later than they see.

  Queries go in a few blocks, each with the keys up to its own end, which skips
  most of the hidden upper triangle.
  """
  length = q.shape[2]
  step, before = query_block(length), k.shape[2] - length
  outputs = []
  for start in range(0, length, step):
    stop = min(start + step, length)
    outputs.append(
      attend(
        q[:, :, start:stop],
        k[:, :, : before + stop],
        v[:, :, : before + stop],
        mask[:, :, start:stop, : before + stop],
        scale,
        softcap,
      )
    )
  return jnp.concatenate(outputs, axis=2)
