"""python -m instructjax.plan: its JSON, its table, its advice, its errors."""

from __future__ import annotations

import copy
import json
import types

import jax
import pytest

from instructjax import config as config_lib
from instructjax import errors
from instructjax import sharding
from instructjax.planning import cost
from instructjax.planning import programs
from instructjax.planning import topology
from tests import runs

# Two layers, and as few programs as show everything.
SMALL = {
  k.replace('model.', 'stages.pretrain.model.'): v
  for k, v in runs.SMALL_MODEL.items()
}


def _plan(run_python, tmp_path, config, where, **overrides):
  path = tmp_path / 'plan.json'
  keys = {**SMALL, 'batch_size': 8, **overrides}
  result = run_python(
    [
      '-m',
      'instructjax.plan',
      f'--config=configs/{config}.py',
      f'--topology={where}',
      f'--json={path}',
      *(f'--config.{key}={value}' for key, value in keys.items()),
    ],
    devices=1,
  )
  return result, json.loads(path.read_text())


def test_ppo_ptx_on_virtual_devices(run_python, tmp_path):
  result, plan = _plan(
    run_python,
    tmp_path,
    'ppo_ptx',
    'cpu:4',
    **{'mesh.data': 1, 'mesh.fsdp': 2, 'mesh.tensor': 2},
    **{'hyper.num_minibatches': 2, 'hyper.rollout_batch_size': 4},
  )
  assert plan['topology'] == 'cpu:4' and plan['num_devices'] == 4
  assert [p['name'] for p in plan['programs']] == [
    'rollout',
    'score',
    'experience',
    'train_step',
  ]
  assert [p['times'] for p in plan['programs']] == [2, 2, 2, 2]
  assert set(plan['state']) == {
    'policy',
    'optimiser',
    'ema',
    'reference',
    'reward_model',
    'value',
    'kv_cache',
  }
  for program in plan['programs']:
    assert program['flops'] > 0 and program['bytes_accessed'] > 0
    assert program['flops'] == pytest.approx(program['analytic_flops'], rel=0.1)
    assert program['peak_bytes'] == (
      program['argument_bytes']
      + program['temp_bytes']
      + program['output_bytes']
      - program['alias_bytes']
    )
    assert 'all-reduce' in program['collectives']
    assert f'compiling {program["name"]}' in result.stderr
    assert program['name'] in result.stdout
  step = plan['programs'][-1]
  # Besides the state there are rows, of a few tens of kilobytes.
  whole = sum(v for k, v in plan['state'].items() if k != 'kv_cache')
  for program in plan['programs']:
    held = program['argument_bytes'] + program['waiting_bytes']
    assert whole <= held < whole + 60_000, program['name']
  assert plan['peak_bytes_per_device'] == max(
    p['peak_bytes'] + p['waiting_bytes'] for p in plan['programs']
  )
  state = {k: v for k, v in plan['state'].items() if k != 'kv_cache'}
  # The step takes the state and gives it back in place; the batch is small.
  trained = sum(state[k] for k in ('policy', 'value', 'optimiser', 'ema'))
  assert 0.9 * trained < step['alias_bytes'] <= step['argument_bytes']
  assert plan['fits'] and 'fits' in result.stdout
  # Parameters are split over four, the cache over its rows and heads.
  model = runs.SMALL_MODEL
  rows, length = 4, 32 + 24 - 1
  width = model['model.num_heads'] * model['model.head_dim']
  layers = model['model.num_layers']
  assert plan['state']['kv_cache'] == 2 * layers * rows * length * width * 4 / 4
  assert plan['state']['policy'] < 0.3 * 4 * 60_000


@pytest.mark.parametrize('config', ['sft', 'reward_model'])
def test_on_a_tpu_that_is_not_there(run_python, tmp_path, config):
  adam = {'optimizer': 'adam'}  # Muon's own products are not counted
  result, plan = _plan(run_python, tmp_path, config, 'v5e:2x2', **adam)
  (step,) = plan['programs']
  assert step['name'] == 'train_step'
  assert step['flops'] == pytest.approx(step['analytic_flops'], rel=0.1)
  assert plan['hbm_bytes_per_device'] == 16 * 2**30
  seconds = plan['estimated_seconds']
  assert seconds['iteration'] == pytest.approx(
    max(seconds[term] for term in ('compute', 'memory', 'network'))
  )
  assert 'an estimate' in result.stdout


def _refused(run_python, *args):
  result = run_python(['-m', 'instructjax.plan', *args], check=False)
  assert result.returncode == 2
  assert result.stderr.count('error:') == 1 and 'Traceback' not in result.stderr
  return result.stderr


CONFIG = '--config=configs/sft.py'


def test_what_is_wrong_is_said_in_a_line(run_python):
  said = _refused(run_python, CONFIG, '--topology=v5p')
  assert "needed KIND:SHAPE such as 'v5p:8x8x8'" in said
  said = _refused(run_python, CONFIG, '--topology=v5e:3x5')
  assert 'none that libtpu knows' in said
  said = _refused(run_python, CONFIG, '--topology=cpu:3')
  assert 'batch_size=8 must divide by 3' in said


def test_wrong_flags_are_refused_before_jax_is_there(monkeypatch, tmp_path):
  from instructjax import plan

  with pytest.raises(errors.UserError, match="mean '--topology'"):
    plan.command([CONFIG, '--topolgy=cpu:2'])
  missing = tmp_path / 'not' / 'there.json'
  with pytest.raises(errors.UserError, match='in a folder that can be written'):
    plan.command([CONFIG, '--topology=cpu:2', f'--json={missing}'])
  monkeypatch.setattr(topology.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(errors.UserError, match=r'instructjax\[plan\]'):
    topology.find('v5p:2x2x1')


def test_a_stage_that_trains_nothing_is_refused():
  config = config_lib.load(f'{runs.ROOT}/configs/collect.py')
  with pytest.raises(errors.UserError, match='needed a config that trains'):
    programs.find_stage(config, jax.devices()[:1])


@pytest.fixture(scope='module')
def misfit():
  """A stage with a report that was made up."""
  config = config_lib.load(f'{runs.ROOT}/configs/ppo_ptx.py:6B')
  stage = types.SimpleNamespace(
    config=config.to_dict(), mesh=sharding.make_mesh(devices=jax.devices()[:1])
  )
  program = {
    'name': 'train_step',
    'peak_bytes': 50,
    'waiting_bytes': 0,
  }
  report = {
    'fits': False,
    'usable_bytes_per_device': 40,
    'state': {'policy': 5, 'reference': 5, 'optimiser': 10, 'kv_cache': 20},
    'programs': [program, program | {'name': 'rollout', 'peak_bytes': 20}],
  }
  return stage, report


def test_a_misfit_is_told_with_what_to_change(misfit):
  stage, report = misfit
  assert cost.advice(stage, report)[0] == '--config.num_microbatches=2'
  report = copy.deepcopy(report)
  report['programs'].reverse()
  report['programs'][0]['peak_bytes'] = 60
  first, last = cost.advice(stage, report)
  assert first == '--config.hyper.rollout_batch_size=256'
  assert last.startswith('more devices')
  report['state']['policy'] = 25
  said = ' '.join(cost.advice(stage, report))
  assert 'more devices' in said and 'optimizer_dtype=bfloat16' in said
  assert 'frozen.offload=True' in said
  assert cost.advice(stage, report | {'fits': True}) == []
