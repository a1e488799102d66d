"""Every kind of folder against transformers: ids, text and chat prompts."""

import pytest
import transformers

from instructjax.data import foreign_tokenizer
from tests import tokenizer_folders as folders

TEXTS = [*folders.SAMPLE, *folders.EDGES, *folders.TEXT.splitlines()]
TEXTS += [f'{a}{b}' for a in folders.SAMPLE[3:7] for b in folders.EDGES]
LLAMA3 = {'bos_token': '<|begin_of_text|>', 'eos_token': '<|end_of_text|>'}
LLAMA2 = {'bos_token': '<s>', 'eos_token': '</s>', 'unk_token': '<unk>'}
MODEL = {'tokenizer_class': 'LlamaTokenizer', 'add_bos_token': True}
MORE = {
  'added_tokens_decoder': {
    '480': {'content': '<|im_start|>', 'special': True},
    '481': {'content': '<|im_end|>', 'special': True, 'rstrip': True},
    '482': {'content': '<think>', 'normalized': True},
  }
}
KINDS = {
  'gpt2': lambda: (folders.gpt2(), {'eos_token': '<|endoftext|>'}),
  'llama3': lambda: (folders.llama3(), LLAMA3),
  'llama2': lambda: (folders.metaspace(), LLAMA2),
  'llama2_legacy': lambda: (folders.metaspace(legacy=True), LLAMA2),
  'gemma': lambda: (folders.metaspace(prefix=False), LLAMA2),
  'gemma_legacy': lambda: (folders.metaspace(False, True), LLAMA2),
  'unigram': lambda: (
    folders.unigram(),
    {'eos_token': '</s>', 'unk_token': '<unk>', 'pad_token': '<pad>'},
  ),
  # A token that tokenizer.json lacks, and flags that overrule it.
  'added': lambda: (
    folders.llama3(),
    {
      **LLAMA3,
      'pad_token': '<|pad|>',
      'additional_special_tokens': ['<|more|>'],
      'added_tokens_decoder': {
        '426': {'content': '<|im_end|>', 'special': True, 'lstrip': True}
      },
    },
  ),
  'model': lambda: (folders.sentencepiece_model(), MODEL),
  'model_legacy': lambda: (
    folders.sentencepiece_model(),
    {**MODEL, **LLAMA2, 'legacy': True},
  ),
  'model_no_prefix': lambda: (
    folders.sentencepiece_model(add_dummy_prefix=False),
    {**MODEL, 'add_prefix_space': False, 'legacy': False},
  ),
  'model_added': lambda: (folders.sentencepiece_model(), {**MODEL, **MORE}),
  'model_user_defined': lambda: (
    folders.sentencepiece_model(user_defined_symbols=['<think>', 'quick']),
    {**MODEL, 'add_bos_token': False},
  ),
}
TEMPLATES = {
  'chatml': folders.CHATML,
  'llama3': folders.LLAMA3,
  'gemma': folders.GEMMA,
  'mistral': folders.MISTRAL,
  'thinking': folders.THINKING,
}


def _both(tmp_path_factory, kind, **settings):
  tokenizer, config = KINDS[kind]()
  folder = tmp_path_factory.mktemp(kind)
  path = folders.write(folder, tokenizer, {**config, **settings})
  reader = transformers.PreTrainedTokenizerFast
  if 'tokenizer_class' in config:
    reader = transformers.AutoTokenizer
  theirs = reader.from_pretrained(path)
  return foreign_tokenizer.ForeignTokenizer.load(path), theirs


@pytest.fixture(scope='module', params=KINDS)
def both(request, tmp_path_factory):
  return _both(tmp_path_factory, request.param)


@pytest.fixture(
  scope='module',
  params=[
    (kind, name)
    for kind in ('llama3', 'llama2_legacy', 'gemma', 'added', 'model_added')
    for name in TEMPLATES
  ],
  ids='-'.join,
)
def chatting(request, tmp_path_factory):
  kind, name = request.param
  return _both(tmp_path_factory, kind, chat_template=TEMPLATES[name])


def test_ids(both):
  ours, theirs = both
  expected = theirs(TEXTS, add_special_tokens=False).input_ids
  assert ours.encode_batch(TEXTS) == expected
  assert ours.vocab_size == len(theirs)


def test_text(both):
  ours, theirs = both
  ids = theirs(TEXTS, add_special_tokens=False).input_ids
  ids += [list(range(len(theirs))), list(range(len(theirs)))[::-1]]
  # Halves of characters, and spaces where they are stripped.
  ids += [row[1:] for row in ids] + [row[::2] for row in ids]
  assert ours.decode_batch(ids) == [
    theirs.decode(
      row, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    for row in ids
  ]


def test_prompts_without_a_template(both):
  ours, theirs = both
  expected = theirs(TEXTS, add_special_tokens=True).input_ids
  if theirs.bos_token is None:
    # What ends a text (T5's </s>) does not end a prompt.
    end = [ours.eos_id]
    expected = [ids[:-1] if ids[-1:] == end else ids for ids in expected]
  assert ours.encode_prompts(TEXTS) == expected


def test_chat_prompts(chatting):
  ours, theirs = chatting
  talks = [[('user', text)] for text in TEXTS]
  talks += [
    [('user', a), ('assistant', b), ('user', c)]
    for a, b, c in zip(TEXTS, TEXTS[1:], TEXTS[2:], strict=False)
  ]
  talks.append([('user', 'a'), ('assistant', '<think>b</think>c'), talks[0][0]])
  found = ours.encode_prompts(talks)
  for talk, ids in zip(talks, found, strict=True):
    messages = [{'role': role, 'content': text} for role, text in talk]
    text = theirs.apply_chat_template(
      messages, add_generation_prompt=True, tokenize=False
    )
    assert ours.chat.render(talk, open_turn=True) == text
    expected = theirs.apply_chat_template(
      messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert ids == expected, talk


def test_spelled_tokens(chatting):
  """As transformers writes them where it is told not to trust messages."""
  ours, theirs = chatting
  special = theirs.all_special_tokens
  text = 'a ' + ' b'.join(special) + 'c'
  ids = ours.encode_prompt([('user', text)])
  harmless = ours.encode_prompt([('user', 'x')])
  known = set(theirs.all_special_ids)
  assert [i for i in ids if i in known] == [i for i in harmless if i in known]
  assert text in ours.decode(ids)


# Of those whose vocabulary has the template's marks as tokens of their own.
@pytest.mark.parametrize(
  ('kind', 'name'),
  [
    *(('llama3', name) for name in ('chatml', 'llama3', 'thinking')),
    *((kind, 'mistral') for kind in ('llama2', 'llama2_legacy', 'gemma')),
    *(('model_added', name) for name in ('chatml', 'mistral', 'thinking')),
  ],
)
def test_responses_follow_their_prompts_as_in_the_whole_conversation(
  tmp_path_factory, kind, name
):
  ours, theirs = _both(tmp_path_factory, kind, chat_template=TEMPLATES[name])
  texts = [text for text in TEXTS if text and text == text.strip()]
  responses = ours.encode_responses(texts)
  prompt = ours.encode_prompt([('user', 'x')])
  for text, response in zip(texts, responses, strict=True):
    messages = [
      {'role': 'user', 'content': 'x'},
      {'role': 'assistant', 'content': text},
    ]
    whole = theirs.apply_chat_template(
      messages, tokenize=True, return_dict=False
    )
    start = [*prompt, *response]
    assert whole[: len(start)] == start, text
    assert whole[len(start)] == ours.eos_id
