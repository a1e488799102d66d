"""Text comes back exactly; special ids stand apart; wrong models are named."""

import io
import re

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest
import sentencepiece

from instructjax import errors
from instructjax.data import tokenizer as tokenizer_lib

TEXT = """\
Every tokenizer wants some text to learn from, and this is such a text.
It repeats itself, it repeats itself again, and then it stops repeating.
"""
ALPHABET = '▁▅⁇ \t\n\r\x00\u00a0\u2028\ufeff\ufffd\ufffe\U0001f600\U0010ffff'
WORDS = ['<s>', ' </s>', '<pad> ', '<unk>', '<eop>', '<0x41>', '▁▁', ' ⁇ ']
WORDS += ['the ', 'list', ' list', '\n \n\n', 'é', 'e\u0301', ' ', '  ', '\t']
TEXTS = strategies.text(
  strategies.sampled_from(ALPHABET)
  | strategies.characters(exclude_categories=['Cs'])
) | strategies.lists(strategies.sampled_from(WORDS)).map(''.join)


@hypothesis.given(text=TEXTS)
@hypothesis.settings(max_examples=500)
def test_round_trip(tokenizer, text):
  ids = tokenizer.encode(text)
  assert tokenizer.decode(ids) == text
  assert not set(ids) & {0, 1, 2, 3, 4}
  prompt = tokenizer.encode_prompt(text)
  response = tokenizer.encode_response(text)
  assert prompt == [tokenizer.bos_id, *ids, tokenizer.eop_id]
  assert response == [*ids, tokenizer.eos_id]
  assert tokenizer.decode(prompt) == tokenizer.decode(response) == text


@hypothesis.given(texts=strategies.lists(TEXTS, max_size=4))
@hypothesis.settings(max_examples=100)
def test_batch_equals_one_by_one(tokenizer, texts):
  batch = tokenizer.encode_batch(texts)
  assert batch == [tokenizer.encode(text) for text in texts]
  assert tokenizer.decode_batch(batch) == texts


def test_every_character_round_trips(tokenizer):
  codes = [*range(0xD800), *range(0xE000, 0x110000, 7)]
  text = ''.join(map(chr, codes))
  assert tokenizer.decode(tokenizer.encode(text)) == text


def test_blocks_change_nothing(tokenizer, monkeypatch):
  text = 'The boats\n\nturned ▁ again.  \n' * 40 + 'x' * 500
  whole = tokenizer.encode(text)
  monkeypatch.setattr(tokenizer_lib, '_BLOCK_CHARS', 16)
  assert tokenizer.encode(text) == whole
  assert tokenizer.decode(whole) == text


def test_special_ids(tokenizer):
  special = [
    tokenizer.pad_id,
    tokenizer.bos_id,
    tokenizer.eos_id,
    tokenizer.eop_id,
  ]
  assert len(set(special)) == 4
  assert all(0 <= i < tokenizer.vocab_size == 400 for i in special)
  assert tokenizer.decode(special) == ''
  ids = np.asarray([special[0], *tokenizer.encode('a list'), special[2], 10**6])
  assert tokenizer.decode(ids) == 'a list'
  assert tokenizer.decode([-1]) == ''
  assert tokenizer.decode_batch([]) == tokenizer.encode_batch([]) == []
  assert tokenizer.encode('') == tokenizer.encode_batch(['', 'a'])[0] == []


def test_any_ids_decode(tokenizer):
  ids = np.random.default_rng(0).integers(0, tokenizer.vocab_size, (20, 50))
  assert all(isinstance(text, str) for text in tokenizer.decode_batch(ids))


def test_half_a_surrogate_is_refused(tokenizer):
  with pytest.raises(errors.UserError, match=r'got half of .*\\ud83d'):
    tokenizer.encode_batch(['fine', 'not \ud83d'])


def test_training_is_deterministic_and_saved(tmp_path):
  paths = [tmp_path / 'a.model', tmp_path / 'new' / 'b.model']
  for path in paths:
    trained = tokenizer_lib.Tokenizer.train([TEXT, TEXT], 290, str(path))
  assert paths[0].read_bytes() == paths[1].read_bytes()
  loaded = tokenizer_lib.Tokenizer.load(str(paths[0]))
  assert loaded.vocab_size == trained.vocab_size == 290
  assert loaded.encode(TEXT) == trained.encode(TEXT)
  assert len(loaded.encode(TEXT)) < len(TEXT)
  assert [p.name for p in tmp_path.iterdir() if p.suffix == '.part'] == []


def test_training_takes_awkward_text(tmp_path):
  awkward = f'<s> <pad> <eop> \x00 ▁ ▅ ⁇ \t <0x41> {TEXT}' * 30
  long_line = ' '.join(['repeats'] * 9000) + 'x' * 9000
  path = str(tmp_path / 'a.model')
  trained = tokenizer_lib.Tokenizer.train([awkward, long_line], 300, path)
  assert trained.decode(trained.encode(awkward)) == awkward
  assert trained.decode(trained.encode(long_line)) == long_line
  assert min(trained.encode(awkward)) > 4


def test_training_lines_are_bounded(monkeypatch):
  text = 'word ' * 2000 + '\n' + 'y' * 5000 + '\nshort'
  lines = tokenizer_lib._training_lines([text])
  assert ''.join(lines) == text.replace('\n', '')
  assert max(map(len, lines)) <= 2000
  many = [f'line number {i}' for i in range(5000)]
  monkeypatch.setattr(tokenizer_lib, 'MAX_TRAINING_BYTES', 10_000)
  some = tokenizer_lib._training_lines(many)
  assert 8_000 < sum(map(len, some)) < 12_000
  assert some == tokenizer_lib._training_lines(['\n'.join(many)])


def test_vocabulary_that_text_cannot_fill(tmp_path):
  path = str(tmp_path / 'a.model')
  with pytest.raises(errors.UserError, match='at most') as caught:
    tokenizer_lib.Tokenizer.train([TEXT], 5000, path)
  size = re.search(r'--config\.tokenizer\.vocab_size=(\d+)', str(caught.value))
  fitted = tokenizer_lib.Tokenizer.train([TEXT], int(size.group(1)), path)
  assert fitted.vocab_size == int(size.group(1))


def test_vocabulary_too_small_for_the_bytes(tmp_path):
  path = str(tmp_path / 'a.model')
  with pytest.raises(errors.UserError, match='at least') as caught:
    tokenizer_lib.Tokenizer.train([TEXT], 100, path)
  size = re.search(r'--config\.tokenizer\.vocab_size=(\d+)', str(caught.value))
  tokenizer_lib.Tokenizer.train([TEXT], int(size.group(1)), path)


def test_no_text(tmp_path):
  with pytest.raises(errors.UserError, match='needed text to train'):
    tokenizer_lib.Tokenizer.train(['', '\n'], 300, str(tmp_path / 'a.model'))


def test_unwritable_and_missing_paths(tokenizer, tmp_path):
  (tmp_path / 'file').write_text('x')
  with pytest.raises(errors.UserError, match='writable place'):
    tokenizer.save(str(tmp_path / 'file' / 'a.model'))
  with pytest.raises(errors.UserError, match='needed a saved tokenizer'):
    tokenizer_lib.Tokenizer.load(str(tmp_path / 'none.model'))


def _foreign(**options):
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXT.splitlines()),
    model_writer=model,
    minloglevel=2,
    model_type='bpe',
    **{
      'vocab_size': 290,
      'byte_fallback': True,
      'normalization_rule_name': 'identity',
      'add_dummy_prefix': False,
      'remove_extra_whitespaces': False,
      'control_symbols': ['<eop>'],
      'pad_id': 3,
      **options,
    },
  )
  return model.getvalue()


@pytest.mark.parametrize(
  ('options', 'said'),
  [
    ({}, None),
    ({'pad_id': -1, 'pad_piece': '</s>'}, 'distinct ids for pad'),
    ({'pad_id': -1}, 'got none for pad:'),
    ({'control_symbols': []}, 'got none for eop:'),
    ({'control_symbols': [], 'user_defined_symbols': ['<eop>']}, 'for eop:'),
    ({'normalization_rule_name': 'nfkc'}, 'lossless'),
    ({'add_dummy_prefix': True}, 'lossless'),
    ({'remove_extra_whitespaces': True}, 'lossless'),
    ({'byte_fallback': False, 'vocab_size': 50}, 'lossless'),
  ],
)
def test_foreign_models(tmp_path, options, said):
  path = tmp_path / 'foreign.model'
  path.write_bytes(_foreign(**options))
  if said is None:
    assert tokenizer_lib.Tokenizer.load(str(path)).vocab_size == 290
  else:
    with pytest.raises(errors.UserError, match=f'foreign.model: .*{said}'):
      tokenizer_lib.Tokenizer.load(str(path))


@pytest.mark.parametrize('keep', [0, 10, 0.5, 0.99])
def test_cut_model_is_refused(tmp_path, keep):
  whole = _foreign()
  path = tmp_path / 'cut.model'
  path.write_bytes(whole[: keep if keep >= 1 else int(len(whole) * keep)])
  with pytest.raises(errors.UserError, match='cut.model: needed') as caught:
    tokenizer_lib.Tokenizer.load(str(path))
  assert '\n' not in str(caught.value)
