"""Results of the microworld runs of run.py, over seeds.

  python -m experiments.microworld.summarize --workdir=DIR

Reads DIR/seed0, DIR/seed1 ... as far as they have come, writes results.json and
figures/ beside this file, and prints the table of targets.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
import json
import os
import pathlib
import platform
import re
import sys
from typing import Any

import numpy as np

from experiments.microworld import draw
from experiments.microworld import targets
from instructjax.models import config as model_config
from instructjax.models import transformer

HERE = pathlib.Path(__file__).resolve().parent
# Of a report: texts, and what is a seed's own affair.
UNSPREAD = ('samples', 'stages', 'intervals', 'models')


def read(run: pathlib.Path) -> dict[str, Any]:
  """Returns what one seed gave.

  Args:
    run: its folder; the sweep's lies beside it.

  Returns:
    'commands' (commands.json), 'report' (without samples), 'parameters'
    {model: how many} and, if it was run, 'sweep'.
  """
  report = _json(run / 'report.json')
  report.pop('samples', None)
  found = {
    'commands': _json(run / 'commands.json'),
    'report': report,
    'parameters': {
      name: parameters(run / stage / 'model')
      for name, stage in (('ppo_ptx', 'ppo_ptx'), ('base_large', 'base_large'))
      if (run / stage / 'model').exists()
    },
  }
  sweep = run.with_name(f'{run.name}_kl_sweep')
  if (sweep / 'report.json').exists():
    found['sweep'] = read_sweep(sweep)
  return found


def parameters(folder: pathlib.Path) -> int:
  """Returns how many parameters the policy of a model folder has."""
  config = _json(folder / 'model.json')['config']
  return transformer.num_parameters(model_config.ModelConfig.from_dict(config))


def read_sweep(run: pathlib.Path) -> dict[str, Any]:
  """Returns what a sweep gave.

  Returns:
    'kl_coef' and 'ptx_coef', the defaults; 'public_tasks' {'base', 'sft'};
    'start_reward' of the policy that all start from; and 'points' {stage:
    'kl_coef', 'ptx_coef', 'public_tasks' (mean of the tasks), 'reward',
    'reward_gain' (over the start), 'kl' (nats a response), 'ptx_loss',
    'win_rate_vs_sft'}; rewards on validation prompts.
  """
  report = _json(run / 'report.json')
  tasks = {
    name: float(np.mean(list(scores.values())))
    for name, scores in report['public_tasks'].items()
  }
  points = {}
  for name, told in report['stages'].items():
    if told['task'] != 'ppo' or name not in tasks:
      continue
    hyper = _json(run / name / 'config.json')['hyper']
    policy = told['summary']['policy_ema']
    points[name] = {
      'kl_coef': hyper['kl_coef'],
      'ptx_coef': hyper['ptx_coef'],
      'public_tasks': tasks[name],
      'reward': policy['scores']['mean'],
      'reward_gain': policy['scores_gain_over_reference']['mean'],
      'kl': policy['kl']['mean'],
      'ptx_loss': report['ptx_loss'][name],
      'win_rate_vs_sft': report['win_rate_vs_sft'][name]['mean'],
    }
  default = points['ppo_ptx']
  start = report['stages']['ppo_ptx']['summary']['reference']
  return {
    'kl_coef': default['kl_coef'],
    'ptx_coef': default['ptx_coef'],
    'public_tasks': {name: tasks[name] for name in ('base', 'sft')},
    'start_reward': start['scores']['mean'],
    'points': points,
  }


def spread(values: Sequence[float]) -> dict[str, float]:
  """Mean over seeds, and from where to where they lie."""
  return {
    'mean': float(np.mean(values)),
    'min': min(values),
    'max': max(values),
    'seeds': len(values),
  }


def spread_all(trees: Sequence[Any]) -> Any:
  """Spreads the numbers of equal trees, one a seed.

  Args:
    trees: nested dicts; what some lack is taken from the others. An interval
      counts by its mean.

  Returns:
    The tree with a spread at every leaf; None for leaves that are no numbers.
  """
  first = trees[0]
  if isinstance(first, Mapping) and {'mean', 'low', 'high'} <= first.keys():
    return spread_all([tree['mean'] for tree in trees])
  if isinstance(first, Mapping):
    keys = dict.fromkeys(key for tree in trees for key in tree)
    return {
      key: spread_all([tree[key] for tree in trees if key in tree])
      for key in keys
    }
  if isinstance(first, bool) or not isinstance(first, int | float):
    return None
  return spread(trees)


def judge(seeds: Mapping[str, targets.Seed]) -> list[dict[str, Any]]:
  """Returns every number over the seeds, beside its targets.

  Args:
    seeds: {seed: what it gave}.

  Returns:
    One dict a number: 'group', 'says', 'targets', 'values' {seed: number},
    their spread, 'passed' (the mean does; None without a number or a target)
    and 'passed_by_seed'.
  """
  rows = []
  for number in targets.NUMBERS:
    values = {name: number.value(seed) for name, seed in seeds.items()}
    values = {k: v for k, v in values.items() if v is not None}
    row = {
      'group': number.group,
      'says': number.says,
      'targets': [' '.join(map(str, target)) for target in number.targets],
      'values': values,
      'passed_by_seed': {k: number.passes(v) for k, v in values.items()},
      'passed': None,
    }
    if values:
      row |= spread(list(values.values()))
      row['passed'] = number.passes(row['mean'])
    rows.append(row)
  return rows


def summarize(seeds: Mapping[str, targets.Seed]) -> dict[str, Any]:
  """Returns what results.json holds.

  Args:
    seeds: {seed: what it gave}.
  """
  reports = [
    {k: v for k, v in seed['report'].items() if k not in UNSPREAD}
    for seed in seeds.values()
  ]
  sweeps = [seed['sweep'] for seed in seeds.values() if 'sweep' in seed]
  results = {
    'machine': {
      'python': platform.python_version(),
      'system': f'{platform.system()} {platform.machine()}',
      'cpus': os.cpu_count(),
    },
    'targets': judge(seeds),
    'report': spread_all(reports),
    'seeds': dict(seeds),
  }
  if sweeps:
    results['sweep'] = spread_all(sweeps)
  return _rounded(results)


def _rounded(value: Any) -> Any:
  """Five significant digits are enough for a file that people read."""
  if isinstance(value, Mapping):
    return {key: _rounded(x) for key, x in value.items()}
  if isinstance(value, list | tuple):
    return [_rounded(x) for x in value]
  return float(f'{value:.5g}') if isinstance(value, float) else value


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns the numbers and their targets as Markdown."""
  lines = ['| | | mean (min to max) | target | met |', '|---|---|---|---|---|']
  for row in rows:
    found = 'not measured'
    if row['values']:
      low, mean, high = (f'{row[key]:.3g}' for key in ('min', 'mean', 'max'))
      found = f'{mean} ({low} to {high})'
    met = list(row['passed_by_seed'].values())
    said = f'{sum(met)} of {len(met)}' if row['targets'] and met else ''
    wanted = ' and '.join(row['targets'])
    lines.append(
      f'| {row["group"]} | {row["says"]} | {found} | {wanted} | {said} |'
    )
  return '\n'.join(lines)


def _json(path: pathlib.Path) -> Any:
  return json.loads(path.read_text(encoding='utf-8'))


def runs(workdir: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns {seed: its run} of those that have a report."""
  found = {
    path.parent.name.removeprefix('seed'): path.parent
    for path in workdir.glob('seed*/report.json')
    if re.fullmatch('seed[0-9]+', path.parent.name)
  }
  return {seed: found[seed] for seed in sorted(found, key=int)}


def main() -> int:
  """Writes results.json and the figures, and prints the table."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument('--workdir', required=True, type=pathlib.Path)
  found = runs(flags.parse_args().workdir)
  if not found:
    flags.error('--workdir holds no finished seed: run run.py first.')
  results = summarize({seed: read(run) for seed, run in found.items()})
  text = json.dumps(results, indent=1) + '\n'
  (HERE / 'results.json').write_text(text, encoding='utf-8')
  drawn = draw.draw(results, HERE / 'figures')
  print(table(results['targets']))
  print(f'\nsee {HERE / "results.json"} and figures/: {", ".join(drawn)}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
