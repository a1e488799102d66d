"""How likely a model finds given responses to given prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from instructjax import sharding
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
  if config.mesh is None:
    platform = jax.default_backend()
  else:
    platform = sharding.platform(config.mesh)
  return config.dtype == 'float32' and platform == 'cpu'


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
  return target_logprobs(
    config,
    params,
    hidden[:, start:-1],
    rows['responses'],
    temperature=temperature,
  )


def target_logprobs(
  config: config_lib.ModelConfig,
  params: Any,
  hidden: jax.Array,
  targets: jax.Array,
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """Log-probability of each target under the model's output.

  On a mesh each device works through its own rows and positions, so that the
  gradient of the embedding is summed over devices once and not at every chunk.

  Args:
    config: the model's shape.
    params: the model's parameters.
    hidden: f[B, T, D], as transformer.hidden gives it.
    targets: i32[B, T].
    temperature: divides the logits.

  Returns:
    f32[B, T].
  """
  output = transformer.unembedding(config, params)
  softcap = output.pop('softcap')

  def score(hidden, targets, output):
    return language.chunked_token_logprobs(
      hidden,
      targets=targets,
      softcap=softcap,
      temperature=temperature,
      **output,
    )

  mesh, (batch, length) = config.mesh, targets.shape
  rows = sharding.num_row_shards(mesh)
  if mesh is None or mesh.size == 1 or batch % rows:
    return score(hidden, targets, output)
  free = -length % mesh.shape['tensor']
  if free:
    hidden = jnp.pad(hidden, ((0, 0), (0, free), (0, 0)))
    targets = jnp.pad(targets, ((0, 0), (0, free)))
  split, whole = sharding.P(sharding.ROWS, 'tensor'), sharding.P()
  score = jax.shard_map(
    score,
    mesh=mesh,
    in_specs=(split, split, whole),
    out_specs=split,
    check_vma=False,
  )
  return score(hidden, targets, output)[:, :length]
