"""Counts the products of a program in its jaxpr, loops included."""

from __future__ import annotations

import math

import jax


def flops(function, *args, trips=1):
  """FLOPs of all dot_generals that `function` would run, of shapes or arrays.

  Args:
    function: anything that jax.make_jaxpr takes.
    *args: its arguments.
    trips: how often the body of a while loop runs; a scan knows.
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr, trips)


def _count(jaxpr, trips):
  total = 0
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'dot_general':
      (contracted, _), _ = eqn.params['dimension_numbers']
      shape = eqn.invars[0].aval.shape
      length = math.prod(shape[axis] for axis in contracted)
      total += 2 * math.prod(eqn.outvars[0].aval.shape) * length
    times = {'scan': eqn.params.get('length'), 'while': trips}
    inner = sum(_count(found, trips) for found in _inside(eqn.params))
    total += times.get(eqn.primitive.name, 1) * inner
  return total


def _inside(params):
  for value in params.values():
    for part in value if isinstance(value, tuple | list) else (value,):
      part = getattr(part, 'jaxpr', part)
      if hasattr(part, 'eqns'):
        yield part
