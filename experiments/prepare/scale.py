"""What a prompt costs instructjax.prepare, from ten thousand to a million.

  python experiments/prepare/scale.py --workdir=DIR [--sizes=10000,30000] \
      [--rounds=3] [--draw]

Writes raw logs (raw_logs.py), runs the command on each with one worker and with
two, all sizes in turn, round by round, writes wall and CPU seconds and the peak
memory of all its processes together to scale.json, and draws
figures/cost_per_prompt.png: medians, with bars from the least to the most. A
log of a thousand prompts comes first in each round: nearly all that it costs is
paid once a run, to import and to draw, and the cost of each prompt beyond it is
told besides. --draw only draws what scale.json has. Needs 4 GB of disk.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time

import raw_logs

_HERE = pathlib.Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
_FIRST = 1000  # prompts, whose cost is nearly all paid once a run
_WORKERS = 1, 2
_PAGE = os.sysconf('SC_PAGE_SIZE')


def memory(pid: int) -> int:
  """Returns the resident bytes of a process and all below it, shared ones
  counted as often as they are held."""
  total = 0
  for process in _tree(pid):
    try:
      text = pathlib.Path(f'/proc/{process}/statm').read_text()
      total += int(text.split()[1]) * _PAGE
    except (OSError, IndexError):
      continue  # It has just ended.
  return total


def _tree(pid: int) -> list[int]:
  found = [pid]
  for process in found:
    for task in pathlib.Path(f'/proc/{process}/task').glob('*'):
      try:
        found += map(int, (task / 'children').read_text().split())
      except OSError:
        continue
  return found


def measure(command: list[str]) -> dict[str, float]:
  """Runs a command; returns its wall and CPU seconds and its peak memory."""
  began = time.perf_counter()
  process = subprocess.Popen(
    command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
  )
  peak, ended = [0], threading.Event()

  def watch() -> None:
    while not ended.wait(0.05):
      peak[0] = max(peak[0], memory(process.pid))

  watcher = threading.Thread(target=watch)
  watcher.start()
  with process.stderr:
    said = process.stderr.read()
  _, status, usage = os.wait4(process.pid, 0)
  process.returncode = os.waitstatus_to_exitcode(status)
  wall = time.perf_counter() - began
  ended.set()
  watcher.join()
  if process.returncode:
    raise SystemExit(said.decode())
  return {
    'wall_seconds': round(wall, 2),
    'cpu_seconds': round(usage.ru_utime + usage.ru_stime, 2),
    'peak_memory_gb': round(peak[0] / 1e9, 3),
  }


def run(workdir: pathlib.Path, size: int, workers: int) -> dict:
  """Measures one size."""
  out, log = workdir / 'out', workdir / f'raw_{size}.jsonl'
  if not log.exists():
    raw_logs.write(log, size, seed=0)
  shutil.rmtree(out, ignore_errors=True)
  command = [sys.executable, '-m', 'instructjax.prepare']
  command += [f'--prompts={log}', f'--out={out}']
  command += [f'--config.workers={workers}']
  load = os.getloadavg()[0]
  found = measure(command)
  ledger = json.loads((out / 'ledger.json').read_text())
  return {
    'prompts': size,
    'bytes': log.stat().st_size,
    'workers': workers,
    'load_before': round(load, 2),
    **found,
    'dropped': {r['rule']: r['dropped'] for r in ledger['rules']},
    'written': sum(ledger['output'].values()),
  }


def values(
  rounds: list[list[dict]], name: str, workers: int, beyond: bool = False
) -> dict[int, list[float]]:
  """Returns what a prompt costs, by size, one value a round.

  Args:
    rounds: of each round its rows.
    name: of what a row says, as 'cpu_seconds'.
    workers: that they were made with.
    beyond: whether to tell the cost of each prompt beyond those of the smallest
      log, whose median is taken off, instead of the cost of all.
  """
  costs: dict[int, list[float]] = {}
  for row in itertools.chain(*rounds):
    if row['workers'] == workers:
      costs.setdefault(row['prompts'], []).append(row[name])
  first, less = 0, 0.0
  if beyond:
    first = min(costs)
    less = statistics.median(costs.pop(first))
  return {
    size: [(cost - less) / (size - first) for cost in found]
    for size, found in costs.items()
  }


def draw(rounds: list[list[dict]], path: pathlib.Path) -> None:
  """Draws cost and memory over the number of prompts."""
  from instructjax import plots

  plots.save(path.parent, {path.name: lambda: _figure(rounds)})


def _figure(rounds: list[list[dict]]):
  from matplotlib import pyplot as plt

  from instructjax import plots

  figure, (cost, held) = plt.subplots(
    1, 2, figsize=(9, 3.4), layout='constrained'
  )
  for name, workers, beyond, style, colour, label in (
    ('cpu_seconds', 1, False, 'o:', plots.BLUE, 'CPU, one process'),
    (
      'cpu_seconds',
      1,
      True,
      'o-',
      plots.BLUE,
      'the same, beyond the first 1,000 prompts',
    ),
    ('wall_seconds', 2, False, 's--', plots.ORANGE, 'wall, two workers'),
  ):
    found = values(rounds, name, workers, beyond)
    found.pop(_FIRST, None)
    told = {n: [1e6 * cost for cost in costs] for n, costs in found.items()}
    _bars(cost, told, style, colour, label)
  cost.set_ylim(0, 1.6 * cost.get_ylim()[1])  # the legend above all of them
  cost.set_ylabel('microseconds a prompt')
  cost.legend(frameon=False)
  for workers, style, colour in (
    (1, 'o-', plots.BLUE),
    (2, 's--', plots.ORANGE),
  ):
    found = values(rounds, 'peak_memory_gb', workers)
    told = {n: [n * share for share in shares] for n, shares in found.items()}
    label = 'one process' if workers == 1 else 'two workers'
    _bars(held, told, style, colour, label)
  held.legend(frameon=False)
  held.axhline(2, color=plots.RED, lw=1)
  held.set_ylim(0, 2.2)
  held.set_ylabel('peak memory of all processes, GB')
  for axis in cost, held:
    axis.set_xscale('log')
    axis.set_xlabel('prompts')
    plots.bare(axis)
  return figure


def _bars(axis, told: dict[int, list[float]], style, colour, label) -> None:
  """Draws medians, and bars from the least to the most."""
  medians = [statistics.median(found) for found in told.values()]
  least = [m - min(v) for m, v in zip(medians, told.values(), strict=True)]
  most = [max(v) - m for m, v in zip(medians, told.values(), strict=True)]
  axis.errorbar(
    list(told),
    medians,
    yerr=[least, most],
    fmt=style,
    color=colour,
    capsize=3,
    label=label,
  )


def main() -> int:
  """Measures every size, writes scale.json and the figure."""
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument('--workdir', type=pathlib.Path, required=True)
  flags.add_argument('--sizes', default=','.join(map(str, SIZES)))
  flags.add_argument('--rounds', type=int, default=3)
  flags.add_argument('--results', type=pathlib.Path, default=_HERE)
  flags.add_argument('--draw', action='store_true', help='only draw')
  options = flags.parse_args()
  options.workdir.mkdir(parents=True, exist_ok=True)
  sys.path.insert(0, str(_ROOT))
  results = options.results / 'scale.json'
  if not options.draw:
    sizes = _FIRST, *map(int, options.sizes.split(','))
    rounds = []
    for _ in range(options.rounds):
      rounds.append([])
      for workers in _WORKERS:
        for size in sizes:
          rounds[-1].append(run(options.workdir, size, workers))
          print(json.dumps(rounds[-1][-1]), flush=True)
    results.write_text(json.dumps(rounds, indent=2) + '\n')
  rounds = json.loads(results.read_text())
  draw(rounds, options.results / 'figures' / 'cost_per_prompt.png')
  for workers, name, beyond in itertools.product(
    _WORKERS, ('cpu_seconds', 'wall_seconds'), (False, True)
  ):
    which = f'beyond the first {_FIRST:,}' if beyond else 'of all'
    print(f'Microseconds a prompt {which}, {name}, {workers} workers:')
    for size, costs in values(rounds, name, workers, beyond).items():
      least, middle, most = (
        1e6 * of(costs) for of in (min, statistics.median, max)
      )
      print(f'  {size:,} prompts: {middle:.0f} ({least:.0f} to {most:.0f})')
  return 0


if __name__ == '__main__':
  sys.exit(main())
