"""A lossless SentencePiece tokenizer trained on the run's own text.

Byte-pair encoding with byte fallback and no normalisation at all: decoding
what was encoded gives back the very string, whatever it holds. Four ids of
their own (padding, begin, end, end of prompt) stand for no text, and no text
is ever encoded to them, not even their spelling.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
import hashlib
import io
import os
import re
import zlib

import sentencepiece

from instructjax import errors
from instructjax.data import layouts
from instructjax.data import tokenizer_export

Prompt = str | Sequence[tuple[str, str]]

END_OF_PROMPT = '<eop>'

# Bytes of text the vocabulary is learned from; more changes few pieces.
MAX_TRAINING_BYTES = 10_000_000

# SentencePiece reserves these in training text (space's stand-in, the tab it
# separates fields by, two marks) or drops them (newline); no piece holds them.
_TRAINING_LINE = re.compile('[^\n\r\t\0\u2581\u2585\u2047]+')
_MAX_LINE_CHARS = 2000  # up to 8,000 bytes, below max_sentence_length

# Merges never cross a newline, so text may be cut behind one before encoding;
# blocks keep the cost linear and the threads busy.
_BLOCK_CHARS = 8192
_SPACE_MARK = '\u2581'

_PROBE = '  A\tb \n\n\u2581e\u0301\ufb01 \U0001f600\x00\u4e00\uff21 <s></s> '


class Tokenizer:
  """Text to ids and back, exactly.

  Attributes:
    vocab_size: number of ids.
    pad_id, bos_id, eos_id, eop_id: the special ids, all distinct.
    pad_token_id: pad_id.
    text_size: vocab_size; one more than the largest id that it writes.
  """

  def __init__(self, model: bytes, name: str = 'tokenizer'):
    """Wraps a serialised SentencePiece model.

    Args:
      model: the model file's content.
      name: what errors call it.

    Raises:
      UserError: no SentencePiece model; special ids missing or shared; a
        model that does not give back the text it encodes.
    """
    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.LoadFromSerializedProto(model)
      self.vocab_size = self._processor.vocab_size()
    except Exception as error:  # SentencePiece raises what its C++ side throws.
      raise errors.UserError(
        f'{name}: needed a SentencePiece model, got a file that is none or '
        f'is cut ({_first_line(error)}): train it again or restore it.'
      ) from None
    self._take_special_ids(name)
    self._space_mark_ids = [
      self._processor.piece_to_id(f'<0x{byte:02X}>')
      for byte in _SPACE_MARK.encode()
    ]
    if self._processor.unk_id() in self._space_mark_ids or (
      self.decode(self.encode(_PROBE)) != _PROBE
    ):
      raise errors.UserError(
        f'{name}: needed a lossless tokenizer (byte_fallback, identity '
        'normalisation, no dummy prefix), this one changes text: train one '
        'on the data.'
      )

  def _take_special_ids(self, name: str) -> None:
    processor = self._processor
    eop = processor.piece_to_id(END_OF_PROMPT)
    ids = {
      'pad': processor.pad_id(),
      'bos': processor.bos_id(),
      'eos': processor.eos_id(),
      'eop': eop if processor.is_control(eop) else -1,
    }
    missing = [key for key, value in ids.items() if value < 0]
    if missing:
      raise errors.UserError(
        f'{name}: needed ids for pad, bos, eos and eop ({END_OF_PROMPT}), '
        f'got none for {", ".join(missing)}: train a tokenizer on the data.'
      )
    if len(set(ids.values())) < len(ids):
      raise errors.UserError(
        f'{name}: needed distinct ids for pad, bos, eos and eop, got '
        f'{ids} (a shared id would hide ends of text as padding): train a '
        'tokenizer on the data.'
      )
    self.pad_id, self.bos_id = ids['pad'], ids['bos']
    self.eos_id, self.eop_id = ids['eos'], ids['eop']
    self.pad_token_id, self.text_size = self.pad_id, self.vocab_size

  @classmethod
  def train(cls, texts: Iterable[str], vocab_size: int, path: str) -> Tokenizer:
    """Learns a vocabulary and saves it; the same texts give the same file.

    Args:
      texts: what to learn from, at most `MAX_TRAINING_BYTES` of it (of more,
        lines drawn by their own hash).
      vocab_size: number of ids, specials and 256 bytes included.
      path: file to write.

    Returns:
      The tokenizer.

    Raises:
      UserError: the texts hold too few pieces, or too many characters, for
        vocab_size; the path is not writable.
    """
    tokenizer = cls(_train(_training_lines(texts), vocab_size), path)
    tokenizer.save(path)
    return tokenizer

  @classmethod
  def load(cls, path: str) -> Tokenizer:
    """Reads a saved tokenizer.

    Raises:
      UserError: as for the constructor, or the file cannot be read.
    """
    try:
      with open(path, 'rb') as file:
        return cls(file.read(), path)
    except OSError as error:
      raise errors.UserError(
        f'{path}: needed a saved tokenizer, got "{error.strerror}": check '
        'the path.'
      ) from None

  def save(self, path: str) -> None:
    """Writes the model file whole or not at all.

    Raises:
      UserError: the path is not writable.
    """
    part = f'{path}.{os.getpid()}.part'
    try:
      os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
      with open(part, 'wb') as file:
        file.write(self._model)
        file.flush()
        os.fsync(file.fileno())
      os.replace(part, path)
    except OSError as error:
      raise errors.UserError(
        f'{path}: needed a writable place for the tokenizer, got '
        f'"{error.strerror}": choose another folder.'
      ) from None

  def export(self, folder: str) -> None:
    """Writes what transformers needs to have the same tokenizer.

    Raises:
      UserError: the folder is not writable.
    """
    ids = {'bos': self.bos_id, 'eos': self.eos_id, 'pad': self.pad_id}
    tokenizer_export.write(folder, self._model, ids | {'eop': self.eop_id})

  def fingerprint(self) -> str:
    """Returns the SHA-256 of the model file, in hexadecimal."""
    return hashlib.sha256(self._model).hexdigest()

  def encode(self, text: str) -> list[int]:
    """Returns the ids of a text, no special ids added."""
    return self.encode_batch([text])[0]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text, encoded by all cores.

    Raises:
      UserError: a text that is not Unicode (half of a surrogate pair).
    """
    blocks, counts = [], []
    for text in texts:
      before = len(blocks)
      blocks += _blocks(text)
      counts.append(len(blocks) - before)
    threads = min(os.cpu_count() or 1, max(1, len(blocks) // 16))
    try:
      coded = [block.encode() for block in blocks]
    except UnicodeEncodeError as error:
      raise errors.UserError(
        'needed Unicode text to encode, got half of a surrogate pair '
        f'({error.object[error.start]!r}): remove it.'
      ) from None
    encoded = self._processor.encode(coded, num_threads=threads)
    if len(blocks) == len(texts) and _SPACE_MARK not in blocks:
      return encoded
    results, position = [], 0
    for count in counts:
      ids = []
      for block in range(position, position + count):
        mark = blocks[block] == _SPACE_MARK
        ids += self._space_mark_ids if mark else encoded[block]
      results.append(ids)
      position += count
    return results

  def encode_prompt(self, prompt: Prompt) -> list[int]:
    """Returns bos, the text's ids, end of prompt."""
    return self.encode_prompts([prompt])[0]

  def encode_prompts(self, prompts: Sequence[Prompt]) -> list[list[int]]:
    """Returns each prompt's ids: bos, its text, end of prompt.

    Args:
      prompts: each a text, or messages (role, content) that become one as
        `layouts.render` says.
    """
    return [ids for ids, _ in self.encode_turns(prompts)]

  def encode_turns(
    self, prompts: Sequence[Prompt]
  ) -> list[tuple[list[int], list[bool]]]:
    """Returns `encode_prompts`, and which ids are of the assistant's turns."""
    parts = [_parts(prompt) for prompt in prompts]
    encoded = iter(self.encode_batch([text for p in parts for text, _ in p]))
    found = []
    for pieces in parts:
      ids, assistants = [self.bos_id], [False]
      for _, of_assistant in pieces:
        part = next(encoded)
        ids += part
        assistants += [of_assistant] * len(part)
      found.append(([*ids, self.eop_id], [*assistants, False]))
    return found

  def encode_responses(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns each response's ids, as they follow its prompt's; no end yet."""
    return self.encode_batch(texts)

  def encode_response(self, text: str) -> list[int]:
    """Returns the text's ids, eos."""
    return [*self.encode(text), self.eos_id]

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of ids; special and unknown ids give no text."""
    return self.decode_batch([ids])[0]

  def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
    """Returns the text of each sequence of ids, as `decode`."""
    # A model's vocabulary may be padded beyond ours: such ids spell nothing.
    known = [[int(i) for i in ids if 0 <= i < self.vocab_size] for ids in batch]
    return self._processor.decode(known) if known else []


def _parts(prompt: Prompt) -> list[tuple[str, bool]]:
  """Cuts a prompt's text into (part, whether the assistant said it)."""
  if isinstance(prompt, str):
    return [(prompt, False)]
  text, parts, at = layouts.render(list(prompt)), [], 0
  for start, end in layouts.answered(list(prompt)):
    parts += [(text[at:start], False), (text[start:end], True)]
    at = end
  return [*parts, (text[at:], False)]


def _blocks(text: str) -> list[str]:
  """Cuts a text where no piece can lie across; marks stand alone."""
  if len(text) <= _BLOCK_CHARS and _SPACE_MARK not in text:
    return [text]
  blocks = []
  for part in re.split(f'({_SPACE_MARK})', text):
    start = 0
    while len(part) - start > _BLOCK_CHARS:
      end = part.find('\n', start + _BLOCK_CHARS) + 1
      if not end:
        break
      blocks.append(part[start:end])
      start = end
    if part[start:]:
      blocks.append(part[start:])
  return blocks


def _training_lines(texts: Iterable[str]) -> list[str]:
  """Returns lines to learn from, below SentencePiece's length limit."""
  lines = [line for text in texts for line in _lines(text)]
  total = sum(len(line.encode()) for line in lines)
  if total <= MAX_TRAINING_BYTES:
    return lines
  limit = MAX_TRAINING_BYTES / total * 2**32
  return [line for line in lines if zlib.crc32(line.encode()) < limit]


def _lines(text: str) -> Iterator[str]:
  for match in _TRAINING_LINE.finditer(text):
    line = match.group()
    start = 0
    while len(line) - start > _MAX_LINE_CHARS:
      end = line.rfind(' ', start + 1, start + _MAX_LINE_CHARS)
      end = end if end > 0 else start + _MAX_LINE_CHARS
      yield line[start:end]
      start = end
    yield line[start:]


def _train(lines: list[str], vocab_size: int) -> bytes:
  if not lines:
    raise errors.UserError(
      'needed text to train the tokenizer on, got none: give pretraining or '
      'demonstration data.'
    )
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(lines),
      model_writer=model,
      vocab_size=vocab_size,
      model_type='bpe',
      character_coverage=0.9995,
      byte_fallback=True,
      normalization_rule_name='identity',
      add_dummy_prefix=False,
      remove_extra_whitespaces=False,
      allow_whitespace_only_pieces=True,
      pad_id=0,
      bos_id=1,
      eos_id=2,
      unk_id=3,  # SentencePiece insists on one; byte fallback never uses it.
      control_symbols=[END_OF_PROMPT],
      unk_surface='',
      max_sentence_length=4 * _MAX_LINE_CHARS + 4,
      num_threads=1,
      minloglevel=2,
    )
  except RuntimeError as error:
    raise _size_error(vocab_size, str(error)) from None
  return model.getvalue()


def _size_error(vocab_size: int, message: str) -> errors.UserError:
  """Turns SentencePiece's complaint about the size into ours."""
  high = re.search(r'value <= (\d+)', message)
  low = re.search(r'\d+ vs (\d+)', message)
  if high:
    given, size = 'too little text for', high.group(1)
    needed = f'at most {size}'
  elif low:
    given, size = 'too many different characters for', low.group(1)
    needed = f'at least {size}'
  else:
    return errors.UserError(
      f'needed text to train a tokenizer of {vocab_size} pieces on, got '
      f'"{_first_line(message)}": check the data and '
      f'--config.tokenizer.vocab_size={vocab_size}.'
    )
  return errors.UserError(
    f'needed tokenizer.vocab_size of {needed} for this training text, got '
    f'{given} {vocab_size}: use --config.tokenizer.vocab_size={size}, or '
    'other text.'
  )


def _first_line(error: object) -> str:
  lines = str(error).strip().splitlines()
  return lines[0] if lines else type(error).__name__
