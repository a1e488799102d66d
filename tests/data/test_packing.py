"""Packed rows hold every sequence once, whole, and know where each is."""

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from instructjax import errors
from instructjax.data import packing
from tests import small


def _demonstrations(n, seed=0):
  """Rows with padding on both sides."""
  rows = small.language_rows(n, seed)
  pads = np.zeros((n, 3), bool)
  mask = np.concatenate([pads, rows['mask']], axis=1)
  loss_mask = np.concatenate([pads, rows['loss_mask']], axis=1)
  tokens = np.concatenate([pads.astype(np.int32), rows['tokens']], axis=1)
  return {'tokens': tokens, 'mask': mask, 'loss_mask': loss_mask}


@hypothesis.given(
  n=strategies.integers(1, 20), length=strategies.integers(small.T, 30)
)
def test_demonstrations_are_all_there(n, length):
  rows = _demonstrations(n, seed=n)
  packed = packing.demonstrations(rows, length)
  expected = sorted(
    (tokens[mask].tolist(), targets[mask].tolist())
    for tokens, mask, targets in zip(
      rows['tokens'], rows['mask'], rows['loss_mask'], strict=True
    )
  )
  found = []
  for row in range(len(packed['tokens'])):
    assert (packed['segments'][row] >= 0).tolist() == packed['mask'][
      row
    ].tolist()
    for segment in range(packed['segments'][row].max() + 1):
      mine = packed['segments'][row] == segment
      assert packed['positions'][row, mine].tolist() == list(range(mine.sum()))
      part = packed['tokens'][row, mine], packed['loss_mask'][row, mine]
      found.append(tuple(x.tolist() for x in part))
  assert sorted(found) == expected
  assert not packed['loss_mask'][~packed['mask']].any()


def test_little_is_padding():
  packed = packing.demonstrations(_demonstrations(200), 32)
  assert packed['mask'].mean() > 0.9


def test_what_is_too_long_is_named():
  with pytest.raises(errors.UserError, match='pack_to=7 .* 8 tokens'):
    packing.demonstrations(_demonstrations(5), 7)
  with pytest.raises(errors.UserError, match='pack_to=9 '):
    packing.comparisons(small.comparison_rows(5), 9)


def test_text_is_one_segment_a_row():
  rows = small.language_rows(4)
  packed = packing.text(rows)
  assert packed.keys() == packing.demonstrations(rows, small.T).keys()
  assert not packed['segments'].any()
  assert (packed['positions'] == np.arange(small.T)).all()
  for name, array in packing.demonstrations(rows, small.T).items():
    assert packed[name].dtype == array.dtype
    assert packed[name].shape[1:] == array.shape[1:]


def test_comparisons_are_all_there():
  rows = small.comparison_rows(12)
  packed = packing.comparisons(rows, 40)
  expected = [
    (
      rows['prompts'][i, rows['prompt_mask'][i]].tolist(),
      [
        tokens[mask].tolist()
        for tokens, mask in zip(
          rows['responses'][i], rows['response_mask'][i], strict=True
        )
        if mask.any()
      ],
      rows['ranks'][i, rows['mask'][i]].tolist(),
      int(rows['labeler'][i]),
    )
    for i in range(12)
  ]
  found = []
  for row in range(len(packed['tokens'])):
    tokens, segments = packed['tokens'][row], packed['segments'][row]
    prefixes, positions = packed['prefixes'][row], packed['positions'][row]
    assert ((segments >= 0) == packed['token_mask'][row]).all()
    for place in range(packed['mask'].shape[1]):
      kept = packed['mask'][row, place]
      ends = packed['ends'][row, place, kept]
      if not kept.any():
        continue
      prompt = prefixes[ends[0]]
      asked = tokens[segments == prompt].tolist()
      assert (positions[segments == prompt] == np.arange(len(asked))).all()
      responses = []
      for end in ends:
        mine = segments == segments[end]
        assert prefixes[end] == prompt and np.flatnonzero(mine)[-1] == end
        after = len(asked) + np.arange(mine.sum())
        assert (positions[mine] == after).all()
        responses.append(tokens[mine].tolist())
      ranks = packed['ranks'][row, place, kept].tolist()
      labeler = int(packed['labeler'][row, place])
      found.append((asked, responses, ranks, labeler))
  assert len(packed['tokens']) < 12
  assert sorted(found) == sorted(expected)
