"""Runs one stage from its settled config to its summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import functools
import json
import logging
import pathlib
import shutil
from typing import Any
import uuid

import jax

from instructjax import distributed
from instructjax import errors
from instructjax import metrics as metrics_lib
from instructjax import sharding
from instructjax import trainer
from instructjax.checkpoints import orbax_io
from instructjax.data import feeds as feeds_lib
from instructjax.data import tokenizer as tokenizer_lib
from instructjax.data import vocabulary
from instructjax.evaluation import warnings
from instructjax.stages import build
from instructjax.stages import evaluate
from instructjax.stages import finish
from instructjax.stages import integrity
from instructjax.stages import profile
from instructjax.stages import select
from instructjax.stages import state as state_lib
from instructjax.stages import workdir

log = logging.getLogger('instructjax')


@dataclasses.dataclass
class Stage:
  """What the functions below share about one stage."""

  root: pathlib.Path
  config: dict[str, Any]
  mesh: jax.sharding.Mesh
  feeds: feeds_lib.Feeds
  tokenizer: vocabulary.Tokenizer
  starts: dict[str, workdir.Start]
  data: build.Data
  task: Any
  total: int
  evaluation: evaluate.Evaluation

  @property
  def folder(self) -> pathlib.Path:
    return self.root / self.config['stage']


def train(
  root: pathlib.Path,
  config: dict[str, Any],
  feeds: feeds_lib.Feeds,
  should_stop: Callable[[], bool],
) -> None:
  """Trains a stage, from where it stopped, and writes what it hands on.

  Args:
    root: the run's folder.
    config: from workdir.settle.
    feeds: the run's records.
    should_stop: asked after each iteration; the state is saved then.
  """
  stage = prepare(root, config, feeds)
  checkpointer = orbax_io.Checkpointer(
    stage.folder / 'checkpoints', keep=config['keep_checkpoints']
  )
  try:
    state, optimizer, rates = start(stage, checkpointer)
    state = loop(stage, state, optimizer, rates, checkpointer, should_stop)
    save(checkpointer, state)
    checkpointer.wait()
    if int(state.iteration) == stage.total:
      finish.finish(stage, state)
  finally:
    checkpointer.close()


def prepare(
  root: pathlib.Path, config: dict[str, Any], feeds: feeds_lib.Feeds
) -> Stage:
  """Encodes the data, and builds all that needs no parameters.

  Only when that has worked the stage counts as started, so a mistake found
  here can be mended on the command line.
  """
  is_new = not vocabulary.find(root)
  try:
    stage = _prepare(root, config, feeds)
  except errors.UserError:
    if is_new and distributed.is_primary():
      vocabulary.remove(root)
    raise
  distributed.on_primary(_begin, stage)
  return stage


def _begin(stage: Stage) -> None:
  """Writes down that a stage has started, and with what."""
  integrity.begin(stage.root, stage.config, stage.feeds)
  workdir.write_config(stage.root, stage.config)
  orbax_io.write_json(stage.folder / 'data.json', stage.feeds.counts)
  bad = ''.join(json.dumps(row) + '\n' for row in stage.feeds.bad_rows())
  if bad:
    (stage.folder / 'bad_rows.jsonl').write_text(bad)


def _prepare(root, config, feeds) -> Stage:
  mesh = sharding.make_mesh(**config['mesh'])
  feeds.counts.clear()
  feeds.known = workdir.read_data(root, config['stage'])
  tokenizer = find_tokenizer(root, config, feeds)
  starts = find_starts(root, config, tokenizer, feeds, mesh)
  models = {role: start.config for role, start in starts.items()}
  build.check_lengths(models, build.longest(config, feeds))
  feeds.used.clear()  # Models that were compared are no matter of this stage.
  data = build.data(config, feeds, tokenizer)
  task = build.task(config, models, tokenizer)
  return Stage(
    root,
    config,
    mesh,
    feeds,
    tokenizer,
    starts,
    data,
    task,
    build.num_iterations(config, data),
    evaluate.Evaluation(config, data, task, mesh, tokenizer),
  )


def find_tokenizer(
  root: pathlib.Path, config: Mapping[str, Any], feeds: feeds_lib.Feeds
) -> vocabulary.Tokenizer:
  """Returns the run's tokenizer: its own, its start's, or a new one."""
  if vocabulary.find(root):
    return workdir.load_tokenizer(root)
  for value in workdir.roles(config).values():
    if workdir.is_path(value):
      folder = workdir.model_folder(root, value)
      workdir.describe(folder)  # says what is wrong with the folder
      found = workdir.load_tokenizer(folder)
      distributed.on_primary(vocabulary.keep, found, root)
      return found
  size, path = config['tokenizer']['vocab_size'], root / vocabulary.FILE
  train = tokenizer_lib.Tokenizer.train
  distributed.on_primary(lambda: train(feeds.texts(), size, str(path)))
  return workdir.load_tokenizer(root)


def find_starts(root, config, tokenizer, feeds, mesh):
  """Returns {role: workdir.Start} of the models a stage starts from."""
  options = build.model_options(config, mesh)
  starts = {}
  for role, value in workdir.roles(config).items():
    if not value:
      model = build.drawn(config, role, tokenizer.vocab_size, mesh)
      starts[role] = workdir.Start(None, model, 'policy', {})
      continue
    if role == 'policy' and not workdir.is_path(value):
      select.choose_epoch(root, value, config, tokenizer, feeds, mesh)
    starts[role] = workdir.find_start(root, role, value, **options)
    check_tokenizer(root, starts[role], tokenizer)
  return starts


def check_tokenizer(
  root: pathlib.Path, start: workdir.Start, tokenizer: vocabulary.Tokenizer
) -> None:
  """Raises UserError if a model was trained with another tokenizer."""
  theirs = workdir.load_tokenizer(start.folder)
  if theirs.fingerprint() != tokenizer.fingerprint():
    raise errors.UserError(
      f'{start.folder} was trained with another tokenizer than'
      f' {vocabulary.find(root)}: start a new --workdir from it.'
    )
  size = start.config.vocab_size
  workdir.check_vocabulary(start.folder, size, tokenizer)


def start(stage: Stage, checkpointer: orbax_io.Checkpointer):
  """Returns (state, optimizer, rates): restored if possible, else new."""
  config = stage.config
  steps = stage.total * build.steps_per_iteration(config)
  rates = build.schedules(config, steps)
  optimizer = build.optimizer(config, rates)
  parts = config, stage.task, optimizer, stage.mesh
  shapes = {role: start.abstract() for role, start in stage.starts.items()}
  abstract = state_lib.abstract(*parts, shapes)
  frozen_folder = stage.folder / 'frozen'
  trained = checkpointer.restore(abstract.replace(frozen={}))
  if trained is not None:
    frozen = {}
    if abstract.frozen:
      frozen = orbax_io.load_tree(frozen_folder, abstract.frozen)
    state = trained.replace(frozen=frozen)
    log.info('%s goes on at iteration %d.', config['stage'], state.iteration)
    return state, optimizer, rates
  loaded = {role: x.load(stage.mesh) for role, x in stage.starts.items()}
  begin = jax.jit(
    functools.partial(state_lib.begin, *parts),
    out_shardings=jax.tree.map(lambda x: x.sharding, abstract),
  )
  state = begin(loaded, jax.random.fold_in(state_lib.root_key(config), 0))
  if state.frozen:
    # A run killed before its first checkpoint may have left those of models
    # that have changed since.
    distributed.on_primary(shutil.rmtree, frozen_folder, ignore_errors=True)
    orbax_io.save_tree(frozen_folder, state.frozen)
  return state, optimizer, rates


def save(checkpointer: orbax_io.Checkpointer, state) -> None:
  """Saves all of a state but the frozen networks, which are saved once."""
  checkpointer.save(int(state.iteration), state.replace(frozen={}))


def loop(stage, state, optimizer, rates, checkpointer, should_stop):
  """Trains to the last iteration, or until told to stop."""
  config = stage.config
  begin = int(state.iteration)
  step = state_lib.train_step(config, stage.task, optimizer, state)
  metrics_log = open_log(stage, begin)
  steps = config['profile_steps'] if distributed.is_primary() else ''
  profiler = profile.Profile(
    stage.folder / 'profile', steps, begin, stage.total
  )
  own = functools.partial(sharding.own_rows, mesh=stage.mesh)
  batches = (
    sharding.put_batch(batch, stage.mesh)
    for batch in stage.data.source.from_iteration(begin, own)
  )
  try:
    return trainer.fit(
      state,
      stage.task,
      step,
      batches,
      num_iterations=stage.total,
      key=jax.random.fold_in(state_lib.root_key(config), 1),
      hooks=profiler.around(hooks(stage, rates, metrics_log, checkpointer)),
      should_stop=should_stop,
      lap=metrics_log.clock.lap,
    )
  finally:
    profiler.close()
    metrics_log.close()


def open_log(stage: Stage, begin: int) -> metrics_lib.Log:
  """Opens the stage's metrics, with W&B and early warnings if they apply."""
  if not distributed.is_primary():
    return metrics_lib.Silence()
  config, wandb = stage.config, None
  if config['wandb_project']:
    import wandb as package  # an extra

    # An interrupted stage goes on in the W&B run it began.
    path = stage.folder / 'wandb_id.txt'
    if not path.exists():
      path.write_text(uuid.uuid4().hex)
    wandb = package.init(
      project=config['wandb_project'],
      name=config['stage'],
      config=config,
      id=path.read_text(),
      resume='allow',
    )
  watch = None
  if config['task'] == 'ppo':
    known = stage.starts.get('reward_model')
    scores = known.description.get('training_scores') if known else None
    watch = warnings.Watch((scores['min'], scores['max']) if scores else None)
  return metrics_lib.MetricsLog(
    stage.folder,
    config['stage'],
    start=begin,
    total=stage.total,
    log_every=config['log_every_iterations'],
    watch=watch.check if watch else None,
    wandb=wandb,
    **build.amounts(config, stage.data, stage.mesh),
  )


def hooks(stage, rates, metrics_log, checkpointer) -> list[trainer.Hook]:
  """The stage's hooks, in the order that makes any moment fit to be killed:
  numbers, samples and epoch models are on disk before the checkpoint that
  will not make them again."""
  config, timed = stage.config, metrics_log.clock.others

  def every(n, hook):
    return trainer.every(n, timed(hook), last=stage.total)

  found = [
    every(config['log_every_iterations'], _rates_hook(config, rates)),
    every(
      config['eval_every_iterations'], evaluate.metrics_hook(stage.evaluation)
    ),
    metrics_log,
    every(config['sample_every_iterations'], _samples_hook(stage)),
  ]
  if config.get('save_epochs'):
    found.append(select.epochs_hook(stage, timed))
  found.append(
    every(
      config['checkpoint_every_iterations'],
      lambda iteration, state, metrics: save(checkpointer, state),
    )
  )
  return found


def _rates_hook(config, rates) -> trainer.Hook:
  """Adds the learning rate of each network."""
  steps = build.steps_per_iteration(config)

  def hook(iteration, state, metrics):
    del state
    for name, rate in rates.items():
      metrics[f'optim/learning_rate/{name}'] = [rate(iteration * steps - 1)]

  return hook


def _samples_hook(stage: Stage) -> trainer.Hook:
  """Appends the fixed prompts' answers to samples.jsonl."""
  path = stage.folder / 'samples.jsonl'

  def hook(iteration, state, metrics):
    del metrics
    lines = stage.evaluation.samples(iteration, state)
    if not distributed.is_primary():
      return
    metrics_lib.keep_until(path, iteration - 1)
    with path.open('a') as file:
      file.writelines(json.dumps(line) + '\n' for line in lines)

  return hook
