"""Several sequences in one row, so that little of a batch is padding.

A sequence sees itself only (`transformer.Packing`), so its loss is what it
would be in a row of its own. Which sequences share a row is a function of the
data and their order alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from instructjax import errors

Rows = Mapping[str, np.ndarray]
Packed = dict[str, np.ndarray]

_OPEN_ROWS = 64  # bounds the search for a row with room


def demonstrations(rows: Rows, length: int) -> Packed:
  """Packs demonstrations.

  Args:
    rows: 'tokens' i32[N, S], 'mask' bool[N, S] and 'loss_mask' bool[N, S], of
      prompts.demonstration_rows.
    length: T, tokens a row.

  Returns:
    {'tokens', 'segments', 'positions': i32[M, T], 'mask', 'loss_mask':
    bool[M, T]}, M <= N.

  Raises:
    UserError: a sequence is longer than T.
  """
  kept = rows['mask']
  lengths = kept.sum(axis=1)
  members = _assign(lengths, length)
  packed = _empty(len(members), length)
  packed['loss_mask'] = np.zeros((len(members), length), bool)
  for row, sequences in enumerate(members):
    start = 0
    for segment, i in enumerate(sequences):
      there = row, slice(start, start + lengths[i])
      packed['tokens'][there] = rows['tokens'][i, kept[i]]
      packed['loss_mask'][there] = rows['loss_mask'][i, kept[i]]
      packed['segments'][there] = segment
      packed['positions'][there] = np.arange(lengths[i])
      packed['mask'][there] = True
      start += lengths[i]
  return packed


def text(rows: Rows) -> Packed:
  """Returns rows of running text in the form of packed ones: one segment each.

  Args:
    rows: 'tokens', 'mask', 'loss_mask' [N, T], of prompts.language_rows.
  """
  shape = rows['tokens'].shape
  positions = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
  return {
    **rows,
    'segments': np.zeros(shape, np.int32),
    'positions': positions,
  }


def comparisons(rows: Rows, length: int) -> Packed:
  """Packs comparisons: each prompt once, behind it its responses.

  A response's segment continues its prompt's and sees no other response.

  Args:
    rows: of prompts.comparison_rows, N prompts with up to K responses.
    length: T, tokens a row.

  Returns:
    {'tokens', 'segments', 'prefixes', 'positions': i32[M, T], 'token_mask':
    bool[M, T], 'ends', 'ranks': i32[M, C, K], 'mask': bool[M, C, K], 'labeler':
    i32[M, C]}: C is the most comparisons that a row holds, 'ends' the column of
    each response's last token.

  Raises:
    UserError: a prompt with its responses is longer than T.
  """
  prompt_lengths = rows['prompt_mask'].sum(axis=1)
  lengths = prompt_lengths + rows['response_mask'].sum(axis=(1, 2))
  members = _assign(lengths, length)
  packed = _empty(len(members), length)
  packed['token_mask'] = packed.pop('mask')
  packed['prefixes'] = packed['segments'].copy()
  most = max(map(len, members), default=1)
  shape = (len(members), most, rows['mask'].shape[1])
  packed |= {
    'ends': np.zeros(shape, np.int32),
    'ranks': np.zeros(shape, np.int32),
    'mask': np.zeros(shape, bool),
    'labeler': np.full(shape[:2], -1, np.int32),
  }
  for row, sequences in enumerate(members):
    column = segment = 0
    for place, i in enumerate(sequences):
      packed['ranks'][row, place] = rows['ranks'][i]
      packed['mask'][row, place] = rows['mask'][i]
      packed['labeler'][row, place] = rows['labeler'][i]
      prompt, first = segment, prompt_lengths[i]
      parts = [rows['prompts'][i, rows['prompt_mask'][i]]]
      parts += [
        tokens[mask]
        for tokens, mask in zip(
          rows['responses'][i], rows['response_mask'][i], strict=True
        )
      ]
      for k, part in enumerate(parts):
        there = row, slice(column, column + len(part))
        packed['tokens'][there] = part
        packed['segments'][there] = segment
        packed['prefixes'][there] = prompt
        packed['positions'][there] = np.arange(len(part)) + (first if k else 0)
        packed['token_mask'][there] = True
        column += len(part)
        segment += 1
        if k:
          packed['ends'][row, place, k - 1] = max(column - 1, 0)
  return packed


def _empty(num_rows: int, length: int) -> Packed:
  """Rows of padding: a segment that nothing else belongs to."""
  shape = num_rows, length
  return {
    'tokens': np.zeros(shape, np.int32),
    'segments': np.full(shape, -1, np.int32),
    'positions': np.zeros(shape, np.int32),
    'mask': np.zeros(shape, bool),
  }


def _assign(lengths: Sequence[int], length: int) -> list[list[int]]:
  """Puts each sequence into the first row with room for it.

  Returns:
    The sequences of each row, in order.

  Raises:
    UserError: one is longer than a row.
  """
  longest = max(lengths, default=0)
  if longest > length:
    raise errors.UserError(
      f'pack_to={length} is too short for a sequence of {longest} tokens: use'
      f' {longest} or more, or 0 for rows of one sequence each.'
    )
  rows: list[list[int]] = []
  room: list[int] = []
  for i, needed in enumerate(lengths):
    first = max(0, len(rows) - _OPEN_ROWS)
    for row in range(first, len(rows)):
      if needed <= room[row]:
        break
    else:
      row = len(rows)
      rows.append([])
      room.append(length)
    rows[row].append(i)
    room[row] -= int(needed)
  return rows
