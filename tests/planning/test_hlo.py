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
  assert found.silent_kernels == 1
  size = 64 * 32 * 2
  assert found.collectives == {  # six by steps of two
    'reduce-scatter': {'count': 3, 'bytes': 3 * size},
    'all-gather': {'count': 3, 'bytes': 3 * size},
  }


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
