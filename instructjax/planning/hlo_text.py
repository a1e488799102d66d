"""The text of a compiled program as data: its computations and their lines."""

from __future__ import annotations

import dataclasses
import functools
import math
import re

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
# An array with its layout, if that is told: bf16[8,128]{1,0:T(8,128)S(1)}.
_PART = re.compile(r'[a-z]\w*\[[\d,]*\](?:\{[^}]*\})?')


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line: NAME = SHAPE OPCODE(OPERANDS), with `rest` from OPERANDS on."""

  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  rest: str
  is_root: bool


@dataclasses.dataclass
class Computation:
  """A function of the program: its instructions by their names."""

  name: str
  instructions: dict[str, Instruction]

  @property
  def root(self) -> Instruction:
    """The instruction that it returns."""
    return next(i for i in self.instructions.values() if i.is_root)


def constant(instruction: Instruction) -> int | None:
  """The whole number of a constant or a parameter; None if it is none."""
  found = re.match(r'(\d+)\)', instruction.rest)
  return int(found.group(1)) if found else None


def parameter(computation: Computation, number: int) -> str:
  """The name of a computation's parameter."""
  return next(
    i.name
    for i in computation.instructions.values()
    if i.opcode == 'parameter' and constant(i) == number
  )


def parse(text: str) -> tuple[dict[str, Computation], str]:
  """Returns the computations by name, and the entry's name."""
  computations, entry, current = {}, '', None
  for line in text.splitlines():
    begins = re.match(r'(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$', line)
    if begins:
      current = Computation(begins.group(2), {})
      computations[current.name] = current
      entry = current.name if begins.group(1) else entry
    elif line.startswith('}'):
      current = None
    elif current is not None and ' = ' in line:
      instruction = _instruction(line)
      current.instructions[instruction.name] = instruction
  return computations, entry


def _instruction(line: str) -> Instruction:
  left, _, right = line.strip().partition(' = ')
  is_root = left.startswith('ROOT ')
  end = _closing(right, 0) + 1 if right.startswith('(') else right.index(' ')
  shape, right = right[:end], right[end:].strip()
  opcode, _, rest = right.partition('(')
  operands = rest[: _closing('(' + rest, 0) - 1]
  return Instruction(
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


def named(rest: str, key: str) -> str:
  """The computation that an instruction's attribute names."""
  return re.search(rf'{key}=%?([\w.\-]+)', rest).group(1)


@functools.cache
def parts_of(shape: str) -> tuple[str, ...]:
  """The arrays of a tuple, with their layouts."""
  return tuple(_PART.findall(shape))


@functools.cache
def bytes_of(shape: str) -> float:
  """Bytes of an array or a tuple of arrays, without padding."""
  total = 0.0
  for part in parts_of(shape):
    kind = part.partition('[')[0]
    total += _BYTES.get(kind, 1) * math.prod(sizes_of(part))
  return total


@functools.cache
def bytes_in_memory(shape: str) -> float:
  """Those of `bytes_of` that lie in the device's memory: not S(1) or another
  store on the chip, as a TPU's layouts tell."""
  parts = parts_of(shape)
  return sum(bytes_of(x) for x in parts if not re.search(r'S\([1-46]\)', x))


@functools.cache
def sizes_of(shape: str) -> tuple[int, ...]:
  """The sizes of an array."""
  inside = re.search(r'\[([\d,]*)\]', shape).group(1)
  return tuple(int(size) for size in inside.split(',') if size)
