"""What a prompt costs instructjax.prepare, from ten thousand to a million.

  python experiments/prepare/scale.py --workdir=DIR [--sizes=10000,30000]

Writes raw logs (raw_logs.py), runs the command on each with two workers, writes
wall and CPU seconds and the peak memory of all its processes together to
scale.json, and draws figures/cost_per_prompt.png. Two files of one prompt come
first, one for each worker: they cost what starting costs. Needs 4 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import raw_logs

_HERE = pathlib.Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
_START = 2  # prompts, in as many files
_FILES = {_START: _START}
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
  out = workdir / 'out'
  logs = [workdir / f'raw_{size}_{i}.jsonl' for i in range(_FILES.get(size, 1))]
  for i, log in enumerate(logs):
    if not log.exists():
      raw_logs.write(log, size // len(logs), seed=i)
  shutil.rmtree(out, ignore_errors=True)
  command = [sys.executable, '-m', 'instructjax.prepare']
  command += [f'--prompts={",".join(map(str, logs))}', f'--out={out}']
  command += [f'--config.workers={workers}']
  load = os.getloadavg()[0]
  found = measure(command)
  ledger = json.loads((out / 'ledger.json').read_text())
  return {
    'prompts': size,
    'bytes': sum(log.stat().st_size for log in logs),
    'workers': workers,
    'load_before': round(load, 2),
    **found,
    'dropped': {r['rule']: r['dropped'] for r in ledger['rules']},
    'written': sum(ledger['output'].values()),
  }


def draw(rows: list[dict], path: pathlib.Path) -> None:
  """Draws cost and memory over the number of prompts."""
  from instructjax import plots

  plots.save(path.parent, {path.name: lambda: _figure(rows)})


def _figure(rows: list[dict]):
  from matplotlib import pyplot as plt

  from instructjax import plots

  start, *rows = rows
  sizes = [row['prompts'] for row in rows]
  figure, (cost, held) = plt.subplots(1, 2, figsize=(9, 3.4))
  for name, less, style, label in (
    ('cpu_seconds', 0.0, 'o--', 'CPU, all processes'),
    (
      'cpu_seconds',
      start['cpu_seconds'],
      'o-',
      f'the same without start-up, {start["cpu_seconds"]:.1f} s',
    ),
    ('wall_seconds', 0.0, 's:', f'wall, {start["workers"]} workers'),
  ):
    values = [(row[name] - less) / row['prompts'] * 1e6 for row in rows]
    colour = plots.BLUE if name == 'cpu_seconds' else plots.ORANGE
    cost.plot(sizes, values, style, color=colour, label=label)
  cost.set_ylim(bottom=0)
  cost.set_ylabel('microseconds a prompt')
  cost.legend(frameon=False)
  held.plot(
    sizes, [row['peak_memory_gb'] for row in rows], 'o-', color=plots.BLUE
  )
  held.axhline(2, color=plots.RED, lw=1)
  held.set_ylim(0, 2.2)
  held.set_ylabel('peak memory of all processes, GB')
  for axis in cost, held:
    axis.set_xscale('log')
    axis.set_xlabel('prompts')
    axis.spines[['top', 'right']].set_visible(False)
  figure.tight_layout()
  return figure


def main() -> int:
  """Measures every size, writes scale.json and the figure."""
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument('--workdir', type=pathlib.Path, required=True)
  flags.add_argument('--sizes', default=','.join(map(str, SIZES)))
  flags.add_argument('--workers', type=int, default=2)
  flags.add_argument('--results', type=pathlib.Path, default=_HERE)
  options = flags.parse_args()
  options.workdir.mkdir(parents=True, exist_ok=True)
  sys.path.insert(0, str(_ROOT))
  rows = []
  for size in (_START, *map(int, options.sizes.split(','))):
    rows.append(run(options.workdir, size, options.workers))
    print(json.dumps(rows[-1]), flush=True)
  text = json.dumps(rows, indent=2)
  (options.results / 'scale.json').write_text(text + '\n')
  draw(rows, options.results / 'figures' / 'cost_per_prompt.png')
  return 0


if __name__ == '__main__':
  sys.exit(main())
