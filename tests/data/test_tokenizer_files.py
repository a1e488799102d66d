"""Folders of every kind are read, and the wrong ones named."""

import json
import pickle
import struct

import pytest
import sentencepiece

from instructjax import errors
from instructjax.data import foreign_tokenizer
from tests import tokenizer_folders as folders

LLAMA3 = {
  'bos_token': '<|begin_of_text|>',
  'eos_token': '<|end_of_text|>',
  'chat_template': folders.LLAMA3,
}
LLAMA2 = {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>'}

load = foreign_tokenizer.ForeignTokenizer.load


def test_added_tokens_of_the_config(tmp_path):
  model = folders.sentencepiece_model(user_defined_symbols=['<mine>'])
  token = {'content': '<|im_end|>', 'special': True, 'rstrip': True}
  config = {
    'add_bos_token': True,
    'added_tokens_decoder': {'480': token},
    'chat_template': folders.CHATML,
  }
  found = load(folders.write(tmp_path / 'a', model, config))
  assert (found.eos_id, found.vocab_size) == (480, 481)
  mine = found._encoder.token_to_id('<mine>')
  assert mine in found.encode('a<mine>b')
  found = load(
    folders.write(
      tmp_path / 'b',
      model,
      {**LLAMA2, 'add_bos_token': True},
      added_tokens={'<|im_end|>': 480, '</s>': 2},
    )
  )
  assert found.encode('<|im_end|>') == [480]  # Nothing calls it special.
  assert 2 not in found.encode('</s>')
  config['added_tokens_decoder'] = {'490': token}
  with pytest.raises(errors.UserError, match="'<|im_end|>' at its id 490, got"):
    load(folders.write(tmp_path / 'c', model, config))
  for bad in ({'x': token}, {'480': 3}, [token], {'480': {}}):
    config['added_tokens_decoder'] = bad
    with pytest.raises(errors.UserError, match='needed .*added token'):
      load(folders.write(tmp_path / 'c', model, config))


@pytest.mark.parametrize(
  ('options', 'is_read'),
  [
    ({}, True),
    ({'add_dummy_prefix': False}, True),
    ({'pad_id': 3}, True),
    ({'byte_fallback': False, 'vocab_size': 200}, False),
    ({'model_type': 'unigram', 'vocab_size': 380}, False),
    ({'normalization_rule_name': 'nmt_nfkc'}, False),
    ({'remove_extra_whitespaces': True}, False),
  ],
)
def test_sentencepiece_models(tmp_path, options, is_read):
  model = folders.sentencepiece_model(**options)
  path = folders.write(tmp_path, model, {'add_bos_token': True})
  if is_read:
    assert load(path).decode(load(path).encode('It wants')) == 'It wants'
  else:
    with pytest.raises(
      errors.UserError, match=r'another kind of SentencePiece'
    ):
      load(path)


def test_prefix_space_of_sentencepiece(tmp_path):
  def first(**config):
    path = folders.write(tmp_path, model, {'add_bos_token': True, **config})
    found = load(path)
    return found._encoder.encode('It').tokens[0][0], found.decode(
      found.encode('It')
    )

  model = folders.sentencepiece_model()
  assert first() == first(legacy=True) == ('\u2581', 'It')
  assert first(add_prefix_space=False) == ('I', 'It')
  model = folders.sentencepiece_model(add_dummy_prefix=False)
  assert first() == ('I', 'It')


def _damage(folder, case):
  json_file, config = (
    folder / 'tokenizer.json',
    folder / 'tokenizer_config.json',
  )
  data = json.loads(json_file.read_text('utf-8'))
  if case == 'cut':
    json_file.write_bytes(json_file.read_bytes()[:-100])
  elif case == 'list':
    json_file.write_text('[]')
  elif case == 'empty':
    json_file.write_text('{}')
  elif case == 'binary':
    config.write_bytes(b'\xff\xfe')
  elif case == 'missing':
    json_file.unlink()
  elif case == 'pickle':
    json_file.unlink()
    (folder / 'tokenizer.model').write_bytes(pickle.dumps({'a': 1}))
  elif case == 'ids':
    data['added_tokens'][-1]['id'] += 7
  elif case == 'dropout':
    data['model']['dropout'] = 0.1
  if case in ('ids', 'dropout'):
    json_file.write_text(json.dumps(data), 'utf-8')


@pytest.mark.parametrize(
  ('case', 'said'),
  [
    ('cut', r'tokenizer\.json: needed JSON'),
    ('list', r'tokenizer\.json: needed a JSON object'),
    ('empty', r'tokenizer\.json: needed a tokenizer'),
    ('binary', r'tokenizer_config\.json: needed JSON'),
    ('missing', r'needed tokenizer\.json, or tokenizer\.model'),
    ('pickle', r'tokenizer\.model: needed a SentencePiece model'),
    ('ids', r'at its id 435, got 428'),
    ('dropout', r'without chance'),
  ],
)
def test_damaged_folders(tmp_path, case, said):
  path = folders.write(tmp_path, folders.llama3(), LLAMA3)
  _damage(tmp_path, case)
  with pytest.raises(errors.UserError, match=said) as caught:
    load(path)
  assert '\n' not in str(caught.value) and path in str(caught.value)


def test_no_eos(tmp_path):
  with pytest.raises(errors.UserError, match='ends a response'):
    load(folders.write(tmp_path, folders.metaspace(), {'eos_token': None}))


def test_eos_that_text_may_hold(tmp_path):
  files = {'config': {'eos_token_id': 300}}
  with pytest.raises(errors.UserError, match='begin and end of text as added'):
    load(folders.write(tmp_path, folders.metaspace(), **files))


def test_no_folder(tmp_path):
  with pytest.raises(errors.UserError, match='needed a tokenizer folder'):
    load(str(tmp_path / 'none'))


@pytest.mark.parametrize(
  ('setting', 'said'),
  [
    ({'auto_map': {'AutoTokenizer': ['tok.Mine', None]}}, 'code of its own'),
    ({'auto_map': ['tok.Mine', None]}, 'code of its own'),
    ({'split_special_tokens': True}, 'split_special_tokens unset'),
    ({'fix_mistral_regex': True}, 'fix_mistral_regex unset'),
    ({'chat_template': '{% if %}'}, 'needed a Jinja template'),
    ({'chat_template': {'tool_use': 'x'}}, "'default'"),
  ],
)
def test_refused_settings(tmp_path, setting, said):
  path = folders.write(tmp_path, folders.llama3(), {**LLAMA3, **setting})
  with pytest.raises(errors.UserError, match=said):
    load(path)


def test_cut_sentencepiece_models_are_refused_or_read(tmp_path):
  whole = folders.sentencepiece_model()
  for keep in [*range(0, len(whole), 211), len(whole) - 1]:
    path = folders.write(tmp_path, whole[:keep], {'add_bos_token': True})
    with pytest.raises(errors.UserError, match='tokenizer.model: needed') as e:
      load(path)
    assert '\n' not in str(e.value)


def test_scores_rank_sentencepiece_pieces_as_ids_do_not(tmp_path):
  """Llama 2 has runs of spaces at its lowest ids and worst scores."""
  model = folders.sentencepiece_model()
  piece = b'\n\x06' + '\u2581\u2581'.encode() + b'\x15'
  at = model.index(piece) + len(piece)
  worst = model[:at] + struct.pack('<f', -1e9) + model[at + 4 :]
  results = []
  for name, content in (('a', model), ('b', worst)):
    path = folders.write(tmp_path / name, content, {'add_bos_token': True})
    found = load(path)
    reader = sentencepiece.SentencePieceProcessor(model_proto=content)
    texts = [
      *folders.SAMPLE,
      *folders.TEXT.splitlines(),
      'a  text   wants    it',
    ]
    texts = [text for text in texts if not text.startswith((' ', '\t'))]
    assert found.encode_batch(texts) == reader.encode(texts)
    results.append(found.encode('repeats  itself'))
  assert results[0] != results[1]
