"""The attention kernels against a loop in float64, and against one another.

On a CPU 'splash_interpreted' runs the kernel of TPUs step by step, and
'cudnn_emulated' hands XLA what cuDNN would get. That the kernels themselves are
what is then built for a TPU and for a GPU is read from the lowered programs.
"""

import dataclasses
import functools
import math
import re
import types

import jax
from jax._src.cudnn import fused_attention_stablehlo as jax_cudnn
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax.models import attention
from instructjax.models import config as config_lib
from instructjax.models import transformer

KERNELS = ('splash_interpreted', 'cudnn_emulated')
BASE = config_lib.ModelConfig(
  vocab_size=31,
  num_layers=2,
  d_model=16,
  num_heads=4,
  head_dim=8,
  d_ff=24,
  max_length=256,
)
# Two blocks of splash, the second one cut short.
B, T = 3, 150
ALTERNATING = {'attention': 'alternating', 'band': 20}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(attention, '_SPLASH_BLOCK', 128)


def padded(length=T):
  """Rows that are full, padded on the left, and on both sides."""
  mask = np.ones((B, length), bool)
  mask[1, :70] = mask[2, :3] = mask[2, length - 14 :] = False
  return mask, None


def packed():
  """Three sequences and padding, one sequence and padding, none but padding."""
  segments = np.full((B, T), -1)
  positions = np.zeros((B, T), np.int32)
  for row, lengths in enumerate([(40, 70, 33), (130,), ()]):
    start = 0
    for segment, length in enumerate(lengths):
      columns = slice(start, start + length)
      segments[row, columns] = segment
      positions[row, columns] = np.arange(length)
      start += length
  return segments >= 0, transformer.Packing(segments, None, positions)


# {name: (options of ModelConfig, the rows' mask and packing)}.
CASES = {
  'plain': ({'num_kv_heads': 1, 'attention_scale': 0.3}, (None, None)),
  'padded': (ALTERNATING, padded()),
  'packed': (
    {'num_kv_heads': 2, 'attention_softcap': 2.0, **ALTERNATING},
    packed(),
  ),
  'half': ({'num_kv_heads': 2, 'dtype': 'bfloat16'}, padded()),
}


def draw(config, mask, seed=0, filler=1e3):
  """Queries, keys, values and a weight of each output, rubbish in padding."""
  rng = np.random.default_rng(seed)
  rows, length = (B, T) if mask is None else mask.shape
  heads = config.num_heads, config.kv_heads, config.kv_heads, config.num_heads
  drawn = [rng.normal(size=(rows, n, length, config.head_dim)) for n in heads]
  if mask is not None:
    kept = mask[:, None, :, None]
    fillers = *[filler] * 3, 0.0
    drawn = [np.where(kept, x, y) for x, y in zip(drawn, fillers, strict=True)]
  *qkv, weights = (x.astype(np.float32) for x in drawn)
  return [jnp.asarray(x, config.dtype) for x in qkv], weights


def positions_of(mask, packing):
  if mask is None:
    return np.arange(T)[None]
  return packing.positions if packing else np.cumsum(mask, 1) - mask


def with_gradients(config, mask, packing, qkv, weights):
  """{layer: (outputs, gradients of their weighted sum)}, the layer traced."""
  positions = jnp.asarray(positions_of(mask, packing))

  @jax.jit
  def run(layer, mask, packing, qkv):
    def loss(qkv):
      attend = attention.over_rows(config, positions, mask, packing)
      out = attend(layer, *qkv)
      return jnp.sum(weights * jnp.where(weights == 0, 0, out)), out

    (_, out), gradients = jax.value_and_grad(loss, has_aux=True)(qkv)
    return out, gradients

  found = {
    layer: run(jnp.int32(layer), mask, packing, qkv)
    for layer in range(config.num_layers)
  }
  assert run._cache_size() == 1
  return found


def twin(config, layer, mask, packing, qkv):
  """f64[B, H, T, head_dim], every query in a loop; 0 where not kept."""
  q, k, v = (np.asarray(x, np.float64) for x in qkv)
  out = np.zeros_like(q)
  scale = config.attention_scale or 1 / math.sqrt(config.head_dim)
  for b, h, t in np.ndindex(q.shape[:3]):
    if mask is not None and not mask[b, t]:
      continue
    seen = [s for s in range(t + 1) if mask is None or mask[b, s]]
    if packing:
      segments = packing.segments[b]
      seen = [s for s in seen if segments[s] == segments[t]]
    if config.is_banded(layer):
      seen = seen[-config.band :]
    shared = h // (config.num_heads // config.kv_heads)
    scores = k[b, shared, seen] @ q[b, h, t] * scale
    if config.attention_softcap:
      cap = config.attention_softcap
      scores = cap * np.tanh(scores / cap)
    probs = np.exp(scores - scores.max())
    out[b, h, t] = probs / probs.sum() @ v[b, shared, seen]
  return out


@functools.cache
def by_xla(case):
  """A case's inputs, the twin's outputs, and what XLA makes of them."""
  options, rows = CASES[case]
  config = dataclasses.replace(BASE, **options)
  inputs = draw(config, rows[0])
  expected = {
    layer: twin(config, layer, *rows, inputs[0])
    for layer in range(config.num_layers)
  }
  return config, rows, expected, with_gradients(config, *rows, *inputs)


@pytest.mark.parametrize('case', CASES)
def test_xla_equals_a_loop(case):
  config, (mask, _), expected, found = by_xla(case)
  atol = 1e-5 if config.dtype == 'float32' else 2e-2
  for layer, (out, _) in found.items():
    assert np.isfinite(out).all() and out.dtype == config.dtype
    kept = np.ones((B, T), bool) if mask is None else mask
    out = np.where(kept[:, None, :, None], np.float32(out), 0)
    np.testing.assert_allclose(out, expected[layer], atol=atol)


@pytest.mark.parametrize(
  'kernel, case',
  [('splash_interpreted', case) for case in CASES]
  + [('cudnn_emulated', case) for case in ('plain', 'padded', 'half')],
)
def test_kernels_equal_a_loop_and_the_gradients_of_xla(kernel, case):
  """With NaN in padding, which must not even reach a gradient."""
  config, rows, expected, others = by_xla(case)
  config = dataclasses.replace(config, attention_kernel=kernel)
  assert attention.kernel_for(config, T, rows[1]) == kernel
  inputs = draw(config, rows[0], filler=np.nan)
  atol = 1e-5 if config.dtype == 'float32' else 2e-2
  kept = np.ones((B, T), bool) if rows[0] is None else rows[0]
  found = with_gradients(config, *rows, *inputs)
  for layer, (out, gradients) in found.items():
    assert np.isfinite(out).all() and out.dtype == config.dtype
    out = np.where(kept[:, None, :, None], np.float32(out), 0)
    np.testing.assert_allclose(out, expected[layer], atol=atol)
    for mine, other in zip(gradients, others[layer][1], strict=True):
      other = np.where(kept[:, None, :, None], np.float32(other), 0)
      np.testing.assert_allclose(np.float32(mine), other, atol=8 * atol)


@pytest.mark.parametrize('queries', [1, 140])
@pytest.mark.parametrize('kernel', ('xla', *KERNELS))
def test_the_last_tokens_of_rows_ask_alone(kernel, queries):
  """Whatever blocks they fall into: outputs and gradients are the row's."""
  config = dataclasses.replace(
    BASE, num_kv_heads=2, attention_kernel=kernel, **ALTERNATING
  )
  mask, _ = padded()
  last = np.s_[:, :, T - queries :]
  # XLA is given no rubbish: it does not clear it.
  inputs, weights = draw(config, mask, filler=0.0 if kernel == 'xla' else 1e3)
  weights[:, :, : T - queries] = 0
  positions = positions_of(mask, None)

  @functools.partial(jax.jit, static_argnums=0)
  def run(alone, layer, q, k, v):
    attend = attention.over_rows(
      config, positions, mask, queries=queries if alone else None
    )

    def loss(q, k, v):
      out = attend(layer, q[last] if alone else q, k, v)
      out = out if alone else out[last]
      return jnp.sum(weights[last] * out), out

    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(q, k, v)

  for layer in range(2):
    found, expected = (run(x, jnp.int32(layer), *inputs) for x in (True, False))
    for a, b in zip(
      jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
      assert np.isfinite(a).all()
      if a.ndim == 4 and a.shape[2] == queries:
        a, b = (
          np.where(mask[:, None, T - queries :, None], x, 0) for x in (a, b)
        )
      np.testing.assert_allclose(a, b, atol=1e-5)


# Deep enough for the scan over layers.
DEEP = dataclasses.replace(BASE, num_layers=7, remat='full', **ALTERNATING)


def make_model(config):
  """Random everywhere, or zero biases and unit scales would hide mistakes."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(
    functools.partial(transformer.init, config), jax.random.key(0)
  )
  params = jax.tree.map(
    lambda x: jnp.float32(rng.normal(0.1, 0.2, x.shape)), shapes
  )
  return params, jnp.asarray(rng.integers(0, 31, (B, T)))


@functools.partial(jax.jit, static_argnums=0)
def model_gradients(config, params, tokens, mask):
  def loss(params):
    out = transformer.hidden(config, params, tokens, mask)
    out = jnp.where(mask[..., None], out, 0.0)
    return jnp.sum(jnp.sin(out)), out

  return jax.value_and_grad(loss, has_aux=True)(params)


@pytest.mark.parametrize('kernel', KERNELS)
def test_scanned_models_agree_in_hidden_and_gradients(kernel):
  params, tokens = make_model(DEEP)
  mask, _ = padded()
  expected = model_gradients(DEEP, params, tokens, mask)
  config = dataclasses.replace(DEEP, attention_kernel=kernel)
  found = model_gradients(config, params, tokens, mask)
  for a, b in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-5 * max(1.0, np.abs(b).max()))
  # What padding holds changes no bit.
  dirty = jnp.where(mask, tokens, 10**6)
  again = model_gradients(config, params, dirty, mask)
  jax.tree.map(np.testing.assert_array_equal, again, found)


@pytest.mark.parametrize('kernel', KERNELS)
def test_a_cache_from_a_kernel_decodes_as_any(kernel):
  config = dataclasses.replace(BASE, num_layers=1)
  params, tokens = make_model(config)
  prompt, response = np.s_[:, : T - 4], np.s_[:, T - 4 :]
  first = np.array([[0], [70], [T - 9]])
  mask = jnp.asarray(np.arange(T) >= first)

  @functools.partial(jax.jit, static_argnums=0)
  def run(config):
    out, cache = transformer.prefill(
      config, params, tokens[prompt], mask[prompt], length=T
    )
    more, _ = transformer.extend(
      config, params, cache, tokens[response], mask[response]
    )
    return jnp.where(mask[prompt][..., None], out, 0), more

  found = run(dataclasses.replace(config, attention_kernel=kernel))
  for a, b in zip(found, run(config), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


SHARDED = """
import dataclasses
import jax
import numpy as np
from instructjax import sharding
from instructjax.models import attention
from tests.models import test_attention as here

attention._SPLASH_BLOCK = 128
assert jax.device_count() == 8
mesh = sharding.make_mesh(data=2, fsdp=1, tensor=4)
mask = np.concatenate([here.padded()[0]] * 2)[:4]
# Fewer heads of keys than devices; too few rows to split.
for kernel, heads, rows in (
  ('splash_interpreted', 2, 4), ('cudnn_emulated', 4, 3),
):
  config = dataclasses.replace(
    here.BASE, num_layers=1, attention_kernel=kernel, num_kv_heads=heads
  )
  inputs = here.draw(config, mask[:rows])
  arguments = mask[:rows], None, *inputs
  alone = here.with_gradients(config, *arguments)[0]
  config = dataclasses.replace(config, mesh=mesh)
  found = here.with_gradients(config, *arguments)[0]
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(alone)):
    np.testing.assert_allclose(a, b, atol=1e-5)
  shard = found[0].sharding.shard_shape(found[0].shape)
  assert shard[:2] == (2 if rows == 4 else 3, 1), shard
"""


def test_eight_devices_equal_one(run_python):
  run_python(SHARDED, devices=8)


@pytest.mark.parametrize(
  'length, width',
  [(128, 128), (129, 256), (512, 512), (513, 384), (1000, 512), (2048, 512)],
)
def test_blocks_are_as_few_as_they_can_be(monkeypatch, length, width):
  monkeypatch.setattr(attention, '_SPLASH_BLOCK', 512)
  assert attention._splash_block(length) == width


PACKING = transformer.Packing(np.zeros(1), None, np.zeros(1))
SHARED_PROMPT = transformer.Packing(*np.zeros((3, 1)))


@pytest.mark.parametrize(
  'options, length, packing, splash, cudnn',
  [
    ({}, 2048, None, True, True),
    ({'attention': 'alternating'}, 2048, None, True, True),
    ({'num_kv_heads': 1, 'attention_scale': 0.1}, 2048, None, True, True),
    ({}, 127, None, False, True),
    ({}, 2048, PACKING, True, False),
    ({}, 2048, SHARED_PROMPT, False, False),
    ({'attention_softcap': 50.0}, 2048, None, True, False),
    ({'head_dim': 256}, 2048, None, True, False),
    ({'head_dim': 12}, 2048, None, True, False),
    ({'dtype': 'float32'}, 2048, None, True, False),
  ],
)
def test_what_a_kernel_cannot_do_is_done_by_xla(
  options, length, packing, splash, cudnn
):
  for kernel, able in {'splash': splash, 'cudnn': cudnn, 'xla': True}.items():
    fields = {'dtype': 'bfloat16', 'attention_kernel': kernel} | options
    config = dataclasses.replace(BASE, **fields)
    expected = kernel if able else 'xla'
    assert attention.kernel_for(config, length, packing) == expected


@pytest.mark.parametrize(
  'expected, device',
  [
    ('splash', {'platform': 'tpu', 'device_kind': 'TPU v5'}),
    ('cudnn', {'platform': 'gpu', 'compute_capability': '9.0'}),
    ('cudnn', {'platform': 'gpu', 'compute_capability': '10.0'}),
    ('xla', {'platform': 'gpu', 'compute_capability': '7.5'}),
    ('xla', {'platform': 'gpu', 'compute_capability': 'gfx942'}),
    ('xla', {'platform': 'cpu'}),
  ],
)
def test_each_device_has_its_kernel(expected, device):
  assert attention.for_device(types.SimpleNamespace(**device)) == expected


@pytest.mark.parametrize(
  'kernel, platform, calls',
  [('splash', 'tpu', 'tpu_custom_call'), ('cudnn', 'cuda', '__cudnn$fmha')],
)
def test_what_is_built_for_an_accelerator(monkeypatch, kernel, platform, calls):
  """The kernels, for dense and banded layers, and no mask of T x T."""
  # Without a GPU there is no cuDNN to ask for its version.
  monkeypatch.setattr(jax_cudnn, 'check_cudnn_version', lambda: 91000)
  monkeypatch.setattr(attention, '_SPLASH_BLOCK', 512)
  config = dataclasses.replace(
    config_lib.preset('2.7B', vocab_size=64, d_ff=64),
    dtype='bfloat16',
    attention_kernel=kernel,
    num_kv_heads=8,
    remat='full',
  )
  params = jax.eval_shape(
    functools.partial(transformer.init, config), jax.random.key(0)
  )
  tokens = jax.ShapeDtypeStruct((2, 1536), jnp.int32)
  mask = jax.ShapeDtypeStruct((2, 1536), jnp.bool_)
  lowered = model_gradients.trace(config, params, tokens, mask).lower(
    lowering_platforms=(platform,)
  )
  text = lowered.as_text()
  # Forward, forward again, and backward, for which splash has two kernels.
  kernels = {'splash': 4, 'cudnn': 3}[kernel]
  assert text.count(f'custom_call @{calls}') == 2 * kernels
  assert not re.search(r'tensor<[\dx]*1536x1536x', text)
