"""Text to ids such that only templates, never contents, write special ids.

In transformers `<|im_end|>` in a user's message ends the user's turn. Here it
is the characters that were written, by two encoders: one knows special tokens
by their spelling and reads what a chat template writes; the other is its copy
in which each special token has an alias for a spelling, and reads what people
write. Text that spells no special token gives the same ids in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import json
import re

import tokenizers

from instructjax import errors
from instructjax.data import chat as chat_lib

Messages = Sequence[tuple[str, str]]
Spans = list[tuple[int, int]]

# Encodings are large: so many at a time, which is enough for all cores.
_BATCH = 1024
_HIDDEN = '\ue000'  # Stands for a character of content; spells no token.


class Encoders:
  """The two encoders of one vocabulary."""

  def __init__(
    self,
    encoder: tokenizers.Tokenizer,
    special: Mapping[int, str],
    unknown: int | None,
    mark: str,
    name: str,
  ):
    """Makes the encoder of plain text.

    Args:
      encoder: the one that knows special tokens.
      special: spelling of the special tokens by id, all of them added tokens.
      unknown: id of characters outside the vocabulary, which text may have.
      mark: lower-case letters and digits that no text holds, for aliases.
      name: what errors call the tokenizer.

    Raises:
      UserError: a special token that the encoder reads otherwise in a text
        than alone.
    """
    self._encoder = encoder
    self._alias = {i: f'x{mark}x{i}x' for i in special}
    self._forbidden = set(special) - {unknown}
    self._unknown = unknown
    self._spelling_of = dict(special)
    spelled = {content: self._alias[i] for i, content in special.items()}
    try:
      data = _renamed(json.loads(encoder.to_str()), spelled)
      self._plain = tokenizers.Tokenizer.from_str(json.dumps(data))
    except Exception as error:  # The library raises plain exceptions.
      raise errors.UserError(
        f'{name}: needed a tokenizer whose special tokens can be renamed, got '
        f'"{str(error).partition(chr(10))[0]}": restore its files.'
      ) from None
    for i, content in special.items():
      ids = encoder.encode(content, add_special_tokens=False).ids
      alias = self._plain.encode(self._alias[i], add_special_tokens=False).ids
      if not ids == alias == [i]:
        raise errors.UserError(
          f'{name}: needed special tokens apart from text, got {content!r}, '
          'which the normaliser changes: set "normalized": false for it.'
        )
    spellings = sorted(special.values(), key=len, reverse=True)
    self._spelled = re.compile('|'.join(map(re.escape, spellings)) or '(?!)')
    self._heads = {s[:end] for s in spellings for end in range(1, len(s))}
    self._tails = {s[start:] for s in spellings for start in range(1, len(s))}
    self._parts = '\0'.join(spellings)
    self._longest = max(map(len, spellings), default=0)
    # A normaliser can turn other characters into a token's spelling.
    added = encoder.get_added_tokens_decoder()
    self._disguised = encoder.normalizer is not None and any(
      added[i].normalized for i in special
    )

  def plain(self, texts: Sequence[str]) -> Iterator[tokenizers.Encoding]:
    """Yields the encoding of each text as people's, by all cores.

    Raises:
      UserError: half of a surrogate pair; text that the vocabulary cannot
        write without special ids.
    """
    for encoding in _read(self._plain, texts):
      if not self._forbidden.isdisjoint(encoding.ids):
        raise errors.UserError(
          'needed text that the tokenizer can write without special ids, got '
          f'one that spells {self._spelling(texts)!r}: remove it.'
        )
      yield encoding

  def behind(self, opening: str, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids that each text has where it follows an opening.

    They are those of the text alone but where an encoder puts a space in front
    of what stands first, or would join the text to the opening's end; then it
    is the text alone that counts.

    Args:
      opening: as a chat template writes it in front of an answer.
      texts: people's.

    Raises:
      UserError: as for `plain`.
    """
    read = next(_read(self._encoder, [opening]))
    parts, last = [], 0
    for i, place in self._marks(read, opening, self._spelling_of):
      parts, last = [self._alias[i]], place[1]  # what is before does not matter
    head = ''.join([*parts, opening[last:]])
    found = []
    for text, both in zip(
      texts, _read(self._plain, [head + text for text in texts]), strict=True
    ):
      ids = [
        i
        for i, (start, _) in zip(both.ids, both.offsets, strict=True)
        if start >= len(head)
      ]
      joined = any(start < len(head) < end for start, end in both.offsets)
      if joined or not self._forbidden.isdisjoint(ids):
        ids = next(self.plain([text])).ids
      found.append(ids)
    return found

  def rendered(
    self,
    chat: chat_lib.ChatTemplate,
    conversations: Sequence[Messages],
    texts: Sequence[str],
    spans: Sequence[Spans],
  ) -> Iterator[tuple[tokenizers.Encoding, Spans]]:
    """Yields the encoding of each rendered conversation.

    Where a content spells (part of) a special token, the same messages are
    rendered with those characters hidden. The special tokens in that are the
    template's. If the text has others, they are content's: it is read again by
    the encoder of plain text, with the template's under their aliases.

    Args:
      chat: what rendered them.
      conversations: their messages.
      texts: their renderings, with an open turn.
      spans: [start, end) of interest in each text.

    Yields:
      The encoding, and the spans where its offsets have them.

    Raises:
      UserError: half of a surrogate pair; a content that spells a special
        token where the template does not write it as it is.
    """
    read = _read(self._encoder, texts)
    for messages, text, places, encoding in zip(
      conversations, texts, spans, read, strict=True
    ):
      hidden = [(role, self._hide(content)) for role, content in messages]
      if all(h[1] == m[1] for h, m in zip(hidden, messages, strict=True)):
        yield encoding, places
        continue
      written = self._written(chat, messages, hidden, text)
      if written == self._marks(encoding, text, self._spelling_of):
        yield encoding, places
      else:
        yield self._again(messages, text, written, places)

  def _written(
    self,
    chat: chat_lib.ChatTemplate,
    messages: Messages,
    hidden: Messages,
    text: str,
  ) -> list[tuple[int, tuple[int, int]]]:
    """Returns the special ids that the template wrote, with [start, end)."""
    shadow = chat.render(hidden, open_turn=True)
    if len(shadow) != len(text) or any(
      a != b != _HIDDEN for a, b in zip(text, shadow, strict=True)
    ):
      raise self._refusal(messages)
    encoding = next(_read(self._encoder, [shadow]))
    return self._marks(encoding, shadow, self._spelling_of)

  def _again(
    self,
    messages: Messages,
    text: str,
    written: list[tuple[int, tuple[int, int]]],
    places: Spans,
  ) -> tuple[tokenizers.Encoding, Spans]:
    """Returns the text's encoding by aliases, and the places in that."""
    parts, shifts, last = [], [], 0
    for i, (start, end) in written:
      parts += [text[last:start], self._alias[i]]
      shifts.append((end, len(self._alias[i]) - (end - start)))
      last = end
    parts.append(text[last:])
    again = ''.join(parts)
    encoding = next(_read(self._plain, [again]))
    ids = [i for i, _ in self._marks(encoding, again, self._alias)]
    if ids != [i for i, _ in written]:
      raise self._refusal(messages)
    moved = [
      tuple(at + sum(by for end, by in shifts if end <= at) for at in place)
      for place in places
    ]
    return encoding, moved

  def _hide(self, content: str) -> str:
    """Returns a content without what could spell a special token.

    Whole spellings are hidden, and what may become one with the text around:
    an end in front, a beginning behind, or a content inside of a spelling.
    """
    if self._disguised:
      return re.sub(r'\S', _HIDDEN, content)
    content = self._spelled.sub(lambda m: _HIDDEN * len(m[0]), content)
    body = content.strip()
    start = content.find(body)
    end = start + len(body)
    head = len(body) if body in self._parts else 0
    tail = 0
    for size in range(1, min(self._longest, len(body)) + 1):
      head = max(head, size) if body[:size] in self._tails else head
      tail = size if body[-size:] in self._heads else tail
    content = content[:start] + _HIDDEN * head + content[start + head :]
    return content[: end - tail] + _HIDDEN * tail + content[end:]

  def _marks(
    self, encoding: tokenizers.Encoding, text: str, spelled: Mapping[int, str]
  ) -> list[tuple[int, tuple[int, int]]]:
    """Returns the special ids of an encoding with their [start, end).

    The unknown token counts where it is spelled out, not where it stands for
    a character outside the vocabulary.
    """
    return [
      (i, (start, end))
      for i, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
      if i in self._forbidden
      or (i == self._unknown and text[start:end].strip() == spelled.get(i))
    ]

  def _spelling(self, texts: Sequence[str]) -> str:
    found = [self._spelled.search(text) for text in texts]
    return next((m[0] for m in found if m), 'a special token')

  def _refusal(self, messages: Messages) -> errors.UserError:
    return errors.UserError(
      'chat template: needed messages that spell no special token where it '
      'rewrites what they say, got '
      f'{self._spelling([content for _, content in messages])!r}: remove it '
      'from the message.'
    )


def _read(
  encoder: tokenizers.Tokenizer, texts: Sequence[str]
) -> Iterator[tokenizers.Encoding]:
  for start in range(0, len(texts), _BATCH):
    batch = list(texts[start : start + _BATCH])
    try:
      encodings = encoder.encode_batch(batch, add_special_tokens=False)
    except TypeError:  # All that the library says of half a surrogate pair.
      for text in batch:
        _check_unicode(text)
      raise
    yield from encodings


def _check_unicode(text: str) -> None:
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise errors.UserError(
      'needed Unicode text to encode, got half of a surrogate pair '
      f'({error.object[error.start]!r}): remove it.'
    ) from None


def _renamed(data: dict, names: Mapping[str, str]) -> dict:
  """Returns an encoder's JSON in which tokens have other spellings.

  Pairs that would join to a renamed token go: text could spell it by them.
  """
  data = {**data, 'post_processor': None, 'truncation': None, 'padding': None}
  data['added_tokens'] = [
    {**token, 'content': names.get(token['content'], token['content'])}
    for token in data['added_tokens']
  ]
  model = dict(data['model'])
  vocab = model['vocab']
  if isinstance(vocab, dict):
    model['vocab'] = {names.get(k, k): i for k, i in vocab.items()}
  else:
    model['vocab'] = [[names.get(k, k), score] for k, score in vocab]
  if isinstance(model.get('unk_token'), str):
    model['unk_token'] = names.get(model['unk_token'], model['unk_token'])
  if 'merges' in model:
    pairs = [p.split(' ') if isinstance(p, str) else p for p in model['merges']]
    model['merges'] = [
      [left, right]
      for left, right in pairs
      if names.keys().isdisjoint((left, right, left + right))
    ]
  return {**data, 'model': model}
