"""Answers to held-out prompts: their reward, KL, length and text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from instructjax import rewards
from instructjax import sharding
from instructjax.models import config as config_lib
from instructjax.sampling import decode
from instructjax.sampling import logprobs as logprobs_lib


def _answer(config, sampling, params, batch, keys):
  """Samples one response a prompt, and says whether it ended."""
  samples = decode.sample(
    config, params, batch['prompts'], batch['prompt_mask'], keys, **sampling
  )
  is_end = samples.mask & (samples.tokens == sampling['eos_id'])
  return {
    'responses': samples.tokens,
    'response_mask': samples.mask,
    'logprobs': samples.logprobs,
    'ended': jnp.any(is_end, axis=1),
  }


def _divergence(config, temperature, params, reference, rows):
  """f32[B], one-sample KL of each response to the reference, in nats."""
  again = functools.partial(
    logprobs_lib.response_logprobs, config, rows=rows, temperature=temperature
  )
  exact = logprobs_lib.sampler_is_exact(config)
  own = rows['logprobs'] if exact else again(params)
  gap = jnp.where(rows['response_mask'], own - again(reference), 0.0)
  return gap.sum(axis=1)


def make_rollouts(
  config: config_lib.ModelConfig,
  *,
  eos_id: int,
  pad_id: int,
  max_response_length: int,
  temperature: float = 1.0,
  score: rewards.Score | None = None,
  seed: int = 0,
) -> Callable[..., dict[str, np.ndarray]]:
  """Returns rollouts(params, batches, ...), compiled once.

  The n-th prompt is always answered with the n-th key, so two models, or one
  at two times, differ by their parameters only.

  Args:
    config: of the policy.
    eos_id, pad_id: the tokenizer's.
    max_response_length: tokens, end-of-text included.
    temperature: of the sampling.
    score: from rewards; None gives no scores.
    seed: of the keys.
  """

  sampling = {
    'max_new_tokens': max_response_length,
    'eos_id': eos_id,
    'pad_id': pad_id,
    'temperature': temperature,
  }
  answer = jax.jit(functools.partial(_answer, config, sampling))
  divergence = jax.jit(functools.partial(_divergence, config, temperature))

  def rollouts(
    params: Any,
    batches: Iterable,
    *,
    reward_params: Any = None,
    reference: Any = None,
  ) -> dict[str, np.ndarray]:
    """Answers every prompt.

    Args:
      params: of the policy.
      batches: (prompt rows, row mask) pairs.
      reward_params: for `score`.
      reference: parameters of the policy to measure KL from, or None.

    Returns:
      For N prompts: 'responses' i32[N, R], 'response_mask', 'length', 'ended',
      and where asked for 'scores' f32[N] and 'kl' f32[N] (nats a response,
      one-sample estimate).
    """
    found, first = [], 0
    for batch, row_mask in batches:
      numbers = jnp.arange(first, first + len(row_mask))
      first += len(row_mask)
      fold = jax.vmap(jax.random.fold_in, (None, 0))
      rows = dict(
        batch, **answer(params, batch, fold(jax.random.key(seed), numbers))
      )
      kept = {k: rows[k] for k in ('responses', 'response_mask', 'ended')}
      kept['length'] = rows['response_mask'].sum(axis=1)
      if score is not None:
        kept['scores'] = score(
          reward_params,
          rows['prompts'],
          rows['prompt_mask'],
          rows['responses'],
          rows['response_mask'],
        )
      if reference is not None:
        kept['kl'] = divergence(params, reference, rows)
      kept, keep = sharding.to_host((kept, row_mask))
      found.append({k: v[keep] for k, v in kept.items()})
    return {k: np.concatenate([row[k] for row in found]) for k in found[0]}

  return rollouts


def texts(result: dict[str, np.ndarray], decode_ids: Callable) -> list[str]:
  """Returns the responses as text."""
  rows = zip(result['responses'], result['response_mask'], strict=True)
  return [decode_ids(row[keep].tolist()) for row, keep in rows]
