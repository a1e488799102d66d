"""A trained policy that is asked: it answers, continues or weighs texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from instructjax import sharding
from instructjax.data import vocabulary
from instructjax.models import config as model_config
from instructjax.sampling import decode
from instructjax.sampling import logprobs

Ids = list[int]
Answer = tuple[str, bool]

_PROMPT_WIDTH = 8  # tokens are padded to multiples: few programs to compile
_COMPLETION_WIDTH = 8
_PROMPTS_WIDTH = 16  # of a batch, the distinct ones
_CONTINUATION = 16  # tokens of a greedy continuation at most


class Model:
  """A policy with its tokenizer and the manner in which it is asked.

  Args:
    name: what it is called.
    config: its ModelConfig, without dropout.
    params: its parameters.
    tokenizer: its tokenizer.
    form: None asks as it was fine-tuned: begin, the text, end of prompt. Else
      plain text with '{text}' in it, asked as the beginning of a page.
    one_line: the answer ends with its line.
    max_prompt_length: tokens that prompts are padded to if none is longer.
    max_response_length: tokens of an answer at most, its end included.
    temperature: of the sampling.
    batch_size: texts at a time.
    seed: of the sampling.
  """

  def __init__(
    self,
    name: str,
    config: model_config.ModelConfig,
    params: Any,
    tokenizer: vocabulary.Tokenizer,
    *,
    form: str | None = None,
    one_line: bool = False,
    max_prompt_length: int,
    max_response_length: int,
    temperature: float,
    batch_size: int,
    seed: int,
  ):
    self.name, self.config, self.params = name, config, params
    self.tokenizer, self.form, self.one_line = tokenizer, form, one_line
    self.lengths = max_prompt_length, max_response_length
    self.temperature, self.batch_size = temperature, batch_size
    self.seed = seed

  def answer(self, prompts: Sequence[str]) -> list[Answer]:
    """Samples one response a prompt; says whether it ended by itself.

    The n-th prompt is answered with the n-th key, so two models differ by
    their parameters only.
    """
    numbers = [(row, 0) for row in range(len(prompts))]
    return [row for rows in self.answers(prompts, numbers) for row in rows]

  def answers(
    self, prompts: Sequence[str], numbers: Sequence[tuple[int, int]]
  ) -> Iterator[list[Answer]]:
    """Yields the answers batch after batch.

    Args:
      prompts: N texts.
      numbers: N pairs; with the seed, they make each prompt's key.
    """
    encode = functools.cache(self.encode)
    asked = [encode(text) for text in prompts]
    sampling = self.lengths[1], self.temperature
    for batch in self._sample(asked, numbers, *sampling):
      yield [self._read(ids, ended) for ids, ended in batch]

  def encode(self, prompt: str) -> Ids:
    """Returns the tokens in which a prompt is asked."""
    if self.form is None:
      return self.tokenizer.encode_prompt(prompt)
    return self._page(self.form.replace('{text}', prompt))

  def _page(self, text: str) -> Ids:
    """The beginning of a document, as pretraining packs them."""
    return [self.tokenizer.eos_id, *self.tokenizer.encode(text)]

  def _read(self, ids: Ids, ended: bool) -> Answer:
    text = self.tokenizer.decode(ids)
    if not self.one_line:
      return text, ended
    line, newline, _ = text.lstrip().partition('\n')
    return line.rstrip(), ended or bool(newline)

  def continue_text(self, texts: Sequence[str]) -> list[str]:
    """Continues plain texts greedily, up to the first newline."""
    numbers = [(row, 0) for row in range(len(texts))]
    pages = [self._page(text) for text in texts]
    batches = self._sample(pages, numbers, _CONTINUATION, 0.0)
    found = [self.tokenizer.decode(ids) for rows in batches for ids, _ in rows]
    return [text.partition('\n')[0] for text in found]

  def logprob(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Returns log p(second | first) of plain texts, in nats."""
    pages = [self._page(first) for first, _ in pairs]
    ends = [self.tokenizer.encode(second) for _, second in pairs]
    score = _scorer(self.config)
    prompt_width = _width(pages, _PROMPT_WIDTH)
    width = _width(ends, _COMPLETION_WIDTH)
    found = []
    for rows, count in _batches(len(pairs), self.batch_size):
      prompts = self._padded([pages[i] for i in rows], prompt_width, 'left')
      responses = self._padded([ends[i] for i in rows], width, 'right')
      nats = sharding.to_host(score(self.params, *prompts, *responses))
      found += nats.astype(np.float64)[:count].tolist()
    return found

  def _sample(
    self,
    prompts: Sequence[Ids],
    numbers: Sequence[tuple[int, int]],
    length: int,
    temperature: float,
  ) -> Iterator[list[tuple[Ids, bool]]]:
    """Yields batches of (tokens without their end, whether they ended)."""
    eos, pad = self.tokenizer.eos_id, self.tokenizer.pad_id
    room = self.config.max_length - length
    prompts = [ids[-room:] for ids in prompts]  # what comes last matters most
    width = max(self.lengths[0], _width(prompts, _PROMPT_WIDTH))
    sample = _sampler(self.config, eos, pad, length, temperature)
    batches = list(_batches(len(prompts), self.batch_size))
    told = [decode.distinct([prompts[i] for i in rows]) for rows, _ in batches]
    most = _width([different for different, _ in told], _PROMPTS_WIDTH)
    most = min(most, self.batch_size)
    before = None
    for (rows, count), (different, which) in zip(batches, told, strict=True):
      different += different[-1:] * (most - len(different))
      tokens, mask = self._padded(different, width, 'left')
      keys = np.asarray([numbers[i] for i in rows], np.uint32)
      seed = np.uint32(self.seed)
      found = sample(self.params, tokens, mask, which, seed, keys)
      if before:  # is read while this batch is sampled
        yield self._ids(*before)
      before = found, count
    if before:
      yield self._ids(*before)

  def _ids(
    self, found: tuple[jax.Array, jax.Array], count: int
  ) -> list[tuple[Ids, bool]]:
    eos = self.tokenizer.eos_id
    kept = zip(*(x[:count] for x in sharding.to_host(found)), strict=True)
    ids = [row[keep].tolist() for row, keep in kept]
    return [([i for i in row if i != eos], eos in row) for row in ids]

  def _padded(
    self, rows: Sequence[Ids], width: int, side: str
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens i32[B, width], padded on one side, and their mask."""
    tokens = np.full((len(rows), width), self.tokenizer.pad_id, np.int32)
    mask = np.zeros(tokens.shape, bool)
    for row, ids in enumerate(rows):
      start = width - len(ids) if side == 'left' else 0
      part = slice(start, start + len(ids))
      tokens[row, part], mask[row, part] = ids, True
    return tokens, mask


def _width(rows: Sequence[Ids], multiple: int) -> int:
  longest = max(map(len, rows), default=1)
  return -(-longest // multiple) * multiple


def _batches(total: int, size: int) -> Iterator[tuple[list[int], int]]:
  """Yields (rows, how many of them count); the last row fills a batch up."""
  for start in range(0, total, size):
    count = min(size, total - start)
    last = start + count - 1
    yield [min(start + i, last) for i in range(size)], count


@functools.lru_cache
def _sampler(
  config: model_config.ModelConfig,
  eos_id: int,
  pad_id: int,
  length: int,
  temperature: float,
) -> Callable:
  """Returns (params, prompts, mask, rows, seed, u32[B, 2]) -> tokens, mask."""

  @jax.jit
  def sample(params, prompts, mask, rows, seed, numbers):
    fold = jax.vmap(jax.random.fold_in)
    keys = jnp.broadcast_to(jax.random.key(seed), len(numbers))
    keys = fold(fold(keys, numbers[:, 0]), numbers[:, 1])
    samples = decode.sample(
      config,
      params,
      prompts,
      mask,
      keys,
      max_new_tokens=length,
      eos_id=eos_id,
      pad_id=pad_id,
      temperature=temperature,
      rows=rows,
    )
    return samples.tokens, samples.mask

  return sample


@functools.lru_cache
def _scorer(config: model_config.ModelConfig) -> Callable:
  """Returns (params, prompts, mask, responses, mask) -> f32[B], nats."""

  @jax.jit
  def score(params, prompts, prompt_mask, responses, response_mask):
    rows = {
      'prompts': prompts,
      'prompt_mask': prompt_mask,
      'responses': responses,
      'response_mask': response_mask,
    }
    found = logprobs.response_logprobs(config, params, rows)
    return jnp.where(response_mask, found, 0.0).sum(axis=1)

  return score
