"""The report of a microworld, from what its models answered.

Reads RUN/evaluation/NAME.json (stages/measure.py) and the stages' summaries;
what the answers are worth, microworld/evaluation.py says.
"""

from __future__ import annotations

from collections.abc import Mapping
import json
import pathlib
from typing import Any

from instructjax.evaluation import statistics
from instructjax.microworld import evaluation
from instructjax.microworld import files

FOLDER = 'evaluation'
Plain = Mapping[str, Any]


def summarize(root: pathlib.Path, stages: Plain) -> dict[str, Any]:
  """Returns the microworld's keys of report.json.

  Args:
    root: the run's folder.
    stages: {stage: its entry in the report}.

  Returns:
    See microworld/evaluation.py; {} for a run without a world, or in which
    SFT, which the others are compared with, was not measured.
  """
  found = _read(root)
  policies = {k: v for k, v in found.items() if 'asked' in v['measured']}
  if evaluation.BASELINE not in policies:
    return {}
  judges = {k: v for k, v in found.items() if k not in policies}
  seconds = {name: told['wall_seconds'] for name, told in stages.items()}
  seconds['evaluation'] = sum(told['wall_seconds'] for told in found.values())
  accuracies = _accuracies(judges)
  report = evaluation.summarize(
    files.load_world(root / files.FOLDER),
    {name: told['measured'] for name, told in policies.items()},
    interval=statistics.bootstrap,
    reward_model={k: v['mean'] for k, v in accuracies.items()},
    kl=_divergences(policies, stages),
    ptx_loss={
      name: told['pretraining_loss']
      for name, told in policies.items()
      if 'pretraining_loss' in told
    },
    wall_seconds=seconds,
  )
  report['intervals']['reward_model'] = accuracies
  return report


def _read(root: pathlib.Path) -> dict[str, Any]:
  """{name: what its file holds}."""
  if not (root / files.FOLDER / 'world.json').exists():
    return {}
  paths = sorted((root / FOLDER).glob('[!.]*.json'))
  return {path.stem: json.loads(path.read_text()) for path in paths}


def _accuracies(judges: Plain) -> dict[str, Any]:
  """{accuracy: interval} of the reward model, and of that on shuffled pairs."""
  found = dict(judges.get('reward_model', {}).get('measured', {}))
  pairs = judges.get('reward_model_pairs', {}).get('measured', {})
  for key, value in pairs.items():
    found[key.replace('accuracy', 'accuracy_shuffled_pairs')] = value
  return found


def _divergences(policies: Plain, stages: Plain) -> dict[str, float]:
  """{model: KL to its start, nats a response} of those PPO trained."""
  found = {}
  for name, told in policies.items():
    stage, _, model = told['of']['model'].partition('/')
    summary = stages.get(stage, {}).get('summary', {})
    policy = summary.get(model.replace('model', 'policy'), {})
    if 'kl' in policy:
      found[name] = policy['kl']['mean']
  return found
