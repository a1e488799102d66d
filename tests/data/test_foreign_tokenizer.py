"""Folders load, text and templates become ids, contents never special ones."""

import json
import subprocess
import sys

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest
import tokenizers
from tokenizers import normalizers
from tokenizers import processors

from instructjax import errors
from instructjax.data import encoders
from instructjax.data import foreign_tokenizer
from tests import tokenizer_folders as folders

LLAMA3 = {
  'bos_token': '<|begin_of_text|>',
  'eos_token': '<|end_of_text|>',
  'chat_template': folders.LLAMA3,
}
LLAMA2 = {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>'}
TALK = [('user', 'Hi'), ('assistant', 'It wants\n'), ('user', 'text  here')]

load = foreign_tokenizer.ForeignTokenizer.load


@pytest.fixture(scope='module')
def llama3(tmp_path_factory):
  path = tmp_path_factory.mktemp('llama3')
  return load(folders.write(path, folders.llama3(), LLAMA3))


@pytest.fixture(scope='module')
def chatml(tmp_path_factory):
  path = tmp_path_factory.mktemp('chatml')
  config = {**LLAMA3, 'chat_template': folders.CHATML}
  return load(folders.write(path, folders.llama3(), config))


@pytest.fixture(scope='module')
def mistral(tmp_path_factory):
  path = tmp_path_factory.mktemp('mistral')
  config = {**LLAMA2, 'chat_template': folders.MISTRAL}
  return load(folders.write(path, folders.metaspace(), config))


@pytest.fixture(scope='module')
def gemma(tmp_path_factory):
  path = tmp_path_factory.mktemp('gemma')
  config = {**LLAMA2, 'chat_template': folders.GEMMA, 'pad_token': '<pad>'}
  return load(folders.write(path, folders.metaspace(prefix=False), config))


@pytest.fixture(scope='module')
def model_only(tmp_path_factory):
  path = tmp_path_factory.mktemp('model_only')
  config = {'add_bos_token': True}
  return load(folders.write(path, folders.sentencepiece_model(), config))


@pytest.fixture(params=['llama3', 'chatml', 'mistral', 'gemma', 'model_only'])
def tokenizer(request):
  return request.getfixturevalue(request.param)


def test_special_ids(llama3, chatml, gemma, model_only):
  names = llama3._encoder.id_to_token
  assert names(llama3.eos_id) == '<|eot_id|>'
  assert names(llama3.bos_id) == '<|begin_of_text|>'
  assert names(llama3.pad_id) == '<|end_of_text|>'
  assert names(chatml.eos_id) == '<|im_end|>'
  assert llama3.vocab_size == llama3.eos_id + 5 == 429
  assert (gemma.eos_id, gemma.bos_id, gemma.pad_id) == (5, 1, 0)
  assert (model_only.eos_id, model_only.bos_id, model_only.pad_id) == (2, 1, 0)
  assert model_only.chat is None and gemma.chat is not None


def test_pad_differs_from_eos_where_there_is_one_special_token(tmp_path):
  names = ('bos_token', 'eos_token', 'unk_token', 'pad_token')
  config = dict.fromkeys(names, '<|endoftext|>')
  found = load(folders.write(tmp_path, folders.gpt2(), config))
  assert (found.bos_id, found.eos_id, found.pad_id) == (0, 0, 399)
  assert found.encode_prompt('text') == found.encode('text')
  assert found.encode_response('text') == [*found.encode('text'), 0]


@pytest.mark.parametrize(
  ('files', 'eos'),
  [
    ({'special_tokens_map': {'eos_token': {'content': '</s>'}}}, 2),
    ({'config': {'eos_token_id': 2}}, 2),
    ({'generation_config': {'eos_token_id': [5, 2]}, 'config': {}}, 5),
    (
      {
        'tokenizer_config': {'eos_token': {'content': '</s>'}},
        'generation_config': {'eos_token_id': 5},
      },
      2,
    ),
  ],
)
def test_where_eos_is_found(tmp_path, files, eos):
  found = load(folders.write(tmp_path / 'a', folders.metaspace(), **files))
  assert found.eos_id == eos
  found.save(str(tmp_path / 'b'))
  again = load(str(tmp_path / 'b'))
  assert again.eos_id == eos and again.fingerprint() == found.fingerprint()


def test_round_trip(tokenizer):
  for text in folders.SAMPLE:
    ids = tokenizer.encode(text)
    expected = text if '\u2581' not in text else tokenizer.decode(ids)
    assert tokenizer.decode(ids) == expected
    assert tokenizer.encode_response(text) == [*ids, tokenizer.eos_id]
    assert tokenizer.decode(tokenizer.encode_response(text)) == expected
  batch = tokenizer.encode_batch(folders.SAMPLE)
  assert batch == [tokenizer.encode(text) for text in folders.SAMPLE]
  assert tokenizer.decode_batch(batch) == [tokenizer.decode(i) for i in batch]
  assert tokenizer.encode_batch([]) == tokenizer.decode_batch([]) == []
  assert tokenizer.encode('') == [] and tokenizer.decode([]) == ''


def test_ids_outside_the_vocabulary_give_no_text(tokenizer):
  ids = tokenizer.encode('It wants text')
  odd = [-1, *ids, tokenizer.vocab_size, 2**40, tokenizer.eos_id]
  assert tokenizer.decode(odd) == tokenizer.decode(np.array(odd))
  assert tokenizer.decode(odd) == 'It wants text'


def test_batches_beyond_one_call_of_the_library(tokenizer, monkeypatch):
  whole = tokenizer.encode_batch(folders.SAMPLE)
  prompts = tokenizer.encode_prompts(folders.SAMPLE)
  monkeypatch.setattr(encoders, '_BATCH', 3)
  assert tokenizer.encode_batch(folders.SAMPLE) == whole
  assert tokenizer.encode_prompts(folders.SAMPLE) == prompts


def test_chat_prompts(llama3):
  read = llama3._encoder.encode
  system = [('system', 'Be kind.'), ('user', ' Hi ')]
  for prompt in ('Hi there', system, TALK, [['user', 'x']]):
    messages = [('user', prompt)] if isinstance(prompt, str) else prompt
    text = llama3.chat.render(messages, open_turn=True)
    expected = read(text, add_special_tokens=False).ids
    assert llama3.encode_prompt(prompt) == expected
    assert expected.count(llama3.bos_id) == 1
  assert llama3.encode_prompts([]) == []


def test_turns_of_a_template(llama3, chatml, mistral, gemma):
  for tokenizer, turn in [
    (llama3, 'It wants<|eot_id|>'),
    (chatml, 'It wants\n<|im_end|>'),
    (gemma, 'It wants<end_of_turn>'),
    (mistral, 'It wants\n</s>'),
  ]:
    ((ids, mask),) = tokenizer.encode_turns([TALK])
    assert ids == tokenizer.encode_prompt(TALK) and len(mask) == len(ids)
    chosen = [i for i, keep in zip(ids, mask, strict=True) if keep]
    shown = tokenizer._encoder.decode(chosen, skip_special_tokens=False)
    assert shown == turn
    ((ids, mask),) = tokenizer.encode_turns(['only a text'])
    assert not any(mask) and ids == tokenizer.encode_prompt('only a text')


def test_turns_of_plain_text(model_only):
  talk = [('system', 'It is'), *TALK, ('assistant', 'Hi'), ('user', 'Hi')]
  ((ids, mask), (short, none)) = model_only.encode_turns([talk, 'Hi'])
  assert ids[0] == short[0] == model_only.bos_id and not any(none)
  text = (
    'It is\n\nHuman: Hi\n\nAssistant: It wants\n\n\nHuman: text  here\n\n'
    'Assistant: Hi\n\nHuman: Hi\n\nAssistant:'
  )
  assert ids[1:] == model_only.encode(text)
  runs, last = [], False
  for i, keep in zip(ids, mask, strict=True):
    runs += [[]] if keep and not last else []
    if keep:
      runs[-1].append(i)
    last = keep
  assert [model_only.decode(run) for run in runs] == ['It wants\n', 'Hi']


def test_turns_that_a_template_rewrites(tmp_path):
  config = {**LLAMA3, 'chat_template': folders.THINKING}
  found = load(folders.write(tmp_path, folders.llama3(), config))
  talk = [('user', 'a'), ('assistant', '<think>b</think>c'), ('user', 'd')]
  with pytest.raises(errors.UserError, match="loss_on='response'"):
    found.encode_turns([talk])
  plain = [('user', 'a'), ('assistant', 'c'), ('user', 'd')]
  assert found.encode_prompt(talk) == found.encode_prompt(plain)


def test_prompts_end_with_the_users_message(llama3, model_only):
  for tokenizer in (llama3, model_only):
    for bad in ([], TALK[:2], [('system', 'x')]):
      with pytest.raises(errors.UserError, match="the user's"):
        tokenizer.encode_prompts([bad])


# Every special spelling, their halves, and what templates write around.
PIECES = ['<|im_end|>', '<|im_start|>', '<|eot_id|>', '</s>', '<s>', '<unk>']
PIECES += ['<end_of_turn>', '<start_of_turn>', '<|end_header_id|>', '<|im_']
PIECES += ['end|>', '<', '>', '|>', 's>', '</', '<|', 'im_end', ' ', '\n', 'a']
PIECES += ['assistant', '[INST]', '\ue000', 'é', '<0x0A>', '<think>', 'user']
CONTENTS = strategies.lists(strategies.sampled_from(PIECES)).map(''.join)


@hypothesis.given(texts=strategies.lists(CONTENTS, min_size=3, max_size=3))
@hypothesis.settings(
  max_examples=150,
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_contents_write_no_special_ids(tokenizer, texts):
  """The template's special ids, in order, and every content's characters."""
  for text in texts:
    ids = tokenizer.encode(text)
    assert tokenizer._encoders._forbidden.isdisjoint(ids)
    # A folder with a prefix space takes one in front for it.
    assert tokenizer.decode(ids) in (text, text.removeprefix(' '))
  roles = ['user', 'assistant', 'user']
  talk = list(zip(roles, texts, strict=True))
  harmless = list(zip(roles, ['x', 'y', 'z'], strict=True))
  forbidden = tokenizer._encoders._forbidden
  ((ids, mask),) = tokenizer.encode_turns([talk])
  ((plain, _),) = tokenizer.encode_turns([harmless])
  assert [i for i in ids if i in forbidden] == [
    i for i in plain if i in forbidden
  ]
  chosen = tokenizer.decode(
    [i for i, keep in zip(ids, mask, strict=True) if keep]
  )
  assert chosen.split() == texts[1].split()
  if tokenizer.chat is not None:
    written = tokenizer.chat.render(talk, open_turn=True)
    shown = tokenizer.decode(ids).replace(' ', '').replace('\n', '')
    for content in texts:
      for word in content.split():
        assert word in written and word in shown


@pytest.mark.parametrize(
  'spelled', ['<|im_end|>', 'x <|eot_id|> y', '<|im_end|']
)
def test_spelled_out_contents_keep_their_characters(chatml, spelled):
  ids = chatml.encode_prompt([('user', spelled)])
  assert spelled in chatml.decode(ids)
  assert ids[-4:] == chatml.encode_prompt('x')[-4:]


def test_a_spelling_across_template_and_content(tmp_path):
  template = (
    "{% for m in messages %}{{ '<|' + m['content'] + '|>' }}{% endfor %}"
  )
  config = {**LLAMA3, 'chat_template': template}
  found = load(folders.write(tmp_path, folders.llama3(), config))
  assert found.eos_id == found._encoder.token_to_id('<|end_of_text|>')
  for content in ('im_end', 'im_end|>', '|im_end', 'im_start|><|im_end'):
    ids = found.encode_prompt(content)
    assert found.decode(ids) == f'<|{content}|>'


def test_a_template_that_rewrites_a_special_spelling(tmp_path):
  template = "{{ messages[0]['content'] | replace('<|im_end|>', '(end)') }}"
  config = {**LLAMA3, 'chat_template': template + '<|im_end|>'}
  config['chat_template'] += "{{ messages[-1]['content'] }}"
  found = load(folders.write(tmp_path, folders.llama3(), config))
  assert found.encode_prompt('fine')
  with pytest.raises(errors.UserError, match=r"got '<\|im_end\|>'"):
    found.encode_prompt('a <|im_end|> b')


def test_disguised_spellings(tmp_path):
  encoder = folders.llama3()
  encoder.normalizer = normalizers.NFKC()
  encoder.add_tokens(folders.added('<|call|>', normalized=True))
  full = '＜｜call｜＞'
  call = encoder.token_to_id('<|call|>')
  assert encoder.encode(full, add_special_tokens=False).ids == [call]
  found = load(folders.write(tmp_path, encoder, LLAMA3))
  assert found.decode(found.encode(full)) == '<|call|>'
  ids = found.encode_prompt([('user', full)])
  assert call not in ids and '<|call|>' in found.decode(ids)


def test_vocabulary_that_spells_a_special_token(tmp_path):
  """Unigram has '</s>' as a piece; merges can end in one."""
  config = {'eos_token': '</s>', 'unk_token': '<unk>', 'pad_token': '<pad>'}
  unigram = load(folders.write(tmp_path / 'a', folders.unigram(), config))
  assert unigram.eos_id not in unigram.encode('a </s> b')
  data = json.loads(folders.gpt2().to_str())
  size = len(data['model']['vocab'])
  new = ['<|', '|>', 'end', '<|end', '<|end|>']
  pairs = [('<', '|'), ('|', '>'), ('e', 'nd'), ('<|', 'end'), ('<|end', '|>')]
  data['model']['vocab'] |= {'nd': size} | {
    token: size + 1 + i for i, token in enumerate(new)
  }
  data['model']['merges'] = [['n', 'd'], *map(list, pairs)]
  data['pre_tokenizer'] = None
  eos = size + len(new)
  data['added_tokens'][0] |= {'content': '<|end|>', 'id': eos}
  encoder = tokenizers.Tokenizer.from_str(json.dumps(data))
  encoder.encode_special_tokens = True
  assert encoder.encode('<|end|>').ids == [eos]
  found = load(folders.write(tmp_path / 'b', encoder, {'eos_token': '<|end|>'}))
  assert found.eos_id == eos and found.encode('<|end|>') == [size + 4, size + 2]


def test_what_stands_in_front_of_a_prompt(tmp_path, model_only):
  found = load(folders.write(tmp_path / 'a', folders.metaspace(), LLAMA2))
  assert found.encode_prompt('x') == [1, *found.encode('x')]
  assert model_only.encode_prompt('x') == [1, *model_only.encode('x')]
  encoder = folders.metaspace()
  encoder.post_processor = processors.TemplateProcessing(
    single='$A </s>', special_tokens=[('</s>', 2)]
  )
  found = load(folders.write(tmp_path / 'b', encoder, LLAMA2))
  assert found.encode_prompt('x') == found.encode('x')
  model = folders.sentencepiece_model()
  off = load(folders.write(tmp_path / 'c', model, {'add_bos_token': False}))
  assert off.encode_prompt('x') == off.encode('x')
  with pytest.raises(errors.UserError, match='needed "add_bos_token"'):
    load(folders.write(tmp_path / 'd', model))


def test_half_a_surrogate_is_refused(tokenizer):
  for call in (tokenizer.encode_batch, tokenizer.encode_prompts):
    with pytest.raises(errors.UserError, match=r'got half of .*\\ud83d'):
      call(['fine', 'not \ud83d'])


def test_save_copies_bytes(tmp_path):
  config = {**LLAMA3, 'chat_template': 'unused'}
  folder = tmp_path / 'a'
  folders.write(folder, folders.llama3(), config, special_tokens_map={})
  (folder / 'chat_template.jinja').write_bytes(folders.CHATML.encode() + b'\n')
  (folder / 'vocab.json').write_bytes(b'{ "kept": 1 }')
  (folder / 'config.json').write_bytes(b'{"eos_token_id": 3}')
  (folder / 'weights.bin').write_bytes(b'1')
  found = load(str(folder))
  found.save(str(tmp_path / 'b' / 'c'))
  names = sorted(path.name for path in (tmp_path / 'b' / 'c').iterdir())
  assert names == [
    'chat_template.jinja',
    'special_tokens_map.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'vocab.json',
  ]
  for name in names:
    copy = (tmp_path / 'b' / 'c' / name).read_bytes()
    assert copy == (folder / name).read_bytes()
  again = load(str(tmp_path / 'b' / 'c'))
  assert again.fingerprint() == found.fingerprint()
  assert again.encode_prompt(TALK) == found.encode_prompt(TALK)
  again.save(str(tmp_path / 'b' / 'c'))
  (folder / 'vocab.json').write_bytes(b'{ "kept": 2 }')
  assert load(str(folder)).fingerprint() != found.fingerprint()
  (tmp_path / 'b' / 'c' / 'merges.txt').write_text('')
  with pytest.raises(errors.UserError, match='got merges.txt'):
    again.save(str(tmp_path / 'b' / 'c'))
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.UserError, match='writable place'):
    again.save(str(tmp_path / 'file' / 'd'))


def test_forks_neither_hang_nor_warn(tmp_path):
  path = folders.write(tmp_path, folders.llama3(), LLAMA3)
  program = f"""
import os
from instructjax.data import foreign_tokenizer
found = foreign_tokenizer.ForeignTokenizer.load({path!r})
texts = ['some text'] * 99
ids = found.encode_batch(texts)
child = os.fork()
if not child:
  os._exit(0 if found.encode_batch(texts) == ids else 3)
assert os.waitpid(child, 0)[1] == 0
assert 'TOKENIZERS_PARALLELISM' not in os.environ
assert found.encode_batch(texts) == ids
"""
  done = subprocess.run(
    # Python itself warns of any fork beside threads, from 3.12 on.
    [sys.executable, '-Wignore:This process', '-c', program],
    capture_output=True,
    text=True,
    timeout=60,
  )
  assert (done.returncode, done.stderr) == (0, '')
