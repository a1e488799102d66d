"""What a compiled program does, counted from its text."""

from __future__ import annotations

import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from instructjax.planning import hlo


def _costs(function, *args, loops=1):
  text = jax.jit(function).lower(*args).compile().as_text()
  return hlo.costs(text, loops=loops)


def test_products_and_loops_around_them():
  x, w = jnp.ones((8, 16)), jnp.ones((5, 16, 16))
  assert _costs(lambda x, w: x @ w[0], x, w).flops == 2 * 8 * 16 * 16

  def scanned(x, w):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

  assert _costs(scanned, x, w).flops == 5 * 2 * 8 * 16 * 16

  def nested(x, w):
    return jax.lax.fori_loop(0, 3, lambda i, x: scanned(x, w), x)

  assert _costs(nested, x, w).flops == 3 * 5 * 2 * 8 * 16 * 16


def test_batched_products():
  q, k = jnp.ones((2, 3, 8, 16)), jnp.ones((2, 3, 4, 16))
  found = _costs(lambda q, k: jnp.einsum('bhtd,bhsd->bhts', q, k), q, k)
  assert found.flops == 2 * 2 * 3 * 8 * 4 * 16


def test_a_loop_that_data_ends_runs_as_often_as_told():
  def search(x, w):
    def more(state):
      return (state[0] < 100) & jnp.any(state[1] > 0)

    return jax.lax.while_loop(more, lambda s: (s[0] + 1, s[1] @ w), (0, x))[1]

  x, w = jnp.ones((8, 16)), jnp.ones((16, 16))
  one = 2 * 8 * 16 * 16
  assert _costs(search, x, w, loops=1).flops == one
  assert _costs(search, x, w, loops=99).flops == 99 * one


def test_bytes_are_those_of_slices_where_a_loop_slices():
  w = jnp.ones((100, 64, 64))
  x = jnp.ones((4, 64))

  def scanned(x, w):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

  found = _costs(scanned, x, w).bytes_accessed
  assert w.nbytes <= found < 5 * w.nbytes  # 100 times that if read whole


# Made by hand as libtpu writes: a product with two batch axes, a loop that XLA
# has unrolled by two, and a sum over devices of which each keeps its part.
TPU_PROGRAM = pathlib.Path(__file__).parent / 'tpu_program.txt'


def test_as_tpus_say_it():
  found = hlo.costs(TPU_PROGRAM.read_text())
  assert found.flops == 2 * 8 * 4 * 512 * 2048 * 128 + 1000
  assert found.silent_kernels == 1 + 4
  size = 64 * 32 * 2
  assert found.collectives == {  # seven by steps of two
    'reduce-scatter': {'count': 4, 'bytes': 4 * size},
    'all-gather': {'count': 4, 'bytes': 4 * size},
  }
  q, k = (8 * 4 * rows * 128 * 2 for rows in (512, 2048))
  scores = 8 * 4 * 512 * 2048 * 4
  kernels = 2 * (q + 8 * 4 * 2)
  # Two collectives, a kernel, and the counter.
  turn = 2 * (size + size // 4) + (size + 8 * 2) + 3 * 4
  assert found.bytes_accessed == q + k + scores + kernels + 4 * turn


def _loop(*condition, of='', loops=99):
  """FLOPs of a loop around a product of 2 * 8 ** 3, over those of one."""
  state = '(s32[], f32[8,8])'
  text = [
    f'%condition (c: {state}) -> pred[] {{',
    f'  %c = {state} parameter(0)',
    '  %i = s32[] get-tuple-element(%c), index=0',
    *(f'  {line}' for line in condition),
    '}',
    f'%body (b: {state}) -> {state} {{',
    f'  %b = {state} parameter(0)',
    '  %j = s32[] get-tuple-element(%b), index=0',
    '  %one = s32[] constant(1)',
    '  %k = s32[] add(%j, %one)',
    '  %x = f32[8,8]{1,0} get-tuple-element(%b), index=1',
    '  %y = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1},'
    ' rhs_contracting_dims={0}',
    f'  ROOT %t = {state} tuple(%k, %y)',
    '}',
    f'ENTRY %main (p: {state}) -> {state} {{',
    f'  %p = {state} parameter(0)',
    f'  ROOT %w = {state} while(%p), condition=%condition, body=%body{of}',
    '}',
  ]
  return hlo.costs('\n'.join(text), loops=loops).flops / (2 * 8**3)


LIMIT = '%n = s32[] constant(6)'
LESS = 'pred[] compare(%i, %n), direction=LT'


def test_how_often_a_loop_runs():
  assert _loop(LIMIT, f'ROOT %r = {LESS}') == 6
  known = ', backend_config={"known_trip_count":{"n":"5"}}'
  assert _loop(LIMIT, f'ROOT %r = {LESS}', of=known) == 5
  # What data ends runs as often as told.
  ends = '%a = pred[] custom-call(%c), custom_call_target="Any"'
  both = 'ROOT %r = pred[] and(%l, %a)'
  assert _loop(LIMIT, f'%l = {LESS}', ends, both) == 99
  assert _loop(LIMIT, f'ROOT %r = {LESS}'.replace('LT', 'GT')) == 99
  other = '%m = s32[] constant(7)'
  assert _loop(LIMIT, other, f'ROOT %r = {LESS}') == 99


@pytest.mark.parametrize(
  'calls, times',
  [
    ('call(%p), to_apply=%dot', 1),
    ('async-start(%p), calls=%dot', 1),
    ('conditional(%i, %p, %p), branch_computations={%dot, %none}', 0.5),
    (
      'conditional(%i, %p, %p), true_computation=%dot, false_computation=%none',
      0.5,
    ),
  ],
)
def test_what_is_called_counts(calls, times):
  shape = 'f32[8,8]{1,0}'
  text = [
    f'%dot (x: {shape}) -> {shape} {{',
    f'  %x = {shape} parameter(0)',
    f'  ROOT %y = {shape} dot(%x, %x), lhs_contracting_dims={{1}},'
    ' rhs_contracting_dims={0}',
    '}',
    f'%none (z: {shape}) -> {shape} {{',
    f'  ROOT %z = {shape} parameter(0)',
    '}',
    f'ENTRY %main (p: {shape}, i: s32[]) -> {shape} {{',
    f'  %p = {shape} parameter(0)',
    '  %i = s32[] parameter(1)',
    f'  ROOT %out = {shape} {calls}',
    '}',
  ]
  assert hlo.costs('\n'.join(text)).flops == times * 2 * 8**3


def _moved(*lines, fused=(), shape='f32[8]', dtype='bf16'):
  """Bytes of an entry that returns what its last line gives."""
  text = [f'%fused ({"" if fused else "x: f32[]"}) -> {shape} {{', *fused, '}']
  text += [f'ENTRY %main (p: {dtype}[8]) -> {shape} {{', *lines, '}']
  return hlo.costs('\n'.join(text)).bytes_accessed


CACHE = 'bf16[8,100,128]{2,1,0:T(8,128)(2,1)}'  # of 8 layers
LAYER, TOKEN = 'bf16[1,100,128]{2,1,0}', 'bf16[1,1,128]{2,1,0}'
ON_CHIP = '{2,1,0:T(8,128)(2,1)S(1)}'


def test_a_token_written_to_two_caches_in_one_fusion_is_two_tokens():
  """Each cache in place; the token is read where it is not on the chip."""
  fused = [
    f'  %k = {CACHE} parameter(0)',
    f'  %v = {CACHE} parameter(1)',
    f'  %new = {TOKEN} parameter(2)',
    '  %i = s32[] parameter(3)',
    f'  %a = {CACHE} dynamic-update-slice(%k, %new, %i, %i, %i)',
    f'  %cast = {CACHE} bitcast(%v)',
    f'  %b = {CACHE} dynamic-update-slice(%cast, %new, %i, %i, %i)',
    f'  ROOT %both = ({CACHE}, {CACHE}) tuple(%a, %b)',
  ]

  def moved(token):
    return _moved(
      f'  %k.1 = {CACHE} parameter(0)',
      f'  %v.1 = {CACHE} parameter(1)',
      f'  %new.1 = {token} parameter(2)',
      '  %i.1 = s32[]{:S(6)} parameter(3)',
      f'  ROOT %next = ({CACHE}, {CACHE}) fusion(%k.1, %v.1, %new.1, %i.1),'
      ' kind=kLoop, calls=%fused',
      fused=fused,
    )

  assert moved(TOKEN) == 3 * 128 * 2
  assert moved('bf16[1,1,128]' + ON_CHIP) == 2 * 128 * 2


def test_a_layer_read_from_a_stack_is_a_layer():
  fused = [
    f'  %all = {CACHE} parameter(0)',
    '  %i = s32[] parameter(1)',
    f'  %wide = {CACHE.replace("bf16", "f32")} convert(%all)',
    f'  %own = {LAYER.replace("bf16", "f32")} dynamic-slice(%wide, %i),'
    ' dynamic_slice_sizes={1,100,128}',
    f'  ROOT %out = {LAYER} convert(%own)',
  ]
  found = _moved(
    f'  %all.1 = {CACHE} parameter(0)',
    '  %i.1 = s32[]{:S(6)} parameter(1)',
    f'  ROOT %own.1 = {LAYER} fusion(%all.1, %i.1), kind=kLoop, calls=%fused',
    fused=fused,
  )
  assert found == 2 * 100 * 128 * 2


def test_what_stays_on_the_chip_is_not_moved():
  chip, size = 'bf16[4,100,128]' + ON_CHIP, 4 * 100 * 128 * 2
  memory = 'bf16[4,100,128]{2,1,0:T(8,128)(2,1)}'
  whole = f'  %p = {CACHE} parameter(0)'
  fetched = (
    f'  %go = (({CACHE}), {chip}, s32[]{{:S(2)}}) slice-start(%p), slice='
    '{[0:4], [0:100], [0:128]}',
    f'  %there = {chip} slice-done(%go)',
  )
  used = f'  %twice = {chip} add(%there, %there)'
  assert _moved(whole, *fetched, used) == size
  assert _moved(whole, *fetched, f'  %x = {memory} copy(%there)') == 2 * size
  copied = (
    f'  %q = {memory} parameter(0)',
    f'  %go = ({chip}, {memory}, u32[]{{:S(2)}}) copy-start(%q)',
    f'  %there = {chip} copy-done(%go)',
  )
  assert _moved(*copied, used) == size
  place = '  %new = {} custom-call(), custom_call_target="AllocateBuffer"'
  assert _moved(place.format(memory)) == 0


@pytest.mark.parametrize('was, flops', [('dot_general', 2), ('reduce_sum', 0)])
def test_a_product_with_one_query_is_a_sum(was, flops):
  """f32[8, 16] . f32[100, 16] as a broadcast, a product and a sum."""
  wide = 'f32[8,100,16]{2,1,0}'
  text = [
    f'%fused (q: f32[8,16], k: {wide}) -> f32[8,100] {{',
    '  %q = f32[8,16]{1,0} parameter(0)',
    f'  %k = {wide} parameter(1)',
    f'  %each = {wide} broadcast(%q), dimensions={{0,2}}',
    f'  %products = {wide} multiply(%each, %k)',
    '  %zero = f32[] constant(0)',
    '  ROOT %sum = f32[8,100]{1,0} reduce(%products, %zero), dimensions={2},'
    f' to_apply=%add, metadata={{op_name="jit(f)/attend/{was}"}}',
    '}',
    f'ENTRY %main (q: f32[8,16], k: {wide}) -> f32[8,100] {{',
    '  %q.1 = f32[8,16]{1,0} parameter(0)',
    f'  %k.1 = {wide} parameter(1)',
    '  ROOT %out = f32[8,100]{1,0} fusion(%q.1, %k.1), kind=kLoop,'
    ' calls=%fused',
    '}',
  ]
  assert hlo.costs('\n'.join(text)).flops == flops * 8 * 100 * 16


def test_a_collective_spread_over_fusions_counts_once():
  """As TPUs start it, go on with it beside a product, and end it."""
  part, full = 'bf16[1,64,512]{2,1,0}', 'bf16[1,64,4096]{2,1,0}'
  x, w, y = 'bf16[64,512]{1,0}', 'bf16[512,512]{1,0}', 'bf16[64,512]{1,0}'

  def gather(name):
    return (
      f'  %{name} = {part} parameter(0)',
      f'  %{name}.all = {full} all-gather(%{name}), channel_id=7,'
      ' dimensions={2}',
    )

  begun = f'({part}, {full}, u32[]{{:S(2)}})'
  beside = f'({y}, {part}, {full})'
  call = '  ROOT %{} = {} custom-call(%{}), custom_call_target="Async{}"'
  text = [
    f'%start (a: bf16[1,64,512]) -> {begun} {{',
    *gather('a'),
    call.format('s', begun, 'a.all', 'CollectiveStart'),
    '}',
    f'%step (b: bf16[1,64,512], x: bf16[8]) -> {beside} {{',
    *gather('b'),
    f'  %b.1 = {full} parameter(1)',
    f'  %x = {x} parameter(2)',
    f'  %w = {w} parameter(3)',
    f'  %y = {y} dot(%x, %w), lhs_contracting_dims={{1}},'
    ' rhs_contracting_dims={0}',
    f'  ROOT %t = {beside} tuple(%y, %b, %b.all)',
    '}',
    f'%done (c: bf16[1,64,512]) -> {full} {{',
    *gather('c'),
    f'  %c.1 = {full} parameter(1)',
    call.format('d', full, 'c.all', 'CollectiveDone'),
    '}',
    'ENTRY %main (p: bf16[1,64,512]) -> bf16[1,64,4096] {',
    f'  %p = {part} parameter(0)',
    f'  %q = {x} parameter(1)',
    f'  %r = {w} parameter(2)',
    f'  %begin = {begun} fusion(%p), kind=kCustom, calls=%start',
    f'  %own = {part} get-tuple-element(%begin), index=0',
    f'  %all = {full} get-tuple-element(%begin), index=1',
    f'  %more = {beside} fusion(%own, %all, %q, %r), kind=kOutput, calls=%step',
    f'  %own.1 = {part} get-tuple-element(%more), index=1',
    f'  %all.1 = {full} get-tuple-element(%more), index=2',
    f'  ROOT %end = {full} fusion(%own.1, %all.1), kind=kCustom, calls=%done',
    '}',
  ]
  found = hlo.costs('\n'.join(text))
  sent = 64 * 4096 * 2
  assert found.collectives == {'all-gather': {'count': 1, 'bytes': sent}}
  assert found.flops == 2 * 64 * 512 * 512
  product = 2 * (2 * 64 * 512 + 512 * 512)
  assert found.bytes_accessed == product + 2 * 64 * 512 + sent


@pytest.mark.parametrize(
  'kind, shape, sent, moved',
  [
    ('all-reduce', 'f32[64]{0}, f32[32]{0}', 96, 192),
    ('all-gather', '(f32[64], f32[32]), (f32[256], f32[128])', 384, 480),
    ('collective-permute', 'f32[64], f32[32], f32[64], f32[32]', 96, 192),
  ],
)
def test_collectives_that_are_started_together(kind, shape, sent, moved):
  """Numbers that all of them send, and read and write."""
  text = [
    'ENTRY %main (p: f32[64], q: f32[32]) -> f32[64] {',
    '  %p = f32[64]{0} parameter(0)',
    '  %q = f32[32]{0} parameter(1)',
    f'  %go = ({shape}) {kind}-start(%p, %q), channel_id=1',
    f'  ROOT %end = f32[64]{{0}} {kind}-done(%go)',
    '}',
  ]
  found = hlo.costs('\n'.join(text))
  assert found.collectives == {kind: {'count': 1, 'bytes': 4 * sent}}
  assert found.bytes_accessed == 4 * moved


@pytest.fixture(scope='module')
def on_four_devices(run_python):
  """Costs of programs whose arrays are split over 4 devices."""
  code = """
import json, jax, jax.numpy as jnp
from instructjax.planning import hlo
mesh = jax.make_mesh((4,), ('x',), axis_types=(jax.sharding.AxisType.Auto,))
def struct(spec, *shape):
  place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
  return jax.ShapeDtypeStruct(shape, 'float32', sharding=place)
def costs(f, *args):
  found = hlo.costs(jax.jit(f).lower(*args).compile().as_text())
  return {'flops': found.flops, 'collectives': found.collectives}
a, b = struct(('x', None), 64, 32), struct((None, 'x'), 32, 64)
print(json.dumps({
  'sum': costs(lambda a: (a ** 2).sum(0), a),
  'inner': costs(lambda b, a: b @ a, b, a),
}))
"""
  return json.loads(run_python(code, devices=4).stdout)


def test_what_devices_send_each_other(on_four_devices):
  told = on_four_devices['sum']['collectives']
  assert told == {'all-reduce': {'count': 1, 'bytes': 32 * 4}}
  told = on_four_devices['inner']
  assert told['flops'] == 2 * 32 * 64 / 4 * 32
  assert told['collectives'] == {'all-reduce': {'count': 1, 'bytes': 4096}}
