"""Tensors in safetensors files: one file, or shards with an index.

A tensor is read when it is asked for, and its file closed again: an open file
is mapped into memory, and what was touched of it would count as ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import json
import pathlib
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from instructjax import errors

INDEX = 'model.safetensors.index.json'
SINGLE = 'model.safetensors'
_PICKLES = ('*.bin', '*.pt', '*.pth', '*.ckpt')
_DTYPES = {
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
}


class Entry(NamedTuple):
  """Where a tensor lies, and what it is; its type in safetensors' words."""

  file: pathlib.Path
  shape: tuple[int, ...]
  kind: str


class Folder:
  """The tensors of a folder.

  Attributes:
    entries: {name: Entry}.

  Args:
    folder: holds model.safetensors, or shards and their index.

  Raises:
    UserError: if there are none, or only pickles; if a file is missing, cut or
      holds other tensors than the index says.
  """

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    self.entries: dict[str, Entry] = {}
    for path, listed in _files(folder).items():
      found = _describe(path)
      lost = sorted(set(listed or ()) - set(found))
      if lost:
        raise errors.UserError(
          f'{path} has no tensor {lost[0]!r}, though {INDEX} says so: get the'
          ' file again.'
        )
      self.entries |= found

  def dtype(self, name: str) -> np.dtype:
    """Returns a tensor's type.

    Raises:
      UserError: if it is none of those that parameters have.
    """
    entry = self.entries[name]
    if entry.kind not in _DTYPES:
      raise errors.UserError(
        f'{entry.file}: tensor {name!r} is of type {entry.kind}, needed one of'
        f' {", ".join(_DTYPES)}: convert it (quantised models cannot be read).'
      )
    return _DTYPES[entry.kind]

  def read(self, name: str) -> np.ndarray:
    """Returns a tensor, of a type that `dtype` knows."""
    entry = self.entries[name]
    with _open(entry.file) as file:
      return file.get_tensor(name)


def _files(folder: pathlib.Path) -> dict[pathlib.Path, list[str] | None]:
  """Returns {file: the tensors that the index wants there, None without}."""
  if (folder / SINGLE).exists():  # which transformers takes first, too
    return {folder / SINGLE: None}
  if (folder / INDEX).exists():
    return _listed(folder)
  pickles = [path for end in _PICKLES for path in sorted(folder.glob(end))]
  if pickles:
    raise errors.UserError(
      f'{pickles[0]} is a pickle, and reading it could run any code: give'
      " safetensors instead, which transformers' save_pretrained writes, or"
      ' which the hub may hold in another revision of the model.'
    )
  raise errors.UserError(
    f'{folder} has neither {SINGLE} nor {INDEX}: give the folder of a whole'
    ' model.'
  )


def _listed(folder: pathlib.Path) -> dict[pathlib.Path, list[str] | None]:
  index = folder / INDEX
  files: dict[pathlib.Path, list[str] | None] = {}
  try:
    for name, file in json.loads(index.read_text())['weight_map'].items():
      files.setdefault(folder / pathlib.PurePath(file).name, []).append(name)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise errors.UserError(
      f'{index} is damaged ({type(error).__name__}): get the file again.'
    ) from None
  return files


def _open(path: pathlib.Path) -> Any:
  return safetensors.safe_open(path, framework='numpy')


def _describe(path: pathlib.Path) -> dict[str, Entry]:
  """Returns a file's entries; reads no tensor."""
  if not path.exists():
    raise errors.UserError(f'{path} is missing: get the file again.')
  try:
    with _open(path) as file:
      # A list, as some versions give a view of a dictionary.
      slices = {name: file.get_slice(name) for name in [*file.keys()]}  # noqa: SIM118
      return {
        name: Entry(path, tuple(part.get_shape()), part.get_dtype())
        for name, part in slices.items()
      }
  except (safetensors.SafetensorError, OSError) as error:
    raise errors.UserError(
      f'{path} cannot be read ({_cut(path) or str(error)}): get the file again.'
    ) from None


def _cut(path: pathlib.Path) -> str:
  """Says at which tensor a file ends too early; '' if that is not it."""
  size = path.stat().st_size
  try:
    with path.open('rb') as file:
      length = int.from_bytes(file.read(8), 'little')
      if size < 8 + length:
        return 'it ends before its header does'
      header = json.loads(file.read(length))
    ends = {
      name: 8 + length + entry['data_offsets'][1]
      for name, entry in header.items()
      if name != '__metadata__'
    }
  except (ValueError, KeyError, TypeError, OSError):
    return ''
  lost = [name for name, end in ends.items() if end > size]
  return f'it ends within or before tensor {min(lost, key=ends.get)!r}' * bool(
    lost
  )


def shards(
  sizes: Mapping[str, int], max_shard_bytes: int
) -> list[tuple[str, list[str]]]:
  """Cuts tensors, in their order, into files.

  Args:
    sizes: {tensor: bytes}.
    max_shard_bytes: of a file; one tensor may be larger.

  Returns:
    [(file name, its tensors)].
  """
  groups: list[list[str]] = []
  room = 0
  for name, size in sizes.items():
    if not groups or size > room:
      groups.append([])
      room = max_shard_bytes
    groups[-1].append(name)
    room -= size
  if len(groups) == 1:
    return [(SINGLE, groups[0])]
  total = len(groups)
  return [
    (f'model-{i + 1:05d}-of-{total:05d}.safetensors', names)
    for i, names in enumerate(groups)
  ]


def write_shard(path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes one file, marked as torch's, which transformers asks for.

  Raises:
    OSError: if it cannot be written, as on a full disk.
  """
  whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
  try:
    safetensors.numpy.save_file(whole, path, metadata={'format': 'pt'})
  except safetensors.SafetensorError as error:
    raise OSError(None, str(error)) from error


def write_index(
  folder: pathlib.Path,
  files: Iterable[tuple[str, list[str]]],
  sizes: Mapping[str, int],
) -> None:
  """Writes which shard holds which tensor."""
  index = {
    'metadata': {'total_size': sum(sizes.values())},
    'weight_map': {name: file for file, names in files for name in names},
  }
  (folder / INDEX).write_text(json.dumps(index, indent=2) + '\n')
