"""Bytes between a device's memory and its chip, instruction by instruction.

What is fused stays on the chip, and so does what a layout places in a store
there. Of an operand counts what is read of it, of a result what is written:
where a loop takes a layer's part out of a stack or puts one into it, that part.
A kernel's operands and result count once, whatever it reads again.
"""

from __future__ import annotations

from collections.abc import Mapping
import math

from instructjax.planning import hlo_text

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
# They move nothing, or what they move is counted where it is made.
_FREE = {
  'parameter',
  'constant',
  'tuple',
  'get-tuple-element',
  'bitcast',
  'while',
  'conditional',
  'call',
  'after-all',
  'partition-id',
  'async-start',
  'async-update',
  'opt-barrier',
}
# Calls that name a place or a property of what is there.
_NAMING = (
  'AllocateBuffer',
  'AssumeGatherIndicesInBound',
  'AsyncCollectiveDone',
  'AsyncCollectiveStart',
  'ConcatBitcast',
)
_SLICES = ('dynamic-slice', 'slice', 'gather')
_UPDATES = {
  'dynamic-update-slice': 1,
  'scatter': 2,
}  # operand with the new part
# A part of their result is made of as large a part of their operand.
_ALIKE = ('bitcast', 'convert', 'copy', 'reshape', 'transpose')

Computations = Mapping[str, hlo_text.Computation]


def moved(
  computations: Computations,
  where: hlo_text.Computation,
  instruction: hlo_text.Instruction,
) -> float:
  """Returns the bytes of one run of an instruction.

  Args:
    computations: of the program.
    where: the instruction's own.
    instruction: no part of a fusion.
  """
  opcode, shape = instruction.opcode, instruction.shape
  if opcode in _FREE or opcode.endswith('-done') or _is_naming(instruction):
    return 0.0
  inputs = [where.instructions[n].shape for n in instruction.operands]
  if opcode == 'fusion':
    return _by_fusion(computations, instruction, inputs)
  if opcode == 'copy-start':  # (copy, original, ...)
    return hlo_text.bytes_in_memory(shape)
  if opcode == 'slice-start':  # ((whole), part, ...)
    return _by_slice(inputs[0], hlo_text.parts_of(shape)[1])
  # Of other collectives: (operands, results, ...).
  if opcode.endswith('-start') and opcode != 'all-reduce-start':
    return hlo_text.bytes_in_memory(shape)
  if opcode in _SLICES:
    return _by_slice(inputs[0], shape)
  if opcode in _UPDATES:
    part = inputs[_UPDATES[opcode]]
    read = hlo_text.bytes_in_memory(part)
    return read + _if_in_memory(shape, hlo_text.bytes_of(part))
  return sum(map(hlo_text.bytes_in_memory, (shape, *inputs)))


def collective_in_fusion(
  where: hlo_text.Computation,
  instruction: hlo_text.Instruction,
  *,
  is_kept: bool,
) -> float:
  """Returns the bytes of a collective that `moved` leaves out of a fusion.

  Args:
    where: the fused computation.
    instruction: the collective.
    is_kept: whether its result is; a part of it, which the fusion returns, is
      counted there.
  """
  inputs = [where.instructions[n].shape for n in instruction.operands]
  read = sum(map(hlo_text.bytes_in_memory, inputs))
  return read + is_kept * hlo_text.bytes_in_memory(instruction.shape)


def _is_naming(instruction: hlo_text.Instruction) -> bool:
  return instruction.opcode == 'custom-call' and any(
    f'custom_call_target="{name}"' in instruction.rest for name in _NAMING
  )


def _by_slice(whole: str, part: str) -> float:
  read = _if_in_memory(whole, hlo_text.bytes_of(part))
  return read + hlo_text.bytes_in_memory(part)


def _if_in_memory(shape: str, size: float) -> float:
  return size if hlo_text.bytes_in_memory(shape) else 0.0


def _by_fusion(
  computations: Computations,
  fusion: hlo_text.Instruction,
  inputs: list[str],
) -> float:
  callee = computations[hlo_text.named(fusion.rest, 'calls')]
  total = sum(
    min(
      hlo_text.bytes_in_memory(shape),
      _read(computations, callee, hlo_text.parameter(callee, number)),
    )
    for number, shape in enumerate(inputs)
  )
  parts = hlo_text.parts_of(fusion.shape)
  roots = [callee.root.name]
  if callee.root.opcode == 'tuple':
    roots = callee.root.operands
  if len(roots) != len(parts):  # a tuple in a tuple, or made by a call
    if _is_naming(callee.root):
      return total
    return total + hlo_text.bytes_in_memory(fusion.shape)
  return total + sum(
    _if_in_memory(part, _written(computations, callee, name))
    for part, name in zip(parts, roots, strict=True)
  )


def _read(
  computations: Computations, where: hlo_text.Computation, name: str
) -> float:
  """Bytes that a fused computation reads of one of its values.

  The slices where it is only sliced, nothing where a part of it is replaced or
  where it is handed on; inf: all.
  """
  total = 0.0
  own = hlo_text.bytes_of(where.instructions[name].shape)
  for user in where.instructions.values():
    if name not in user.operands:
      continue
    size = hlo_text.bytes_of(user.shape)
    opcode, is_first = user.opcode, user.operands[0] == name
    if opcode in _SLICES and is_first:
      total += size
    elif opcode in _ALIKE:
      total += _read(computations, where, user.name) * own / max(size, 1.0)
    elif opcode == 'fusion':
      callee = computations[hlo_text.named(user.rest, 'calls')]
      number = user.operands.index(name)
      total += _read(computations, callee, hlo_text.parameter(callee, number))
    elif not (
      opcode in ('tuple', *COLLECTIVES)
      or _is_naming(user)
      or (opcode in _UPDATES and is_first)
    ):
      return math.inf
  return total


def _written(
  computations: Computations, where: hlo_text.Computation, name: str
) -> float:
  """Bytes that a fused computation writes of one of its results.

  A result that is an operand with a part replaced is written in place; one that
  is an operand, or a collective's, is not written by the fusion.
  """
  made = where.instructions[name]
  if made.opcode == 'bitcast':
    return _written(computations, where, made.operands[0])
  if made.opcode == 'fusion' and len(hlo_text.parts_of(made.shape)) == 1:
    callee = computations[hlo_text.named(made.rest, 'calls')]
    inner = _written(computations, callee, callee.root.name)
    return inner or hlo_text.bytes_of(made.shape)
  if made.opcode in _UPDATES and _is_operand(where, made.operands[0]):
    part = made.operands[_UPDATES[made.opcode]]
    return hlo_text.bytes_of(where.instructions[part].shape)
  if made.opcode in ('parameter', *COLLECTIVES) or _is_naming(made):
    return 0.0
  return hlo_text.bytes_of(made.shape)


def _is_operand(where: hlo_text.Computation, name: str) -> bool:
  """Whether a value is an operand of the fusion, maybe under another shape."""
  made = where.instructions[name]
  if made.opcode == 'bitcast':
    return _is_operand(where, made.operands[0])
  return made.opcode == 'parameter'
