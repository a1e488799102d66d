"""Language-model training: pretraining, and fine-tuning on demonstrations.

    loss = -sum_{b,t} w_bt log p(x_bt | x_b<t)

The two differ only in their rows: packed text in which every token is a
target, or a prompt with a demonstration in which the response's are.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from instructjax.losses import language
from instructjax.models import config as model_config
from instructjax.models import flops
from instructjax.models import transformer
from instructjax.sampling import logprobs as logprobs_lib
from instructjax.tasks import base
from instructjax.tasks import counts


class SFT(base.Task):
  """Trains one network, 'policy', by next-token prediction.

  Args:
    models: {'policy': ModelConfig}.
  """

  def __init__(self, models: Mapping[str, model_config.ModelConfig]):
    self.config = models['policy']

  def init(self, key, start):
    params = start['policy']
    if params is None:
      params = transformer.init(self.config, key)
    return {'policy': params}, {}

  def normalize(self, batch, key):
    """Adds token weights and one dropout key per row."""
    rows = jnp.arange(batch['tokens'].shape[0])
    return dict(
      batch,
      weights=language.normalized_weights(batch['loss_mask'][:, 1:]),
      dropout_keys=jax.vmap(jax.random.fold_in, (None, 0))(key, rows),
    )

  def loss(self, params, frozen, batch, key):
    """Weighted negative log-likelihood of the target tokens."""
    del frozen, key
    logprobs = token_logprobs(
      self.config,
      params['policy'],
      batch['tokens'],
      batch['mask'],
      packing=transformer.Packing.of(batch),
      dropout_keys=batch['dropout_keys'] if self.config.dropout else None,
    )
    return language.language_model_loss(logprobs, batch['weights'])

  def flops(self, batch):
    return {'train': flops.TRAINING * counts.language(self.config, batch)}

  def exports(self, state):
    return {'model': base.Model(self.config, state.params['policy'])}


def token_logprobs(
  config: model_config.ModelConfig,
  params: base.PyTree,
  tokens: jax.Array,
  mask: jax.Array,
  *,
  packing: transformer.Packing | None = None,
  dropout_keys: jax.Array | None = None,
) -> jax.Array:
  """Log-probability of each next token.

  Args:
    config: the model's ModelConfig.
    params: its parameters.
    tokens: i32[B, T].
    mask: bool[B, T], tokens that are not padding.
    packing: of rows that hold several sequences.
    dropout_keys: key[B] or None for no dropout.

  Returns:
    f32[B, T - 1]; entry t scores tokens[:, t + 1].
  """
  hidden = transformer.hidden(
    config, params, tokens, mask, packing=packing, dropout_keys=dropout_keys
  )
  return logprobs_lib.target_logprobs(
    config, params, hidden[:, :-1], tokens[:, 1:]
  )
