"""The stage that writes the microworld, and where a run finds its records.

A run without data of its own reads RUN/microworld, whose files two stages of
the run itself write: `microworld` most of them, `collect` the comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
import json
import logging
import pathlib
import time
from typing import Any

from instructjax import config as config_lib
from instructjax import distributed
from instructjax.checkpoints import orbax_io
from instructjax.microworld import files
from instructjax.microworld import world
from instructjax.stages import workdir

# Task -> the kinds of record that its stage writes.
WRITES = {
  'microworld': ('pretraining', 'demonstrations', 'prompts', 'public_tasks'),
  'collect': ('comparisons',),
}
log = logging.getLogger('instructjax')


def write(
  root: pathlib.Path,
  config: Mapping[str, Any],
  should_stop: Callable[[], bool],
) -> None:
  """Writes the world of a config to RUN/microworld.

  Args:
    root: the run's folder.
    config: from workdir.settle.
    should_stop: not asked, as it takes seconds.
  """
  del should_stop
  begun = time.perf_counter()
  sizes = world.WorldConfig(seed=config['seed'], **config['world'])

  def make():
    workdir.write_config(root, config)
    counts = files.write(root / files.FOLDER, sizes)
    finish(root, config, counts, time.perf_counter() - begun)

  distributed.on_primary(make)


def finish(
  root: pathlib.Path,
  config: Mapping[str, Any],
  summary: Mapping[str, Any],
  seconds: float,
) -> None:
  """Says that a stage which trains nothing is done, and how long it took."""
  folder, stage = root / config['stage'], config['stage']
  line = {'stage': stage, 'iteration': 1, 'step': 0}
  line['wall_seconds'] = round(seconds, 3)
  (folder / 'metrics.jsonl').write_text(json.dumps(line) + '\n')
  orbax_io.write_json(folder / 'summary.json', dict(summary))
  told = ', '.join(f'{k}={v}' for k, v in summary.items() if isinstance(v, int))
  log.info('%s finished: %s.', stage, told)


def pending(configs: Collection[Mapping[str, Any]]) -> set[str]:
  """Returns the kinds of record that stages still to run will write."""
  return {kind for c in configs for kind in WRITES.get(c['task'], ())}


def specs(
  root: pathlib.Path, data: Mapping[str, Any], pending: Collection[str]
) -> dict[str, Any]:
  """Returns config.data with the microworld's files in the folder's place.

  Args:
    root: the run's folder.
    data: config.data, as it stands if the run has data of its own.
    pending: kinds whose files may not be there yet.
  """
  if data['folder'] != config_lib.MICROWORLD:
    return dict(data)
  found = {**data, 'folder': ''}
  for kind in (kind for kinds in WRITES.values() for kind in kinds):
    path = root / files.FOLDER / f'{kind}.jsonl'
    if not data[kind] and (kind in pending or path.exists()):
      found[kind] = str(path)
  return found
