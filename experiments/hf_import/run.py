"""Import of a Hugging Face folder: memory, and time beside transformers.

  python experiments/hf_import/run.py --workdir=DIR

Makes two checkpoints of 1.1B random parameters in bfloat16, one file and
shards of half a gigabyte, and reads each in turns with load_pretrained and
with transformers (extra `parity`), each time in a process of its own. Writes
results.json beside this file. Needs 5 GB of disk and 3 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

_HERE = pathlib.Path(__file__).parent
_FOLDERS = {'one file': 10**12, 'shards': 500_000_000}


def _measure(*arguments: str) -> dict:
  command = [sys.executable, str(_HERE / 'measure.py'), *arguments]
  run = subprocess.run(command, check=True, capture_output=True, text=True)
  return json.loads(run.stdout.splitlines()[-1])


def main() -> int:
  """Measures, prints a table and writes results.json."""
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument('--workdir', type=pathlib.Path, required=True)
  flags.add_argument('--repeats', type=int, default=5)
  options = flags.parse_args()
  results = {}
  for name, size in _FOLDERS.items():
    folder = options.workdir / name.replace(' ', '_')
    made = _measure('make', str(folder), f'--shard_bytes={size}')
    runs = {'ours': [], 'theirs': []}
    for _ in range(options.repeats):
      for who, found in runs.items():
        found.append(_measure(who, str(folder)))
    results[name] = made | runs
    ratios = [
      a['seconds'] / b['seconds']
      for a, b in zip(runs['ours'], runs['theirs'], strict=True)
    ]
    grown = max(run['grown'] for run in runs['ours'])
    held = runs['ours'][0]['parameters_bytes']
    print(
      f'{name}: {made["files"]} files, largest {made["largest_file"]:,} bytes;'
      f' parameters {held:,}; grown by at most {grown:,}, beside the'
      f' parameters {grown - held:,}'
      f' ({(grown - held) / made["largest_file"]:.2f} of the largest file);'
      f' time against transformers {statistics.median(ratios):.2f}'
      f' ({min(ratios):.2f} to {max(ratios):.2f})'
    )
  text = json.dumps(results, indent=2)
  (_HERE / 'results.json').write_text(text + '\n')
  return 0


if __name__ == '__main__':
  sys.exit(main())
