"""Which split of a dataset a file holds, told from its name.

As Hugging Face lays datasets out: data/train-00000-of-00002.parquet,
validation.jsonl, test/part1.jsonl, gsm8k_train.json. A name says 'train',
'validation' or 'test' (or a word of the same meaning) at its begin or its end,
or a folder is called so. Texts (.txt, .md) only with their whole name: a book
may well be called 'The Test'.
"""

from __future__ import annotations

from collections.abc import Iterable
import os
import re

_WORDS = {
  'train': 'train',
  'training': 'train',
  'validation': 'validation',
  'valid': 'validation',
  'val': 'validation',
  'dev': 'validation',
  'test': 'test',
  'testing': 'test',
  'eval': 'test',
  'evaluation': 'test',
}
_SHARD = re.compile(r'[-_.]?\d+([-_]of[-_]\d+)?$')


def label(path: str) -> str:
  """Returns a file's name without ending and number of its shard."""
  return _SHARD.sub('', os.path.basename(path).lower().split('.')[0])


def of(path: str) -> str | None:
  """Returns 'train', 'validation' or 'test'; None where nothing says.

  Args:
    path: relative to the folder that is the dataset.
  """
  name = label(path)
  words = [word for word in re.split(r'[^a-z]+', name) if word]
  if re.search(r'\.(txt|md)(\.gz)?$', path):
    words = [name]
  folders = os.path.dirname(path).lower().split(os.sep)
  for word in (*words[:1], *words[-1:], *reversed(folders)):
    if word in _WORDS:
      return _WORDS[word]
  return None


def named(paths: Iterable[str], root: str, split: str) -> list[str]:
  """Returns the files of one split.

  Args:
    paths: of the files.
    root: the folder that is the dataset.
    split: 'train', 'validation', 'test', a word for one of these, or the whole
      name of files without their shards' numbers, as in 'train_sft'.
  """
  split = split.lower()
  exact = [path for path in paths if label(path) == split]
  if exact and split not in _WORDS:
    return exact
  wanted = _WORDS.get(split)
  return [p for p in paths if wanted and _below(p, root) == wanted]


def training(
  paths: Iterable[str], root: str
) -> tuple[list[str], dict[str, list[str]]]:
  """Parts what may be trained on from what is to measure by.

  Returns:
    The files of no split or of 'train', and the others by their split.
  """
  kept: list[str] = []
  held_out: dict[str, list[str]] = {}
  for path in paths:
    split = _below(path, root)
    if split in (None, 'train'):
      kept.append(path)
    else:
      held_out.setdefault(split, []).append(path)
  return kept, held_out


def _below(path: str, root: str) -> str | None:
  return of(os.path.relpath(path, root))
