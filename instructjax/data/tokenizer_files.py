"""A Hugging Face tokenizer folder, read into one kind of encoder.

tokenizer.json says how text is cut, tokenizer_config.json which tokens are
added to that. What would mean something else in transformers is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import json
import os

import tokenizers

from instructjax import errors
from instructjax.data import sentencepiece_model

Json = dict[str, object]

# What makes a tokenizer; kept, copied and fingerprinted.
NAMES = (
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
)
# A model's own files, asked only for what the tokenizer's do not say.
MODEL_NAMES = ('generation_config.json', 'config.json')

_RESAVE = "write it with save_pretrained of transformers' AutoTokenizer"
_FLAGS = ('single_word', 'lstrip', 'rstrip', 'normalized', 'special')


def read(folder: str) -> dict[str, bytes]:
  """Returns the content of a folder's tokenizer and config files by name.

  Raises:
    UserError: no such folder, a file that cannot be read, no tokenizer.
  """
  files = {}
  try:
    present = set(os.listdir(folder))
    for name in (*NAMES, *MODEL_NAMES):
      if name in present:
        with open(os.path.join(folder, name), 'rb') as file:
          files[name] = file.read()
  except OSError as error:
    raise errors.UserError(
      f'{error.filename}: needed a tokenizer folder that can be read, got '
      f'"{error.strerror}": check the path.'
    ) from None
  if not {'tokenizer.json', 'tokenizer.model'} & set(files):
    given = ', '.join(sorted(set(files) - set(MODEL_NAMES))) or 'neither'
    raise errors.UserError(
      f'{folder}: needed tokenizer.json, or tokenizer.model, got {given}: '
      f'{_RESAVE}.'
    )
  return files


def parse(files: Mapping[str, bytes], name: str, folder: str) -> Json:
  """Returns the object in a JSON file, empty where there is no such file.

  Raises:
    UserError: no JSON object.
  """
  try:
    value = json.loads(files.get(name, b'{}'))
  except (ValueError, RecursionError) as error:
    raise errors.UserError(
      f'{folder}/{name}: needed JSON, got "{line(error)}": restore the file.'
    ) from None
  if not isinstance(value, dict):
    raise errors.UserError(
      f'{folder}/{name}: needed a JSON object, got a {type(value).__name__}: '
      'restore the file.'
    )
  return value


def check_config(config: Json, path: str) -> None:
  """Refuses settings whose meaning lies in code that is not here.

  Raises:
    UserError: the tokenizer's own Python code, or a repair at load, is wanted.
  """
  remote = config.get('auto_map')
  if isinstance(remote, dict):
    remote = remote.get('AutoTokenizer')
  if remote:
    raise errors.UserError(
      f"{path}: needed a tokenizer without code of its own, got auto_map's "
      f'{remote}: {_RESAVE}, and remove auto_map.'
    )
  for key in ('split_special_tokens', 'fix_mistral_regex'):
    if config.get(key):
      raise errors.UserError(
        f'{path}: needed {key} unset, got {config[key]!r}, which alters '
        f'tokenizer.json: {_RESAVE}, and remove it.'
      )


def named_tokens(
  files: Mapping[str, bytes], config: Json, folder: str
) -> dict[str, tokenizers.AddedToken]:
  """Returns special tokens by name ('eos_token'), as the JSON files have them.

  Raises:
    UserError: damaged JSON; a token that is neither text nor an added token.
  """
  found = {k: v for k, v in config.items() if k.endswith('_token')}
  legacy = parse(files, 'special_tokens_map.json', folder)
  for key, value in legacy.items():
    # Newer folders repeat the map and count on the config alone.
    if key.endswith('_token') and (
      'added_tokens_decoder' not in config or found.get(key) is None
    ):
      found[key] = value
  if 'tokenizer.json' not in files:
    path = f'{folder}/tokenizer.model'
    found = sentencepiece_model.named(files['tokenizer.model'], path) | {
      key: value for key, value in found.items() if value is not None
    }
  path = f'{folder}/tokenizer_config.json'
  return {
    key: added_token(value, path, special=True)
    for key, value in found.items()
    if isinstance(value, (str, dict))
  }


def added_token(
  value: object, path: str, **defaults: bool
) -> tokenizers.AddedToken:
  """Returns the token that text, or a JSON object with flags, stands for.

  Raises:
    UserError: the value is neither.
  """
  if isinstance(value, str):
    return tokenizers.AddedToken(value, **defaults)
  if isinstance(value, dict) and isinstance(value.get('content'), str):
    flags = {key: bool(value[key]) for key in _FLAGS if key in value}
    return tokenizers.AddedToken(value['content'], **{**flags, **defaults})
  raise errors.UserError(
    f'{path}: needed every added token as text or with its content, got '
    f'{value!r:.40}: restore the file.'
  )


def build(
  files: Mapping[str, bytes],
  config: Json,
  named: Mapping[str, tokenizers.AddedToken],
  folder: str,
) -> tokenizers.Tokenizer:
  """Returns the encoder with all the tokens that the folder adds.

  Raises:
    UserError: damaged files; tokens that load with another id than written;
      an encoder that draws at random; a SentencePiece model of another kind
      than byte-pair encoding with byte fallback and no normalisation.
  """
  written = {}
  if 'tokenizer.json' in files:
    data = parse(files, 'tokenizer.json', folder)
    encoder = _from_json(files['tokenizer.json'], data, folder)
    for token in data.get('added_tokens', []):
      written[token['content']] = token['id']
  else:
    encoder = sentencepiece_model.encoder(
      files['tokenizer.model'],
      prefix=config.get('add_prefix_space'),
      legacy=bool(config.get('legacy', False)),
      path=f'{folder}/tokenizer.model',
    )
  encoder.no_padding()
  encoder.no_truncation()
  path = f'{folder}/tokenizer_config.json'
  extra = [
    added_token(value, path, special=True)
    for key in ('extra_special_tokens', 'additional_special_tokens')
    for value in _values(config.get(key))
  ]
  added, ids = _added_tokens(files, config, named, extra, folder)
  encoder.add_tokens(added)  # Flags in the config overrule tokenizer.json's.
  known = {t.content for t in encoder.get_added_tokens_decoder().values()}
  encoder.add_tokens(
    [token for token in (*named.values(), *extra) if token.content not in known]
  )
  for content, written_id in (written | ids).items():
    loaded = encoder.token_to_id(content)
    if loaded != written_id:
      raise errors.UserError(
        f'{folder}: needed token {content!r} at its id {written_id}, got '
        f'{loaded}: mend added_tokens in tokenizer.json or '
        'added_tokens_decoder in tokenizer_config.json.'
      )
  return encoder


def _from_json(content: bytes, data: Json, folder: str) -> tokenizers.Tokenizer:
  model = data.get('model')
  if isinstance(model, dict) and model.get('dropout'):
    raise errors.UserError(
      f'{folder}/tokenizer.json: needed an encoder without chance, got '
      f'dropout={model["dropout"]}: set it to null.'
    )
  try:
    made = tokenizers.Tokenizer.from_str(content.decode())
    made.encode('Some text.', add_special_tokens=True)
    return made
  except BaseException as error:
    # The library raises plain exceptions, and its panics are not even those.
    if not isinstance(error, Exception) and 'Panic' not in type(error).__name__:
      raise
    raise errors.UserError(
      f'{folder}/tokenizer.json: needed a tokenizer, got "{line(error)}": '
      'restore the file.'
    ) from None


def _added_tokens(
  files: Mapping[str, bytes],
  config: Json,
  named: Mapping[str, tokenizers.AddedToken],
  extra: Iterable[tokenizers.AddedToken],
  folder: str,
) -> tuple[list[tokenizers.AddedToken], dict[str, int]]:
  """Returns the tokens that JSON files add in the order of ids, and the ids."""
  path = f'{folder}/tokenizer_config.json'
  special = {token.content for token in named.values()}
  tokens = {}
  try:
    if 'added_tokens_decoder' in config:
      for index, value in config['added_tokens_decoder'].items():
        token = added_token(value, path)
        token.special = token.special or token.content in special
        tokens[int(index)] = token
    else:
      special |= {token.content for token in extra}
      added = parse(files, 'added_tokens.json', folder)
      for content, index in added.items():
        flag = content in special
        tokens[int(index)] = tokenizers.AddedToken(
          content, normalized=not flag, special=flag
        )
  except (ValueError, TypeError, AttributeError) as error:
    raise errors.UserError(
      f'{folder}: needed added tokens with whole numbers as ids, got '
      f'"{line(error)}": restore tokenizer_config.json or added_tokens.json.'
    ) from None
  ids = {token.content: index for index, token in tokens.items()}
  return [tokens[index] for index in sorted(tokens)], ids


def _values(value: object) -> Iterable[object]:
  if isinstance(value, dict):
    return list(value.values())
  return value if isinstance(value, list) else ()


def line(error: object) -> str:
  """Returns the first line of an error's message, or its type."""
  lines = str(error).strip().splitlines()
  return lines[0][:200] if lines else type(error).__name__
