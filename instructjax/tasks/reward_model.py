"""The reward model: K ranked responses a prompt, all pairs of it at once.

    loss = -mean_prompts 1/pairs sum_{w beats l} log sigma(r(x,y_w) - r(x,y_l))

Equal ranks make no pair. Each response is scored once (K forward passes over
one shared prompt), not once per pair.

Source: Ouyang et al. 2022, section 3.5 and appendix C.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from instructjax import rewards
from instructjax import sharding
from instructjax.losses import preference
from instructjax.models import config as model_config
from instructjax.models import flops
from instructjax.models import heads
from instructjax.models import transformer
from instructjax.tasks import base
from instructjax.tasks import counts


class RewardModel(base.Task):
  """Trains one network, 'reward_model', on ranked responses.

  Args:
    models: {'policy': ModelConfig}, of the SFT or base model whose transformer
      it starts from; the scalar head is new.
  """

  def __init__(self, models: Mapping[str, model_config.ModelConfig]):
    self.config = models['policy']

  def init(self, key, start):
    params = start['policy']
    transformer_key, head_key = jax.random.split(key)
    if params is None:
      params = transformer.init(self.config, transformer_key)
    head = heads.init_scalar_head(head_key, self.config.d_model)
    return {'reward_model': heads.with_head(params, head)}, {}

  def normalize(self, batch, key):
    """Adds pair weights f32[..., K, K] that sum to one.

    Rows hold a comparison each, [B, K], or several, [B, C, K].
    """
    del key
    ranks, mask = _flat(batch['ranks'], 1), _flat(batch['mask'], 1)
    weights = preference.pair_weights(ranks, mask)
    shape = (*batch['ranks'].shape, ranks.shape[1])
    return dict(batch, pair_weights=weights.reshape(shape))

  def loss(self, params, frozen, batch, key):
    """Ranking loss over all weighted pairs of all prompts."""
    del frozen, key
    params = params['reward_model']
    packing = transformer.Packing.of(batch)
    if packing:
      scores = rewards.packed_scores(
        self.config,
        params,
        batch['tokens'],
        batch['token_mask'],
        packing,
        batch['ends'],
      )
    else:
      scores = rewards.reward_model_scores(
        self.config,
        params,
        batch['prompts'],
        batch['prompt_mask'],
        batch['responses'],
        batch['response_mask'],
      )
    return preference.weighted_ranking_loss(
      _flat(scores, 1), _flat(batch['pair_weights'], 2)
    )

  def flops(self, batch):
    return {'train': flops.TRAINING * counts.ranked(self.config, batch)}

  def exports(self, state):
    params = state.params['reward_model']
    return {'model': base.Model(self.config, params)}


def _flat(x: jax.Array, num_last: int) -> jax.Array:
  """Joins all axes but the last ones."""
  return x.reshape(-1, *x.shape[-num_last:])


def calibrate(
  score: rewards.Score, params: base.PyTree, batches: Iterable
) -> tuple[base.PyTree, dict[str, float]]:
  """Sets the head's bias so that demonstrations score 0 on average.

  Args:
    score: from rewards.from_model.
    params: the reward model's, whatever its bias.
    batches: (demonstrations as prompt/response arrays, row mask) pairs.

  Returns:
    Params with the new bias, and the demonstrations' score statistics:
    mean (before), std, min and max (after).

  Source: Ouyang et al. 2022, appendix C.2: the loss ignores shifts of the
    reward, so its zero is put at the labelers' demonstrations.
  """
  found = []
  for batch, row_mask in batches:
    scores = score(
      params,
      batch['prompts'],
      batch['prompt_mask'],
      batch['responses'],
      batch['response_mask'],
    )
    scores, keep = sharding.to_host((scores, row_mask))
    found.append(scores.astype(np.float64)[keep])
  scores = np.concatenate(found)
  mean = scores.mean()
  head = dict(params['head'])
  head['bias'] = head['bias'] - jnp.asarray(mean, jnp.float32)
  stats = {
    'demonstration_mean_before': float(mean),
    'demonstration_std': float(scores.std()),
    'demonstration_min': float(scores.min() - mean),
    'demonstration_max': float(scores.max() - mean),
  }
  return dict(params, head=head), stats
