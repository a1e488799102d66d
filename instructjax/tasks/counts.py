"""The model FLOPs of an iteration, task by task: of the tokens that count.

Padding is none of them, and a packed row's sequences see themselves only, so
what a device does for either lowers its utilisation. All run under jit.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from instructjax.models import config as model_config
from instructjax.models import flops
from instructjax.sampling import logprobs as logprobs_lib

ModelConfig = model_config.ModelConfig
Rows = Mapping[str, jax.Array]


def language(config: ModelConfig, rows: Rows) -> jax.Array:
  """Returns the FLOPs f32[] of the log-probabilities of rows of text."""
  mask = rows['mask']
  logits = flops.count(mask[:, 1:])
  return flops.kept(config, mask, rows.get('positions'), logits=logits)


def ranked(config: ModelConfig, rows: Rows) -> jax.Array:
  """Returns those of the scores of comparisons: a prompt once for its K."""
  scalars = flops.count(rows['mask'])
  if 'segments' in rows:
    mask, positions = rows['token_mask'], rows['positions']
    return flops.kept(config, mask, positions, scalars=scalars)
  prompts, responses = rows['prompt_mask'], rows['response_mask']
  length = jnp.sum(prompts, axis=1, dtype=jnp.int32)[:, None, None]
  after = length + flops.positions_of(responses)  # i32[B, K, R]
  read = flops.kept(config, prompts)
  return read + flops.kept(config, responses, after, scalars=scalars)


def ppo(
  batch: Mapping[str, Rows],
  config: ModelConfig,
  value_config: ModelConfig,
  *,
  inner_epochs: int,
  has_reward_model: bool,
) -> dict[str, jax.Array]:
  """Returns those of the three phases of PPO-ptx.

  Args:
    batch: {'episodes', 'ptx'} as tasks.ppo.PPO.prepare returns it.
    config: of policy and reference.
    value_config: of the value network and the reward model.
    inner_epochs: how often the updates see the batch.
    has_reward_model: or else scores are a Python rule's.
  """
  rows, ptx = batch['episodes'], batch['ptx']
  _, mask = logprobs_lib.joined(rows)
  drawn = flops.count(rows['response_mask'])
  # A response's last token is drawn, but not fed.
  fed = rows | {'response_mask': rows['response_mask'][:, 1:]}
  rollout = flops.kept(config, logprobs_lib.joined(fed)[1], logits=drawn)
  policy = flops.kept(config, mask, logits=drawn)
  value = flops.kept(value_config, mask, scalars=drawn)
  score = policy + value
  if not logprobs_lib.sampler_is_exact(config):
    score += policy
  if has_reward_model:
    score += flops.kept(value_config, mask, scalars=mask.shape[0])
  train = policy + value
  if ptx:
    train += language(config, ptx)
  return {
    'rollout': rollout,
    'score': score,
    'train': flops.TRAINING * inner_epochs * train,
  }
