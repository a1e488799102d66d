"""Completes prompts with a trained model, or chats in the terminal.

  python -m instructjax.generate --model=RUN/ppo_ptx/model --prompt='Who?'
  python -m instructjax.generate --model=RUN/sft/model --prompts=prompts.jsonl \
      --out=answers.jsonl --samples=4
  python -m instructjax.generate --model=RUN/ppo_ptx/model --chat

The model is a folder of ours, as RUN/sft/model, or one of Hugging Face, whose
chat template then writes the prompts. Answers are written as JSON lines,
{"prompt", "response", "sample"}, to --out or standard output. The same seed
gives the same answers. A model too large for one device is split over several
by --mesh.fsdp=-1 or --mesh.tensor=N, as --config.mesh splits it in training.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
import functools
import json
import pathlib
import sys
from typing import Any

from instructjax import cli
from instructjax import errors

# A text, or messages (role, content) that end with the user's.
Prompt = str | Sequence[tuple[str, str]]

_BATCH = 64  # a power of two
_BUCKET = 32  # prompts are padded to a multiple of it: few programs to compile


def parser() -> argparse.ArgumentParser:
  """Returns the command line's parser."""
  flags = argparse.ArgumentParser(
    prog='python -m instructjax.generate',
    description='Complete prompts with a trained model, or chat with it.',
    allow_abbrev=False,
  )
  add = flags.add_argument
  add('--model', required=True, metavar='FOLDER', help='ours or Hugging Face')
  add('--prompt', action='append', default=[], help='may be repeated')
  add('--prompts', metavar='FILES', help='prompt records: path, glob, folder')
  add('--chat', action='store_true', help='talk to the model')
  add('--out', metavar='FILE.jsonl', help='instead of standard output')
  add('--samples', type=int, default=1, help='answers to each prompt')
  add('--max_new_tokens', type=int, default=64)
  add('--temperature', type=float, default=1.0, help='0: the likeliest token')
  add('--top_k', type=int, default=0, help='0: all tokens')
  add('--top_p', type=float, default=1.0)
  add('--seed', type=int, default=0)
  for axis in ('data', 'fsdp', 'tensor'):
    add(f'--mesh.{axis}', type=int, metavar='N', help='devices; -1: the rest')
  add(
    '--dtype',
    choices=['float32', 'bfloat16'],
    help='of the parameters and the computation; left out: float32 parameters,'
    ' computing as the model was trained to',
  )
  return flags


class Generator:
  """A loaded model that answers prompts.

  Args:
    folder: a model folder.
    options: sampling options of the command line.
  """

  def __init__(self, folder: pathlib.Path, options: argparse.Namespace):
    from instructjax import sharding
    from instructjax.stages import workdir

    self.options = options
    chosen = {'dtype': options.dtype} if options.dtype else {}
    mesh = sharding.make_mesh(**_mesh_sizes(options))
    start = workdir.find_start(
      pathlib.Path(),
      'policy',
      str(folder.absolute()),
      dropout=0.0,
      mesh=mesh,
      **chosen,
    )
    sharding.check_params('policy', start.abstract(), mesh)
    self.tokenizer = workdir.load_tokenizer(start.folder)
    self.config = start.config
    workdir.check_vocabulary(
      start.folder, self.config.vocab_size, self.tokenizer
    )
    self.params = start.load(mesh, **chosen)
    self.room = self.config.max_length - options.max_new_tokens
    if options.max_new_tokens < 1 or self.room < 1:
      raise errors.UserError(
        f'--max_new_tokens={options.max_new_tokens} must be from 1 to'
        f' {self.config.max_length - 1}, as the model has'
        f' {self.config.max_length} positions.'
      )

  def answer(self, prompts: Sequence[Prompt]) -> list[list[str]]:
    """Returns the answers to each prompt, --samples of them.

    Args:
      prompts: each a text, or messages (role, content).

    Raises:
      UserError: if a prompt is too long for the model.
    """
    ids = self._encode(prompts)
    count = self.options.samples
    work = [tokens for tokens in ids for _ in range(count)]
    answers = []
    for start in range(0, len(work), _BATCH):
      answers += self._batch(work[start : start + _BATCH], start)
    return [answers[i * count :][:count] for i in range(len(prompts))]

  def stream(self, prompt: Prompt) -> Iterator[str]:
    """Yields the first answer to a prompt in pieces, as they are drawn.

    Raises:
      UserError: if the prompt is too long for the model.
    """
    from instructjax.sampling import decode

    rows = self._encode([prompt])
    tokens, mask, keys = self._inputs(rows, rows, [0])
    drawn: list[int] = []
    said = ''
    for column in decode.stream(
      self.config, self.params, tokens, mask, keys, **self._sampling()
    ):
      drawn.append(int(column[0]))
      text = self.tokenizer.decode(drawn)
      # What is not yet a whole character may change with the next token.
      if not text.endswith('\ufffd'):
        yield text[len(said) :]
        said = text
    yield self.tokenizer.decode(drawn)[len(said) :]

  def _encode(self, prompts: Sequence[Prompt]) -> list[list[int]]:
    ids = self.tokenizer.encode_prompts(prompts)
    for prompt, tokens in zip(prompts, ids, strict=True):
      if not tokens:
        raise errors.UserError('needed a prompt, got an empty one: write it.')
      if len(tokens) > self.room:
        text = prompt if isinstance(prompt, str) else prompt[-1][1]
        raise errors.UserError(
          f'prompt {text[:40]!r} has {len(tokens)} tokens, and with'
          f' --max_new_tokens={self.options.max_new_tokens} the model has room'
          f' for {self.room}: shorten it or lower --max_new_tokens.'
        )
    return ids

  def _batch(self, rows: list[list[int]], first: int) -> list[str]:
    """Answers up to _BATCH encoded prompts; row n uses key first + n."""
    import numpy as np

    from instructjax.sampling import decode

    # The last row fills the batch up to a power of two: few sizes to compile.
    size = _power_of_two(len(rows))
    prompts, which = decode.distinct([*rows, *[rows[-1]] * (size - len(rows))])
    prompts += prompts[-1:] * (_power_of_two(len(prompts)) - len(prompts))
    numbers = first + np.minimum(np.arange(size), len(rows) - 1)
    tokens, mask, keys = self._inputs(prompts, rows, numbers)
    samples = self._sample(self.params, tokens, mask, keys, rows=which)
    found = np.asarray(samples.tokens), np.asarray(samples.mask)
    kept = [row[keep].tolist() for row, keep in zip(*found, strict=True)]
    return self.tokenizer.decode_batch(kept[: len(rows)])

  def _inputs(self, prompts, rows, numbers):
    """Left-padded tokens and mask [U, P] of prompts, and the rows' keys[B]."""
    import jax
    import numpy as np

    longest = max(len(row) for row in rows)
    width = min(-(-longest // _BUCKET) * _BUCKET, self.room)
    tokens = np.full((len(prompts), width), self.tokenizer.pad_id, np.int32)
    mask = np.zeros(tokens.shape, bool)
    for i, row in enumerate(prompts):
      tokens[i, width - len(row) :] = row
      mask[i, width - len(row) :] = True
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    keys = fold(jax.random.key(self.options.seed), np.asarray(numbers))
    return tokens, mask, keys

  def _sampling(self) -> dict[str, Any]:
    """The options of sampling, as `decode` calls them."""
    chosen = ('max_new_tokens', 'temperature', 'top_k', 'top_p')
    return {
      'eos_id': self.tokenizer.eos_id,
      'pad_id': self.tokenizer.pad_id,
      **{name: getattr(self.options, name) for name in chosen},
    }

  @functools.cached_property
  def _sample(self):
    import jax

    from instructjax.sampling import decode

    return jax.jit(
      functools.partial(decode.sample, self.config, **self._sampling())
    )


def _mesh_sizes(options: argparse.Namespace) -> dict[str, int]:
  """Sizes of the mesh's axes; the data axis takes what no other is to have."""
  given = {
    name.removeprefix('mesh.'): size
    for name, size in vars(options).items()
    if name.startswith('mesh.') and size is not None
  }
  rest = 1 if -1 in given.values() else -1
  return {'data': rest, 'fsdp': 1, 'tensor': 1} | given


def _power_of_two(count: int) -> int:
  """Returns the least one that is no less than count."""
  return 1 << (count - 1).bit_length()


def chat(generator: Generator) -> int:
  """Talks with the person at the terminal until end of input."""
  history: list[tuple[str, str]] = []
  print('end with Ctrl-D; /new forgets the conversation', file=sys.stderr)
  while True:
    try:
      said = input('> ')
    except (EOFError, KeyboardInterrupt):
      print()
      return 0
    except UnicodeDecodeError as error:
      raise errors.UserError(
        f'needed UTF-8 text on standard input, got byte'
        f' 0x{error.object[error.start]:02x}.'
      ) from error
    if said.strip() == '/new':
      history.clear()
      continue
    if not said.strip():
      continue
    history.append(('user', said))
    answer = ''
    try:
      for piece in generator.stream(tuple(history)):
        print(piece, end='', flush=True)
        answer += piece
    except errors.UserError as error:
      print(f'error: {error} /new starts over.', file=sys.stderr)
      history.pop()
      continue
    except KeyboardInterrupt:
      pass  # what was said so far stays
    print(flush=True)
    history.append(('assistant', answer))


def command(argv: Sequence[str]) -> int:
  """Runs the command line; returns its exit status."""
  flags = parser()
  flags.error = cli.refuse
  options = flags.parse_args(argv)
  _check(options)
  generator = Generator(pathlib.Path(options.model), options)
  if options.chat:
    return chat(generator)
  prompts: list[Prompt] = list(options.prompt)
  texts = list(options.prompt)
  if options.prompts:
    from instructjax.data import records

    found = records.load('prompts', options.prompts)
    prompts += [records.asked(record) for record in found]
    texts += [record.text for record in found]
  if options.out:
    _write(options.out, '', 'a')  # where it cannot, say so before the work
  lines = [
    json.dumps({'prompt': prompt, 'sample': i, 'response': text})
    for prompt, answers in zip(texts, generator.answer(prompts), strict=True)
    for i, text in enumerate(answers)
  ]
  text = '\n'.join(lines) + '\n'
  if options.out:
    _write(options.out, text, 'w')
  else:
    sys.stdout.write(text)
  return 0


def _check(options: argparse.Namespace) -> None:
  """Raises UserError for options that make no sense."""
  if not (options.prompt or options.prompts or options.chat):
    raise errors.UserError(
      'nothing to do: give --prompt=TEXT, --prompts=FILE.jsonl or --chat.'
    )
  for name, fine, needed in (
    ('samples', options.samples >= 1, 'at least 1'),
    ('temperature', options.temperature >= 0, 'at least 0'),
    ('top_k', options.top_k >= 0, 'at least 0'),
    ('top_p', 0 < options.top_p <= 1, 'over 0 and up to 1'),
  ):
    if not fine:
      raise errors.UserError(
        f'--{name}={getattr(options, name)} must be {needed}.'
      )


def _write(out: str, text: str, mode: str) -> None:
  try:
    with open(out, mode, encoding='utf-8') as file:
      file.write(text)
  except OSError as error:
    raise errors.UserError(
      f'--out={out} cannot be written ({error.strerror}): choose another file.'
    ) from error


if __name__ == '__main__':
  sys.exit(cli.start(command))
