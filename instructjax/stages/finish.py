"""What a stage leaves when it has trained: numbers, models and a summary."""

from __future__ import annotations

from collections.abc import Mapping
import logging
from typing import Any

import numpy as np

from instructjax import distributed
from instructjax import rewards
from instructjax.checkpoints import orbax_io
from instructjax.data import vocabulary
from instructjax.stages import build
from instructjax.stages import select
from instructjax.stages import workdir
from instructjax.tasks import reward_model

log = logging.getLogger('instructjax')


def finish(stage, state) -> None:
  """Measures the finished stage and writes its models and its summary.

  Args:
    stage: train.Stage.
    state: its last.
  """
  config, extra = stage.config, {}
  if config['task'] == 'reward_model':
    state, extra = _calibrate(stage, state)
  summary = stage.evaluation.final(state, _rivals(stage)) | extra
  for name, model in stage.task.exports(state).items():
    reward = config['task'] == 'reward_model' or name == 'value_model'
    description = {
      'config': model.config.to_dict(),
      'kind': 'reward' if reward else 'policy',
      'stage': config['stage'],
      'iteration': int(state.iteration),
      **workdir.family(stage.starts),
      **extra,
    }
    orbax_io.save_model(
      stage.folder / name,
      model.params,
      description,
      tokenizer=vocabulary.find(stage.root),
    )
  if config.get('save_epochs'):
    distributed.on_primary(_hand_on_epoch, stage, summary)
    _choose_epoch(stage, config['stage'])
  summary |= {'iterations': stage.total, 'step': int(state.step)}
  path = stage.folder / 'summary.json'
  distributed.on_primary(orbax_io.write_json, path, summary)
  log.info('%s finished.', config['stage'])


def _hand_on_epoch(stage, summary: dict[str, Any]) -> None:
  """Makes an epoch's model the stage's result, and says so in the summary."""
  chosen = select.hand_on_first(stage.folder, stage.config['select_by'])
  summary['epochs'] = chosen
  if 'validation_loss' in summary:  # of the model that is handed on
    summary['validation_loss_last'] = summary['validation_loss']
    summary['validation_loss'] = chosen['validation_loss'][chosen['epoch']]


def _choose_epoch(stage, name: str) -> None:
  select.choose_epoch(
    stage.root, name, stage.config, stage.tokenizer, stage.feeds, stage.mesh
  )


def _rivals(stage) -> dict[str, Any]:
  """The run's SFT policy, for PPO that started from another to be held to."""
  config, root = stage.config, stage.root
  if config['task'] != 'ppo' or config['init_from']['policy'] == 'sft':
    return {}
  if not workdir.finished(root, 'sft'):
    return {}
  _choose_epoch(stage, 'sft')
  options = build.model_options(config, stage.mesh)
  start = workdir.find_start(root, 'policy', 'sft', **options)
  if start.config != stage.task.config:
    return {}
  return {'sft': start.load(stage.mesh)}


def _calibrate(stage, state):
  """Puts the reward's zero at the demonstrations; records its range."""
  params = state.params['reward_model']
  extra = {}
  config = stage.config
  rows = stage.data.valid.get('demonstrations')
  if rows:
    score = rewards.from_model(stage.task.config)
    batches = (
      (_as_answers(batch, config['max_prompt_length']), mask)
      for batch, mask in stage.evaluation.batches(rows)
    )
    params, extra['calibration'] = reward_model.calibrate(
      score, params, batches
    )
  else:
    log.warning('no demonstrations: the reward keeps the zero it has.')
  state = state.replace(params={'reward_model': params})
  rows = stage.data.unpacked
  found = stage.evaluation.scores(
    params, stage.evaluation.batches(rows, config['max_eval_rows'])
  )
  scores = found['scores'][found['mask']]
  extra['training_scores'] = {
    name: float(getattr(np, name)(scores))
    for name in ('min', 'max', 'mean', 'std')
  }
  return state, extra


def _as_answers(batch: Mapping[str, Any], prompt_length: int):
  """Demonstration rows as prompts with responses."""
  return {
    'prompts': batch['tokens'][:, :prompt_length],
    'prompt_mask': batch['mask'][:, :prompt_length],
    'responses': batch['tokens'][:, prompt_length:],
    'response_mask': batch['mask'][:, prompt_length:],
  }
