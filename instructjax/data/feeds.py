"""From files to encoded training and validation rows, each read once.

Every stage of a run asks the same `Feeds` for what it trains on, so the split
into training and validation is one for all of them. Pretraining text is loaded
as everything else up to a size; above it, it is read in blocks as training goes
on (`corpus`, `streaming`).

Where a kind is a mixture of sources (`mixtures`), each source is read, split
and encoded by itself, and the training rows stay apart, as `loader.Parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
import logging
from typing import Any

from instructjax import errors
from instructjax.data import corpus
from instructjax.data import halves
from instructjax.data import loader
from instructjax.data import mixtures
from instructjax.data import pieces
from instructjax.data import prompts
from instructjax.data import records
from instructjax.data import sources
from instructjax.data import streaming
from instructjax.data import vocabulary

log = logging.getLogger('instructjax')
Rows = Mapping[str, Any]
Train = Rows | streaming.Text | loader.Parts
PROMPTED = ('demonstrations', 'comparisons', 'prompts', 'public_tasks')
TOKENIZER_BYTES = 2**25  # of streamed text, to learn a vocabulary from
# Kinds that are another one's records with a use of their own.
SAME_AS = {'public_tasks': 'demonstrations'}


class Feeds:
  """The records of a run, split once, encoded as stages want them.

  Attributes:
    counts: {what was encoded: its counts}; the caller may empty it.
    bad: {kind: ('FILE:LINE', why) of its first bad rows}, if they are skipped.
    files: {kind: {source: the files it named}} of all that was read.
    used: kinds that what was encoded depends on; the caller may empty it.
    learned: kinds that a tokenizer was trained on.
    known: counts of the same before, where a stage goes on; the caller sets it.

  Args:
    data: config.data as a plain dict: 'folder', a spec for each kind of
      record (see `mixtures`; '' = look in the folder), 'validation_fraction',
      'on_bad_row' and 'max_bad_share' (see `records.gather`),
      'stream_above_bytes', 'tfds_dir'.
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
    self.known: Mapping[str, Mapping[str, int]] = {}
    self.files: dict[str, dict[str, list[str]]] = {}
    self.used: set[str] = set()
    self.learned: set[str] = set()
    self._read: dict[str, dict[str, halves.Source]] = {}
    self._kept: dict[str, dict[str, halves.Source]] = {}
    self._corpora: dict[str, corpus.Corpus] | None = None

  def spec(self, kind: str) -> mixtures.Spec | None:
    """Returns where the records of a kind are; None if nobody said."""
    if self.data[kind]:
      return self.data[kind]
    if self.data['folder']:
      return sources.find(self.data['folder'], kind)
    return None

  def mixture(self, kind: str) -> dict[str, float]:
    """Returns the sources of a kind with their weights.

    Raises:
      UserError: if the config names none, or not as it should.
    """
    spec = self.spec(kind)
    if spec is None:
      folder = self.data['folder']
      where = f' (there is none in {folder})' if folder else ''
      raise errors.UserError(
        f'this run needs {kind}{where}: set --config.data.{kind}=PATH, a'
        ' file, folder or glob, or --config.data.folder=FOLDER that holds'
        f' {kind}.jsonl.'
      )
    return mixtures.parse(spec)

  def corpora(self) -> dict[str, corpus.Corpus]:
    """Returns the sources of pretraining text that are too large to load.

    Raises:
      UserError: one cannot be read in parts.
    """
    if self._corpora is None:
      self._corpora, limit = {}, self.data['stream_above_bytes']
      known = self.spec('pretraining') is not None
      for source in self.mixture('pretraining') if known else ():
        paths = self._files('pretraining', source)
        folder = self.data['tfds_dir']
        if sum(pieces.size(path, folder) for path in paths) > limit:
          skip = self.data['on_bad_row'] == 'skip'
          self._corpora[source] = corpus.Corpus(
            paths,
            self.data['validation_fraction'],
            self.seed,
            self.data['max_bad_share'] if skip else None,
            self.data['tfds_dir'],
          )
    return self._corpora

  def check(self, kind: str) -> None:
    """Raises UserError if a kind cannot be read; of streamed text, a sample."""
    streamed = self.corpora() if kind == 'pretraining' else {}
    for text in streamed.values():
      text.texts(TOKENIZER_BYTES)
    self.halves(kind)

  def records(self, kind: str) -> tuple[list, list]:
    """Returns the training and validation records of a kind, of all sources.

    A prompt that any kind of record validates on is trained on in none.

    Raises:
      UserError: if the config names none, or they cannot be read.
    """
    return halves.joined(self._records(kind).values())

  def halves(self, kind: str) -> tuple[list, list]:
    """Reads a kind and splits it by itself: training and validation records."""
    return halves.joined(self._sources(kind).values())

  def _records(self, kind: str) -> dict[str, halves.Source]:
    if kind not in self._kept:
      found = self._sources(kind)
      held = self._held_out_elsewhere(kind)
      if len(found) > 1:
        held |= {records.prompt_of(r) for s in found.values() for r in s.valid}
      self._kept[kind] = {}
      for name, source in found.items():
        train = [r for r in source.train if records.prompt_of(r) not in held]
        dropped = len(source.train) - len(train)
        counts = source.counts | {'dropped_prompt_held_out_elsewhere': dropped}
        counts['train'] = len(train)
        self._kept[kind][name] = halves.Source(train, source.valid, counts)
    return self._kept[kind]

  def _held_out_elsewhere(self, kind: str) -> set[str]:
    """Prompts that another kind of record validates on.

    Each kind is split by its own users or labelers, so a prompt that one stage
    trains on could be what another is measured by.
    """
    return {
      records.prompt_of(row)
      for other in self._others(kind)
      for row in self.halves(other)[1]
    }

  def _others(self, kind: str) -> list[str]:
    """The kinds whose validation prompts a kind does not train on."""
    if kind not in PROMPTED:
      return []
    known = [k for k in PROMPTED if k != kind and k not in self.pending]
    return [other for other in known if self.spec(other) is not None]

  def _sources(self, kind: str) -> dict[str, halves.Source]:
    """Reads each source of a kind, but text that is streamed, and splits it."""
    if kind not in self._read:
      streamed = self.corpora() if kind == 'pretraining' else {}
      found, self.bad[kind] = {}, []
      for source in self.mixture(kind):
        if source in streamed:
          continue
        self._files(kind, source)
        found[source], bad = halves.read(
          SAME_AS.get(kind, kind), source, self.data, self.seed
        )
        self.bad[kind] += bad
      self._read[kind] = found
    return self._read[kind]

  def _files(self, kind: str, source: str) -> list[str]:
    paths = records.paths(SAME_AS.get(kind, kind), source)
    self.files.setdefault(kind, {})[source] = paths
    return paths

  def sources(self, kinds: Collection[str]) -> dict[str, list[str]]:
    """Returns {source: its files} of what was read of some kinds."""
    found = [self.files.get(kind, {}) for kind in sorted(kinds)]
    return {source: paths for each in found for source, paths in each.items()}

  def texts(self) -> list[str]:
    """Returns the training text of the tokenizer: all that can be found.

    Of text that is streamed a sample of `TOKENIZER_BYTES`, drawn from all of
    it.
    """
    texts, self.learned = [], {'pretraining'}
    for streamed in self.corpora().values():
      texts += streamed.texts(TOKENIZER_BYTES)
    if texts:
      size = sum(map(len, texts))
      log.info('the tokenizer learns from %d characters of the text.', size)
    texts += [document.text for document in self.records('pretraining')[0]]
    if self.spec('demonstrations') is not None:
      self.learned.add('demonstrations')
      for row in self.halves('demonstrations')[0]:
        texts += [row.prompt, row.response]
    return texts

  # Rows are empty, {}, where the split left nothing to validate on.

  def pretraining(
    self, tokenizer: vocabulary.Tokenizer, length: int, max_valid: int
  ) -> tuple[Train, Rows]:
    """Returns packed training and validation rows of `length` tokens.

    Text that is streamed gives no arrays to train on, and of what is held out
    `max_valid` rows.
    """

    def encode(found, training):
      return prompts.language_rows(
        found, tokenizer, length, allow_empty=not training
      )

    def stream(name, text):
      before = self.known.get(f'{name}/train')
      train, told = streaming.plan(text, tokenizer, length, before)
      self._count(f'{name}/train', told)
      size = told['bytes_per_token']
      valid, counts = streaming.held_out(
        text, tokenizer, length, max_valid, size
      )
      self._count(f'{name}/valid', counts)
      return train, valid if counts['rows'] else {}

    return self._encode('pretraining', encode, stream)

  def demonstrations(
    self,
    tokenizer: vocabulary.Tokenizer,
    max_prompt_length: int,
    max_response_length: int,
    loss_on: str = 'assistant',
    kind: str = 'demonstrations',
  ) -> tuple[Rows | loader.Parts, Rows]:
    """Returns training and validation rows of prompts with responses."""

    def encode(found, training):
      return prompts.demonstration_rows(
        found,
        tokenizer,
        max_prompt_length,
        max_response_length,
        loss_on=loss_on,
        allow_empty=not training,
      )

    return self._encode(kind, encode)

  def comparisons(
    self,
    tokenizer: vocabulary.Tokenizer,
    max_prompt_length: int,
    max_response_length: int,
    max_responses: int,
    shuffle_pairs: bool = False,
  ) -> tuple[Rows | loader.Parts, Rows, list[str]]:
    """Returns training and validation comparisons, and the labelers' ids.

    Rows are padded to max_responses, or to the most that one has if that is
    less: pairs should not pay for nine. With `shuffle_pairs` every pair that
    trains is a row of its own; validation stays as it is.
    """
    train, valid = self.records('comparisons')
    ids = {row.labeler_id for row in (*train, *valid)} - {None}
    labelers = sorted(ids)
    most = max(len(row.responses) for row in (*train, *valid))

    def encode(found, training):
      paired = shuffle_pairs and training
      return prompts.comparison_rows(
        records.pairs(found) if paired else found,
        tokenizer,
        max_prompt_length,
        max_response_length,
        max_responses=2 if paired else min(max_responses, most),
        labelers=labelers,
        allow_empty=not training,
      )

    return *self._encode('comparisons', encode), labelers

  def prompts(
    self, tokenizer: vocabulary.Tokenizer, max_prompt_length: int
  ) -> tuple[Rows | loader.Parts, Rows]:
    """Returns training and validation prompts."""

    def encode(found, training):
      return prompts.prompt_rows(
        found, tokenizer, max_prompt_length, allow_empty=not training
      )

    return self._encode('prompts', encode)

  def _encode(
    self, kind: str, encode: Callable, stream: Callable | None = None
  ) -> tuple[Train, Rows]:
    """Encodes the sources of a kind.

    Args:
      kind: of record.
      encode: (records, whether they train) -> rows and counts.
      stream: (name, corpus) -> training and validation rows.
    """
    mixture, sides = self.mixture(kind), []
    self.used |= {kind, *self._others(kind)}
    for source in mixture:
      name = kind if len(mixture) == 1 else f'{kind}[{source}]'
      streamed = self.corpora() if stream else {}
      if source in streamed:
        sides.append(stream(name, streamed[source]))
        continue
      found = self._records(kind)[source]
      self._count(name, found.counts)
      try:
        sides.append(self._encode_source(name, found, encode))
      except errors.UserError as error:
        where = '' if len(mixture) == 1 else f'{source}: '
        raise errors.UserError(f'{where}{error}') from None
    train, valid = [side[0] for side in sides], [s[1] for s in sides if s[1]]
    if len(mixture) == 1:
      return train[0], valid[0] if valid else {}
    return loader.Parts(train, [*mixture.values()]), halves.mixed(
      valid, self.seed
    )

  def _encode_source(
    self, name: str, found: halves.Source, encode: Callable
  ) -> tuple[Rows, Rows]:
    rows = []
    for side, part in (('train', found.train), ('valid', found.valid)):
      if side == 'valid' and not part:  # too little to hold any out
        rows.append({})
        continue
      # A validation side may come to nothing; a training side may not.
      encoded, counts = encode(part, side == 'train')
      self._count(f'{name}/{side}', counts)
      rows.append(halves.mixed([encoded], self.seed))
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
