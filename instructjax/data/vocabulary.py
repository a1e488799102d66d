"""A run's or a model's tokenizer: ours is one file, a foreign one a folder.

Both kinds encode, decode and name their special ids alike; see `tokenizer` and
`foreign_tokenizer`.
"""

from __future__ import annotations

import pathlib
import shutil

from instructjax.data import foreign_tokenizer
from instructjax.data import tokenizer as tokenizer_lib

FILE, FOLDER = 'tokenizer.model', 'tokenizer'
Tokenizer = tokenizer_lib.Tokenizer | foreign_tokenizer.ForeignTokenizer


def find(folder: pathlib.Path) -> pathlib.Path | None:
  """Returns where a run or a model folder keeps its tokenizer, if it does."""
  for path in (folder / FILE, folder / FOLDER):
    if path.exists():
      return path
  return None


def remove(folder: pathlib.Path) -> None:
  """Removes a run's tokenizer, if it has one."""
  (folder / FILE).unlink(missing_ok=True)
  if (folder / FOLDER).exists():
    part = (folder / FOLDER).rename(folder / f'.{FOLDER}.part')
    shutil.rmtree(part, ignore_errors=True)


def load(path: pathlib.Path) -> Tokenizer:
  """Reads a tokenizer: a file of ours, or a folder as Hugging Face has them.

  Raises:
    UserError: if it cannot be read or is damaged.
  """
  if path.is_dir():
    return foreign_tokenizer.ForeignTokenizer.load(str(path))
  return tokenizer_lib.Tokenizer.load(str(path))


def keep(tokenizer: Tokenizer, folder: pathlib.Path) -> pathlib.Path:
  """Writes a tokenizer where `find` looks for it; returns that path.

  Raises:
    UserError: if the folder is not writable.
  """
  if isinstance(tokenizer, tokenizer_lib.Tokenizer):
    tokenizer.save(str(folder / FILE))
    return folder / FILE
  # Several files, of which a killed run must not leave a part.
  part = folder / f'.{FOLDER}.part'
  shutil.rmtree(part, ignore_errors=True)
  tokenizer.save(str(part))
  part.rename(folder / FOLDER)
  return folder / FOLDER
