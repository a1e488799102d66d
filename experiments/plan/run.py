"""What the paper's sizes cost on TPU slices, told without a TPU.

  pip install -e .[plan]
  python experiments/plan/run.py [--only=NAME,NAME] [--workdir=DIR]

Runs `python -m instructjax.plan` for each row of CASES in a process of its own
and writes results.json and table.md beside this file. On two CPU cores all of
it takes about an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]

# Name -> (config, topology, overrides).
CASES = {
  '175B': ('ppo_ptx.py:175B', 'v5p:8x8x8', {}),
  '175B_256': ('ppo_ptx.py:175B', 'v5p:8x8x4', {'num_microbatches': 2}),
  '175B_128': (
    'ppo_ptx.py:175B',
    'v5p:4x4x8',
    {'num_microbatches': 4, 'hyper.rollout_batch_size': 256},
  ),
  '175B_64': (
    'ppo_ptx.py:175B',
    'v5p:4x4x4',
    {'num_microbatches': 8, 'hyper.rollout_batch_size': 128},
  ),
  # The paper's batch of 8 is a row for each of eight groups of eight chips.
  '175B_sft': ('sft.py:175B', 'v5p:4x4x4', {}),
  '6B': (
    'ppo_ptx.py:6B',
    'v5e:8x16',
    {'mesh.tensor': 2},
  ),
  '6B_reward_model': ('reward_model.py:6B', 'v5e:8x8', {}),
  '1.3B': (
    'ppo_ptx.py:1.3B',
    'v4:2x2x1',
    # With a reward and a value model of its own size.
    {
      'stages.reward_model.init_from.policy': 'sft',
      'num_microbatches': 8,
      'hyper.rollout_batch_size': 64,
    },
  ),
}


def plan(config: str, topology: str, overrides: dict) -> dict:
  """Returns one plan, with the memory and time that telling it took."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'plan.json'
    process = subprocess.Popen(
      [
        *(sys.executable, '-m', 'instructjax.plan'),
        f'--config=configs/{config}',
        f'--topology={topology}',
        f'--json={path}',
        *(f'--config.{key}={value}' for key, value in overrides.items()),
      ],
      cwd=ROOT,
      env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
      raise SystemExit(f'{config} on {topology}: status {process.returncode}')
    report = json.loads(path.read_text())
  host = {'peak_memory_bytes': usage.ru_maxrss * 1024}
  return {'config': config, 'overrides': overrides, 'host': host, **report}


def row(found: dict) -> str:
  """One line of the table, in Markdown."""
  gib = 2.0**30
  memory, peak = found['hbm_bytes_per_device'], found['peak_bytes_per_device']
  slowest = max(p['compile_seconds'] for p in found['programs'])
  keys = ' '.join(f'`{k}={v}`' for k, v in found['overrides'].items()) or '-'
  mesh = ' x '.join(f'{k} {v}' for k, v in found['mesh'].items() if v > 1)
  seconds, told = found['estimated_seconds'], '-'
  if seconds['iteration'] is not None:
    terms = ('compute', 'memory', 'network')
    limits = ', '.join(f'{name} {seconds[name]:.3g}' for name in terms)
    told = f'{seconds["iteration"]:.3g} s ({limits})'
  host = found['host']['peak_memory_bytes'] / gib
  return (
    f'| `{found["config"]}` | {found["topology"]} ({found["num_devices"]}) |'
    f' {mesh} | {keys} | {peak / gib:.1f} of {memory / gib:.0f} GiB'
    f' ({peak / memory:.0%}){"" if found["fits"] else ", does not fit"} |'
    f' {told} |'
    f' {slowest:.0f} s, {host:.1f} GiB |'
  )


HEADER = (
  '| config | slice (chips) | mesh | overrides | peak of a chip |'
  ' an iteration takes at least | slowest compilation, memory of the host |\n'
  '|---|---|---|---|---|---|---|'
)


def main() -> None:
  """Plans all cases, or those named."""
  flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  flags.add_argument('--only', default='', help='names of CASES, by commas')
  flags.add_argument('--workdir', default=str(FOLDER), help='for the results')
  known = flags.parse_args()
  path = pathlib.Path(known.workdir) / 'results.json'
  results = json.loads(path.read_text()) if path.exists() else {}
  names = known.only.split(',') if known.only else list(CASES)
  for name in names:
    results[name] = plan(*CASES[name])
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + '\n')
  lines = [HEADER, *(row(results[name]) for name in CASES if name in results)]
  (path.parent / 'table.md').write_text('\n'.join(lines) + '\n')
  print('\n'.join(lines))


if __name__ == '__main__':
  main()
