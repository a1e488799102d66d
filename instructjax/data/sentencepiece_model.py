"""SentencePiece's tokenizer.model as an encoder of the `tokenizers` library.

Only byte-pair encoding with byte fallback and no normalisation, as the models
of Llama 2, Mistral and Gemma are: the encoder must agree with SentencePiece on
a text full of pitfalls and on all of the vocabulary, else the file is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

import sentencepiece
import tokenizers
from tokenizers import decoders
from tokenizers import models
from tokenizers import pre_tokenizers

from instructjax import errors

_SPACE = '\u2581'
_RESAVE = "write tokenizer.json with save_pretrained of transformers' tokenizer"
# No space in front: there transformers and SentencePiece are of two minds.
_PROBE = (
  'The 3 quick  brown\tfoxes:\n\n   jump()ed over "lazy" dogs… naïve café, '
  'e\u0301, Ελληνικά, русский, עברית, العربية, हिन्दी, 中文字, 日本語, 한국어, '
  '\U0001f468\u200d\U0001f469\u200d\U0001f467 \u00a0 ｆｕｌｌ ﬁ ½ \x00 end.  \n'
)
_BPE = 2  # The type of a model.
_USER_DEFINED = 4  # The type of a piece that no merge may enter or leave.


def named(content: bytes, path: str) -> dict[str, object]:
  """Returns a model's special pieces by transformers' names for them.

  Raises:
    UserError: no SentencePiece model.
  """
  processor = _processor(content, path)
  ids = {
    'bos_token': processor.bos_id(),
    'eos_token': processor.eos_id(),
    'unk_token': processor.unk_id(),
    'pad_token': processor.pad_id(),
  }
  return {k: processor.id_to_piece(i) for k, i in ids.items() if i >= 0}


def encoder(
  content: bytes, *, prefix: bool | None, legacy: bool, path: str
) -> tokenizers.Tokenizer:
  """Returns the encoder that a model file describes, as transformers makes it.

  Pieces are joined in the order of their scores, as SentencePiece does and the
  tokenizer.json files of such models say; transformers 5, given only the model
  file, takes the order of ids, which splits runs of spaces otherwise.

  Args:
    content: the file's content.
    prefix: whether text gets a space in front; None for what the model says.
    legacy: whether text behind every special token gets one as well.
    path: what errors call the file.

  Raises:
    UserError: no SentencePiece model, or one of another kind.
  """
  processor = _processor(content, path)
  size = processor.vocab_size()
  pieces = [processor.id_to_piece(i) for i in range(size)]
  reserved = [
    processor.is_control(i) or processor.is_unknown(i) for i in range(size)
  ]
  made = tokenizers.Tokenizer(
    models.BPE(
      vocab={piece: i for i, piece in enumerate(pieces)},
      merges=_merges(processor, pieces),
      unk_token=pieces[processor.unk_id()],
      fuse_unk=True,
      byte_fallback=True,
    )
  )
  kinds, is_bpe = _kinds(content)
  made.add_tokens(
    [
      tokenizers.AddedToken(pieces[i], normalized=False, special=reserved[i])
      for i, kind in enumerate(kinds)
      if reserved[i] or kind == _USER_DEFINED
    ]
  )
  own = processor.encode('a', out_type=str)[0].startswith(_SPACE)
  _use_prefix(made, own, legacy)
  probe = _PROBE + ''.join(
    pieces[i]
    for i in range(size)
    if not (reserved[i] or processor.is_byte(i) or processor.is_unused(i))
  )
  same = made.encode(probe).ids == processor.encode(probe)
  if not (is_bpe and same and any(map(processor.is_byte, range(size)))):
    raise errors.UserError(
      f'{path}: needed byte-pair encoding with byte fallback and no '
      f'normalisation, got another kind of SentencePiece model: {_RESAVE}.'
    )
  _use_prefix(made, own if prefix is None else prefix, legacy)
  return made


def _processor(
  content: bytes, path: str
) -> sentencepiece.SentencePieceProcessor:
  processor = sentencepiece.SentencePieceProcessor()
  try:
    processor.LoadFromSerializedProto(content)
    processor.encode('a')
  except Exception as error:  # SentencePiece raises what its C++ side throws.
    first = str(error).strip().partition('\n')[0] or type(error).__name__
    raise errors.UserError(
      f'{path}: needed a SentencePiece model, got a file that is none or is '
      f'cut ({first}): restore it, or {_RESAVE}.'
    ) from None
  return processor


def _merges(
  processor: sentencepiece.SentencePieceProcessor, pieces: list[str]
) -> list[tuple[str, str]]:
  """Returns the pairs that make each piece, the best piece in front.

  SentencePiece joins whichever neighbours make the piece of the best score,
  which need not be the one of the lowest id (runs of spaces come last in Llama
  2). Pairs of one piece are in the order of their first part's length.
  """
  made = [
    i
    for i in range(len(pieces))
    if not processor.is_control(i)
    and not processor.is_unknown(i)
    and not processor.is_byte(i)
  ]
  known = {pieces[i] for i in made}
  return [
    (pieces[i][:cut], pieces[i][cut:])
    for i in sorted(made, key=lambda i: -processor.get_score(i))
    for cut in range(1, len(pieces[i]))
    if pieces[i][:cut] in known and pieces[i][cut:] in known
  ]


def _use_prefix(made: tokenizers.Tokenizer, prefix: bool, legacy: bool) -> None:
  """Sets whether text gets a space in front, which decoding removes."""
  scheme = ('always' if legacy else 'first') if prefix else 'never'
  made.pre_tokenizer = pre_tokenizers.Metaspace(
    replacement=_SPACE, prepend_scheme=scheme, split=False
  )
  steps = [
    decoders.Replace(_SPACE, ' '),
    decoders.ByteFallback(),
    decoders.Fuse(),
  ]
  if prefix:
    steps.append(decoders.Strip(content=' ', left=1, right=0))
  made.decoder = decoders.Sequence(steps)


def _kinds(content: bytes) -> tuple[list[int], bool]:
  """Returns each piece's type, and whether the model is byte-pair encoding.

  The library shows neither. In the file's protocol buffer, field 1 is a piece
  and field 2 how it was trained; field 3 of either is the type, 1 if missing.
  """
  kinds, trained = [], 1
  for field, message in _fields(content):
    if field in (1, 2):
      kind = next((value for n, value in _fields(message) if n == 3), 1)
      if field == 1:
        kinds.append(kind)
      else:
        trained = kind
  return kinds, trained == _BPE


def _fields(content: bytes) -> Iterator[tuple[int, object]]:
  """Yields number and value of a protocol buffer's fields."""
  at = 0
  while at < len(content):
    key, at = _varint(content, at)
    kind = key & 7
    if kind == 0:
      value, at = _varint(content, at)
    else:
      size = {1: 8, 5: 4}.get(kind)
      if size is None:
        size, at = _varint(content, at)
      value, at = content[at : at + size], at + size
    yield key >> 3, value


def _varint(content: bytes, at: int) -> tuple[int, int]:
  """Returns a whole number of seven bits a byte, and where it ends."""
  value = shift = 0
  while True:
    byte = content[at]
    value |= (byte & 127) << shift
    at, shift = at + 1, shift + 7
    if byte < 128:
      return value, at
