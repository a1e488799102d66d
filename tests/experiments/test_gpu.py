"""The benchmark of one accelerator, at a size for a CPU."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest

from experiments.gpu import run
from instructjax.models import config as model_config
from instructjax.models import flops

SIZES = [
  *('--model=tiny', '--length=16', '--response_length=6', '--batch=2'),
  *('--responses=3', '--dtype=float32', '--remat=none'),
  *('--iterations=2', '--warmup=1'),
]


@pytest.mark.parametrize('kind', run.KINDS)
def test_a_kind_is_measured(kind, capsys, monkeypatch):
  tiny = dataclasses.replace(model_config.PRESETS['tiny'], num_layers=1)
  monkeypatch.setitem(model_config.PRESETS, 'tiny', tiny)
  assert run.main([*SIZES, f'--only={kind}']) == 0
  found = json.loads(capsys.readouterr().out.splitlines()[-1])
  phases = {'ppo_ptx': ('rollout', 'score', 'train')}.get(kind, ('train',))
  times = [name for name in found if name.startswith('time/')]
  assert sorted(times) == [f'time/{phase}' for phase in phases]
  assert found['perf/train_tokens_per_second'] > 0
  assert ('perf/rollout_tokens_per_second' in found) == (kind == 'ppo_ptx')
  assert found['peak_bytes'] is None and 'perf/mfu' not in found  # of a CPU
  text = flops.forward(tiny, batch=2, length=16, logits=15)
  wanted = {
    'sft': text,
    'reward_model': flops.forward(tiny, batch=2, length=10)
    + flops.forward(tiny, batch=6, length=6, past=10, scalars=1),
    'ppo_ptx': text
    + flops.forward(tiny, batch=2, length=16, logits=6)
    + flops.forward(tiny, batch=2, length=16, scalars=6),
  }
  assert found['flops/train'] == pytest.approx(3 * wanted[kind], rel=1e-6)


def test_results_are_written(monkeypatch, tmp_path, capsys):
  """Each kind comes from a process of its own, which is told the sizes."""
  told = {
    'perf/tokens_per_second': 1234.5,
    'perf/mfu': 0.5,
    'time/train': 2.0,
    'peak_bytes': 3 * 2**30,
  }

  def measured(command, **options):
    assert command[0] == sys.executable and command[2:-1] == args
    kinds.append(command[-1].removeprefix('--only='))
    return type('Run', (), {'stdout': json.dumps(told) + '\n'})

  kinds, args = [], [*SIZES, f'--output={tmp_path / "results.json"}']
  monkeypatch.setattr(run.subprocess, 'run', measured)
  assert run.main(args) == 0
  found = json.loads((tmp_path / 'results.json').read_text())
  assert found['measured'] == {kind: told for kind in run.KINDS}
  assert tuple(kinds) == run.KINDS
  assert found['options']['parameters'] > 1e6
  line = 'sft: 1,234 tokens/s, MFU 50.0%, peak 3.0 GiB, train 2.000 s'
  assert line in capsys.readouterr().out
