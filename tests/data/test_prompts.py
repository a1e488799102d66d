"""Rows against slow loops over the same ids, and what is counted."""

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from instructjax import errors
from instructjax.data import foreign_tokenizer
from instructjax.data import layouts
from instructjax.data import prompts
from instructjax.data import records
from tests import tokenizer_folders

WORDS = strategies.sampled_from(['', 'a', 'boat', 'the list, ', 'é', '\n'])
TEXT = strategies.lists(WORDS, max_size=8).map(''.join)
P, R = 8, 6


def _read(tokens, mask):
  return [list(map(int, t[m])) for t, m in zip(tokens, mask, strict=True)]


def _same(rows, expected):
  assert set(rows) == set(expected)
  for name, array in expected.items():
    assert rows[name].dtype == array.dtype, name
    np.testing.assert_array_equal(rows[name], array, err_msg=name)


@hypothesis.given(
  texts=strategies.lists(TEXT, min_size=1, max_size=6),
  length=strategies.integers(2, 12),
)
def test_language_rows(tokenizer, texts, length):
  stream = []
  for text in texts:
    stream += [*tokenizer.encode(text), tokenizer.eos_id]
  hypothesis.assume(len(stream) > 1)
  documents = [records.Document(text) for text in texts]
  rows, counts = prompts.language_rows(documents, tokenizer, length)
  whole = len(stream) // length
  if whole:
    tokens = np.asarray(stream[: whole * length], np.int32)
    mask = np.ones((whole, length), bool)
  else:
    tokens = stream + [tokenizer.pad_id] * (length - len(stream))
    tokens = np.asarray(tokens, np.int32)
    mask = np.arange(length)[None] < len(stream)
  loss_mask = mask.copy()
  loss_mask[:, 0] = False
  expected = {
    'tokens': tokens.reshape(-1, length),
    'mask': mask,
    'loss_mask': loss_mask,
  }
  _same(rows, expected)
  assert counts['rows'] == len(mask) and counts['tokens'] == mask.sum()


@pytest.mark.parametrize('texts', [[], ['']])
def test_language_rows_need_text(tokenizer, texts):
  documents = [records.Document(text) for text in texts]
  with pytest.raises(errors.UserError, match='needed pretraining text'):
    prompts.language_rows(documents, tokenizer, 8)


@hypothesis.given(
  pairs=strategies.lists(strategies.tuples(TEXT, TEXT), min_size=1, max_size=6),
  loss_on=strategies.sampled_from(['response', 'sequence']),
)
def test_demonstration_rows(tokenizer, pairs, loss_on):
  pad = tokenizer.pad_id
  tokens, mask, loss_mask, dropped, truncated = [], [], [], 0, 0
  for prompt, response in pairs:
    left = tokenizer.encode_prompt(prompt)
    right = tokenizer.encode_response(response)
    if len(left) > P:
      dropped += 1
      continue
    truncated += len(right) > R
    right = right[:R]
    before, after = P - len(left), R - len(right)
    tokens.append([pad] * before + left + right + [pad] * after)
    kept = [False] * before + [True] * len(left + right) + [False] * after
    mask.append(kept)
    if loss_on == 'response':
      loss_mask.append([k and t >= P for t, k in enumerate(kept)])
    else:
      loss_mask.append([k and t > before for t, k in enumerate(kept)])
  hypothesis.assume(tokens)
  found = [records.Demonstration(*pair) for pair in pairs]
  rows, counts = prompts.demonstration_rows(found, tokenizer, P, R, loss_on)
  expected = {
    'tokens': np.asarray(tokens, np.int32),
    'mask': np.asarray(mask),
    'loss_mask': np.asarray(loss_mask),
  }
  _same(rows, expected)
  assert counts == {
    'rows': len(tokens),
    'tokens': np.sum(mask),
    'prompts_dropped_too_long': dropped,
    'responses_truncated': truncated,
  }


def test_cut_response_has_no_end(tokenizer):
  exact = tokenizer.decode(tokenizer.encode('a list of boats')[: R - 1])
  assert len(tokenizer.encode(exact)) == R - 1
  found = [
    records.Demonstration('a', exact),
    records.Demonstration('a', exact * 3),
  ]
  rows, counts = prompts.demonstration_rows(found, tokenizer, P, R)
  assert rows['tokens'][0, -1] == tokenizer.eos_id
  assert tokenizer.eos_id not in rows['tokens'][1]
  assert rows['mask'][:, P:].all()
  assert counts['responses_truncated'] == 1


def _comparison(prompt, *responses, ranks=None, labeler_id=None):
  ranks = ranks or tuple(range(1, len(responses) + 1))
  return records.Comparison(prompt, responses, ranks, labeler_id, None, 'f:1')


def test_comparison_rows(tokenizer):
  found = [
    _comparison('a', 'x', '', 'z' * 40, ranks=(2, 1, 2), labeler_id='m'),
    _comparison('no pair', 'x', 'y', ranks=(1, 1), labeler_id='tie'),
    _comparison('long ' * 40, 'x', 'y'),
    _comparison('', 'x', 'the list'),
    _comparison('b', 'x', 'y', labeler_id='k'),
  ]
  rows, counts = prompts.comparison_rows(found, tokenizer, P, R)
  kept = [found[0], found[3], found[4]]
  assert {name: array.shape for name, array in rows.items()} == {
    'prompts': (3, P),
    'prompt_mask': (3, P),
    'responses': (3, 3, R),
    'response_mask': (3, 3, R),
    'ranks': (3, 3),
    'mask': (3, 3),
    'labeler': (3,),
  }
  assert {n for n, a in rows.items() if a.dtype == bool} == {
    'prompt_mask',
    'response_mask',
    'mask',
  }
  assert all(a.dtype in (bool, np.int32) for a in rows.values())
  encoded = [tokenizer.encode_prompt(c.prompt) for c in kept]
  assert _read(rows['prompts'], rows['prompt_mask']) == encoded
  assert rows['prompt_mask'][:, -1].all()
  for row, comparison in enumerate(kept):
    texts = [tokenizer.encode_response(t)[:R] for t in comparison.responses]
    texts += [[]] * (3 - len(texts))
    assert _read(rows['responses'][row], rows['response_mask'][row]) == texts
  pad = rows['responses'][~rows['response_mask']]
  assert (pad == tokenizer.pad_id).all()
  np.testing.assert_array_equal(
    rows['ranks'], [[2, 1, 2], [1, 2, 0], [1, 2, 0]]
  )
  np.testing.assert_array_equal(rows['mask'], rows['ranks'] > 0)
  np.testing.assert_array_equal(rows['labeler'], [1, -1, 0])
  assert counts == {
    'rows': 3,
    'tokens': rows['prompt_mask'].sum() + rows['response_mask'].sum(),
    'prompts_dropped_too_long': 1,
    'responses_truncated': 1,
    'comparisons_without_pairs': 1,
  }


def test_comparison_rows_pad_to_a_given_number(tokenizer):
  found = [_comparison('a', 'x', 'y', labeler_id='k')]
  rows, _ = prompts.comparison_rows(found, tokenizer, P, R, 9, ['j', 'k'])
  assert rows['mask'].sum() == 2 and rows['mask'].shape == (1, 9)
  assert rows['labeler'] == [1]
  rows, _ = prompts.comparison_rows(found, tokenizer, P, R, 9, ['j'])
  assert rows['labeler'] == [-1]
  many = [_comparison('a', 'x', 'y', 'z')]
  with pytest.raises(
    errors.UserError, match=r'f:1: .*--config.max_responses=3'
  ):
    prompts.comparison_rows(many, tokenizer, P, R, 2)
  ties = [_comparison('a', 'x', 'y', ranks=(1, 1))]
  with pytest.raises(errors.UserError, match='unequal ranks, got none in 1'):
    prompts.comparison_rows(ties, tokenizer, P, R)


def test_prompt_rows(tokenizer):
  found = [records.Prompt(text) for text in ('a', 'long ' * 40, 'the list')]
  rows, counts = prompts.prompt_rows(found, tokenizer, P)
  encoded = [tokenizer.encode_prompt(found[i].text) for i in (0, 2)]
  assert _read(rows['prompts'], rows['prompt_mask']) == encoded
  np.testing.assert_array_equal(rows['index'], [0, 2])
  assert rows['prompts'].dtype == rows['index'].dtype == np.int32
  assert counts['prompts_dropped_too_long'] == 1 and counts['rows'] == 2


def _encoders(tokenizer, length):
  yield 'prompts', lambda r, **k: prompts.prompt_rows(r, tokenizer, length, **k)
  yield (
    'demonstrations',
    lambda r, **k: prompts.demonstration_rows(r, tokenizer, length, R, **k),
  )
  yield (
    'comparisons',
    lambda r, **k: prompts.comparison_rows(r, tokenizer, length, R, **k),
  )


LONG = {
  'prompts': [records.Prompt('boat ' * 30)],
  'demonstrations': [records.Demonstration('boat ' * 30, 'b')],
  'comparisons': [_comparison('boat ' * 30, 'b', 'c')],
}


def test_no_row_left(tokenizer):
  for kind, encode in _encoders(tokenizer, P):
    with pytest.raises(errors.UserError) as caught:
      encode(LONG[kind])
    assert f'max_prompt_length={P} tokens, the shortest of 1' in str(
      caught.value
    )
    with pytest.raises(errors.UserError, match='needed'):
      encode([])


def test_no_row_where_none_is_needed(tokenizer):
  for kind, encode in _encoders(tokenizer, P):
    shapes = {
      k: v.shape for k, v in encode(LONG[kind], allow_empty=True)[0].items()
    }
    assert all(shape[0] == 0 for shape in shapes.values()), kind
    rows, counts = encode([], allow_empty=True)
    assert counts['rows'] == 0
    assert {n: a.ndim for n, a in rows.items()} == {
      name: len(shape) for name, shape in shapes.items()
    }
    assert all(a.dtype in (bool, np.int32) for a in rows.values())
  rows, counts = prompts.language_rows([], tokenizer, 8, allow_empty=True)
  assert rows['tokens'].shape == (0, 8) and counts['rows'] == 0


@pytest.mark.parametrize('lengths', [(1, 6), (8, 0)])
def test_impossible_lengths(tokenizer, lengths):
  found = [records.Demonstration('a', 'b')]
  with pytest.raises(errors.UserError, match='_length of at least'):
    prompts.demonstration_rows(found, tokenizer, *lengths)
  with pytest.raises(errors.UserError, match='length of at least 2'):
    prompts.language_rows([records.Document('abc')], tokenizer, 1)


def test_unknown_loss_on(tokenizer):
  with pytest.raises(errors.UserError, match="Did you mean 'response'"):
    prompts.demonstration_rows([], tokenizer, P, R, 'responses')


def test_messages_are_trained_on_where_the_assistant_speaks(tokenizer):
  conversation = (
    ('user', 'a list'),
    ('assistant', 'turned again'),
    ('user', 'the boats'),
  )
  text = layouts.render(list(conversation))
  found = [records.Demonstration(text, 'ends', conversation=conversation)]

  def spoken(loss_on):
    rows, _ = prompts.demonstration_rows(found, tokenizer, 200, 20, loss_on)
    assert tokenizer.decode(rows['tokens'][0][rows['mask'][0]]) == text + 'ends'
    ids = rows['tokens'][0][rows['loss_mask'][0]]
    assert ids[-1] == tokenizer.eos_id
    return tokenizer.decode(ids)

  assert spoken('assistant') == ' turned againends'
  assert spoken('response') == 'ends'
  assert spoken('sequence') == text + 'ends'


def test_what_a_template_refuses_is_named_by_file_and_line(tmp_path):
  encoder = tokenizer_folders.gpt2()
  folder = tokenizer_folders.write(
    tmp_path / 'tokenizer',
    encoder,
    {
      'eos_token': '<|endoftext|>',
      'chat_template': tokenizer_folders.GEMMA,
    },
  )
  tokenizer = foreign_tokenizer.ForeignTokenizer.load(folder)
  system = (('system', 'be brief'), ('user', 'x'))
  found = [
    records.Demonstration('fine', 'yes', location='a.jsonl:1'),
    records.Demonstration('x', 'y', location='a.jsonl:2', conversation=system),
  ]
  with pytest.raises(errors.UserError, match=r'^a\.jsonl:2: chat template'):
    prompts.demonstration_rows(found, tokenizer, 200, 20)
