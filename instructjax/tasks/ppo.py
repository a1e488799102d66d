"""PPO with a pretraining mix (PPO-ptx); gamma = 0 is plain PPO.

    objective(phi) = E_(x,y)~pi [ r(x, y) - beta log(pi(y|x) / pi_ref(y|x)) ]
                     + gamma E_x~pretraining [ log pi(x) ]

A prompt is one step of a bandit: the policy answers, the reward model scores
the whole answer, and the episode ends. Inside, each token is an action:

    reward_t    = -beta (log pi_old - log pi_ref)_t, + r(x, y) at the last token
    advantage_t = GAE(reward, V), discount 1, lambda 0.95, whitened
    L_policy    = sum_t w_t max(-A_t rho_t, -A_t clip(rho_t, 1 - eps, 1 + eps))
    L_value     = 1/2 sum_t w_t max((V - R)^2, (clip(V, V_old +- eps) - R)^2)
    L           = L_policy + L_value + gamma L_ptx

Policy and value are separate networks with optimisers of their own, so no
coefficient weighs L_value. Both terms of the policy's gradient are normalised
each on its own and make one update.

Source: Ouyang et al. 2022, section 3.5 and appendix C.4.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from instructjax import clock
from instructjax import errors
from instructjax import rewards
from instructjax import sharding
from instructjax.losses import language
from instructjax.losses import policy_gradient
from instructjax.models import heads
from instructjax.models import transformer
from instructjax.sampling import decode
from instructjax.sampling import logprobs as logprobs_lib
from instructjax.tasks import base
from instructjax.tasks import counts

Rows = dict[str, jax.Array]

MISSING_EOS = ('keep', 'subtract', 'replace')


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
  """What the objective depends on; defaults are the paper's (PAPER.md, 1c).

  Attributes:
    kl_coef: beta, weight of the per-token KL penalty (its first value, if
      adaptive).
    kl_target: nats per response the adaptive coefficient aims at; 0 = fixed.
    kl_horizon: episodes over which it adapts.
    ptx_coef: gamma, weight of the pretraining loss.
    discount, gae_lambda: of the advantages. The paper prints the discount;
      lambda 0.95 is Stiennon et al.'s.
    clip_eps: half-width of the policy ratio's trust interval.
    value_clip_eps: half-width of the value's, reward units.
    whiten_advantages: to mean 0, variance 1 over the iteration's tokens.
    num_minibatches, inner_epochs: optimiser steps per iteration.
    temperature: of the rollouts and of every log-probability.
    max_response_length: tokens, end-of-text included.
    missing_eos: what a response cut at max_response_length scores: 'keep' its
      score, 'subtract' missing_eos_value from it, or 'replace' it by
      missing_eos_value. The paper is silent; see Huang et al. 2024.
    missing_eos_value: reward units.
    rollout_batch_size: prompts answered at a time; 0 = all of the batch.
  """

  kl_coef: float = 0.02
  kl_target: float = 0.0
  kl_horizon: float = 10_000.0
  ptx_coef: float = 27.8
  discount: float = 1.0
  gae_lambda: float = 0.95
  clip_eps: float = 0.2
  value_clip_eps: float = 0.2
  whiten_advantages: bool = True
  num_minibatches: int = 8
  inner_epochs: int = 1
  temperature: float = 1.0
  max_response_length: int = 1024
  missing_eos: str = 'subtract'
  missing_eos_value: float = 1.0
  rollout_batch_size: int = 0

  def __post_init__(self):
    if self.missing_eos not in MISSING_EOS:
      raise errors.UserError(
        f'missing_eos={self.missing_eos!r} is not one of'
        f' {", ".join(MISSING_EOS)}.'
        f'{errors.nearest(str(self.missing_eos), MISSING_EOS)}'
      )


class PPO(base.Task):
  """Trains 'policy' and 'value' against frozen 'reference' and reward.

  Args:
    models: {'policy', 'reward_model': ModelConfig}; the policy's start is also
      the reference, and there need be no reward model if `score` is given.
    eos_id, pad_id: the tokenizer's.
    score: replaces the reward model's score (rewards.from_python).
    **options: fields of Hyperparameters.
  """

  def __init__(self, models, *, eos_id, pad_id, score=None, **options):
    self.config = models['policy']
    # Without a reward model the value network grows from the policy.
    self.value_config = models.get('reward_model', self.config)
    self.hyper = Hyperparameters(**options)
    self.eos_id, self.pad_id = eos_id, pad_id
    self.has_reward_model = 'reward_model' in models
    self.score = score or rewards.from_model(models['reward_model'])
    self.programs = {
      'rollout': jax.jit(self.rollout),
      'experience': jax.jit(self.experience),
    }
    self._summarize = jax.jit(self.summarize)
    self._take = jax.jit(
      lambda rows, index: jax.tree.map(lambda x: x[index], rows)
    )
    self._adapt = jax.jit(self._adapted)

  def init(self, key, start):
    frozen = {'reference': start['policy']}
    if 'reward_model' in start:
      value = frozen['reward_model'] = start['reward_model']
    else:
      head = heads.init_scalar_head(key, self.config.d_model)
      value = heads.with_head(start['policy'], head)
    return {'policy': start['policy'], 'value': value}, frozen

  def extras(self):
    return {'kl_coef': jnp.asarray(self.hyper.kl_coef, jnp.float32)}

  def exports(self, state):
    exports = {
      'model': base.Model(self.config, state.params['policy']),
      'value_model': base.Model(self.value_config, state.params['value']),
    }
    if state.ema:
      exports['model_ema'] = base.Model(self.config, state.ema['policy'])
    return exports

  # Rollouts, scores and advantages: what an iteration learns from.

  def prepare(self, state, batch, key, lap=clock.no_lap):
    """Answers the prompts, scores the answers, computes advantages.

    The batch holds {'prompts': prompt rows} and, for PPO-ptx, {'ptx': language
    rows}, as many times more of them as the minibatches share out.
    A row's answer depends on (iteration, row) only, not on how many rows are
    answered at a time.
    """
    prompts = {k: batch['prompts'][k] for k in ('prompts', 'prompt_mask')}
    keys = decode.row_keys(key, prompts['prompts'].shape[0])
    size = self.hyper.rollout_batch_size or keys.shape[0]
    chunks = []
    lap('train', state.params)
    for start in range(0, keys.shape[0], size):
      chunk = slice(start, start + size)
      rows = {k: v[chunk] for k, v in prompts.items()}
      rows = _placed_like(prompts['prompts'], rows)
      rows |= self.programs['rollout'](
        state.params['policy'], rows, keys[chunk]
      )
      lap('rollout', rows)
      scores = self.score(
        sharding.on_device(state.frozen.get('reward_model')),
        rows['prompts'],
        rows['prompt_mask'],
        rows['responses'],
        rows['response_mask'],
      )
      chunks.append(
        self.programs['experience'](
          state.params,
          sharding.on_device({'reference': state.frozen['reference']}),
          state.extras,
          rows,
          scores,
        )
      )
      lap('score', chunks[-1])
    episodes = chunks[0]
    if len(chunks) > 1:
      episodes = jax.tree.map(lambda *x: jnp.concatenate(x), *chunks)
    episodes, metrics = self._summarize(episodes, state.extras)
    episodes = _placed_like(prompts['prompts'], episodes)
    lap('score', episodes)
    return {'episodes': episodes, 'ptx': batch.get('ptx', {})}, metrics

  def rollout(
    self, policy: base.PyTree, rows: base.Batch, keys: jax.Array
  ) -> Rows:
    """Samples one response to each prompt, with the sampler's log-probs."""
    hyper = self.hyper
    samples = decode.sample(
      self.config,
      policy,
      rows['prompts'],
      rows['prompt_mask'],
      keys,
      max_new_tokens=hyper.max_response_length,
      eos_id=self.eos_id,
      pad_id=self.pad_id,
      temperature=hyper.temperature,
    )
    return {
      'responses': samples.tokens,
      'response_mask': samples.mask,
      'logprobs': samples.logprobs,
    }

  def policy_logprobs(self, params: base.PyTree, rows: base.Batch) -> jax.Array:
    """f32[B, R], log-probability of each response token under a policy."""
    return logprobs_lib.response_logprobs(
      self.config, params, rows, temperature=self.hyper.temperature
    )

  def values(self, params: base.PyTree, rows: base.Batch) -> jax.Array:
    """f32[B, R], value of the state before each response token."""
    tokens, mask = logprobs_lib.joined(rows)
    P = rows['prompts'].shape[1]
    hidden = transformer.hidden(
      self.value_config, params['transformer'], tokens, mask
    )
    return heads.scalar_head(params['head'], hidden[:, P - 1 : -1])

  def experience(
    self,
    params: base.PyTree,
    frozen: base.PyTree,
    extras: base.PyTree,
    rows: Rows,
    scores: jax.Array,
  ) -> Rows:
    """Adds KL, rewards, values, returns and advantages to sampled rows.

    Where the sampler's log-probabilities are not the trainer's, these replace
    them.
    """
    hyper, mask = self.hyper, rows['response_mask']
    if not logprobs_lib.sampler_is_exact(self.config):
      found = self.policy_logprobs(params['policy'], rows)
      rows = rows | {'logprobs': jnp.where(mask, found, 0.0)}
    ref_logprobs = self.policy_logprobs(frozen['reference'], rows)
    values = jnp.where(mask, self.values(params['value'], rows), 0.0)
    ended = jnp.any(
      mask & (rows['responses'] == self.eos_id), axis=1
    )  # bool[B]
    final_scores = penalize_missing_eos(
      scores, ended, hyper.missing_eos, hyper.missing_eos_value
    )
    token_rewards = policy_gradient.kl_penalized_rewards(
      final_scores,
      rows['logprobs'],
      ref_logprobs,
      mask,
      kl_coef=extras['kl_coef'],
    )
    advantages, returns = policy_gradient.gae(
      token_rewards,
      values,
      mask,
      discount=hyper.discount,
      gae_lambda=hyper.gae_lambda,
    )
    kl = jnp.where(mask, rows['logprobs'] - ref_logprobs, 0.0)
    return rows | {
      'scores': scores,
      'final_scores': final_scores,
      'ended': ended,
      'kl': jnp.sum(kl, axis=1),
      'values': values,
      'returns': returns,
      'advantages': advantages,
    }

  def summarize(
    self, episodes: Rows, extras: base.PyTree
  ) -> tuple[Rows, base.Metrics]:
    """Whitens advantages over all episodes, and sums the episodes up."""
    mask = episodes['response_mask']
    if self.hyper.whiten_advantages:
      advantages = policy_gradient.whiten(episodes['advantages'], mask)
      episodes = episodes | {'advantages': advantages}
    lengths = jnp.sum(mask, axis=1).astype(jnp.float32)
    scores, kl = episodes['scores'], episodes['kl']
    rlhf_reward = episodes['final_scores'] - extras['kl_coef'] * kl
    returns, values = episodes['returns'], episodes['values']
    weights = language.normalized_weights(mask)
    mean = functools.partial(_weighted_mean, weights)
    residual = mean((returns - values - mean(returns - values)) ** 2)
    variance = mean((returns - mean(returns)) ** 2)
    metrics = {
      'objective/scores': jnp.mean(scores),
      'objective/scores_std': jnp.std(scores),
      'objective/scores_min': jnp.min(scores),
      'objective/scores_max': jnp.max(scores),
      'objective/kl': jnp.mean(kl),
      'objective/kl_coef': extras['kl_coef'],
      'objective/entropy': mean(-episodes['logprobs']),
      'objective/rlhf_reward': jnp.mean(rlhf_reward),
      'rollout/response_length': jnp.mean(lengths),
      'rollout/eos_share': jnp.mean(episodes['ended'].astype(jnp.float32)),
      'rollout/tokens': jnp.sum(lengths),
      'rollout/episodes': jnp.asarray(lengths.size, jnp.float32),
      'ppo/val/explained_variance': 1.0 - residual / (variance + 1e-8),
      'ppo/returns_mean': mean(returns),
      'ppo/values_mean': mean(values),
    }
    return episodes, metrics

  def adapt(self, extras, metrics):
    if not self.hyper.kl_target:
      return extras
    return self._adapt(
      extras, metrics['objective/kl'], metrics['rollout/episodes']
    )

  def _adapted(self, extras, kl, num_episodes):
    coef = policy_gradient.adaptive_kl_coef(
      extras['kl_coef'],
      kl,
      target=self.hyper.kl_target,
      horizon=self.hyper.kl_horizon,
      num_episodes=num_episodes,
    )
    return extras | {'kl_coef': coef}

  # The update.

  def flops(self, batch):
    return counts.ppo(
      batch,
      self.config,
      self.value_config,
      inner_epochs=self.hyper.inner_epochs,
      has_reward_model=self.has_reward_model,
    )

  def minibatches(self, batch, key):
    """Yields random parts of the episodes, each with its pretraining rows."""
    for epoch in range(self.hyper.inner_epochs):
      parts = {
        name: self._parts(rows, jax.random.fold_in(key, epoch))
        for name, rows in batch.items()
      }
      for i in range(self.hyper.num_minibatches):
        yield {
          name: self._part(rows, parts[name][i]) if rows else {}
          for name, rows in batch.items()
        }

  def _part(self, rows, index):
    return _placed_like(next(iter(rows.values())), self._take(rows, index))

  def _parts(self, rows, key):
    """i32[minibatches, rows each], a random partition of the rows."""
    if not rows:
      return None
    size = next(iter(rows.values())).shape[0]
    order = jax.random.permutation(key, size)
    return order.reshape(self.hyper.num_minibatches, -1)

  def normalize(self, batch, key):
    """Adds token weights that sum to one, for episodes and pretraining."""
    del key
    episodes, ptx = batch['episodes'], batch['ptx']
    weights = language.normalized_weights(episodes['response_mask'])
    episodes = episodes | {'weights': weights}
    if ptx:
      weights = language.normalized_weights(ptx['loss_mask'][:, 1:])
      ptx = ptx | {'weights': weights}
    return {'episodes': episodes, 'ptx': ptx}

  def loss(self, params, frozen, batch, key):
    """PPO's clipped losses plus gamma times the language-model loss."""
    del frozen, key
    rows, hyper = batch['episodes'], self.hyper
    policy_loss, metrics = policy_gradient.clipped_policy_loss(
      self.policy_logprobs(params['policy'], rows),
      rows['logprobs'],
      rows['advantages'],
      rows['weights'],
      clip_eps=hyper.clip_eps,
    )
    value_loss, value_metrics = policy_gradient.clipped_value_loss(
      self.values(params['value'], rows),
      rows['values'],
      rows['returns'],
      rows['weights'],
      clip_eps=hyper.value_clip_eps,
    )
    total = policy_loss + value_loss
    metrics = metrics | value_metrics
    if batch['ptx']:
      ptx_loss = self.ptx_loss(params['policy'], batch['ptx'])
      total += hyper.ptx_coef * ptx_loss
      metrics['ptx/loss'] = ptx_loss
    return total, metrics

  def ptx_loss(self, policy: base.PyTree, ptx: base.Batch) -> jax.Array:
    """f32[], -sum_t w_t log pi(x_t | x_<t) over pretraining text."""
    tokens = ptx['tokens']
    hidden = transformer.hidden(self.config, policy, tokens, ptx['mask'])
    logprobs = logprobs_lib.target_logprobs(
      self.config, policy, hidden[:, :-1], tokens[:, 1:]
    )
    return language.language_model_loss(logprobs, ptx['weights'])[0]


def _placed_like(rows, tree):
  """Spreads a tree of rows over the devices as the array `rows` is spread.

  Picking rows leaves all that were picked on every device, and each would then
  do the work of all.
  """
  if isinstance(rows, jax.Array) and len(rows.devices()) > 1:
    tree = jax.device_put(tree, rows.sharding)
  return tree


def penalize_missing_eos(
  scores: jax.Array, ended: jax.Array, rule: str, value: float
) -> jax.Array:
  """Scores f32[B] after the rule for responses that never ended.

  Args:
    scores: f32[B], of the reward model.
    ended: bool[B], whether the response has its end-of-text token.
    rule: 'keep', 'subtract' or 'replace' (Hyperparameters.missing_eos).
    value: reward units.
  """
  if rule == 'keep':
    return scores
  instead = (
    scores - value if rule == 'subtract' else jnp.full_like(scores, value)
  )
  return jnp.where(ended, scores, instead)


def _weighted_mean(weights, x):
  return jnp.sum(weights * x)
