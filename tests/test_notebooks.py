"""Every notebook is stripped of outputs and runs from top to bottom."""

import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))

# Appended to the cell that makes the config: the same run, in seconds.
SMALLER = """
config.stages.pretrain.model.update(num_layers=1, d_model=32, d_ff=64)
config.stages.pretrain.num_iterations = config.stages.sft.num_iterations = 3
config.batch_size = config.stages.sft.batch_size = 8
config.num_iterations = 2
config.eval_every_iterations = 1
config.max_eval_rows = 8
"""


def _code_cells(path):
  cells = json.loads(path.read_text())['cells']
  return [cell for cell in cells if cell['cell_type'] == 'code']


def test_there_are_notebooks():
  assert NOTEBOOKS


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
  for cell in _code_cells(path):
    assert cell['outputs'] == [] and cell['execution_count'] is None


def test_quickstart_runs(run_python, tmp_path):
  parts = ["import matplotlib\nmatplotlib.use('Agg')"]
  for cell in _code_cells(ROOT / 'notebooks' / 'quickstart.ipynb'):
    text = ''.join(cell['source'])
    if text.startswith('%'):  # installs the package
      continue
    text = text.replace('runs/notebook', str(tmp_path / 'run'))
    parts.append(text + (SMALLER if 'config_lib.load' in text else ''))
  result = run_python('\n'.join(parts), devices=1)
  assert '# Report' in result.stdout
  assert '"response"' in result.stdout
  assert (tmp_path / 'run' / 'ppo_ptx' / 'model_ema' / 'model.json').exists()
