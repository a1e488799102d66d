"""Asks the finished models of a microworld everything that is asked, once each.

RUN/evaluation/NAME.json keeps what a model answered, or how well a reward model
ranks, and of which model; so a model that comes later is asked alone, and one
that changed is asked again. The report is made of these files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import dataclasses
import functools
import json
import logging
import pathlib
import time
from typing import Any

import jax

from instructjax import distributed
from instructjax import errors
from instructjax import sharding
from instructjax.checkpoints import orbax_io
from instructjax.data import feeds as feeds_lib
from instructjax.data import prompts
from instructjax.data import records
from instructjax.data import vocabulary
from instructjax.evaluation import comparisons
from instructjax.evaluation import language
from instructjax.evaluation import measured
from instructjax.microworld import evaluation
from instructjax.microworld import files
from instructjax.microworld import prefix
from instructjax.microworld import world as world_lib
from instructjax.stages import answers
from instructjax.stages import build
from instructjax.stages import evaluate
from instructjax.stages import integrity
from instructjax.stages import workdir

# How a model is asked: as it was fine-tuned, as a page of the web, as a page
# that shows answers; a 'reward' model is asked for its judgment.
MANNERS = ('instruct', 'plain', 'prompted', 'reward')
# Accuracy -> the file of rankings it is measured on (stages/collect.py).
RANKINGS = {
  'accuracy': 'labelers_test.jsonl',
  'accuracy_heldout_labelers': 'labelers_heldout.jsonl',
}
log = logging.getLogger('instructjax')
Plain = Mapping[str, Any]
# Models of one config share their programs.
_make_loss = functools.lru_cache(language.make_loss)
_make_scores = functools.lru_cache(comparisons.make_scores)


@dataclasses.dataclass
class Asking:
  """What asking the models of a run takes.

  Attributes:
    root: the run's folder.
    config: the run's, as plain data.
    world: whose questions.
    tokenizer: of all models.
    mesh: where they go.
    pages: validation rows of the pretraining text.
  """

  root: pathlib.Path
  config: Plain
  world: world_lib.World
  tokenizer: vocabulary.Tokenizer
  mesh: jax.sharding.Mesh
  pages: feeds_lib.Rows


def check(config: Plain) -> None:
  """Raises UserError for a model that cannot be asked as the config says."""
  for name, told in config['evaluate']['models'].items():
    if told['manner'] not in MANNERS:
      raise errors.UserError(
        f'config.evaluate.models.{name}.manner={told["manner"]!r} is not one'
        f' of {", ".join(MANNERS)}.{errors.nearest(told["manner"], MANNERS)}'
      )
    averaged = pathlib.PurePath(told['model']).name == 'model_ema'
    if averaged and not config.get('ema_decay', 1.0):
      raise errors.UserError(
        f'config.evaluate.models.{name}.model={told["model"]} holds averaged'
        ' weights, and there are none with ema_decay=0: name the model beside'
        ' it, or average.'
      )


def models(
  root: pathlib.Path,
  config: Plain,
  feeds: feeds_lib.Feeds,
  should_stop: Callable[[], bool],
) -> bool:
  """Measures the models of config.evaluate that are there and were not yet.

  Args:
    root: the run's folder.
    config: of the run, as plain data.
    feeds: the run's records.
    should_stop: asked before each model.

  Returns:
    Whether there were any.
  """
  missing = {
    name: identity
    for name, told in config['evaluate']['models'].items()
    if (identity := _identity(root, config, told)) is not None
    and _known(root, name) != identity
  }
  if not missing or should_stop():
    return False
  distributed.on_primary(workdir.open_folder, root / measured.FOLDER)
  asking = _prepare(root, config, feeds)
  for number, (name, identity) in enumerate(missing.items(), 1):
    if should_stop():
      break
    log.info('evaluation %d/%d: %s', number, len(missing), name)
    begun = time.perf_counter()
    measure = _judgment if identity['manner'] == 'reward' else _answers
    found = {'of': identity, **measure(asking, name)}
    found['wall_seconds'] = time.perf_counter() - begun
    path = root / measured.FOLDER / f'{name}.json'
    distributed.on_primary(orbax_io.write_json, path, found)
  return True


def _identity(
  root: pathlib.Path, config: Plain, told: Plain
) -> dict[str, Any] | None:
  """What a measurement is of; None if there is no such model (yet)."""
  folder = root / told['model']
  if not (folder / 'model.json').exists():
    return None
  options = {k: v for k, v in config['evaluate'].items() if k != 'models'}
  described = orbax_io.describe_model(folder)
  found = {**told, **options, 'seed': config['seed'], 'is': described}
  return json.loads(json.dumps(found))


def _known(root: pathlib.Path, name: str) -> dict[str, Any] | None:
  """What the measurement on disk is of; None without one."""
  try:
    path = root / measured.FOLDER / f'{name}.json'
    return json.loads(path.read_text())['of']
  except (OSError, ValueError, KeyError):
    return None


def _prepare(root, config, feeds) -> Asking:
  tokenizer = workdir.load_tokenizer(root)
  options = config['evaluate']
  feeds.used.clear()
  _, pages = feeds.pretraining(
    tokenizer, options['sequence_length'], options['max_eval_rows']
  )
  ranked = [root / files.FOLDER / name for name in RANKINGS.values()]
  read = {str(path): [str(path)] for path in ranked if path.exists()}
  read |= feeds.sources(feeds.used)
  distributed.on_primary(
    integrity.record, root, integrity.EVALUATION, read, feeds
  )
  return Asking(
    root,
    config,
    files.load_world(root / files.FOLDER),
    tokenizer,
    sharding.make_mesh(**config['mesh']),
    {k: v[: options['max_eval_rows']] for k, v in pages.items()},
  )


def _start(asking: Asking, name: str, role: str) -> workdir.Start:
  told = asking.config['evaluate']['models'][name]
  folder = (asking.root / told['model']).absolute()
  options = build.model_options(asking.config, asking.mesh)
  return workdir.find_start(asking.root, role, str(folder), **options)


def _answers(asking: Asking, name: str) -> dict[str, Any]:
  """What a policy answers, and how well it still knows the web."""
  start = _start(asking, name, 'policy')
  params = start.load(asking.mesh)
  options = asking.config['evaluate']
  manner = options['models'][name]['manner']
  forms = {'instruct': None, 'plain': '{text}\n'}
  model = answers.Model(
    name,
    start.config,
    params,
    asking.tokenizer,
    form=forms[manner] if manner in forms else prefix.form(asking.world),
    one_line=manner == 'prompted',
    max_prompt_length=options['max_prompt_length'],
    max_response_length=options['max_response_length'],
    temperature=options['temperature'],
    batch_size=options['batch_size'],
    seed=asking.config['seed'],
  )
  found = {'measured': evaluation.measure(asking.world, model)}
  if asking.pages:
    rows = evaluate.batches(asking.pages, asking.mesh)
    found['pretraining_loss'] = _make_loss(start.config)(params, rows)
  return found


def _judgment(asking: Asking, name: str) -> dict[str, Any]:
  """How often a reward model ranks as the labelers did, by group of them."""
  start = _start(asking, name, 'reward_model')
  params, scores = start.load(asking.mesh), _make_scores(start.config)
  options = asking.config['evaluate']
  found = {}
  for accuracy, file in RANKINGS.items():
    path = asking.root / files.FOLDER / file
    rows, _ = prompts.comparison_rows(
      records.load('comparisons', str(path)),
      asking.tokenizer,
      options['max_prompt_length'],
      options['max_response_length'],
      labelers=(),
    )
    scored = scores(params, evaluate.batches(rows, asking.mesh))
    told = comparisons.summarize(scored, (), seed=asking.config['seed'])
    found[accuracy] = told['accuracy']
  return {'measured': found}
