"""What the rules are told: every value of a config, checked once."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import math

from instructjax import errors

SPLITS = ('train', 'valid', 'test')
DATASETS = ('sft', 'rm', 'ppo')
# The paper has no labeler's prompt in its data for PPO (Table 6).
LABELER_DATASETS = ('sft', 'rm')
# Where a prompt can end up; test users' prompts are one set.
FILES = (
  *(f'{dataset}_{part}' for dataset in DATASETS for part in SPLITS[:2]),
  'test',
)
FORMATS = ('jsonl', 'arrayrecord')
# A prompt's user, or its organisation; where it has not the one, the other.
OWNERS = ('user_id', 'organization_id')


@dataclasses.dataclass(frozen=True)
class Settings:
  """Values of the rules; configs/prepare.py has the defaults and says more.

  Attributes:
    salt: of every digest; another salt draws everything anew.
    min_chars: least length of a common prefix that makes twins, in
      characters of the comparison key.
    min_share: least share of the shorter key that it must have.
    max_per_user: prompts kept of one user.
    cap_by, split_by: one of OWNERS.
    cap_labelers: whether labelers' prompts are capped too.
    splits: {split: share of the users}.
    labeler, customer: {dataset: share of that source's prompts}.
    sizes: {file: largest number of prompts, 0 for all}.
    pii: 'drop' or 'redact', in the training split.
    pii_kinds: what counts as such; () looks for nothing.
    max_length: of a prompt, in tokens.
    tokenizer: path; '' counts words and marks.
    languages: tags that are kept; () keeps all.
    on_bad_row: 'refuse' or 'skip'.
    max_bad_share: of the rows, beyond which skipping is refused as well.
    formats: of the output files.
  """

  salt: str
  min_chars: int
  min_share: float
  max_per_user: int
  cap_by: str
  split_by: str
  cap_labelers: bool
  splits: Mapping[str, float]
  labeler: Mapping[str, float]
  customer: Mapping[str, float]
  sizes: Mapping[str, int]
  pii: str
  pii_kinds: tuple[str, ...]
  max_length: int
  tokenizer: str
  languages: tuple[str, ...]
  on_bad_row: str
  max_bad_share: float
  formats: tuple[str, ...]

  def __post_init__(self):
    for name in 'min_chars', 'max_per_user', 'max_length':
      if getattr(self, name) < 1:
        raise _wrong(name, getattr(self, name), 'at least 1')
    if self.salt != self.salt.encode('utf-8', 'ignore').decode():
      raise _wrong('salt', ascii(self.salt), 'UTF-8')
    if not 0 < self.min_share <= 1:
      raise _wrong('min_share', self.min_share, 'in (0, 1]')
    if not 0 <= self.max_bad_share <= 1:
      raise _wrong('max_bad_share', self.max_bad_share, 'in [0, 1]')
    for name, known in (
      ('cap_by', OWNERS),
      ('split_by', OWNERS),
      ('pii', ('drop', 'redact')),
      ('on_bad_row', ('refuse', 'skip')),
    ):
      _check_word(name, getattr(self, name), known)
    for word in self.formats:
      _check_word('formats', word, FORMATS)
    if 'jsonl' not in self.formats:
      raise _wrong('formats', ','.join(self.formats), 'jsonl, and others by it')
    _check_shares('splits', self.splits, SPLITS)
    _check_shares('labeler', self.labeler, LABELER_DATASETS)
    _check_shares('customer', self.customer, DATASETS)
    for file, size in self.sizes.items():
      _check_word('sizes', file, FILES)
      if size < 0:
        raise _wrong(f'sizes.{file}', size, 'at least 0 (all)')


def _wrong(name: str, given: object, needed: str) -> errors.UserError:
  return errors.UserError(
    f'config.{name}={given}: needed {needed}: set --config.{name}=VALUE.'
  )


def _check_word(name: str, given: str, known: tuple[str, ...]) -> None:
  if given not in known:
    raise errors.UserError(
      f'config.{name}={given}: needed one of {", ".join(known)}.'
      f'{errors.nearest(given, known)}'
    )


def _check_shares(
  name: str, shares: Mapping[str, float], known: tuple[str, ...]
) -> None:
  for key, share in shares.items():
    _check_word(name, key, known)
    if not 0 <= share <= 1:
      raise _wrong(f'{name}.{key}', share, 'a share in [0, 1]')
  total = sum(shares.values())
  if not math.isclose(total, 1, abs_tol=1e-6):
    raise errors.UserError(
      f'config.{name}: needed shares that add up to 1, got '
      f'{" + ".join(map(str, shares.values()))} = {total:g}: change one of '
      f'{", ".join(f"--config.{name}.{key}" for key in shares)}.'
    )
