"""The tokenizer of a Hugging Face model folder, as transformers reads it.

Ids and text are those of transformers, but for one thing: contents of messages
and plain text never become special ids, whatever they spell (see `encoders`).
Tokens that a folder adds without calling them special, such as some models'
`<think>`, are read in any text, as transformers does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import hashlib
import os

from instructjax import errors
from instructjax.data import chat as chat_lib
from instructjax.data import encoders as encoders_lib
from instructjax.data import layouts
from instructjax.data import tokenizer_files

Messages = Sequence[tuple[str, str]]
Prompt = str | Messages

_CONFIG = 'tokenizer_config.json'


class ForeignTokenizer:
  """Text to ids and back for a pretrained model.

  Attributes:
    vocab_size: one more than the largest id, added tokens included.
    bos_id: begin of text, or None.
    eos_id: what ends a response: with a chat template the first added token
      behind an assistant's content, else the end of text.
    pad_id: some id other than eos_id; masks tell what is padding.
    pad_token_id: the padding that the folder names, or None.
    text_size: one more than the largest id that text, begin or end may have.
    chat: the folder's chat template, or None.
  """

  def __init__(self, files: Mapping[str, bytes], name: str = 'tokenizer'):
    """Builds the encoders from a folder's files.

    Args:
      files: their content by name, as `tokenizer_files.read` returns it.
      name: what errors call the folder.

    Raises:
      UserError: damaged files; code of the tokenizer's own; no end of text;
        special tokens that cannot be told from their spelling; anything that
        could not be read as transformers does.
    """
    config = tokenizer_files.parse(files, _CONFIG, name)
    tokenizer_files.check_config(config, f'{name}/{_CONFIG}')
    named = tokenizer_files.named_tokens(files, config, name)
    self._encoder = tokenizer_files.build(files, config, named, name)
    self._added = self._encoder.get_added_tokens_decoder()
    self.vocab_size = max(self._encoder.get_vocab().values()) + 1
    ids = {k: self._encoder.token_to_id(t.content) for k, t in named.items()}
    source = chat_lib.find(files, config)
    self.chat: chat_lib.ChatTemplate | None = None
    if source is not None:
      texts = {key: token.content for key, token in named.items()}
      self.chat = chat_lib.ChatTemplate(source, texts)
    self.bos_id: int | None = ids.get('bos_token')
    self.eos_id, eos_file = self._find_eos(files, ids.get('eos_token'), name)
    unknown = ids.get('unk_token')
    self.pad_token_id: int | None = ids.get('pad_token')
    self.pad_id = self._find_pad(ids.get('pad_token'), unknown)
    self._prefix = self._find_prefix(files, config, name)
    kept = (*tokenizer_files.NAMES, *eos_file)
    self._files = {key: files[key] for key in kept if key in files}
    self._special = self._find_special(name)
    own = {self.bos_id, self.eos_id} - {None}
    written = set(self._encoder.get_vocab().values()) - set(self._special)
    self.text_size = max(written | own) + 1
    self._encoders = encoders_lib.Encoders(
      self._encoder, self._special, unknown, self.fingerprint()[:24], name
    )

  @classmethod
  def load(cls, folder: str) -> ForeignTokenizer:
    """Reads a folder.

    Raises:
      UserError: as for the constructor, or files cannot be read.
    """
    return cls(tokenizer_files.read(folder), folder)

  def save(self, folder: str) -> None:
    """Writes the files it was read from, byte for byte, each whole or not.

    Raises:
      UserError: the folder is not writable, or holds a file of another
        tokenizer that would be read together with these.
    """
    try:
      os.makedirs(folder, exist_ok=True)
      others = set(tokenizer_files.NAMES) - set(self._files)
      for name in sorted(others & set(os.listdir(folder))):
        raise errors.UserError(
          f'{folder}: needed a folder without another tokenizer, got {name}: '
          'choose another folder or remove the file.'
        )
      for name, content in self._files.items():
        part = os.path.join(folder, f'{name}.{os.getpid()}.part')
        with open(part, 'wb') as file:
          file.write(content)
          file.flush()
          os.fsync(file.fileno())
        os.replace(part, os.path.join(folder, name))
    except OSError as error:
      raise errors.UserError(
        f'{folder}: needed a writable place for the tokenizer, got '
        f'"{error.strerror}": choose another folder.'
      ) from None

  def export(self, folder: str) -> None:
    """Writes what transformers needs to have the same tokenizer: its files."""
    self.save(folder)

  def fingerprint(self) -> str:
    """Returns the SHA-256 of the files' names and contents, in hexadecimal."""
    digest = hashlib.sha256()
    for name, content in sorted(self._files.items()):
      digest.update(f'{name}\0{len(content)}\0'.encode())
      digest.update(content)
    return digest.hexdigest()

  def encode(self, text: str) -> list[int]:
    """Returns the ids of a text, no special ids added or recognised."""
    return self.encode_batch([text])[0]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text, encoded by all cores.

    Raises:
      UserError: half of a surrogate pair; text that the vocabulary cannot
        write without special ids.
    """
    return [encoding.ids for encoding in self._encoders.plain(texts)]

  def encode_prompt(self, prompt: Prompt) -> list[int]:
    """Returns `encode_prompts` of one prompt."""
    return self.encode_prompts([prompt])[0]

  def encode_response(self, text: str) -> list[int]:
    """Returns the text's ids, eos."""
    return [*self.encode_responses([text])[0], self.eos_id]

  def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Returns the ids of each prompt, ready for a response.

    With a chat template the prompt is rendered by it, a text as one message of
    the user's, and nothing is added. Without one, what the tokenizer puts in
    front of text comes first, and messages are joined to plain text.

    Args:
      prompts: texts, or (role, content) messages that end with the user's.

    Raises:
      UserError: messages that do not end so, or that the template refuses; a
        message that spells a special token where the template rewrites it;
        half of a surrogate pair.
    """
    return [ids for ids, _ in self._encode(prompts, turns=False)]

  def encode_turns(
    self, prompts: Sequence[Prompt]
  ) -> list[tuple[list[int], list[bool]]]:
    """Returns `encode_prompts`, and which ids are of the assistant's turns.

    A turn is content and end-of-turn mark; of messages in plain text, content.

    Raises:
      UserError: as for `encode_prompts`; a template that rewrites earlier
        turns (see `chat.ChatTemplate.turns`).
    """
    return self._encode(prompts, turns=True)

  def encode_responses(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns each response's ids, as they follow its prompt's; no end yet."""
    if self.chat is None:
      return self.encode_batch(texts)
    opening = self.chat.render([('user', 'x')], open_turn=True)
    answered = self.chat.opening()
    # Some templates write a space between; an empty reasoning is no space.
    between = answered.removeprefix(opening)
    if between.strip():
      opening, between = answered, ''
    return self._encoders.behind(opening, [between + text for text in texts])

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of ids; special and unknown ids give no text."""
    return self.decode_batch([ids])[0]

  def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
    """Returns the text of each sequence of ids, as `decode`."""
    size, special = self.vocab_size, self._special
    texts = [
      [int(i) for i in ids if 0 <= i < size and i not in special]
      for ids in batch
    ]
    return self._encoder.decode_batch(texts, skip_special_tokens=True)

  def _encode(
    self, prompts: Sequence[Prompt], turns: bool
  ) -> list[tuple[list[int], list[bool]]]:
    """Returns ids, and which lie in the assistant's turns if `turns`."""
    if self.chat is None:
      pairs = [(p, []) if isinstance(p, str) else _joined(p) for p in prompts]
      texts = [text for text, _ in pairs]
      before = [False] * len(self._prefix)
      return [
        (self._prefix + read.ids, before + _inside(read.offsets, spans))
        for (_, spans), read in zip(
          pairs, self._encoders.plain(texts), strict=True
        )
      ]
    conversations = [
      [('user', p)] if isinstance(p, str) else p for p in prompts
    ]
    texts, spans = [], []
    for messages in conversations:
      if turns and any(role == 'assistant' for role, _ in messages):
        text, found = self.chat.turns(messages)
      else:
        _check_last(messages)
        text, found = self.chat.render(messages, open_turn=True), []
      texts.append(text)
      spans.append(found)
    return [
      (read.ids, _inside(read.offsets, found))
      for read, found in self._encoders.rendered(
        self.chat, conversations, texts, spans
      )
    ]

  def _find_eos(
    self, files: Mapping[str, bytes], eos: int | None, name: str
  ) -> tuple[int, list[str]]:
    """Returns eos_id, and the model's file that it was found in, if any."""
    if self.chat is not None:
      end = self.chat.end_of_turn()
      for i in self._encoder.encode(end, add_special_tokens=False).ids:
        if i in self._added and not self._added[i].content.isspace():
          return i, []
    if eos is not None:
      return eos, []
    for source in tokenizer_files.MODEL_NAMES:
      found = tokenizer_files.parse(files, source, name).get('eos_token_id')
      found = found[0] if isinstance(found, list) and found else found
      if type(found) is int and 0 <= found < self.vocab_size:
        return found, [source]
    raise errors.UserError(
      f'{name}: needed a token that ends a response, got no eos_token in '
      f'{_CONFIG} or special_tokens_map.json and no eos_token_id in '
      f'{" or ".join(tokenizer_files.MODEL_NAMES)}: add "eos_token" to '
      f'{_CONFIG}.'
    )

  def _find_pad(self, pad: int | None, unknown: int | None) -> int:
    special = sorted(i for i, token in self._added.items() if token.special)
    others = [i for i in special if i != self.bos_id]
    last = [self.vocab_size - 1, self.vocab_size - 2]
    choices = [pad, unknown, *others, *last]
    return next(i for i in choices if i is not None and i != self.eos_id)

  def _find_prefix(
    self, files: Mapping[str, bytes], config: Mapping[str, object], name: str
  ) -> list[int]:
    """Returns the ids that stand in front of text that no template renders."""
    if 'tokenizer.json' in files:
      whole = self._encoder.encode('a', add_special_tokens=True)
      return whole.ids[: (*whole.special_tokens_mask, 0).index(0)]
    add_bos = config.get('add_bos_token')
    if add_bos is None and self.bos_id is not None and self.chat is None:
      raise errors.UserError(
        f'{name}/{_CONFIG}: needed "add_bos_token", got none, and releases of '
        'transformers differ in what that means: write true or false.'
      )
    return [self.bos_id] if add_bos and self.bos_id is not None else []

  def _find_special(self, name: str) -> dict[int, str]:
    """Returns the special tokens' spelling by id, begin and end among them."""
    own = {self.bos_id, self.eos_id} - {None}
    for i in own - set(self._added):
      raise errors.UserError(
        f'{name}: needed begin and end of text as added tokens, got '
        f'{self._encoder.id_to_token(i)!r}, which any text may hold: add it to '
        f'added_tokens_decoder in {_CONFIG}.'
      )
    return {
      i: token.content
      for i, token in self._added.items()
      if token.special or i in own
    }


def _check_last(messages: Messages) -> None:
  roles = [role for role, _ in messages]
  if roles[-1:] != ['user']:
    raise errors.UserError(
      f"needed a prompt that ends with the user's message, got roles {roles}: "
      'mend the messages.'
    )


def _joined(messages: Messages) -> tuple[str, list[tuple[int, int]]]:
  """Returns messages as plain text, and where the assistant's turns lie."""
  _check_last(messages)
  conversation = list(messages)
  return layouts.render(conversation), layouts.answered(conversation)


def _inside(
  offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]
) -> list[bool]:
  """Returns which of a text's tokens have characters in a span."""
  return [
    any(max(a, start) < min(b, end) for start, end in spans) for a, b in offsets
  ]
