"""From files to encoded training and validation rows, each read once.

Every stage of a run asks the same `Feeds` for what it trains on, so the split
into training and validation is one for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
import logging
from typing import Any

import numpy as np

from instructjax import errors
from instructjax.data import prompts
from instructjax.data import records
from instructjax.data import sources
from instructjax.data import splits
from instructjax.data import vocabulary

log = logging.getLogger('instructjax')
Rows = Mapping[str, Any]
PROMPTED = ('demonstrations', 'comparisons', 'prompts', 'public_tasks')
# Kinds that are another one's records with a use of their own.
SAME_AS = {'public_tasks': 'demonstrations'}


class Feeds:
  """The records of a run, split once, encoded as stages want them.

  Attributes:
    counts: {what was encoded: its counts}; the caller may empty it.
    bad: {kind: ('FILE:LINE', why) of its first bad rows}, if they are skipped.

  Args:
    data: config.data as a plain dict: 'folder', a spec for each kind of
      record ('' = look in the folder), 'validation_fraction', 'on_bad_row' and
      'max_bad_share' (see `records.gather`).
    seed: of the split.
    pending: kinds that a later stage of the run is going to write. Until it
      has, nothing is known of them.
  """

  def __init__(
    self,
    data: Mapping[str, Any],
    *,
    seed: int = 0,
    pending: Collection[str] = (),
  ):
    self.data, self.seed, self.pending = dict(data), seed, frozenset(pending)
    self.counts: dict[str, dict[str, int]] = {}
    self.bad: dict[str, list[tuple[str, str]]] = {}
    self._read: dict[str, tuple[list, list, dict[str, int]]] = {}
    self._split: dict[str, tuple[list, list, dict[str, int]]] = {}

  def spec(self, kind: str) -> str | None:
    """Returns where the records of a kind are; None if nobody said."""
    if self.data[kind]:
      return self.data[kind]
    if self.data['folder']:
      return sources.find(self.data['folder'], kind)
    return None

  def records(self, kind: str) -> tuple[list, list]:
    """Returns the training and validation records of a kind.

    A prompt that any kind of record validates on is trained on in none.

    Raises:
      UserError: if the config names none, or they cannot be read.
    """
    if kind not in self._split:
      train, valid, counts = self.halves(kind)
      held = self._held_out_elsewhere(kind)
      kept = [row for row in train if records.prompt_of(row) not in held]
      dropped = {'dropped_prompt_held_out_elsewhere': len(train) - len(kept)}
      counts = counts | dropped | {'train': len(kept)}
      self._split[kind] = kept, valid, counts
    return self._split[kind][:2]

  def _held_out_elsewhere(self, kind: str) -> set[str]:
    """Prompts that another kind of record validates on.

    Each kind is split by its own users or labelers, so a prompt that one stage
    trains on could be what another is measured by.
    """
    if kind not in PROMPTED:
      return set()
    others = [k for k in PROMPTED if k != kind and k not in self.pending]
    others = [k for k in others if self.spec(k) is not None]
    return {
      records.prompt_of(row)
      for other in others
      for row in self.halves(other)[1]
    }

  def halves(self, kind: str) -> tuple[list, list, dict[str, int]]:
    """Reads a kind and splits it by itself: training, validation, counts."""
    if kind not in self._read:
      spec = self.spec(kind)
      if spec is None:
        folder = self.data['folder']
        where = f' (there is none in {folder})' if folder else ''
        raise errors.UserError(
          f'this run needs {kind}{where}: set --config.data.{kind}=PATH, a'
          ' file, folder or glob, or --config.data.folder=FOLDER that holds'
          f' {kind}.jsonl.'
        )
      found = records.gather(
        SAME_AS.get(kind, kind),
        spec,
        on_bad_row=self.data['on_bad_row'],
        max_bad_share=self.data['max_bad_share'],
      )
      train, valid, counts = splits.split(
        found.records, self.data['validation_fraction'], self.seed
      )
      self.bad[kind] = found.bad
      self._read[kind] = train, valid, found.counts() | counts
    return self._read[kind]

  def texts(self) -> list[str]:
    """Returns the training text of the tokenizer: all that can be found."""
    texts = [document.text for document in self.records('pretraining')[0]]
    if self.spec('demonstrations') is not None:
      for row in self.halves('demonstrations')[0]:
        texts += [row.prompt, row.response]
    return texts

  # Rows are empty, {}, where the split left nothing to validate on.

  def pretraining(
    self, tokenizer: vocabulary.Tokenizer, length: int
  ) -> tuple[Rows, Rows]:
    """Returns packed training and validation rows of `length` tokens."""

    def encode(found, **options):
      return prompts.language_rows(found, tokenizer, length, **options)

    return self._encode('pretraining', encode)

  def demonstrations(
    self,
    tokenizer: vocabulary.Tokenizer,
    max_prompt_length: int,
    max_response_length: int,
    loss_on: str = 'assistant',
    kind: str = 'demonstrations',
  ) -> tuple[Rows, Rows]:
    """Returns training and validation rows of prompts with responses."""

    def encode(found, **options):
      return prompts.demonstration_rows(
        found,
        tokenizer,
        max_prompt_length,
        max_response_length,
        loss_on=loss_on,
        **options,
      )

    return self._encode(kind, encode)

  def comparisons(
    self,
    tokenizer: vocabulary.Tokenizer,
    max_prompt_length: int,
    max_response_length: int,
    max_responses: int,
    shuffle_pairs: bool = False,
  ) -> tuple[Rows, Rows, list[str]]:
    """Returns training and validation comparisons, and the labelers' ids.

    Rows are padded to max_responses, or to the most that one has if that is
    less: pairs should not pay for nine. With `shuffle_pairs` every pair that
    trains is a row of its own; validation stays as it is.
    """
    train, valid = self.records('comparisons')
    ids = {row.labeler_id for row in (*train, *valid)} - {None}
    labelers = sorted(ids)
    most = max(len(row.responses) for row in (*train, *valid))

    def encode(found, **options):
      paired = shuffle_pairs and found is train
      return prompts.comparison_rows(
        records.pairs(found) if paired else found,
        tokenizer,
        max_prompt_length,
        max_response_length,
        max_responses=2 if paired else min(max_responses, most),
        labelers=labelers,
        **options,
      )

    return *self._encode('comparisons', encode), labelers

  def prompts(
    self, tokenizer: vocabulary.Tokenizer, max_prompt_length: int
  ) -> tuple[Rows, Rows]:
    """Returns training and validation prompts."""

    def encode(found, **options):
      return prompts.prompt_rows(found, tokenizer, max_prompt_length, **options)

    return self._encode('prompts', encode)

  def _encode(self, kind, encode) -> tuple[Rows, Rows]:
    rows = []
    sides = self.records(kind)
    self._count(kind, self._split[kind][2])
    for name, found in zip(('train', 'valid'), sides, strict=True):
      if name == 'valid' and not found:  # too little to hold any out
        rows.append({})
        continue
      # A validation side may come to nothing; a training side may not.
      encoded, counts = encode(found, allow_empty=name == 'valid')
      self._count(f'{kind}/{name}', counts)
      empty = not len(next(iter(encoded.values()), ()))
      # Validation takes the first so many rows: none of the files goes first.
      order = np.random.default_rng(self.seed).permutation(counts['rows'])
      rows.append({} if empty else {k: v[order] for k, v in encoded.items()})
    return rows[0], rows[1]

  def bad_rows(self) -> list[dict[str, str]]:
    """Returns {'kind', 'row', 'reason'} of skipped rows of what was encoded."""
    return [
      {'kind': kind, 'row': location, 'reason': reason}
      for kind, found in self.bad.items()
      for location, reason in found
      if kind in self.counts
    ]

  def _count(self, name: str, counts: Mapping[str, int]) -> None:
    """Keeps counts for the stage's data.json, and says what was lost."""
    if self.counts.get(name) != counts:
      self.counts[name] = dict(counts)
      said = ', '.join(f'{k}={v}' for k, v in counts.items() if v)
      log.info('data %s: %s', name, said)
