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

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
_BYTES = {
  'pred': 1,
  's4': 0.5,
  'u4': 0.5,
  's8': 1,
  'u8': 1,
  's16': 2,
  'u16': 2,
  'f16': 2,
  'bf16': 2,
  's32': 4,
  'u32': 4,
  'f32': 4,
  's64': 8,
  'u64': 8,
  'f64': 8,
  'c64': 8,
  'c128': 16,
}
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
  'copy-start',
  'copy-done',
  'async-start',
  'async-update',
  'async-done',
  'opt-barrier',
}


@dataclasses.dataclass(frozen=True)
class Costs:
  """Of one run of a program, on one device.

  Attributes:
    flops: of matrix products and convolutions, 2 a multiply-add; and what
      kernels say of themselves.
    bytes_accessed: read and written between fused operations.
    collectives: {kind: {'count', 'bytes'}}; bytes of what leaves or reaches the
      device, the larger of an operation's operand and its result.
    silent_kernels: calls of kernels that do not say what they compute.
  """

  flops: float
  bytes_accessed: float
  collectives: Mapping[str, Mapping[str, float]]
  silent_kernels: int


@dataclasses.dataclass(frozen=True)
class _Instruction:
  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  rest: str
  is_root: bool


@dataclasses.dataclass
class _Computation:
  name: str
  instructions: dict[str, _Instruction]

  @property
  def root(self) -> _Instruction:
    return next(i for i in self.instructions.values() if i.is_root)


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
    self.computations, self.entry = _parse(text)
    self.loops = loops

  def costs(self) -> Costs:
    flops = moved = 0.0
    silent = 0
    collectives: dict[str, dict[str, float]] = {}
    for computation, times in self._runs(self.entry, 1):
      for instruction in computation.instructions.values():
        flops += times * self._flops(computation, instruction)
        moved += times * self._moved(computation, instruction)
        kind = self._collective(instruction)
        if kind:
          told = collectives.setdefault(kind, {'count': 0, 'bytes': 0})
          told['count'] += times
          told['bytes'] += times * self._sent(computation, instruction)
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
      return [(_named(rest, 'body'), self._trips(instruction))]
    if opcode == 'conditional':
      found = re.search(r'branch_computations=\{([^}]*)\}', rest)
      names = found.group(1) if found else ''
      names += ' '.join(re.findall(r'(?:true|false)_computation=(\S+)', rest))
      # One of them runs, which is the data's or, for layers of two kinds that
      # take turns, the layer's: each counts its share.
      branches = re.findall(r'%([\w.\-]+)', names)
      return [(name, 1 / len(branches)) for name in branches]
    if opcode == 'call':
      return [(_named(rest, 'to_apply'), 1)]
    if opcode == 'async-start':
      return [(_named(rest, 'calls'), 1)]
    return []

  def _trips(self, instruction: _Instruction) -> int:
    known = re.search(r'known_trip_count[^\d]*(\d+)', instruction.rest)
    if known:
      return int(known.group(1))
    condition = self.computations[_named(instruction.rest, 'condition')]
    root = self._unwrapped(condition)
    if root.opcode != 'compare' or 'direction=LT' not in root.rest:
      return self.loops
    limits = [
      _constant(i)
      for i in condition.instructions.values()
      if i.opcode == 'constant' and _constant(i) is not None
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
    body = self.computations[_named(loop.rest, 'body')]
    if len(counters) != 1 or body.root.opcode != 'tuple':
      return 1
    grown = body.instructions[body.root.operands[counters[0]]]
    steps = [
      _constant(body.instructions[name])
      for name in grown.operands
      if body.instructions[name].opcode == 'constant'
    ]
    return steps[0] if grown.opcode == 'add' and len(steps) == 1 else 1

  def _unwrapped(self, computation: _Computation) -> _Instruction:
    """The root, or that of the fusion which it is."""
    root = computation.root
    if root.opcode == 'fusion':
      return self._unwrapped(self.computations[_named(root.rest, 'calls')])
    return root

  def _flops(self, where: _Computation, instruction: _Instruction) -> float:
    if instruction.opcode == 'fusion':
      callee = self.computations[_named(instruction.rest, 'calls')]
      return sum(self._flops(callee, i) for i in callee.instructions.values())
    if instruction.opcode in ('dot', 'convolution'):
      shapes = [where.instructions[n].shape for n in instruction.operands]
      count = _dot if instruction.opcode == 'dot' else _convolution
      return 2.0 * count(instruction, *(_sizes(shape) for shape in shapes[:2]))
    return _told(instruction) if _is_kernel(instruction) else 0.0

  def _moved(self, where: _Computation, instruction: _Instruction) -> float:
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith('-done'):
      return 0.0
    inputs = [where.instructions[n].shape for n in instruction.operands]
    if opcode == 'fusion':
      return self._moved_by_fusion(instruction, inputs)
    if opcode in ('dynamic-slice', 'slice', 'gather'):
      return 2 * _bytes(instruction.shape)
    if opcode == 'dynamic-update-slice':
      return 2 * _bytes(inputs[1])
    return _bytes(instruction.shape) + sum(map(_bytes, inputs))

  def _moved_by_fusion(self, fusion: _Instruction, inputs: list[str]) -> float:
    """What it reads of each operand, and what it writes.

    A result that is an operand with a part replaced is written in place.
    """
    callee = self.computations[_named(fusion.rest, 'calls')]
    total = sum(
      min(_bytes(shape), self._read(callee, _parameter(callee, number)))
      for number, shape in enumerate(inputs)
    )
    root = callee.root
    if root.opcode == 'dynamic-update-slice':
      return total + _bytes(callee.instructions[root.operands[1]].shape)
    return total + _bytes(fusion.shape)

  def _read(self, where: _Computation, name: str) -> float:
    """Bytes that a fused computation reads of one of its values: the slices
    where it is only sliced, nothing where a part of it is replaced."""
    total = 0.0
    for user in where.instructions.values():
      if name not in user.operands:
        continue
      if user.opcode == 'dynamic-slice':
        total += _bytes(user.shape)
      elif user.opcode == 'bitcast':
        total += self._read(where, user.name)
      elif user.opcode == 'fusion':
        callee = self.computations[_named(user.rest, 'calls')]
        number = user.operands.index(name)
        total += self._read(callee, _parameter(callee, number))
      elif user.opcode != 'dynamic-update-slice' or user.operands[0] != name:
        return math.inf
    return total

  def _collective(self, instruction: _Instruction) -> str | None:
    opcode = instruction.opcode.removesuffix('-start')
    if opcode in COLLECTIVES:
      return opcode
    if opcode == 'fusion':
      # A reduce-scatter is an all-reduce fused with the slice that is kept.
      inside = self.computations[_named(instruction.rest, 'calls')]
      opcodes = [i.opcode for i in inside.instructions.values()]
      if 'all-reduce' in opcodes and 'dynamic-slice' in opcodes:
        return 'reduce-scatter'
      found = [o for o in opcodes if o in COLLECTIVES]
      return found[0] if found else None
    return None

  def _sent(self, where: _Computation, instruction: _Instruction) -> float:
    operands = sum(
      _bytes(where.instructions[n].shape) for n in instruction.operands
    )
    shape = instruction.shape
    if instruction.opcode.endswith('-start') and shape.startswith('('):
      shape = max(_parts(shape), key=_bytes)  # (operand, result, ...)
    return max(operands, _bytes(shape))


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


def _constant(instruction: _Instruction) -> int | None:
  """The whole number of a constant or a parameter; None if it is none."""
  found = re.match(r'(\d+)\)', instruction.rest)
  return int(found.group(1)) if found else None


def _parameter(computation: _Computation, number: int) -> str:
  """The name of a computation's parameter."""
  return next(
    i.name
    for i in computation.instructions.values()
    if i.opcode == 'parameter' and _constant(i) == number
  )


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
  """Returns the computations by name, and the entry's name."""
  computations, entry, current = {}, '', None
  for line in text.splitlines():
    begins = re.match(r'(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$', line)
    if begins:
      current = _Computation(begins.group(2), {})
      computations[current.name] = current
      entry = current.name if begins.group(1) else entry
    elif line.startswith('}'):
      current = None
    elif current is not None and ' = ' in line:
      instruction = _instruction(line)
      current.instructions[instruction.name] = instruction
  return computations, entry


def _instruction(line: str) -> _Instruction:
  left, _, right = line.strip().partition(' = ')
  is_root = left.startswith('ROOT ')
  end = _closing(right, 0) + 1 if right.startswith('(') else right.index(' ')
  shape, right = right[:end], right[end:].strip()
  opcode, _, rest = right.partition('(')
  operands = rest[: _closing('(' + rest, 0) - 1]
  return _Instruction(
    left.removeprefix('ROOT ').lstrip('%'),
    shape,
    opcode,
    tuple(re.findall(r'%([\w.\-]+)', operands)),
    rest,
    is_root,
  )


def _closing(text: str, start: int) -> int:
  """Returns where the parenthesis at `start` closes."""
  depth = 0
  for match in re.finditer(r'[()]', text[start:]):
    depth += 1 if match.group() == '(' else -1
    if not depth:
      return start + match.start()
  return len(text)


def _named(rest: str, key: str) -> str:
  return re.search(rf'{key}=%?([\w.\-]+)', rest).group(1)


@functools.cache
def _parts(shape: str) -> tuple[str, ...]:
  return tuple(re.findall(r'[a-z]\w*\[[\d,]*\]', shape))


@functools.cache
def _bytes(shape: str) -> float:
  """Bytes of an array or a tuple of arrays, without padding."""
  total = 0.0
  for part in _parts(shape):
    kind = part.partition('[')[0]
    total += _BYTES.get(kind, 1) * math.prod(_sizes(part))
  return total


@functools.cache
def _sizes(shape: str) -> tuple[int, ...]:
  inside = re.search(r'\[([\d,]*)\]', shape).group(1)
  return tuple(int(size) for size in inside.split(',') if size)


def _dot(instruction: _Instruction, lhs, rhs) -> int:
  """Multiply-adds of a dot."""
  del rhs
  axes = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', instruction.rest)
  inner = [lhs[int(axis)] for axis in axes.group(1).split(',') if axis]
  return math.prod(_sizes(instruction.shape)) * math.prod(inner)


def _convolution(instruction: _Instruction, lhs, rhs) -> int:
  """Multiply-adds of a convolution, as which TPUs run dots.

  A dot's batch axes are spatial ones there, dilated so that most places of the
  window meet a hole; holes and padding do not count.
  """
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.rest)
  left, right, out = labels.groups()
  out_sizes = _sizes(instruction.shape)
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
