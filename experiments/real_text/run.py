"""The whole recipe on real text: one command, two CPU cores, a quarter hour.

  python experiments/real_text/run.py --source=DIR --workdir=DIR [--seed=0]

Converts the public files in SOURCE (convert.py says which), trains pretraining
-> SFT -> reward model -> PPO-ptx with the command a user would type, then plain
PPO (gamma = 0) from the same models, seed and prompts, and writes results.json
and figures/ beside this file. Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
import pathlib
import platform
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

# What differs from configs/*.py at `tiny`. Lengths and epochs fit the data in a
# quarter hour. PPO starts from rl_init (the paper's C.3): plain SFT forgets so
# much of the books that the ptx term would have to teach them again. Most
# demonstrations are longer than a response may be: a cut one is not punished.
# In one epoch the reward model learns next to nothing, and PPO then only learns
# to end at once.
SETTINGS = {
  'tokenizer.vocab_size': 2048,
  'stages.pretrain.num_epochs': 0.5,
  'stages.sft.max_response_length': 96,
  'stages.sft.num_epochs': 2.0,
  'stages.rl_init.max_response_length': 96,
  'stages.reward_model.max_response_length': 96,
  'stages.reward_model.num_epochs': 2.0,
  'init_from.policy': 'rl_init',
  'hyper.missing_eos': 'keep',
  'sequence_length': 32,
  'num_iterations': 45,
  'eval_every_iterations': 15,
}


def command(config: str, data: pathlib.Path, workdir, seed: int) -> list[str]:
  """Returns the command line of one run."""
  keys = {**SETTINGS, 'seed': seed}
  return [
    *('python', '-m', 'instructjax.main'),
    f'--config=configs/{config}.py:tiny,data={data}',
    f'--workdir={workdir}',
    *(f'--config.{key}={value}' for key, value in keys.items()),
  ]


def run(arguments: Sequence[str]) -> float:
  """Runs a command line from the project's root; returns its seconds."""
  print('$', *arguments, flush=True)
  began = time.perf_counter()
  subprocess.run([sys.executable, *arguments[1:]], cwd=ROOT, check=True)
  return time.perf_counter() - began


def collect(workdir: pathlib.Path, seconds: dict[str, float]) -> dict:
  """Returns what results.json holds."""
  report = json.loads((workdir / 'report.json').read_text())
  stages = {
    name: {
      'summary': told['summary'],
      'first_and_last': _ends(workdir / name),
      'seconds': told['wall_seconds'],
    }
    for name, told in report['stages'].items()
  }
  counts = json.loads((workdir / 'data' / 'counts.json').read_text())
  # The stages' own clocks go on after an interruption; the commands' do not.
  in_stages = sum(told['seconds'] for told in stages.values())
  return {
    'settings': SETTINGS,
    'seconds': {'commands': seconds, 'stages': in_stages},
    'machine': {'python': platform.python_version(), 'cpus': _cpus()},
    'data': counts,
    'stages': stages,
  }


def _cpus() -> int:
  import os

  return len(os.sched_getaffinity(0))


def _ends(folder: pathlib.Path) -> dict[str, list[float]]:
  """First and last value of each validation number and training loss."""
  found: dict[str, list[float]] = {}
  for line in (folder / 'metrics.jsonl').read_text().splitlines():
    for name, value in json.loads(line).items():
      if name.startswith(('validation/', 'loss/', 'ptx/', 'objective/')):
        found.setdefault(name, []).append(value)
  return {name: [values[0], values[-1]] for name, values in found.items()}


def _curve(workdir: pathlib.Path, stage: str, name: str):
  lines = (workdir / stage / 'metrics.jsonl').read_text().splitlines()
  points = [
    (line['iteration'], line[name])
    for line in map(json.loads, lines)
    if line.get(name) is not None
  ]
  return zip(*points, strict=True)


def draw(workdir: pathlib.Path, results: dict) -> None:
  """Draws PPO beside PPO-ptx: pretraining loss, reward and KL."""
  import matplotlib

  matplotlib.use('Agg')
  import matplotlib.pyplot as plt

  panels = (
    ('pretraining loss on held-out text, nats per token', 'pretraining_loss'),
    ('reward on held-out prompts', 'scores'),
    ('KL to the reference, nats a response', 'kl'),
  )
  figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), layout='constrained')
  starts = results['stages']['ppo_ptx']['summary']['reference']
  for axis, (title, name) in zip(axes, panels, strict=True):
    for stage, label in (('ppo', 'gamma = 0'), ('ppo_ptx', 'gamma = 27.8')):
      x, y = _curve(workdir, stage, f'validation/{name}')
      axis.plot(x, y, marker='.', label=label)
    start = starts[name] if name == 'pretraining_loss' else starts[name]['mean']
    axis.axhline(start, color='gray', lw=1, ls='--', label='start')
    axis.set_title(title, fontsize=10)
    axis.set_xlabel('iteration')
    axis.legend(fontsize=8)
  (HERE / 'figures').mkdir(exist_ok=True)
  figure.savefig(HERE / 'figures' / 'ppo_and_ppo_ptx.png', dpi=120)
  plt.close(figure)


def main() -> int:
  """Runs everything and writes the results."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument('--source', required=True, help='folder of public files')
  flags.add_argument('--workdir', required=True, type=pathlib.Path)
  flags.add_argument('--seed', type=int, default=0)
  options = flags.parse_args()
  workdir = options.workdir.resolve()
  data = workdir / 'data'
  convert = ['python', 'experiments/real_text/convert.py']
  seconds = {}
  seconds['convert'] = run(
    [*convert, f'--source={options.source}', f'--out={data}']
  )
  for stage in ('ppo_ptx', 'ppo'):
    seconds[stage] = run(command(stage, data, workdir, options.seed))
  results = collect(workdir, seconds)
  draw(workdir, results)
  text = json.dumps(results, indent=2, sort_keys=True) + '\n'
  (HERE / 'results.json').write_text(text)
  minutes = results['seconds']['stages'] / 60
  print(f'{minutes:.1f} minutes in the stages; see {HERE / "results.json"}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
