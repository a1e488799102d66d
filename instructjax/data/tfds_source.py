"""Datasets of TensorFlow Datasets by name and split, without TensorFlow.

A spec reads `tfds:NAME[/CONFIG][:VERSION]:SPLIT`, as in
`tfds:databricks_dolly:train`, `tfds:real_toxicity_prompts:train[:1%]` or
`tfds:c4/en:3.1.0:validation`. The dataset has to lie in TFDS's folder as
ArrayRecord files, which can be read in any order; nothing is downloaded.

Rows come as plain Python: text, numbers, lists and dicts, a sequence of
messages as a list of them. A column of several parts of which one is `text`,
such as the prompts of real_toxicity_prompts, is that text, its other parts are
columns beside it (`prompt.toxicity`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import hashlib
import os
import re
from typing import Any

import numpy as np

from instructjax import errors
from instructjax.data import lines

PREFIX = 'tfds:'
_SPEC = re.compile(
  r'tfds:(?P<name>\w+(?:/[\w.+-]+)?)(?::(?P<version>\d+\.[\d*]+\.[\d*]+))?'
  r':(?P<split>[A-Za-z_].*)'
)
# Datasets whose text stands in a column of another name.
_TEXT = {'pg19': 'book_text'}
_AT_ONCE = 512  # Rows read together: a few threads fetch them.


def is_spec(text: str) -> bool:
  """Whether a part of a spec names a dataset of TFDS."""
  return text.startswith(PREFIX)


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Rows of a split by index.

  Attributes:
    spec: as the user wrote it.
    builder: of TFDS, read from the dataset's files.
    split: of TFDS's language, such as 'train[:1%]'.
    source: its examples, decoded by NumPy.
  """

  spec: str
  builder: Any
  split: str
  source: Any

  def __len__(self) -> int:
    return len(self.source)

  def location(self, index: int) -> str:
    """Returns what errors call a row: SPEC:INDEX, from 0 as TFDS counts."""
    return f'{self.spec}:{index}'

  def rows(
    self, indices, on_broken: Callable[[str, str], None] = lines.refuse
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (location, row) of rows as plain Python.

    Args:
      indices: whole numbers, in any order.
      on_broken: told the location and the reason of a row that is not UTF-8.

    Raises:
      UserError: shards that cannot be read.
    """
    indices = [int(index) for index in indices]
    try:
      found = self.source.__getitems__(indices)
    except Exception as error:  # The reader raises plain exceptions.
      raise errors.UserError(
        f'{self.location(indices[0])}: needed whole ArrayRecord files, got'
        f' "{errors.first_line(error)}": prepare the dataset again.'
      ) from None
    features = self.builder.info.features
    for index, value in zip(indices, found, strict=True):
      try:
        row = _columns(self.builder.name, _plain(value, features))
      except UnicodeDecodeError as error:
        on_broken(
          self.location(index),
          f'needed UTF-8 text, got byte 0x{error.object[error.start]:02x}:'
          ' leave that row out.',
        )
        continue
      yield self.location(index), row

  def shards(self) -> list[tuple[Any, float]]:
    """Returns the shards that hold the rows: path and share that is read."""
    parts = self.builder.info.splits[self.split].file_instructions
    return [
      (
        self.builder.data_path / os.path.basename(part.filename),
        part.take / part.examples_in_shard,
      )
      for part in parts
    ]

  def size(self) -> int:
    """Returns about how many bytes the rows have in their files."""
    return sum(round(p.stat().length * share) for p, share in self.shards())


def open_dataset(spec: str, folder: str = '') -> Dataset:
  """Opens the dataset that a spec names.

  Args:
    spec: 'tfds:NAME[/CONFIG][:VERSION]:SPLIT'.
    folder: TFDS's data folder; '' = its default, $TFDS_DATA_DIR or
      ~/tensorflow_datasets.

  Raises:
    UserError: a spec of another form, a dataset that is not there or has other
      files than ArrayRecord, an unknown split, a shard that is missing.
  """
  import tensorflow_datasets as tfds  # A second or more; few runs need it.

  parts = _SPEC.fullmatch(spec)
  if not parts:
    raise errors.UserError(
      f'{spec}: needed tfds:NAME[/CONFIG][:VERSION]:SPLIT, as in'
      ' tfds:databricks_dolly:train or tfds:c4/en:train[:1%]: mend the spec.'
    )
  name, version, split = parts['name'], parts['version'], parts['split']
  folder = os.path.expanduser(folder) or str(tfds.core.constants.DATA_DIR)
  versioned = f'{name}:{version}' if version else name
  read = tfds.core.read_only_builder.builder_from_files
  try:
    builder = read(versioned, data_dir=folder)
  except tfds.core.registered.DatasetNotFoundError:
    raise _missing(spec, name, folder, tfds) from None
  except Exception as error:  # Whatever damaged files run into.
    raise errors.UserError(
      f'{spec}: needed a whole dataset in {folder}, got'
      f' "{errors.first_line(error)}": prepare it again.'
    ) from None
  formats = {x.value for x in builder.info.available_file_formats()}
  if 'array_record' not in formats:
    other = f'{folder.rstrip("/")}_array_record'
    raise errors.UserError(
      f'{spec}: needed ArrayRecord files, got {" and ".join(sorted(formats))}'
      f' in {builder.info.data_dir}: prepare it once more with'
      f' {_command(name, other)} and set --config.data.tfds_dir={other}.'
    )
  try:
    source = builder.as_data_source(split=split, file_format='array_record')
  except Exception as error:
    known = sorted(builder.info.splits)
    raise errors.UserError(
      f'{spec}: needed a split of {", ".join(known)}, or a part of one such as'
      f' {known[0]}[:10%], got {split!r} ({errors.first_line(error)}): mend the'
      f' split.{errors.nearest(split, known)}'
    ) from None
  dataset = Dataset(spec, builder, split, source)
  for path, _ in dataset.shards():
    if not path.exists():
      raise errors.UserError(
        f'{spec}: needed its shard {path}, there is none: restore it, or'
        f' prepare the dataset again with {_command(name, folder)}.'
      )
  return dataset


def read(
  spec: str,
  folder: str = '',
  on_broken: Callable[[str, str], None] = lines.refuse,
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields (location, row) for every row of a split, as `sources.read_rows`.

  Raises:
    UserError: as `open_dataset`, and for shards that cannot be read.
  """
  dataset = open_dataset(spec, folder)
  for start in range(0, len(dataset), _AT_ONCE):
    stop = min(start + _AT_ONCE, len(dataset))
    yield from dataset.rows(range(start, stop), on_broken)


def fingerprint(spec: str, folder: str = '') -> tuple[str, int]:
  """Returns a hash and the bytes of what a spec reads, without reading it all.

  The hash is of the dataset's description (dataset_info.json, features.json)
  and of its shards' names and sizes: TFDS never changes the files of a version.
  """
  dataset = open_dataset(spec, folder)
  found, total = hashlib.sha256(), 0
  for name in ('dataset_info.json', 'features.json'):
    found.update((dataset.builder.data_path / name).read_bytes())
  for path in sorted({path for path, _ in dataset.shards()}):
    size = path.stat().length
    found.update(f'{path.name}\0{size}\n'.encode())
    total += size
  return found.hexdigest(), total


def _plain(value: Any, feature: Any = None) -> Any:
  """Returns a decoded value without NumPy and bytes.

  Args:
    value: as TFDS decodes it.
    feature: its connector, where known; a sequence of dicts, which TFDS
      decodes to a dict of sequences, becomes a list of dicts again.
  """
  if isinstance(value, bytes):
    return value.decode('utf-8')
  if isinstance(value, Mapping):
    inner = getattr(feature, 'feature', None)  # Of a sequence.
    plain = {key: _plain(x, _inside(feature, key)) for key, x in value.items()}
    if inner is None:
      return plain
    columns = zip(*plain.values(), strict=True)
    return [dict(zip(plain, column, strict=True)) for column in columns]
  if isinstance(value, np.ndarray | np.generic):
    return _plain(value.tolist(), feature)
  if isinstance(value, str | int | float) or value is None:
    return value
  return [_plain(x, getattr(feature, 'feature', None)) for x in value]


def _inside(feature: Any, key: str) -> Any:
  """Returns the connector of a key of a dict, or of a sequence of dicts."""
  fields = getattr(feature, 'feature', feature)
  return fields[key] if hasattr(fields, 'keys') else None


def _columns(name: str, row: dict[str, Any]) -> dict[str, Any]:
  """Returns a row whose texts are where the record layouts look for them."""
  found = {}
  for key, value in row.items():
    if isinstance(value, dict) and isinstance(value.get('text'), str):
      found[key] = value['text']
      found |= {f'{key}.{k}': v for k, v in value.items() if k != 'text'}
    else:
      found[key] = value
  text = _TEXT.get(name)
  return {'text': found[text], **found} if text in found else found


def _missing(spec, name, folder, tfds) -> errors.UserError:
  there = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
  base = name.partition('/')[0]
  found, hint = 'there is none', ''
  if base in there:
    parts = sorted(os.listdir(os.path.join(folder, base)))
    parts = [part for part in parts if not part.startswith('.')]
    found = f'it has {", ".join(parts) or "nothing"} of {base}'
  else:
    known = tfds.list_builders(with_community_datasets=False)
    hint = '' if base in known else errors.nearest(base, [*there, *known])
  return errors.UserError(
    f'{spec}: needed that dataset prepared in {folder}, {found}: prepare it'
    f' with {_command(name, folder)}, or set --config.data.tfds_dir to where it'
    f' is.{hint}'
  )


def _command(name: str, folder: str) -> str:
  """Returns a command that prepares a dataset; it needs no TensorFlow."""
  return (
    '`python -c "import tensorflow_datasets as tfds; tfds.builder(\''
    f"{name}', data_dir='{folder}', file_format='array_record')"
    '.download_and_prepare()"`'
  )
