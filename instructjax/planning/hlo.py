"""What a compiled program does, counted from its text, loops included.

XLA's own cost analysis counts the body of a loop once, however often it runs; a
model of 96 layers is one body that runs 96 times. Here every computation counts
as often as its callers run it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import math
import re

from instructjax.planning import hlo_text
from instructjax.planning import traffic

_Computation = hlo_text.Computation
_Instruction = hlo_text.Instruction


@dataclasses.dataclass(frozen=True)
class Costs:
  """Of one run of a program, on one device.

  Attributes:
    flops: of matrix products and convolutions, 2 a multiply-add, as sums of
      elementwise products too; and what kernels say of themselves.
    bytes_accessed: read from the device's memory and written there (traffic).
    collectives: {kind: {'count', 'bytes'}}; bytes of what leaves or reaches the
      device, the larger of an operation's operand and its result.
    silent_kernels: calls of kernels that do not say what they compute.
  """

  flops: float
  bytes_accessed: float
  collectives: Mapping[str, Mapping[str, float]]
  silent_kernels: int


def costs(text: str, *, loops: int = 1) -> Costs:
  """Counts a program.

  Args:
    text: of a compiled program's HLO (jax.stages.Compiled.as_text).
    loops: how often a loop runs whose end depends on data.
  """
  return _Counter(text, loops).costs()


class _Counter:
  """Walks from the entry through all that it calls."""

  def __init__(self, text: str, loops: int):
    self.computations, self.entry = hlo_text.parse(text)
    self.loops = loops

  def costs(self) -> Costs:
    flops = moved = 0.0
    silent = 0
    collectives: dict[str, dict[str, float]] = {}
    for computation, times in self._runs(self.entry, 1):
      for kind, sent, more in self._sendings(computation):
        told = collectives.setdefault(kind, {'count': 0, 'bytes': 0})
        told['count'] += times
        told['bytes'] += times * sent
        moved += times * more
      for instruction in computation.instructions.values():
        flops += times * self._flops(computation, instruction)
        moved += times * traffic.moved(
          self.computations, computation, instruction
        )
        if _is_kernel(instruction) and not _told(instruction):
          silent += times
    return Costs(flops, moved, collectives, silent)

  def _runs(
    self, name: str, times: float
  ) -> Iterator[tuple[_Computation, float]]:
    """Yields computations that are no part of a fusion, and how often."""
    computation = self.computations[name]
    yield computation, times
    for instruction in computation.instructions.values():
      for callee, more in self._calls(instruction):
        yield from self._runs(callee, times * more)

  def _calls(self, instruction: _Instruction) -> list[tuple[str, float]]:
    rest, opcode = instruction.rest, instruction.opcode
    if opcode == 'while':
      return [(hlo_text.named(rest, 'body'), self._trips(instruction))]
    if opcode == 'conditional':
      found = re.search(r'branch_computations=\{([^}]*)\}', rest)
      names = found.group(1) if found else ''
      names += ' '.join(re.findall(r'(?:true|false)_computation=(\S+)', rest))
      # One of them runs, which is the data's or, for layers of two kinds that
      # take turns, the layer's: each counts its share.
      branches = re.findall(r'%([\w.\-]+)', names)
      return [(name, 1 / len(branches)) for name in branches]
    if opcode == 'call':
      return [(hlo_text.named(rest, 'to_apply'), 1)]
    if opcode == 'async-start':
      return [(hlo_text.named(rest, 'calls'), 1)]
    return []

  def _trips(self, instruction: _Instruction) -> int:
    known = re.search(r'known_trip_count[^\d]*(\d+)', instruction.rest)
    if known:
      return int(known.group(1))
    condition = self.computations[hlo_text.named(instruction.rest, 'condition')]
    root = self._unwrapped(condition)
    if root.opcode != 'compare' or 'direction=LT' not in root.rest:
      return self.loops
    limits = [
      hlo_text.constant(i)
      for i in condition.instructions.values()
      if i.opcode == 'constant' and hlo_text.constant(i) is not None
    ]
    if len(limits) != 1:
      return self.loops
    return -(-limits[0] // self._step(instruction, condition))

  def _step(self, loop: _Instruction, condition: _Computation) -> int:
    """How much a loop's counter grows at a time: XLA unrolls some by two."""
    counters = [
      int(found.group(1))
      for i in condition.instructions.values()
      if (found := re.search(r'index=(\d+)', i.rest))
    ]
    body = self.computations[hlo_text.named(loop.rest, 'body')]
    if len(counters) != 1 or body.root.opcode != 'tuple':
      return 1
    grown = body.instructions[body.root.operands[counters[0]]]
    steps = [
      hlo_text.constant(body.instructions[name])
      for name in grown.operands
      if body.instructions[name].opcode == 'constant'
    ]
    return steps[0] if grown.opcode == 'add' and len(steps) == 1 else 1

  def _unwrapped(self, computation: _Computation) -> _Instruction:
    """The root, or that of the fusion which it is."""
    root = computation.root
    if root.opcode == 'fusion':
      return self._unwrapped(
        self.computations[hlo_text.named(root.rest, 'calls')]
      )
    return root

  def _flops(self, where: _Computation, instruction: _Instruction) -> float:
    if instruction.opcode == 'fusion':
      callee = self.computations[hlo_text.named(instruction.rest, 'calls')]
      return sum(self._flops(callee, i) for i in callee.instructions.values())
    if instruction.opcode == 'reduce' and _is_product(instruction):
      shape = where.instructions[instruction.operands[0]].shape
      return 2.0 * math.prod(hlo_text.sizes_of(shape))
    if instruction.opcode in ('dot', 'convolution'):
      shapes = [where.instructions[n].shape for n in instruction.operands]
      count = _dot if instruction.opcode == 'dot' else _convolution
      return 2.0 * count(
        instruction, *(hlo_text.sizes_of(shape) for shape in shapes[:2])
      )
    return _told(instruction) if _is_kernel(instruction) else 0.0

  def _sendings(
    self, computation: _Computation
  ) -> Iterator[tuple[str, float, float]]:
    """Yields its collectives: kind, bytes sent, bytes moved beside `moved`'s.

    TPUs spread a collective over a fusion that starts it, others that go on
    with it while they compute, and one that ends it; all tell its channel.
    """
    found = [
      (where, inner)
      for instruction in computation.instructions.values()
      for where, inner in self._with_inner(computation, instruction)
      if inner.opcode.removesuffix('-start') in traffic.COLLECTIVES
    ]
    started = {_channel(x) for where, x in found if _has(where, 'Start')}
    for where, inner in found:
      goes_on = _channel(inner) in started and not _has(where, 'Start')
      if where is not computation and (goes_on or _has(where, 'Done')):
        continue
      kind, more = inner.opcode.removesuffix('-start'), 0.0
      if where is not computation:
        # A reduce-scatter is an all-reduce fused with the slice that is kept.
        opcodes = [i.opcode for i in where.instructions.values()]
        if kind == 'all-reduce' and 'dynamic-slice' in opcodes:
          kind = 'reduce-scatter'
        is_kept = kind != 'reduce-scatter'
        more = traffic.collective_in_fusion(where, inner, is_kept=is_kept)
      yield kind, _sent(where, inner), more

  def _with_inner(
    self, computation: _Computation, instruction: _Instruction
  ) -> Iterator[tuple[_Computation, _Instruction]]:
    """Yields an instruction with its computation; of a fusion, all it fuses."""
    if instruction.opcode != 'fusion':
      yield computation, instruction
      return
    callee = self.computations[hlo_text.named(instruction.rest, 'calls')]
    for inner in callee.instructions.values():
      yield from self._with_inner(callee, inner)


def _channel(collective: _Instruction) -> str | None:
  found = re.search(r'channel_id=(\d+)', collective.rest)
  return found and found.group(1)


def _has(where: _Computation, mark: str) -> bool:
  """Whether a fused computation starts or ends ('Done') a collective."""
  mark = f'custom_call_target="AsyncCollective{mark}"'
  return any(
    i.opcode == 'custom-call' and mark in i.rest
    for i in where.instructions.values()
  )


def _sent(where: _Computation, collective: _Instruction) -> float:
  """The larger of what it takes and what it gives."""
  operands = sum(
    hlo_text.bytes_of(where.instructions[n].shape) for n in collective.operands
  )
  shape = collective.shape
  if collective.opcode.endswith('-start') and shape.startswith('('):
    # (operands, results, ...), or of an all-reduce the results alone
    arrays = [x for x in hlo_text.parts_of(shape) if hlo_text.sizes_of(x)]
    return max(operands, sum(map(hlo_text.bytes_of, arrays)) - operands)
  return max(operands, hlo_text.bytes_of(shape))


def _is_product(instruction: _Instruction) -> bool:
  """Whether a sum was a dot: TPUs multiply one query with its keys that way."""
  return bool(re.search(r'op_name="[^"]*dot_general"', instruction.rest))


def _is_kernel(instruction: _Instruction) -> bool:
  """Whether it calls code that is no HLO, a Pallas or cuDNN kernel."""
  return instruction.opcode == 'custom-call' and bool(
    re.search(
      r'custom_call_target="(tpu_custom_call|__cudnn\S*|triton\S*)"',
      instruction.rest,
    )
  )


def _told(kernel: _Instruction) -> float:
  """The FLOPs that a kernel says it has; 0 if it says none."""
  found = re.search(r'"flops":"?(\d+)', kernel.rest)
  return float(found.group(1)) if found else 0.0


def _dot(instruction: _Instruction, lhs, rhs) -> int:
  """Multiply-adds of a dot."""
  del rhs
  axes = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', instruction.rest)
  inner = [lhs[int(axis)] for axis in axes.group(1).split(',') if axis]
  return math.prod(hlo_text.sizes_of(instruction.shape)) * math.prod(inner)


def _convolution(instruction: _Instruction, lhs, rhs) -> int:
  """Multiply-adds of a convolution, as which TPUs run dots.

  A dot's batch axes are spatial ones there, dilated so that most places of the
  window meet a hole; holes and padding do not count.
  """
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.rest)
  left, right, out = labels.groups()
  out_sizes = hlo_text.sizes_of(instruction.shape)
  window = re.search(r'window=\{([^}]*)\}', instruction.rest)
  window = dict(w.split('=') for w in window.group(1).split()) if window else {}
  count = out_sizes[out.index('b')] * out_sizes[out.index('f')]
  count *= rhs[right.index('i')]
  for axis in range(len(left) - 2):
    label = str(axis)
    count *= _meetings(
      lhs[left.index(label)],
      rhs[right.index(label)],
      out_sizes[out.index(label)],
      stride=_option(window, 'stride', axis),
      lhs_dilation=_option(window, 'lhs_dilate', axis),
      rhs_dilation=_option(window, 'rhs_dilate', axis),
      pad=int(window['pad'].split('x')[axis].split('_')[0])
      if 'pad' in window
      else 0,
    )
  return count


def _option(window: Mapping[str, str], name: str, axis: int) -> int:
  return int(window[name].split('x')[axis]) if name in window else 1


@functools.cache
def _meetings(
  size, window, out, *, stride, lhs_dilation, rhs_dilation, pad
) -> int:
  """How many (output, window) places along an axis meet an input."""
  found = 0
  for k in range(window):
    for o in range(out):
      place = o * stride + k * rhs_dilation - pad
      if place >= 0 and not place % lhs_dilation:
        found += place // lhs_dilation < size
  return found
