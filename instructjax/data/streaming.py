"""Rows of text that is too large to load, in an order known beforehand.

The text to train on is cut into N blocks of one size in bytes, chosen from a
sample so that nearly each holds R * T tokens: R rows. Epochs are permutations
of the blocks, taken W at a time, the lanes. While a group of W is open, every W
following positions hold a row of each, so with W the rows of a batch a block
stays in one column of the batches, and with the process that reads the column:
position p of an epoch, in group g = p // (W R) and at y = p mod (W R) of it,
holds row y // W of block order[g W + y mod W]. The last group is as narrow as
what is left.

So a row is a function of (seed, position), an epoch holds each once, and a
block is read and encoded once in an epoch by the one process that needs it.
What a block has beyond R * T tokens is left out, at another end each epoch;
what it lacks is padding. Both are small and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import functools
import logging
import math
import threading

import numpy as np

from instructjax.data import corpus as corpus_lib
from instructjax.data import prompts
from instructjax.data import records
from instructjax.data import vocabulary

log = logging.getLogger('instructjax')
Rows = dict[str, np.ndarray]

MAX_ROWS = 16  # R: more average out better, and wait in memory longer
_MIN_BLOCKS = 64  # R is less where there would be fewer blocks
_GUESS = 4  # bytes a token, before any is measured
_SAMPLES = 64  # stretches to measure it on,
_SAMPLE_BYTES = 2**22  # and what they may hold together
_SHORT = 0.05  # share of the blocks that may lack a token
_ENCODED_AT_ONCE = 2**22  # bytes; bounds the Python lists of ids alive


@dataclasses.dataclass(frozen=True)
class Text:
  """A corpus as blocks of rows.

  Attributes:
    corpus: where the text is.
    tokenizer: ids.
    length: T, tokens a row.
    rows_per_block: R.
    num_blocks: N, of `corpus.size / N` bytes each.
  """

  corpus: corpus_lib.Corpus
  tokenizer: vocabulary.Tokenizer
  length: int
  rows_per_block: int
  num_blocks: int

  @property
  def num_rows(self) -> int:
    return self.num_blocks * self.rows_per_block

  def bounds(self, block: int) -> tuple[int, int]:
    """Returns where a block begins and ends in the text to train on."""
    size, count = self.corpus.size, self.num_blocks
    return block * size // count, (block + 1) * size // count

  def encode(self, blocks: Iterable[int]) -> Iterator[np.ndarray]:
    """Yields all ids of each block, eos behind each document that ends."""
    waiting, size = [], 0
    for block in blocks:
      start, end = self.bounds(block)
      waiting.append(list(self.corpus.parts(start, end)))
      size += end - start
      if size >= _ENCODED_AT_ONCE:
        yield from encode(waiting, self.tokenizer)
        waiting, size = [], 0
    yield from encode(waiting, self.tokenizer)

  def rows_of(
    self, ids: np.ndarray, epoch: int
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns a block's ids[R, T] in one epoch, and i64[R], how many to keep.

    Of more than R * T, epochs take turns with windows that cover them all.
    """
    needed = self.rows_per_block * self.length
    windows = max(1, -(-len(ids) // needed))
    start = 0
    if windows > 1:
      start = (len(ids) - needed) * (epoch % windows) // (windows - 1)
    kept = min(needed, len(ids))
    small = self.tokenizer.vocab_size <= 2**16
    flat = np.full(
      needed, self.tokenizer.pad_id, np.uint16 if small else np.int32
    )
    flat[:kept] = ids[start : start + kept]
    rest = kept - self.length * np.arange(self.rows_per_block)
    return flat.reshape(-1, self.length), np.clip(rest, 0, self.length)


def encode(
  blocks: Iterable[Iterable[corpus_lib.Part]],
  tokenizer: vocabulary.Tokenizer,
) -> Iterator[np.ndarray]:
  """Yields i32[n], the ids of each block, eos behind what ends a document."""
  blocks = [list(parts) for parts in blocks]
  texts = [part.text for parts in blocks for part in parts]
  encoded = iter(tokenizer.encode_batch(texts) if texts else ())
  for parts in blocks:
    ids = []
    for part in parts:
      ids += next(encoded)
      if part.ends:
        ids.append(tokenizer.eos_id)
    yield np.asarray(ids, np.int32)


def plan(
  corpus: corpus_lib.Corpus,
  tokenizer: vocabulary.Tokenizer,
  length: int,
  known: Mapping[str, float] | None = None,
) -> tuple[Text, dict[str, float]]:
  """Cuts a corpus into blocks, by what a sample of it says of its tokens.

  Args:
    corpus: the text.
    tokenizer: ids.
    length: T, tokens a row.
    known: what was told of it before; such blocks are not measured again.

  Returns:
    The blocks, and what to tell of them.

  Raises:
    UserError: no text.
  """
  prompts.check_length('length', length, 2)
  if known and known.get('length') == length and 'blocks' in known:
    if known['bytes'] != corpus.size:
      log.warning(
        'the pretraining text had %d bytes to train on when this began, now it'
        ' has %d: it goes on in as many blocks.',
        known['bytes'],
        corpus.size,
      )
    cut = known['rows_per_block'], known['blocks']
    return Text(corpus, tokenizer, length, *cut), dict(known)
  size = _GUESS * length
  rows = min(MAX_ROWS, max(1, corpus.size // (size * _MIN_BLOCKS)))
  sizes, tokens = _measure(corpus, tokenizer, rows * size, _SAMPLES // 8)
  # How much stretches differ depends on their size, so again with theirs.
  size = max(1, round(length * sizes.sum() / tokens.sum()))
  sizes, tokens = _measure(corpus, tokenizer, rows * size, _SAMPLES)
  per_byte, needed = tokens / sizes, rows * length
  # A stretch without text, in a corpus that has some, says nothing of others.
  few = float(np.quantile(per_byte[tokens > 0], _SHORT, method='lower'))
  blocks = max(1, int(corpus.size * few // needed))
  there = per_byte * corpus.size / blocks
  filled = float(np.minimum(there, needed).sum())
  return Text(corpus, tokenizer, length, rows, blocks), {
    'files': len(corpus.paths),
    'bytes': corpus.size,
    'length': length,
    'blocks': blocks,
    'rows_per_block': rows,
    'rows': blocks * rows,
    'bytes_per_token': round(float(sizes.sum() / tokens.sum()), 4),
    # Of the sample, as they will be in a pass over all of it.
    'share_left_out': round(1 - filled / float(there.sum()), 4),
    'share_padding': round(1 - filled / (needed * len(there)), 4),
  }


def _measure(
  corpus: corpus_lib.Corpus,
  tokenizer: vocabulary.Tokenizer,
  size: int,
  count: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns i64[n] bytes and i64[n] tokens of stretches of about `size`."""
  drawn = corpus.sample(size, max(1, min(count, _SAMPLE_BYTES // size)))
  parts = (corpus.parts(start, end) for start, end in drawn)
  tokens = np.array([len(ids) for ids in encode(parts, tokenizer)])
  if not tokens.any():
    raise prompts.no_text()
  return np.array([end - start for start, end in drawn]), tokens


def held_out(
  corpus: corpus_lib.Corpus,
  tokenizer: vocabulary.Tokenizer,
  length: int,
  limit: int,
  bytes_per_token: float,
) -> tuple[Rows, dict[str, int]]:
  """Returns at most `limit` packed rows to validate on, and their counts."""
  size = math.ceil(1.1 * limit * length * bytes_per_token)
  documents = [
    records.Document(part.text) for part in corpus.held_out_parts(size)
  ]
  rows, counts = prompts.language_rows(
    documents, tokenizer, length, allow_empty=True
  )
  rows = {name: array[:limit] for name, array in rows.items()}
  kept = int(rows['mask'].sum())
  return rows, counts | {'rows': len(rows['mask']), 'tokens': kept}


class Lanes:
  """The rows of a text in an endless run of shuffled epochs.

  Attributes:
    num_rows: of an epoch.

  Args:
    text: the blocks.
    lanes: W, the blocks that are open at a time; best the rows of a batch.
    seed: of the order.
    finish: what the rows become in the end, as `packing.text`.
  """

  def __init__(
    self,
    text: Text,
    lanes: int,
    seed: int,
    finish: Callable[[Rows], Rows] = dict,
  ):
    self.text, self.lanes, self.finish = text, lanes, finish
    self.num_rows = text.num_rows
    self._open: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
    order = functools.partial(_order, text.num_blocks, seed)
    # Batches run across the seam of two epochs, seldom of more.
    self._order = functools.lru_cache(maxsize=2)(order)
    self._lock = threading.Lock()  # a loader's thread reads ahead

  def places(self, positions: np.ndarray) -> np.ndarray:
    """Returns i64[n, 4] of positions: epoch, group, block and row in it."""
    rows, blocks = self.text.rows_per_block, self.text.num_blocks
    epochs, inside = np.divmod(positions, self.num_rows)
    groups, inside = np.divmod(inside, self.lanes * rows)
    first = groups * self.lanes
    width = np.minimum(self.lanes, blocks - first)
    found = np.stack([epochs, groups, first + inside % width, inside // width])
    for epoch in np.unique(epochs):
      chosen = epochs == epoch
      found[2, chosen] = self._order(int(epoch))[found[2, chosen]]
    return found.T

  def rows_at(self, positions: np.ndarray) -> Rows:
    """Returns the rows at i64[n] positions, each >= 0 and of any epoch.

    Blocks that the last call used are kept, so it is best asked in order.
    """
    text = self.text
    places = self.places(positions)
    with self._lock:
      blocks = self._blocks(places)
    tokens = np.empty((len(positions), text.length), np.int32)
    kept = np.empty(len(positions), np.int64)
    for i, (*block, row) in enumerate(places.tolist()):
      ids, counts = blocks[tuple(block)]
      tokens[i], kept[i] = ids[row], counts[row]
    mask = np.arange(text.length) < kept[:, None]
    targets = mask.copy()
    targets[:, 0] = False
    return self.finish({'tokens': tokens, 'mask': mask, 'loss_mask': targets})

  def _blocks(self, places: np.ndarray) -> dict:
    """Returns the blocks of some places, read if they are not open yet."""
    needed = dict.fromkeys(map(tuple, places[:, :3].tolist()))
    missing = [key for key in needed if key not in self._open]
    encoded = self.text.encode(block for _, _, block in missing)
    for key, ids in zip(missing, encoded, strict=True):
      self._open[key] = self.text.rows_of(ids, epoch=key[0])
    # Blocks are done with when their group is.
    groups = {key[:2] for key in needed}
    self._open = {k: v for k, v in self._open.items() if k[:2] in groups}
    return dict(self._open)


def _order(blocks: int, seed: int, epoch: int) -> np.ndarray:
  """Returns the order of an epoch's blocks, a function of its arguments."""
  return np.random.default_rng((seed, epoch)).permutation(blocks)
