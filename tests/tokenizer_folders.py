"""Small Hugging Face tokenizer folders of every kind, made on the spot."""

import io
import json

import sentencepiece
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import normalizers
from tokenizers import pre_tokenizers
from tokenizers import processors
from tokenizers import trainers

TEXT = """\
Every tokenizer wants some text to learn from, and this is such a text.
It repeats itself, it repeats itself again, and then it stops repeating.
Les élèves aiment l'été;  die Größe über alles.  Привет, мир! مرحبا بالعالم
שלום עולם, 你好世界, こんにちは, 안녕하세요, नमस्ते, x = [1, 23, 456];
\tdef f(x):\n\t\treturn x ** 2  # ten   spaces          here
"""

# Contents that have tripped tokenizers: what is joined, split, stripped or
# normalised somewhere, and what no tokenizer here was trained on.
SAMPLE = [
  'Hello world',
  'Привет, мир! مرحبا بالعالم שלום עולם 你好世界 こんにちは 안녕 नमस्ते',
  'e\u0301 \u00e9 n\u0303 \u0644\u0627 \u0e01\u0e33 \u1e9b\u0323',
  '\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 '
  '\U0001f1eb\U0001f1f7 \u2764\ufe0f',
  'a\tb\t\tc',
  'no\u00a0break\u2009thin\u3000wide\u200bzero\ufeffmark',
  'runs  of   spaces     and          more',
  'line\nbreaks\n\nand\r\nthose\n\n\n',
  "don't DON'T we'll I've 12345 3.14 $5 #tag @you",
  '\u202eright to left\u202c \u0000 \x7f \U0010ffff \ufffd ﬁ ½ ｆｕｌｌ',
  'x',
  '.',
  'Ⅷ²³ ß ẞ İ ı \u2581 under\u2581score',
]
EDGES = [
  '',
  ' ',
  '  ',
  '\n',
  '\n\n',
  ' lead',
  '  two',
  '\nline',
  'end ',
  'end\n',
]

CHATML = (
  '{% for message in messages %}'
  "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
  "{{ '<|im_end|>\\n' }}"
  '{% endfor %}'
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA3 = (
  '{{- bos_token }}'
  '{%- for message in messages %}'
  "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
  "{{- message['content'] | trim + '<|eot_id|>' }}"
  '{%- endfor %}'
  '{%- if add_generation_prompt %}'
  "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
  '{%- endif %}'
)
GEMMA = (
  '{{ bos_token }}'
  "{% if messages[0]['role'] == 'system' %}"
  "{{ raise_exception('System role not supported') }}"
  '{% endif %}'
  '{% for message in messages %}'
  "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
  "{{ raise_exception('Roles must alternate user/assistant') }}"
  '{% endif %}'
  "{% set role = 'model' if message['role'] == 'assistant' else 'user' %}"
  "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim }}"
  "{{ '<end_of_turn>\\n' }}"
  '{% endfor %}'
  "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
MISTRAL = (
  '{{ bos_token }}'
  '{% for message in messages %}'
  "{% if message['role'] == 'user' %}"
  "{{ '[INST] ' + message['content'] + ' [/INST]' }}"
  "{% elif message['role'] == 'assistant' %}"
  "{{ ' ' + message['content'] + eos_token }}"
  '{% else %}'
  "{{ raise_exception('Only user and assistant roles are supported!') }}"
  '{% endif %}'
  '{% endfor %}'
)
# Old reasoning goes from all turns but the last, as in Qwen 3.
THINKING = (
  '{% set ns = namespace(last=0) %}'
  '{% for message in messages %}'
  "{% if message['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}"
  '{% endfor %}'
  '{% for message in messages %}'
  "{% set content = message['content'] %}"
  "{% if loop.index0 < ns.last and '</think>' in content %}"
  "{% set content = content.split('</think>')[-1].lstrip('\\n') %}"
  '{% endif %}'
  "{{ '<|im_start|>' + message['role'] + '\\n' + content + '<|im_end|>\\n' }}"
  '{% endfor %}'
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_REGEX = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
  r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)


def added(*contents, **flags):
  """Returns special tokens; flags as of an added token."""
  options = {'special': True, 'normalized': False, **flags}
  return [tokenizers.AddedToken(content, **options) for content in contents]


def gpt2():
  """Returns a byte-level encoder with GPT-2's pattern and no first token."""
  encoder = tokenizers.Tokenizer(models.BPE())
  encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  encoder.decoder = decoders.ByteLevel()
  encoder.post_processor = processors.ByteLevel(trim_offsets=False)
  _train_bytes(encoder, 400, added('<|endoftext|>'))
  return encoder


def llama3():
  """Returns a byte-level encoder with Llama 3's pattern, ids and bos."""
  encoder = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
  encoder.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(_REGEX), 'isolated'),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  encoder.decoder = decoders.ByteLevel()
  _train_bytes(encoder, 420, [])
  encoder.add_tokens(
    added(
      '<|begin_of_text|>',
      '<|end_of_text|>',
      '<|start_header_id|>',
      '<|end_header_id|>',
      '<|eot_id|>',
      '<|im_start|>',
      '<|im_end|>',
    )
    + added('<think>', '</think>', special=False)
  )
  bos = '<|begin_of_text|>'
  encoder.post_processor = processors.Sequence(
    [
      processors.ByteLevel(trim_offsets=False),
      processors.TemplateProcessing(
        single=f'{bos} $A',
        pair=f'{bos} $A {bos} $B',
        special_tokens=[(bos, encoder.token_to_id(bos))],
      ),
    ]
  )
  return encoder


def metaspace(prefix=True, legacy=False):
  """Returns byte-pair encoding with byte fallback, as Llama 2's or Gemma's.

  Args:
    prefix: a space goes in front of text.
    legacy: by a normaliser, in front of every part between special tokens.
  """
  model = models.BPE(unk_token='<unk>', fuse_unk=True, byte_fallback=True)
  encoder = tokenizers.Tokenizer(model)
  words = pre_tokenizers.Metaspace(prepend_scheme='always')
  encoder.pre_tokenizer = words
  names = ['<pad>', '<s>', '</s>', '<unk>', '<start_of_turn>', '<end_of_turn>']
  names += [f'<0x{byte:02X}>' for byte in range(256)]
  trainer = trainers.BpeTrainer(
    vocab_size=500, special_tokens=names, show_progress=False
  )
  encoder.train_from_iterator(TEXT.splitlines(), trainer)
  data = json.loads(encoder.to_str())
  data['added_tokens'] = data['added_tokens'][:6]
  encoder = tokenizers.Tokenizer.from_str(json.dumps(data))
  replace = normalizers.Replace(' ', '\u2581')
  if legacy:
    steps = [normalizers.Prepend('\u2581')] if prefix else []
    encoder.normalizer = normalizers.Sequence([*steps, replace])
    encoder.pre_tokenizer = None
  else:
    encoder.pre_tokenizer = pre_tokenizers.Metaspace(
      prepend_scheme='first' if prefix else 'never', split=False
    )
  strip = [decoders.Strip(' ', 1, 0)] if prefix else []
  encoder.decoder = decoders.Sequence(
    [
      decoders.Replace('\u2581', ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
      *strip,
    ]
  )
  encoder.post_processor = processors.TemplateProcessing(
    single='<s> $A', special_tokens=[('<s>', encoder.token_to_id('<s>'))]
  )
  return encoder


def unigram():
  """Returns a Unigram encoder that ends texts with </s>, as T5's."""
  encoder = tokenizers.Tokenizer(models.Unigram())
  encoder.normalizer = normalizers.NFKC()
  encoder.pre_tokenizer = pre_tokenizers.Metaspace()
  encoder.decoder = decoders.Metaspace()
  trainer = trainers.UnigramTrainer(
    vocab_size=200,
    special_tokens=added('<pad>', '</s>', '<unk>'),
    unk_token='<unk>',
    show_progress=False,
  )
  encoder.train_from_iterator(TEXT.splitlines(), trainer)
  encoder.post_processor = processors.TemplateProcessing(
    single='$A </s>', special_tokens=[('</s>', encoder.token_to_id('</s>'))]
  )
  return encoder


def sentencepiece_model(**options):
  """Returns a SentencePiece model file as Llama 2's, unless options differ."""
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXT.splitlines()),
    model_writer=model,
    minloglevel=2,
    num_threads=1,
    **{
      'model_type': 'bpe',
      'vocab_size': 480,
      'byte_fallback': True,
      'normalization_rule_name': 'identity',
      'add_dummy_prefix': True,
      'remove_extra_whitespaces': False,
      'allow_whitespace_only_pieces': True,
      'split_digits': True,
      **options,
    },
  )
  return model.getvalue()


def write(folder, tokenizer, settings=None, /, **files):
  """Writes a folder; returns its path.

  Args:
    folder: pathlib.Path.
    tokenizer: an encoder, for tokenizer.json, or bytes for tokenizer.model.
    settings: content of tokenizer_config.json, if any.
    **files: content of more JSON files by name without the ending.
  """
  folder.mkdir(parents=True, exist_ok=True)
  if isinstance(tokenizer, bytes):
    (folder / 'tokenizer.model').write_bytes(tokenizer)
  else:
    (folder / 'tokenizer.json').write_text(tokenizer.to_str(), 'utf-8')
  if settings is not None:
    files['tokenizer_config'] = settings
  for name, content in files.items():
    (folder / f'{name}.json').write_text(json.dumps(content), 'utf-8')
  return str(folder)


def _train_bytes(encoder, size, special):
  trainer = trainers.BpeTrainer(
    vocab_size=size,
    special_tokens=special,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  encoder.train_from_iterator(TEXT.splitlines(keepends=True), trainer)
