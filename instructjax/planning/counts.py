"""The FLOPs of a plan's programs by hand, to hold the compiler's against.

Rows are full, as in the plan. Recomputation counts, and of attention what XLA
multiplies though a mask hides it; a kernel's are what its queries see.
"""

from __future__ import annotations

from typing import Any

from instructjax import sharding
from instructjax.losses import language
from instructjax.models import attention
from instructjax.models import flops
from instructjax.sampling import logprobs as logprobs_lib


def rollout(stage: Any, batch: int) -> int:
  """Returns those of a prefill and of all steps of decoding."""
  config, (prompt, response) = stage.models['policy'], _lengths(stage)
  begin = _forward(config, batch, prompt, logits=1)
  return begin + flops.forward(
    config,
    batch=batch,
    length=response - 1,
    past=prompt,
    logits=response - 1,
    blocks=1,
    columns=prompt + response - 1,
  )


def score(stage: Any, batch: int) -> int:
  """Returns those of the reward model's scores."""
  length = sum(_lengths(stage))
  return _forward(stage.models['reward_model'], batch, length, scalars=1)


def experience(stage: Any, batch: int) -> int:
  """Returns those of reference, value, and where needed the policy."""
  policy, response = stage.models['policy'], _lengths(stage)[1]
  length = sum(_lengths(stage))
  times = 1 if logprobs_lib.sampler_is_exact(policy) else 2
  values = _forward(stage.task.value_config, batch, length, scalars=response)
  return times * _forward(policy, batch, length, logits=response) + values


def ppo_step(stage: Any, batch: int) -> int:
  """Returns those of one update by `batch` episodes and their text."""
  response, length = _lengths(stage)[1], sum(_lengths(stage))
  policy, config = stage.models['policy'], stage.config
  total = _step(stage, policy, batch, length, logits=response)
  value = stage.task.value_config
  total += _step(stage, value, batch, length, scalars=response)
  if stage.task.hyper.ptx_coef:
    rows, length = batch * config['ptx_ratio'], config['sequence_length']
    total += _step(stage, policy, rows, length, logits=length - 1)
  return total


def _sft_step(stage: Any) -> int:
  config = stage.config
  if config['train_on'] == 'pretraining':
    length = config['sequence_length']
  else:
    both = config['max_prompt_length'] + config['max_response_length']
    length = config['pack_to'] or both
  size = config['batch_size']
  return _step(stage, stage.models['policy'], size, length, logits=length - 1)


def _reward_model_step(stage: Any) -> int:
  """A prompt runs once for its K responses, which see its keys."""
  config, model = stage.config, stage.models['policy']
  size = config['batch_size']
  count = 2 if config['shuffle_pairs'] else config['max_responses']
  if config['pack_to']:
    length = config['pack_to']
    blocks = -(-length // attention.query_block(length))
    return _step(stage, model, size, length, scalars=length, blocks=blocks)
  prompt, response = config['max_prompt_length'], config['max_response_length']
  scores = _step(stage, model, size * count, response, past=prompt, scalars=1)
  return _step(stage, model, size, prompt) + scores


STEPS = {'sft': _sft_step, 'reward_model': _reward_model_step}


def _lengths(stage: Any) -> tuple[int, int]:
  return stage.config['max_prompt_length'], stage.task.hyper.max_response_length


def _forward(config, batch: int, length: int, **heads: int) -> int:
  return flops.forward(
    config, batch=batch, length=length, blocks=_blocks(config, length), **heads
  )


def _blocks(config, length: int, past: int = 0) -> int:
  """Blocks of queries that XLA works through; 0 for a kernel."""
  is_xla = attention.kernel_for(config, past + length) == 'xla'
  return -(-length // attention.query_block(length)) if is_xla else 0


def _logits_passes(stage, config, batch: int, length: int) -> int:
  """Products with the output's embedding for one forward: one more where it
  works through several chunks (losses.language), by each device's rows."""
  mesh = stage.mesh
  rows = batch // (
    sharding.num_row_shards(mesh) * stage.config['num_microbatches']
  )
  most = language.MAX_CHUNK_LOGITS // config.vocab_size
  chunk = max(1, min(language.MAX_CHUNK_TOKENS, most) // max(1, rows))
  return 4 if -(-length // mesh.shape['tensor']) > chunk else 3


def _step(
  stage, config, batch: int, length: int, *, past=0, blocks=0, **heads: int
) -> int:
  heads['logits_passes'] = _logits_passes(stage, config, batch, length)
  blocks = blocks or _blocks(config, length, past)
  rows = {'batch': batch, 'length': length, 'past': past}
  if blocks:
    return flops.train_program(config, blocks=blocks, **rows, **heads)
  # A kernel has two products forward, five backward (it computes the scores
  # anew), and its two again where blocks are rematerialised.
  passes = 7 + (2 if config.remat != 'none' else 0)
  products = flops.train_program(config, blocks=1, **rows, **heads)
  pair = flops.per_pair(config) // 2
  hidden = config.num_layers * length * (past + length) * (passes * pair)
  seen = flops.forward(config, batch=1, length=length, past=past)
  seen -= length * flops.per_token(config)
  return products - batch * (hidden - seen // 2 * passes)
