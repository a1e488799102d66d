"""Which epoch of supervised fine-tuning is handed on.

Validation loss overfits after an epoch or so while the reward model's score of
the answers still rises; the paper therefore chose by that score (section 3.5,
appendix C.1). A run has no reward model while it fine-tunes, so the choice is
made twice: by validation loss when the stage ends, and again by reward, where
config.select_by asks for it, by the first stage that starts from it once the
run has a reward model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import json
import logging
import pathlib
import shutil
from typing import Any

from instructjax import distributed
from instructjax import rewards
from instructjax import sharding
from instructjax.checkpoints import orbax_io
from instructjax.data import vocabulary
from instructjax.evaluation import rollouts
from instructjax.evaluation import statistics
from instructjax.stages import build
from instructjax.stages import evaluate
from instructjax.stages import workdir

log = logging.getLogger('instructjax')
REWARD_MODEL = 'reward_model'


def epochs_hook(stage, timed: Callable[[Any], Any]) -> Any:
  """Returns a hook that saves the model at the end of every epoch.

  Args:
    stage: train.Stage.
    timed: clock.Clock.others, which waits for the device.
  """
  epochs = int(stage.config['num_epochs'])
  ends = {stage.data.epoch(n): n for n in range(1, epochs + 1)}
  ends[stage.total] = max(epochs, 1)

  def save(iteration, state, metrics):
    del metrics
    model = stage.task.exports(state)['model']
    numbers = stage.evaluation.watch(state)
    description = {
      'config': model.config.to_dict(),
      'kind': 'policy',
      'stage': stage.config['stage'],
      'iteration': iteration,
      **workdir.family(stage.starts),
      'epoch': ends[iteration],
      'validation_loss': numbers.get('validation/loss'),
    }
    orbax_io.save_model(
      stage.folder / 'epochs' / f'{ends[iteration]:03d}',
      model.params,
      description,
      tokenizer=vocabulary.find(stage.root),
    )

  save = timed(save)

  def hook(iteration, state, metrics):
    if iteration in ends:
      save(iteration, state, metrics)

  return hook


def _epochs(folder: pathlib.Path) -> dict[int, pathlib.Path]:
  """Returns {epoch: model folder} of a stage."""
  found = sorted((folder / 'epochs').glob('[0-9]*'))
  return {int(path.name): path for path in found}


def hand_on_first(folder: pathlib.Path, by: str) -> dict[str, Any]:
  """Hands on an epoch when the stage ends.

  Args:
    folder: of the stage.
    by: config.select_by; 'last' takes the last epoch, all else the one with
      the lowest validation loss.

  Returns:
    {'by', 'epoch', 'validation_loss': {epoch: nats per token}}.
  """
  epochs = _epochs(folder)
  losses = {
    epoch: orbax_io.describe_model(path)['validation_loss']
    for epoch, path in epochs.items()
  }
  known = {k: v for k, v in losses.items() if v is not None and by != 'last'}
  best = min(known, key=known.get) if known else max(epochs)
  _hand_on(folder, epochs[best])
  return {
    'by': 'validation_loss' if known else 'last',
    'epoch': best,
    'validation_loss': losses,
  }


def choose_epoch(
  root: pathlib.Path,
  name: str,
  asking: Mapping[str, Any],
  tokenizer,
  feeds,
  mesh,
) -> None:
  """Chooses again by reward, if the stage asks for it and it is possible.

  The epoch whose answers to the validation prompts have the best mean reward
  replaces RUN/<stage>/model; `epochs/selection.json` keeps all means.

  Args:
    root: the run's folder.
    name: of the stage that has epochs.
    asking: config of the stage that runs, and says how models run.
    tokenizer, feeds: the run's.
    mesh: the devices, over which models and batches are split.
  """
  folder = root / name
  config = json.loads((folder / 'config.json').read_text())
  done = folder / 'epochs' / 'selection.json'
  wanted = config.get('select_by') == 'reward_model'
  possible = (
    workdir.finished(root, REWARD_MODEL) and feeds.spec('prompts') is not None
  )
  if not wanted or not possible or done.exists() or not _epochs(folder):
    return
  valid = feeds.prompts(tokenizer, config['max_prompt_length'])[1]
  if not valid:
    return
  options = build.model_options(asking, mesh) | {'dropout': 0.0}
  judge = workdir.find_start(root, 'reward_model', REWARD_MODEL, **options)
  models = {
    epoch: workdir.find_start(root, 'policy', str(path.absolute()), **options)
    for epoch, path in _epochs(folder).items()
  }
  first = next(iter(models.values()))
  for role, start in (('reward_model', judge), ('policy', first)):
    sharding.check_params(role, start.abstract(), mesh)
  reward_params = judge.load(mesh)
  answer = rollouts.make_rollouts(
    first.config,
    eos_id=tokenizer.eos_id,
    pad_id=tokenizer.pad_id,
    max_response_length=config['max_response_length'],
    score=rewards.from_model(judge.config),
    seed=config['seed'],
  )
  means = {}
  for epoch, start in models.items():
    batches = evaluate.batches(valid, mesh)
    found = answer(start.load(mesh), batches, reward_params=reward_params)
    means[epoch] = statistics.bootstrap(found['scores'], seed=config['seed'])
  best = max(means, key=lambda epoch: means[epoch]['mean'])

  def hand_on():
    _hand_on(folder, _epochs(folder)[best])
    found = {'by': 'reward_model', 'epoch': best, 'reward': means}
    orbax_io.write_json(done, found)

  distributed.on_primary(hand_on)
  log.info('%s: epoch %d has the best reward.', name, best)


def _hand_on(folder: pathlib.Path, epoch: pathlib.Path) -> None:
  """Makes an epoch's model the stage's result."""
  temporary = orbax_io.part_of(folder / 'model')
  shutil.copytree(epoch, temporary)
  shutil.rmtree(folder / 'model', ignore_errors=True)
  temporary.rename(folder / 'model')
