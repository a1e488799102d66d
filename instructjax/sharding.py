"""Where arrays live: a mesh of three axes and one table of rules.

Batches are split over `data` and `fsdp`. Parameters, their optimiser moments,
activations and the cache of keys and values follow the first rule whose pattern
is found in their name: parameters are split over `fsdp` (each layer is gathered
when it is needed, as in ZeRO-3) and over `tensor` (heads and feed-forward
width, as in Megatron). Between the products that `tensor` splits, the residual
stream is split over it by position (Korthikanti et al. 2022, arXiv:2205.05198).
A decoding step leaves weights where they are and moves its few activations
instead (Pope et al. 2022, arXiv:2211.05102, section 3.2.2).

`jax.jit` does the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
import re
from typing import Any

import jax
from jax.experimental import mesh_utils
from jax.experimental import multihost_utils
import numpy as np

from instructjax import errors

P = jax.sharding.PartitionSpec
PyTree = Any
AXES = ('data', 'fsdp', 'tensor')
ROWS = ('data', 'fsdp')
BATCH = P(ROWS)

# Axes are counted from the last, so that the leading layer axis of a stacked
# leaf, and the leading axes of an optimiser's copy, need no rule of their own.
# Of several ways the first counts whose every size divides.
RULES = (
  (
    r'(embedding|output)/tokens$',
    (('tensor', 'fsdp'), (None, ('fsdp', 'tensor'))),
  ),
  (r'embedding/positions$', ((None, 'fsdp'),)),
  (r'kv/kernel$', (('fsdp', None, 'tensor', None),)),
  (r'kv/bias$', ((None, 'tensor', 'fsdp'), (None, 'tensor', None))),
  (r'/q/kernel$', (('fsdp', 'tensor', None),)),
  (r'/q/bias$', (('tensor', 'fsdp'), ('tensor', None))),
  (r'attention_output/kernel$', (('tensor', 'fsdp'),)),
  (r'mlp_(input|gate)/kernel$', (('fsdp', 'tensor'),)),
  (r'mlp_(input|gate)/bias$', ((('tensor', 'fsdp'),), ('tensor',))),
  (r'mlp_output/kernel$', (('tensor', 'fsdp'),)),
  # The residual stream f[B, T, D]: between blocks, where a product reads it,
  # and that of one decoding step, whose rows every shard of `fsdp` has.
  (r'activation/residual$', ((ROWS, 'tensor', None),)),
  (r'activation/read$', ((ROWS, None, None),)),
  (r'activation/step$', (('data', None, 'fsdp'),)),
  # Which keys a query sees, bool[B, 1, T, S].
  (r'activation/mask$', ((ROWS, None, None, None),)),
  # The table f[V, D] that tokens are looked up in.
  (r'activation/table$', ((None, None),)),
  # f[B, T, d_ff], and queries, keys, values f[B, H, T, head_dim].
  (r'activation/wide$', ((ROWS, None, 'tensor'),)),
  (r'activation/wide_step$', (('data', None, 'tensor'),)),
  (r'(activation/heads|cache/(keys|values))$', ((ROWS, 'tensor', None, None),)),
)


def make_mesh(
  data: int = -1,
  fsdp: int = 1,
  tensor: int = 1,
  *,
  devices: Sequence[jax.Device] | None = None,
) -> jax.sharding.Mesh:
  """Lays the devices out; one of the sizes may be -1, the rest.

  Args:
    data, fsdp, tensor: sizes of the axes.
    devices: of a topology that is not there; None: all there are.

  Raises:
    UserError: if the sizes do not multiply to the number of devices.
  """
  sizes = dict(zip(AXES, (data, fsdp, tensor), strict=True))
  count = len(devices or jax.devices())
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
  # Axes follow the wires of a slice, and share them where they must: 8 on a
  # cube of 4 x 4 x 4.
  laid_out = mesh_utils.create_device_mesh(
    tuple(sizes.values()),
    devices=devices or jax.devices(),
    allow_split_physical_axes=True,
  )
  kinds = (jax.sharding.AxisType.Auto,) * len(AXES)
  return jax.sharding.Mesh(laid_out, AXES, axis_types=kinds)


def platform(mesh: jax.sharding.Mesh) -> str:
  """Returns what the devices are: 'cpu', 'gpu' or 'tpu'."""
  return mesh.devices.flat[0].platform


def num_row_shards(mesh: jax.sharding.Mesh | None) -> int:
  """Returns into how many parts the rows of a batch are split."""
  return math.prod(mesh.shape[axis] for axis in ROWS) if mesh else 1


def shardings(
  tree: PyTree,
  mesh: jax.sharding.Mesh,
  *,
  over: Sequence[str] = ('fsdp',),
  memory: str | None = None,
) -> PyTree:
  """Returns the NamedSharding of every leaf (arrays or shapes).

  Args:
    tree: of parameters or a state; the rules know leaves by their paths.
    mesh: from make_mesh.
    over: the mesh's axes that take the place of `fsdp` in the rules.
    memory: kind of memory, as 'pinned_host'; None: the devices' own.
  """
  options = {'memory_kind': memory} if memory else {}

  def place(path, leaf):
    spec = spec_of(_name(path), leaf.shape, mesh, over)
    return jax.sharding.NamedSharding(mesh, spec, **options)

  return jax.tree_util.tree_map_with_path(place, tree)


def _name(path) -> str:
  return '/'.join(str(getattr(k, 'key', getattr(k, 'name', k))) for k in path)


def spec_of(
  name: str,
  shape: Sequence[int],
  mesh: jax.sharding.Mesh,
  over: Sequence[str] = ('fsdp',),
) -> jax.sharding.PartitionSpec:
  """Returns the first rule's way that divides; else what of the last does."""
  ways = _ways(name, shape, over)
  if not ways:
    return P()
  for way in ways:
    if all(_divides(size, axes, mesh) for size, axes in way):
      break
  return P(
    *(axes if _divides(size, axes, mesh) else None for size, axes in way)
  )


def _ways(name, shape, over) -> list[list[tuple[int, Any]]]:
  """The ways to split a leaf, each as (size, axes) of its dimensions."""
  for pattern, ways in RULES:
    if re.search(pattern, name) and len(ways[0]) <= len(shape):
      whole = (None,) * (len(shape) - len(ways[0]))
      return [
        list(zip(shape, (*whole, *(_real(a, over) for a in way)), strict=True))
        for way in ways
      ]
  return []


def _real(axes: Any, over: Sequence[str]) -> Any:
  """The mesh's axes that a rule means by `axes`; None for none."""
  if axes is None or axes in (ROWS, 'data'):
    return axes
  names = (axes,) if isinstance(axes, str) else axes
  found = [n for name in names for n in (over if name == 'fsdp' else (name,))]
  return tuple(found) if len(found) > 1 else found[0] if found else None


def _divides(size: int, axes: Any, mesh) -> bool:
  names = (axes,) if isinstance(axes, str) else axes or ()
  return size % math.prod(mesh.shape[name] for name in names) == 0


def check_params(
  role: str,
  shapes: PyTree,
  mesh: jax.sharding.Mesh,
  over: Sequence[str] = ('fsdp',),
) -> None:
  """Raises UserError if a weight cannot be split over the mesh.

  Args:
    role: of the model, for the message.
    shapes: its parameters or their shapes.
    mesh, over: as of `shardings`.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
    ways = _ways(_name(path), leaf.shape, over)
    unfit = [
      [(s, axes) for s, axes in way if not _divides(s, axes, mesh)]
      for way in ways
    ]
    if not ways or not all(unfit):
      continue
    size, axes = unfit[0][0]
    names = (axes,) if isinstance(axes, str) else axes
    sizes = ' x '.join(f'mesh.{n}={mesh.shape[n]}' for n in names)
    fitting = [n for n in range(1, mesh.size + 1) if size % n == 0]
    raise errors.UserError(
      f'{sizes} must divide {size}, a size of {_name(path)}'
      f' {list(leaf.shape)} of the {role}:'
      f' {", ".join(map(str, fitting))} would fit.'
    )


def constrain(
  mesh: jax.sharding.Mesh | None, name: str, x: jax.Array
) -> jax.Array:
  """Places an activation as the rule of its name says; under jit.

  Args:
    mesh: None, or of one device: nothing is done.
    name: as in RULES.
    x: any array; sizes that do not divide stay whole.
  """
  if mesh is None or mesh.size == 1:
    return x
  spec = spec_of(name, x.shape, mesh)
  return jax.lax.with_sharding_constraint(
    x, jax.sharding.NamedSharding(mesh, spec)
  )


def put(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
  """Moves parameters or a state to where the rules place them."""
  return jax.device_put(tree, shardings(tree, mesh))


def on_device(tree: PyTree) -> PyTree:
  """Copies what waits in the memory of the host to where it is used."""

  def fetch(x):
    if x.sharding.memory_kind != 'pinned_host':
      return x
    place = x.sharding.with_memory_kind('device')
    if isinstance(x, jax.ShapeDtypeStruct):
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)
    return jax.device_put(x, place)

  return jax.tree.map(fetch, tree)


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
  blocks = num_row_shards(mesh)
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
  rows = num_row_shards(mesh)
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
