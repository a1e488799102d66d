"""What an import holds in memory, at a billion parameters."""

from __future__ import annotations

import json
import pathlib
import shutil

_MEASURE = (
  pathlib.Path(__file__).parents[2] / 'experiments' / 'hf_import' / 'measure.py'
)


def test_memory_beside_the_parameters(run_python, tmp_path):
  def measure(*arguments):
    command = [str(_MEASURE), *arguments]
    # As users run it: what compiles quickest takes a minute more to read this.
    done = run_python(command, devices=1, env={'XLA_FLAGS': ''})
    return json.loads(done.stdout.splitlines()[-1])

  folder = str(tmp_path / 'model')
  made = measure('make', folder, '--shard_bytes=500_000_000')
  found = measure('ours', folder)
  shutil.rmtree(folder)
  assert made['parameters'] > 1_000_000_000 and made['files'] > 1
  assert found['parameters_bytes'] == 2 * made['parameters']
  beside = found['grown'] - found['parameters_bytes']
  assert beside <= 1.2 * made['largest_file']
