"""Scores of responses: from a reward model, or from a Python rule.

Both are functions of the same type,

    score(params, prompts, prompt_mask, responses, response_mask) -> f32[B]

where `params` are a reward model's and a rule ignores them.
"""

from __future__ import annotations

from collections.abc import Callable
import importlib
import importlib.util
import inspect
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from instructjax import distributed
from instructjax import errors
from instructjax import sharding
from instructjax.models import config as model_config
from instructjax.models import heads
from instructjax.models import transformer

Score = Callable[..., jax.Array]


def reward_model_scores(
  config: model_config.ModelConfig,
  params: Any,
  prompts: jax.Array,
  prompt_mask: jax.Array,
  responses: jax.Array,
  response_mask: jax.Array,
) -> jax.Array:
  """Reward of K responses to each prompt, read at their last kept token.

  r(x, y) = head(h_T), T the last token of y: its end-of-text where it has one

  The prompt is processed once for its K responses.

  Args:
    config: the reward model's architecture.
    params: {'transformer', 'head'}.
    prompts: i32[B, P], left-padded.
    prompt_mask: bool[B, P].
    responses: i32[B, K, R], right-padded.
    response_mask: bool[B, K, R]; a response without tokens gets a finite,
      meaningless score.

  Returns:
    f32[B, K].

  Source: Ouyang et al. 2022, section 3.5; read-out as in Huang et al. 2024
    (arXiv:2403.17031).
  """
  B, K, R = responses.shape
  P = prompts.shape[1]
  mask = response_mask.reshape(B * K, R)
  tokens = responses.reshape(B * K, R)
  if K == 1:
    hidden = transformer.hidden(
      config,
      params['transformer'],
      jnp.concatenate([prompts, tokens], axis=1),
      jnp.concatenate([prompt_mask, mask], axis=1),
    )[:, P:]
  else:
    _, cache = transformer.prefill(
      config, params['transformer'], prompts, prompt_mask, length=P
    )
    hidden = transformer.continue_from(
      config, params['transformer'], cache, tokens, mask
    )
  last = jnp.maximum(jnp.sum(mask, axis=1) - 1, 0)
  final = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
  return heads.scalar_head(params['head'], final).reshape(B, K)


def packed_scores(
  config: model_config.ModelConfig,
  params: Any,
  tokens: jax.Array,
  mask: jax.Array,
  packing: transformer.Packing,
  ends: jax.Array,
) -> jax.Array:
  """As `reward_model_scores`, for rows that hold several comparisons.

  Args:
    config: the reward model's architecture.
    params: {'transformer', 'head'}.
    tokens: i32[B, T].
    mask: bool[B, T].
    packing: what belongs together in a row.
    ends: i32[B, C, K], the column of each response's last token.

  Returns:
    f32[B, C, K]; meaningless where there is no response.
  """
  hidden = transformer.hidden(
    config, params['transformer'], tokens, mask, packing=packing
  )
  rewards = heads.scalar_head(params['head'], hidden)  # f32[B, T]
  columns = ends.reshape(ends.shape[0], -1)
  return jnp.take_along_axis(rewards, columns, axis=1).reshape(ends.shape)


def from_model(config: model_config.ModelConfig) -> Score:
  """Returns a jitted score function that reads a reward model's params."""

  @jax.jit
  def score(params, prompts, prompt_mask, responses, response_mask):
    return reward_model_scores(
      config,
      params,
      prompts,
      prompt_mask,
      responses[:, None],
      response_mask[:, None],
    )[:, 0]

  return score


def from_python(function: Callable, decode: Callable) -> Score:
  """Returns a score function that asks Python code about the texts.

  Args:
    function: `responses -> scores`, or with a second parameter `prompts`;
      lists of B texts in, B numbers out.
    decode: token ids -> text.

  Raises (when called):
    UserError: if the scores are not B finite numbers.
  """
  name = repr(getattr(function, '__name__', function))
  wants_prompts = 'prompts' in inspect.signature(function).parameters

  def score(params, prompts, prompt_mask, responses, response_mask):
    del params
    texts = _texts(responses, response_mask, decode)
    extra = {}
    if wants_prompts:
      extra['prompts'] = _texts(prompts, prompt_mask, decode)

    def ask():
      return _checked(function(texts, **extra), texts, name)

    # One process asks about all texts: a rule may compare them, cost money, or
    # answer otherwise the next time.
    like = np.zeros(len(texts), np.float32)
    return jnp.asarray(distributed.from_primary(ask, like))

  return score


def _checked(scores: Any, texts: list[str], name: str) -> np.ndarray:
  """Returns f32[B]; see from_python for what it raises."""
  try:
    scores = np.asarray(scores)
  except ValueError:  # lists of unequal lengths
    scores = np.asarray(scores, object)
  if scores.dtype.kind not in 'biuf' or scores.shape != (len(texts),):
    raise errors.UserError(
      f'reward function {name} must return {len(texts)} numbers, one per'
      f' response; it returned {scores.dtype} of shape {scores.shape}.'
    )
  with np.errstate(over='ignore'):
    scores = scores.astype(np.float32)
  if not np.all(np.isfinite(scores)):
    worst = texts[int(np.argmin(np.isfinite(scores)))]
    raise errors.UserError(
      f'reward function {name} returned a score that is not finite in float32,'
      f' for the response {worst!r}.'
    )
  return scores


def _texts(tokens, mask, decode) -> list[str]:
  rows = zip(*sharding.to_host((tokens, mask)), strict=True)
  return [decode(row[keep].tolist()) for row, keep in rows]


def files(spec: str) -> dict[str, list[str]]:
  """Returns {file: [file]} of a function that is given as a file."""
  where = spec.rpartition(':')[0]
  return {where: [where]} if where.endswith('.py') else {}


def load_function(spec: str) -> Callable:
  """Imports 'package.module:name' or 'path/to/file.py:name'.

  Raises:
    UserError: if the form is wrong, or there is no such file or name.
  """
  where, _, name = spec.rpartition(':')
  if not where or not name:
    raise errors.UserError(
      f"reward_function={spec!r} must read 'MODULE:NAME' or 'FILE.py:NAME'."
    )
  try:
    if where.endswith('.py'):
      title = f'reward_function_{pathlib.Path(where).stem}'
      found = importlib.util.spec_from_file_location(title, where)
      module = importlib.util.module_from_spec(found)
      sys.modules[title] = module  # dataclasses look their module up
      found.loader.exec_module(module)
    else:
      module = importlib.import_module(where)
  except (ImportError, FileNotFoundError) as error:
    raise errors.UserError(
      f'reward_function={spec!r}: {where} cannot be imported ({error}).'
    ) from error
  if not callable(getattr(module, name, None)):
    raise errors.UserError(
      f'reward_function={spec!r}: {where} has no function {name!r}.'
    )
  return getattr(module, name)
