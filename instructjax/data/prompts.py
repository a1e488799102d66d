"""Records to rows of one shape: tokens and their masks.

Prompts are left-padded so that every response begins at the same column;
responses are right-padded. What a prompt's ids are is the tokenizer's to say
(ours: bos, its text, end of prompt); a response is its text and eos. Prompts
that do not fit are dropped and responses that do not fit are cut (and then
carry no eos); both are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from instructjax import errors
from instructjax.data import records as record_lib
from instructjax.data import vocabulary

Rows = dict[str, np.ndarray]
Counts = dict[str, int]
Ids = Sequence[int]

LOSS_ON = ('assistant', 'response', 'sequence')
_DOCUMENTS_AT_ONCE = 1024  # bounds the Python lists of ids alive at a time


def language_rows(
  documents: Sequence[record_lib.Document],
  tokenizer: vocabulary.Tokenizer,
  length: int,
  *,
  allow_empty: bool = False,
) -> tuple[Rows, Counts]:
  """Packs documents to full rows, eos after each document.

  A document may span rows and a row may hold several; attention crosses their
  seams (GPT-3, arXiv:2005.14165, section 2.2). The end that fills no row is
  dropped, unless it is all there is.

  Args:
    documents: N_documents texts.
    tokenizer: ids.
    length: T, tokens a row, at least 2.
    allow_empty: no documents give no rows instead of an error.

  Returns:
    {'tokens': i32[N, T], 'mask': bool[N, T], kept tokens, 'loss_mask':
    bool[N, T], tokens that are a target (column 0 has no predecessor)}, counts.

  Raises:
    UserError: no text, or length below 2.
  """
  check_length('length', length, 2)
  stream = []
  for start in range(0, len(documents), _DOCUMENTS_AT_ONCE):
    texts = [d.text for d in documents[start : start + _DOCUMENTS_AT_ONCE]]
    for ids in tokenizer.encode_batch(texts):
      stream.append(np.asarray([*ids, tokenizer.eos_id], np.int32))
  tokens = np.concatenate(stream) if stream else np.zeros(0, np.int32)
  if tokens.size < 2 and not (allow_empty and not documents):
    raise no_text()
  num_rows = max(min(1, tokens.size), tokens.size // length)
  kept = min(tokens.size, num_rows * length)
  flat = np.full(num_rows * length, tokenizer.pad_id, np.int32)
  flat[:kept] = tokens[:kept]
  mask = (np.arange(flat.size) < kept).reshape(num_rows, length)
  rows = {
    'tokens': flat.reshape(num_rows, length),
    'mask': mask,
    'loss_mask': _targets(mask),
  }
  return rows, _counts(num_rows, kept)


def demonstration_rows(
  demonstrations: Sequence[record_lib.Demonstration],
  tokenizer: vocabulary.Tokenizer,
  max_prompt_length: int,
  max_response_length: int,
  loss_on: str = 'assistant',
  *,
  allow_empty: bool = False,
) -> tuple[Rows, Counts]:
  """Sets each prompt left-padded and its response right-padded in one row.

  Args:
    demonstrations: N texts, fewer where prompts are too long.
    tokenizer: ids.
    max_prompt_length: P, bos and end of prompt included.
    max_response_length: R, eos included.
    loss_on: 'assistant', the response with eos and, of prompts that are
      messages, what the assistant said before; 'response', the response alone;
      or 'sequence', every kept token but the first.
    allow_empty: give no rows, instead of an error, where none is left.

  Returns:
    {'tokens': i32[N, P + R], 'mask': bool[N, P + R], 'loss_mask':
    bool[N, P + R]}, counts.

  Raises:
    UserError: no prompt fits, or loss_on is none of these.
  """
  if loss_on not in LOSS_ON:
    raise errors.UserError(
      f'needed loss_on of {", ".join(LOSS_ON)}, got {loss_on!r}.'
      f'{errors.nearest(str(loss_on), LOSS_ON)}'
    )
  if loss_on == 'assistant':
    turns = _asked(demonstrations, tokenizer.encode_turns)
    prompts, said = [ids for ids, _ in turns], [said for _, said in turns]
  else:
    prompts = _asked(demonstrations, tokenizer.encode_prompts)
    said = [[False] * len(ids) for ids in prompts]
  fit = _fitting(prompts, max_prompt_length, allow_empty)
  responses = tokenizer.encode_responses(
    [demonstrations[i].response for i in fit]
  )
  responses, truncated = _end(responses, tokenizer, max_response_length)
  left, left_mask = _left_padded(
    [prompts[i] for i in fit], max_prompt_length, tokenizer.pad_id
  )
  right, right_mask = _right_padded(
    responses, max_response_length, tokenizer.pad_id
  )
  mask = np.concatenate([left_mask, right_mask], 1)
  before = np.zeros_like(left_mask)
  for row, i in enumerate(fit):
    before[row, max_prompt_length - len(said[i]) :] = said[i]
  spoken = np.concatenate([before, right_mask], 1) & _targets(mask)
  rows = {
    'tokens': np.concatenate([left, right], 1),
    'mask': mask,
    'loss_mask': _targets(mask) if loss_on == 'sequence' else spoken,
  }
  dropped = len(demonstrations) - len(fit)
  return rows, _counts(len(fit), int(mask.sum()), dropped, truncated)


def comparison_rows(
  comparisons: Sequence[record_lib.Comparison],
  tokenizer: vocabulary.Tokenizer,
  max_prompt_length: int,
  max_response_length: int,
  max_responses: int | None = None,
  labelers: Sequence[str] | None = None,
  *,
  allow_empty: bool = False,
) -> tuple[Rows, Counts]:
  """Sets each prompt with its ranked responses, K padded to the largest.

  Comparisons whose ranks are all equal make no pair and are left out
  ('comparisons_without_pairs' in the counts).

  Args:
    comparisons: N records, fewer where prompts are too long.
    tokenizer: ids.
    max_prompt_length: P, bos and end of prompt included.
    max_response_length: R, eos included.
    max_responses: K, None for the most any comparison has.
    labelers: the labeler_ids a row's 'labeler' counts from 0, -1 for others;
      None for those of `comparisons`, sorted.
    allow_empty: give no rows, instead of an error, where none is left.

  Returns:
    {'prompts': i32[N, P], 'prompt_mask': bool[N, P], 'responses':
    i32[N, K, R], 'response_mask': bool[N, K, R], 'ranks': i32[N, K] (0 where
    absent), 'mask': bool[N, K], 'labeler': i32[N]}, counts.

  Raises:
    UserError: no comparison is left, or one has more than max_responses.
  """
  paired = [c for c in comparisons if len(set(c.ranks)) > 1]
  most = max((len(c.responses) for c in paired), default=0)
  max_responses = max_responses or most or record_lib.MAX_RESPONSES
  for c in paired:
    if len(c.responses) > max_responses:
      raise errors.UserError(
        f'{c.location}: needed at most max_responses={max_responses} '
        f'responses, got {len(c.responses)}: use --config.max_responses={most}.'
      )
  if not paired and not allow_empty:
    raise errors.UserError(
      f'needed comparisons with unequal ranks, got none in {len(comparisons)}'
      ': give --config.data.comparisons a file that holds preferences.'
    )
  if labelers is None:
    labelers = sorted({c.labeler_id for c in paired} - {None})
  numbers = {labeler: number for number, labeler in enumerate(labelers)}
  prompts = _asked(paired, tokenizer.encode_prompts)
  fit = _fitting(prompts, max_prompt_length, allow_empty)
  kept = [paired[i] for i in fit]
  rows, truncated = _ranked(kept, tokenizer, max_response_length, max_responses)
  rows['prompts'], rows['prompt_mask'] = _left_padded(
    [prompts[i] for i in fit], max_prompt_length, tokenizer.pad_id
  )
  rows['labeler'] = np.asarray(
    [numbers.get(c.labeler_id, -1) for c in kept], np.int32
  )
  tokens = int(rows['prompt_mask'].sum() + rows['response_mask'].sum())
  counts = _counts(len(fit), tokens, len(paired) - len(fit), truncated)
  counts['comparisons_without_pairs'] = len(comparisons) - len(paired)
  return rows, counts


def _ranked(
  comparisons: Sequence[record_lib.Comparison],
  tokenizer: vocabulary.Tokenizer,
  length: int,
  max_responses: int,
) -> tuple[Rows, int]:
  """Returns responses, ranks, masks as [N, K, ...], and how many were cut."""
  texts = [text for c in comparisons for text in c.responses]
  responses, truncated = _end(
    tokenizer.encode_responses(texts), tokenizer, length
  )
  flat, flat_mask = _right_padded(responses, length, tokenizer.pad_id)
  counts = np.asarray([len(c.responses) for c in comparisons], np.int32)
  mask = np.arange(max_responses) < counts[:, None]
  shape = (*mask.shape, length)
  tokens = np.full(shape, tokenizer.pad_id, np.int32)
  response_mask = np.zeros(shape, bool)
  ranks = np.zeros(mask.shape, np.int32)
  # Row-major order of the mask is the order of the flattened responses.
  tokens[mask], response_mask[mask] = flat, flat_mask
  ranks[mask] = [rank for c in comparisons for rank in c.ranks]
  return {
    'responses': tokens,
    'response_mask': response_mask,
    'ranks': ranks,
    'mask': mask,
  }, truncated


def prompt_rows(
  prompts: Sequence[record_lib.Prompt],
  tokenizer: vocabulary.Tokenizer,
  max_prompt_length: int,
  *,
  allow_empty: bool = False,
) -> tuple[Rows, Counts]:
  """Sets each prompt left-padded.

  Args:
    prompts: N texts, fewer where too long.
    tokenizer: ids.
    max_prompt_length: P, bos and end of prompt included.
    allow_empty: give no rows, instead of an error, where none is left.

  Returns:
    {'prompts': i32[N, P], 'prompt_mask': bool[N, P], 'index': i32[N], each
    row's place in `prompts`}, counts.

  Raises:
    UserError: no prompt fits.
  """
  encoded = _asked(prompts, tokenizer.encode_prompts)
  fit = _fitting(encoded, max_prompt_length, allow_empty)
  tokens, mask = _left_padded(
    [encoded[i] for i in fit], max_prompt_length, tokenizer.pad_id
  )
  rows = {
    'prompts': tokens,
    'prompt_mask': mask,
    'index': np.asarray(fit, np.int32),
  }
  dropped = len(prompts) - len(fit)
  return rows, _counts(len(fit), int(mask.sum()), dropped)


def _asked(
  rows: Sequence[record_lib.Record], encode: Callable[[list], list]
) -> list:
  """Encodes what records ask; an error says in which file and line."""
  asked = [record_lib.asked(row) for row in rows]
  try:
    return encode(asked)
  except errors.UserError:
    for row, prompt in zip(rows, asked, strict=True):
      try:
        encode([prompt])
      except errors.UserError as error:
        raise errors.UserError(f'{row.location}: {error}') from None
    raise


def _fitting(
  prompts: Sequence[Ids], length: int, allow_empty: bool
) -> list[int]:
  """Returns the indices of the prompts that fit; UserError if none does."""
  check_length('max_prompt_length', length, 2)
  fit = [i for i, ids in enumerate(prompts) if len(ids) <= length]
  if fit or allow_empty:
    return fit
  if prompts:
    shortest = min(map(len, prompts))
    raise errors.UserError(
      f'needed prompts of at most max_prompt_length={length} tokens, the '
      f'shortest of {len(prompts)} has {shortest}: use '
      f'--config.max_prompt_length={shortest}, or give shorter prompts.'
    )
  raise errors.UserError('needed at least one record, got none: add data.')


def _end(
  responses: Sequence[list[int]],
  tokenizer: vocabulary.Tokenizer,
  length: int,
) -> tuple[list[list[int]], int]:
  """Appends eos, cuts to length; returns the ids and how many were cut."""
  check_length('max_response_length', length, 1)
  truncated = sum(len(ids) >= length for ids in responses)
  return [[*ids, tokenizer.eos_id][:length] for ids in responses], truncated


def _left_padded(
  sequences: Sequence[Ids], length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
  tokens = np.full((len(sequences), length), pad_id, np.int32)
  mask = np.zeros(tokens.shape, bool)
  for row, ids in enumerate(sequences):
    tokens[row, length - len(ids) :] = ids
    mask[row, length - len(ids) :] = True
  return tokens, mask


def _right_padded(
  sequences: Sequence[Ids], length: int, pad_id: int
) -> tuple[np.ndarray, np.ndarray]:
  tokens = np.full((len(sequences), length), pad_id, np.int32)
  mask = np.zeros(tokens.shape, bool)
  for row, ids in enumerate(sequences):
    tokens[row, : len(ids)] = ids
    mask[row, : len(ids)] = True
  return tokens, mask


def _targets(mask: np.ndarray) -> np.ndarray:
  """Returns the kept tokens that have a kept predecessor."""
  targets = mask.copy()
  targets[:, 0] = False
  targets[:, 1:] &= mask[:, :-1]
  return targets


def no_text() -> errors.UserError:
  """Returns the error of pretraining data that holds no text."""
  return errors.UserError(
    'needed pretraining text, got none: give --config.data.pretraining a '
    'file with text in it.'
  )


def check_length(name: str, length: int, least: int) -> None:
  """Raises UserError for a length below the least that makes sense."""
  if length < least:
    raise errors.UserError(
      f'needed {name} of at least {least}, got {length}: raise it.'
    )


def _counts(
  rows: int, tokens: int, dropped: int = 0, truncated: int = 0
) -> Counts:
  return {
    'rows': rows,
    'tokens': tokens,
    'prompts_dropped_too_long': dropped,
    'responses_truncated': truncated,
  }
