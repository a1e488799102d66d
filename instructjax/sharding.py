"""Where arrays live: a mesh of three axes and one table of rules.

Batches are split over `data` and `fsdp`; parameters and optimiser moments over
`fsdp` and `tensor` by the first rule whose pattern is found in their path.
`jax.jit` does the rest.
"""

from __future__ import annotations

import math
import re
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

from instructjax import errors

P = jax.sharding.PartitionSpec
PyTree = Any
AXES = ('data', 'fsdp', 'tensor')
BATCH = P(('data', 'fsdp'))

# Axes are counted from the last, so that the leading layer axis of a stacked
# leaf, and the leading axes of an optimiser's copy, need no rule of their own.
RULES = (
  (r'(embedding|output)/tokens$', ('tensor', 'fsdp')),
  (r'embedding/positions$', (None, 'fsdp')),
  (r'kv/kernel$', ('fsdp', None, 'tensor', None)),
  (r'kv/bias$', (None, 'tensor', None)),
  (r'/q/kernel$', ('fsdp', 'tensor', None)),
  (r'/q/bias$', ('tensor', None)),
  (r'attention_output/kernel$', ('tensor', 'fsdp')),
  (r'mlp_(input|gate)/kernel$', ('fsdp', 'tensor')),
  (r'mlp_(input|gate)/bias$', ('tensor',)),
  (r'mlp_output/kernel$', ('tensor', 'fsdp')),
)


def make_mesh(
  data: int = -1, fsdp: int = 1, tensor: int = 1
) -> jax.sharding.Mesh:
  """Lays the devices out; one of the sizes may be -1, the rest.

  Raises:
    UserError: if the sizes do not multiply to the number of devices.
  """
  sizes = dict(zip(AXES, (data, fsdp, tensor), strict=True))
  count = jax.device_count()
  fixed = math.prod(size for size in sizes.values() if size != -1)
  free = [name for name, size in sizes.items() if size == -1]
  if (
    len(free) > 1 or fixed < 1 or count % fixed or (not free and fixed != count)
  ):
    given = ', '.join(f'{name}={size}' for name, size in sizes.items())
    raise errors.UserError(
      f'mesh sizes {given} must multiply to {count}, the number of devices:'
      ' set one of them to -1 to take what is left.'
    )
  for name in free:
    sizes[name] = count // fixed
  return jax.make_mesh(
    tuple(sizes.values()),
    AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * len(AXES),
  )


def shardings(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
  """Returns the NamedSharding of every leaf (arrays or shapes)."""

  def place(path, leaf):
    name = '/'.join(str(getattr(k, 'key', getattr(k, 'name', k))) for k in path)
    return jax.sharding.NamedSharding(mesh, _spec(name, leaf.shape, mesh))

  return jax.tree_util.tree_map_with_path(place, tree)


def _spec(
  name: str, shape: tuple[int, ...], mesh
) -> jax.sharding.PartitionSpec:
  """The first rule that fits; sizes that do not divide stay whole."""
  for pattern, axes in RULES:
    if re.search(pattern, name) and len(axes) <= len(shape):
      axes = (None,) * (len(shape) - len(axes)) + axes
      return P(
        *(
          axis if axis and size % mesh.shape[axis] == 0 else None
          for axis, size in zip(axes, shape, strict=True)
        )
      )
  return P()


def put(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
  """Moves parameters or a state to where the rules place them."""
  return jax.device_put(tree, shardings(tree, mesh))


def own_rows(size: int, mesh: jax.sharding.Mesh) -> np.ndarray:
  """Returns i64[n], the rows of a batch that this process's devices hold.

  They need not follow each other, as a mesh may order the devices of a pod by
  their wires; and where the tensor axis spans processes, several of them hold
  the same rows.

  Args:
    size: rows of the whole batch; the data and fsdp axes divide it.
    mesh: from make_mesh.
  """
  spread = jax.sharding.NamedSharding(mesh, BATCH)
  parts = spread.addressable_devices_indices_map((size,)).values()
  return np.unique(np.concatenate([np.arange(size)[part] for part in parts]))


def put_batch(batch: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
  """Moves a batch of NumPy rows to the devices, split over data and fsdp.

  Args:
    batch: of each array the rows that `own_rows` says; all of them, where this
      process holds all devices.
    mesh: from make_mesh.

  Returns:
    The whole batch, of which each process holds its rows.
  """
  spread = jax.sharding.NamedSharding(mesh, BATCH)
  if spread.is_fully_addressable:
    return jax.device_put(batch, spread)
  blocks = mesh.shape['data'] * mesh.shape['fsdp']
  own = own_rows(blocks, mesh)

  def put(rows):
    size = len(rows) * blocks // len(own)
    places = own_rows(size, mesh)

    def part(index):
      start, stop, _ = index[0].indices(size)
      first = np.searchsorted(places, start)
      return rows[first : first + stop - start]

    return jax.make_array_from_callback((size, *rows.shape[1:]), spread, part)

  return jax.tree.map(put, batch)


def check_batch(name: str, size: int, parts: int, mesh) -> None:
  """Raises UserError unless `size` rows split into parts and over the mesh.

  Args:
    name: of the config key, for the message.
    size: rows.
    parts: minibatches times micro-batches they are cut into.
    mesh: from make_mesh.
  """
  rows = mesh.shape['data'] * mesh.shape['fsdp']
  unit = parts * rows
  if size < 1 or size % unit:
    fit = max(unit, math.ceil(size / unit) * unit)
    raise errors.UserError(
      f'{name}={size} must divide by {unit} ({parts} minibatches and'
      f' micro-batches x {rows} devices on the data and fsdp axes): use {fit}.'
    )


def to_host(tree: PyTree) -> PyTree:
  """Copies a pytree of arrays to NumPy; whole, in every process."""

  def copy(x):
    if isinstance(x, jax.Array) and not (
      x.is_fully_addressable or x.is_fully_replicated
    ):
      return multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(x)

  return jax.tree.map(copy, tree)
