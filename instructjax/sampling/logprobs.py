"""How likely a model finds given responses to given prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from instructjax.losses import language
from instructjax.models import config as config_lib
from instructjax.models import transformer


def sampler_is_exact(config: config_lib.ModelConfig) -> bool:
  """Whether the sampler's log-probabilities are the trainer's, to rounding.

  In float32 on a CPU they are (tested), and PPO needs no forward pass for its
  old log-probabilities. In bfloat16, and with the reduced precision that GPUs
  and TPUs multiply float32 matrices in, the two programs differ by more than
  the ratio's trust interval deserves.
  """
  return config.dtype == 'float32' and jax.default_backend() == 'cpu'


def joined(rows: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
  """Prompt and response as one sequence.

  Args:
    rows: 'prompts' i32[B, P] left-padded, 'responses' i32[B, R] right-padded,
      and their masks 'prompt_mask', 'response_mask'.

  Returns:
    tokens i32[B, P + R] and mask bool[B, P + R].
  """
  tokens = jnp.concatenate([rows['prompts'], rows['responses']], axis=1)
  mask = jnp.concatenate([rows['prompt_mask'], rows['response_mask']], axis=1)
  return tokens, mask


def response_logprobs(
  config: config_lib.ModelConfig,
  params: Any,
  rows: Mapping[str, jax.Array],
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """Log-probability of each response token, by one forward pass.

  Args:
    config: the model's shape.
    params: the model's parameters.
    rows: as `joined` takes them.
    temperature: divides the logits, as in sampling.

  Returns:
    f32[B, R]; meaningless where response_mask is 0.
  """
  tokens, mask = joined(rows)
  hidden = transformer.hidden(config, params, tokens, mask)
  start = rows['prompts'].shape[1] - 1
  return language.chunked_token_logprobs(
    hidden[:, start:-1],
    targets=rows['responses'],
    temperature=temperature,
    **transformer.unembedding(config, params),
  )
