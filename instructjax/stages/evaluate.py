"""What each task is measured by while it trains and when it is done.

`watching(...)` gives the numbers of metrics.jsonl, on at most
config.max_eval_rows rows; `final(...)` the stage's summary, on all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
import functools
from typing import Any

import numpy as np

from instructjax import sharding
from instructjax.data import loader
from instructjax.evaluation import comparisons
from instructjax.evaluation import language
from instructjax.evaluation import rollouts
from instructjax.evaluation import statistics

Numbers = dict[str, float]


def batches(rows: Mapping, mesh) -> Iterator:
  """Yields (batch on the devices, row mask), each row once, in order."""
  unit = sharding.num_row_shards(mesh)
  size = min(64, len(next(iter(rows.values()))))
  size = -(-size // unit) * unit
  pick = functools.partial(sharding.own_rows, mesh=mesh)
  for pair in loader.eval_batches(rows, size, pick):
    yield sharding.put_batch(pair, mesh)


class Evaluation:
  """A stage's evaluators, compiled once each.

  Args:
    config: the stage's.
    data: build.Data.
    task: the stage's task.
    mesh: where batches go.
    tokenizer: for texts and special ids.
  """

  def __init__(self, config: Mapping[str, Any], data, task, mesh, tokenizer):
    self.config, self.data, self.task = config, data, task
    self.mesh, self.tokenizer = mesh, tokenizer
    self.kind = config['task']
    if self.kind == 'reward_model':
      self.scores = comparisons.make_scores(task.config)
    else:
      self.loss = language.make_loss(task.config)
    hyper = config.get('hyper', {})
    length = hyper.get('max_response_length', config.get('max_response_length'))
    if self.kind != 'reward_model':
      self.rollouts = rollouts.make_rollouts(
        task.config,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        max_response_length=length or 64,
        temperature=hyper.get('temperature', 1.0),
        score=getattr(task, 'score', None),
        seed=config['seed'],
      )

  def batches(self, rows: Mapping, limit: int | None = None) -> Iterator:
    """Yields (batch on the devices, row mask) of the first `limit` rows."""
    if limit is not None:
      rows = {k: v[:limit] for k, v in rows.items()}
    return batches(rows, self.mesh)

  def watch(self, state) -> Numbers:
    """Returns the validation numbers of a training state."""
    limit = self.config['max_eval_rows']
    valid = {k: v for k, v in self.data.valid.items() if v}
    if self.kind == 'sft':
      rows = valid.get(self.config['train_on'])
      if rows is None:
        return {}
      loss = self.loss(state.params['policy'], self.batches(rows, limit))
      return {'validation/loss': loss}
    if self.kind == 'reward_model':
      return self._accuracy(state, valid.get('comparisons'), limit)
    numbers = {}
    if 'pretraining' in valid:
      numbers['validation/pretraining_loss'] = self.loss(
        state.params['policy'], self.batches(valid['pretraining'], limit)
      )
    if 'prompts' in valid:
      found = self.answers(state, valid['prompts'], limit)
      numbers |= {
        'validation/scores': float(found['scores'].mean()),
        'validation/kl': float(found['kl'].mean()),
        'validation/response_length': float(found['length'].mean()),
        'validation/eos_share': float(found['ended'].mean()),
      }
    return numbers

  def _accuracy(self, state, rows, limit) -> Numbers:
    if not rows:
      return {}
    scored = self.scores(
      state.params['reward_model'], self.batches(rows, limit)
    )
    right, count = comparisons.pairs(scored)
    accuracy = float(right.sum() / max(count.sum(), 1))
    return {'validation/reward_model_accuracy': accuracy}

  def answers(self, state, rows, limit=None, *, policy=None):
    """Returns rollouts on prompts, by the trained policy or another."""
    return self.rollouts(
      state.params['policy'] if policy is None else policy,
      self.batches(rows, limit),
      reward_params=sharding.on_device(state.frozen.get('reward_model')),
      reference=sharding.on_device(state.frozen['reference']),
    )

  def final(self, state, rivals: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the summary of a finished stage, with 95% intervals.

    Args:
      state: the last one.
      rivals: {name: parameters} of further policies to measure beside PPO's.
    """
    valid = {k: v for k, v in self.data.valid.items() if v}
    summary = {}
    if self.kind == 'sft' and self.config['train_on'] in valid:
      rows = valid[self.config['train_on']]
      loss = self.loss(state.params['policy'], self.batches(rows))
      summary['validation_loss'] = loss
    if self.kind == 'reward_model' and 'comparisons' in valid:
      batches = self.batches(valid['comparisons'])
      scored = self.scores(state.params['reward_model'], batches)
      summary |= comparisons.summarize(
        scored, self.data.labelers, seed=self.config['seed']
      )
    if self.kind == 'ppo':
      summary |= self._side_by_side(state, valid, rivals)
    return summary

  def _side_by_side(self, state, valid, rivals) -> dict[str, Any]:
    """Policy, its average, the policy it started from, and the rivals."""
    policies = {
      'policy': state.params['policy'],
      'reference': sharding.on_device(state.frozen['reference']),
      **rivals,
    }
    if state.ema:
      policies['policy_ema'] = state.ema['policy']
    summary, scores = {}, {}
    for name, params in policies.items():
      numbers = summary[name] = {}
      if 'pretraining' in valid:
        batches = self.batches(valid['pretraining'])
        numbers['pretraining_loss'] = self.loss(params, batches)
      if 'prompts' in valid:
        found = self.answers(state, valid['prompts'], policy=params)
        scores[name] = found['scores']
        numbers |= {
          key: statistics.bootstrap(found[key], seed=self.config['seed'])
          for key in ('scores', 'kl', 'length', 'ended')
        }
    for name in {'policy', 'policy_ema'} & scores.keys():
      for rival in {'reference', *rivals} & scores.keys():
        gain = statistics.bootstrap(
          scores[name] - scores[rival], seed=self.config['seed']
        )
        summary[name][f'scores_gain_over_{rival}'] = gain
    return summary

  # Samples that are followed through training.

  def sample_rows(self) -> tuple[Mapping, list[str]] | None:
    """Returns the fixed rows of samples.jsonl and their prompts' texts."""
    count = self.config.get('num_samples', 0)
    valid = self.data.valid
    if self.kind == 'reward_model' or not count:
      return None
    if valid.get('prompts'):
      rows = {k: v[:count] for k, v in valid['prompts'].items()}
    elif valid.get('demonstrations'):
      rows = self._prompts_of(valid['demonstrations'], count)
    elif valid.get('pretraining'):
      tokens = valid['pretraining']['tokens'][:count, :16]
      rows = {'prompts': tokens, 'prompt_mask': np.ones_like(tokens, bool)}
    else:
      return None
    texts = [
      self.tokenizer.decode(ids[keep].tolist())
      for ids, keep in zip(rows['prompts'], rows['prompt_mask'], strict=True)
    ]
    return rows, texts

  def _prompts_of(self, rows, count):
    """The prompt half of demonstration rows."""
    length = self.config['max_prompt_length']
    return {
      'prompts': rows['tokens'][:count, :length],
      'prompt_mask': rows['mask'][:count, :length],
    }

  def samples(self, iteration: int, state) -> list[dict[str, Any]]:
    """Returns the lines of samples.jsonl for a state."""
    if self.kind == 'reward_model':
      return self._scored_comparisons(iteration, state)
    chosen = self.sample_rows()
    if chosen is None:
      return []
    rows, prompts = chosen
    found = self.rollouts(
      state.params['policy'],
      self.batches(rows),
      reward_params=sharding.on_device(state.frozen.get('reward_model')),
    )
    responses = rollouts.texts(found, self.tokenizer.decode)
    lines = []
    for i, (prompt, response) in enumerate(
      zip(prompts, responses, strict=True)
    ):
      line = {'iteration': iteration, 'prompt': prompt, 'response': response}
      if 'scores' in found:
        line['score'] = float(found['scores'][i])
      lines.append(line)
    return lines

  def _scored_comparisons(self, iteration, state):
    rows = self.data.valid.get('comparisons')
    count = self.config['num_samples']
    if not rows or not count:
      return []
    rows = {k: v[:count] for k, v in rows.items()}
    found = self.scores(state.params['reward_model'], self.batches(rows))
    decode = self.tokenizer.decode
    lines = []
    for i in range(len(rows['prompts'])):
      keep = rows['mask'][i]
      texts = zip(rows['responses'][i], rows['response_mask'][i], strict=True)
      responses = [decode(ids[m].tolist()) for ids, m in texts]
      prompt = rows['prompts'][i][rows['prompt_mask'][i]]
      lines.append(
        {
          'iteration': iteration,
          'prompt': decode(prompt.tolist()),
          'responses': [r for r, k in zip(responses, keep, strict=True) if k],
          'ranks': rows['ranks'][i][keep].tolist(),
          'scores': found['scores'][i][keep].tolist(),
        }
      )
    return lines


Hook = Callable[[int, Any, Mapping[str, Any]], None]


def metrics_hook(evaluation: Evaluation) -> Hook:
  """Adds the validation numbers to the iteration's metrics."""

  def hook(iteration: int, state, metrics) -> None:
    del iteration
    for name, value in evaluation.watch(state).items():
      metrics[name] = [value]

  return hook
