"""Which stages run, in which order, and what a started folder allows."""

from __future__ import annotations

import json
import os
import signal

import pytest

from instructjax import config as config_lib
from instructjax import errors
from instructjax import main
from instructjax import stages
from instructjax.stages import workdir
from tests import runs


@pytest.fixture
def plan(tmp_path, monkeypatch):
  """plan(config, **overrides): names of the stages that would run."""
  monkeypatch.chdir(runs.ROOT)

  def plan(name, data='DIR', **overrides):
    keys = {k.replace('__', '.'): v for k, v in overrides.items()}
    config, _, overridden = main.parse(
      [
        f'--config=configs/{name}.py:tiny,data={data}',
        f'--workdir={tmp_path}',
        *(f'--config.{key}={value}' for key, value in keys.items()),
      ]
    )
    found = stages.plan(config, tmp_path, overridden)
    for plain in found:
      assert plain['seed'] == config.seed and 'stages' not in plain
    return [plain['stage'] for plain in found]

  return plan


def _begin(root, name, of='ppo_ptx', done=True, data='DIR', **overrides):
  """Writes what a stage leaves, as far as planning looks at it."""
  args = [f'--config=configs/{of}.py:tiny,data={data}', f'--workdir={root}']
  args += [f'--config.{k.replace("__", ".")}={v}' for k, v in overrides.items()]
  config, _, _ = main.parse(args)
  plain = config_lib.resolve_stage(config, name)
  workdir.write_config(root, workdir.settle(root, plain))
  if done:
    (root / name / 'summary.json').write_text('{}')


def test_all_that_is_missing_runs_in_order(plan, tmp_path):
  assert plan('pretrain') == ['pretrain']
  assert plan('sft') == ['pretrain', 'sft']
  assert plan('rl_init') == ['pretrain', 'rl_init']
  assert plan('ppo') == ['pretrain', 'sft', 'reward_model', 'ppo']
  assert plan('ppo_ptx') == list(runs.STAGES)
  for i, name in enumerate(runs.STAGES):
    _begin(tmp_path, name)
    assert plan('ppo_ptx') == list(runs.STAGES[i + 1 :])


WORLD = {'data': 'microworld'}
WHOLE = [
  *('microworld', 'pretrain', 'rl_init', 'sft', 'collect', 'reward_model'),
  *('ppo_ptx', 'ppo', 'base_finetuned'),
]


def test_in_the_microworld_a_run_makes_its_own_records(plan, tmp_path):
  assert plan('ppo_ptx', **WORLD) == WHOLE
  assert plan('ppo_ptx', also='', **WORLD) == WHOLE[:7]
  assert plan('ppo', **WORLD) == [*WHOLE[:6], 'ppo']
  ranked = ['microworld', 'pretrain', 'sft', 'collect']
  assert plan('reward_model', **WORLD) == [*ranked, 'reward_model']
  assert plan('reward_model_pairs', **WORLD) == [*ranked, 'reward_model_pairs']
  assert plan('collect', **WORLD) == ranked
  assert plan('sft', **WORLD) == ranked[:3]
  assert plan('rl_init', **WORLD) == WHOLE[:3]
  assert plan('base_finetuned', **WORLD) == [*WHOLE[:2], 'base_finetuned']
  assert plan('base_large', **WORLD) == ['microworld', 'base_large']
  assert plan('microworld', **WORLD) == ['microworld']
  for i, name in enumerate(WHOLE):
    _begin(tmp_path, name, data='microworld')
    assert plan('ppo_ptx', **WORLD) == WHOLE[i + 1 :]
  # A stage of the run can be asked for by its own command.
  for name in WHOLE:
    assert plan(name, **WORLD) == []


def test_also_is_held_to_its_stages(plan, tmp_path):
  with pytest.raises(errors.UserError, match="Did you mean 'ppo'"):
    plan('ppo_ptx', also='ppi', **WORLD)
  _begin(tmp_path, 'ppo', data='microworld')
  assert 'ppo' not in plan('ppo_ptx', **WORLD)
  with pytest.raises(errors.UserError, match='hyper.kl_coef: 0.1 -> 1.0'):
    plan('ppo_ptx', stages__ppo__hyper__kl_coef=1.0, **WORLD)


def test_what_stands_in_needs_comes_first(plan):
  more = {'needs': 'reward_model, rl_init', 'reward_function': 'module:name'}
  assert plan('ppo', **more) == [
    'pretrain',
    'sft',
    'reward_model',
    'rl_init',
    'ppo',
  ]


def test_a_started_stage_is_not_a_finished_one(plan, tmp_path):
  _begin(tmp_path, 'pretrain', done=False)
  assert plan('sft') == ['pretrain', 'sft']


def test_alternatives(plan, tmp_path):
  _begin(tmp_path, 'pretrain')
  _begin(tmp_path, 'rl_init')
  # The reward model needs SFT; PPO would start from rl_init.
  assert plan('ppo') == ['sft', 'reward_model', 'ppo']
  more = {'init_from__reward_model': './somewhere'}
  assert plan('ppo', **more) == ['ppo']
  more = {'reward_function': 'module:name'}
  assert plan('ppo', **more) == ['ppo']
  _begin(tmp_path, 'sft')
  assert plan('ppo') == ['reward_model', 'ppo']


def test_a_choice_once_made_stays(tmp_path, monkeypatch):
  monkeypatch.chdir(runs.ROOT)
  for name in ('pretrain', 'sft', 'reward_model'):
    _begin(tmp_path, name)
  _begin(tmp_path, 'ppo', of='ppo', done=False)
  _begin(tmp_path, 'rl_init', of='rl_init')
  config, _, _ = main.parse(
    ['--config=configs/ppo.py:tiny,data=DIR', f'--workdir={tmp_path}']
  )
  (plain,) = stages.plan(config, tmp_path)
  assert workdir.settle(tmp_path, plain)['init_from']['policy'] == 'sft'


@pytest.mark.parametrize(
  'overrides, said',
  [
    ({'seed': 1}, 'seed: 0 -> 1'),
    ({'batch_size': 16, 'seed': 1}, ': '),
    ({'learning_rate__policy': 0.1}, 'learning_rate.policy: 0.002 -> 0.1'),
    ({'model__d_model': 64}, 'model.d_model: 128 -> 64'),
    ({'data__prompts': 'p.jsonl'}, "data.prompts: '' -> 'p.jsonl'"),
  ],
)
@pytest.mark.parametrize('done', [False, True])
def test_another_config_names_the_first_key(
  plan, tmp_path, overrides, said, done
):
  _begin(tmp_path, 'pretrain', of='pretrain', done=done)
  with pytest.raises(errors.UserError) as error:
    plan('pretrain', **overrides)
  assert f'{tmp_path}/pretrain was started with another config, ' in str(
    error.value
  )
  assert said in str(error.value)


@pytest.mark.parametrize('done', [False, True])
def test_a_trace_can_be_asked_for_at_any_time(plan, tmp_path, done):
  _begin(tmp_path, 'pretrain', of='pretrain', done=done)
  path = tmp_path / 'pretrain' / 'config.json'
  wanted = [] if done else ['pretrain']
  assert plan('pretrain', profile_steps='2:3') == wanted
  old = json.loads(path.read_text())
  del old['profile_steps']  # as of a run from before there was any
  path.write_text(json.dumps(old))
  assert plan('pretrain') == plan('pretrain', profile_steps='4') == wanted
  assert json.loads(path.read_text()) == old


@pytest.mark.parametrize('done', [False, True])
def test_bad_rows_may_be_skipped_from_now_on(plan, tmp_path, done):
  """A run that met one far into its text can go on without it."""
  _begin(tmp_path, 'pretrain', of='pretrain', done=done)
  wanted = [] if done else ['pretrain']
  skip = {'data__on_bad_row': 'skip', 'data__max_bad_share': 0.1}
  assert plan('pretrain', **skip) == wanted
  path = tmp_path / 'pretrain' / 'config.json'
  old = json.loads(path.read_text())
  del old['data']['on_bad_row'], old['data']['max_bad_share']
  path.write_text(json.dumps(old))  # as of a run from before there were any
  assert plan('pretrain') == plan('pretrain', **skip) == wanted


@pytest.mark.parametrize('done', [False, True])
def test_older_runs_loaded_their_text(plan, tmp_path, done):
  _begin(tmp_path, 'pretrain', of='pretrain', done=done)
  path = tmp_path / 'pretrain' / 'config.json'
  old = json.loads(path.read_text())
  del old['data']['stream_above_bytes']
  path.write_text(json.dumps(old))
  assert plan('pretrain') == ([] if done else ['pretrain'])
  with pytest.raises(
    errors.UserError, match='stream_above_bytes: 268435456 ->'
  ):
    plan('sft', data__stream_above_bytes=0)


def test_a_stage_under_way_keeps_its_config_in_any_run(plan, tmp_path):
  _begin(tmp_path, 'pretrain', done=False)
  with pytest.raises(errors.UserError, match='num_epochs: 1.0 -> 2.0'):
    plan('sft', stages__pretrain__num_epochs=2.0)


def test_a_finished_stage_may_have_had_its_own_config(plan, tmp_path, caplog):
  """Its own command may have set what the next one does not know of."""
  caplog.set_level('INFO', 'instructjax')
  _begin(tmp_path, 'pretrain', of='pretrain', num_epochs=7.0)
  assert plan('sft') == ['sft']
  assert 'pretrain is taken as it was trained' in caplog.text
  assert 'num_epochs: 7.0 -> 1.0' in caplog.text
  # But not what the command line asks for in so many words,
  with pytest.raises(errors.UserError, match='num_epochs: 7.0 -> 3.0'):
    plan('sft', stages__pretrain__num_epochs=3.0)
  assert plan('sft', stages__pretrain__num_epochs=7.0) == ['sft']
  # and not another split, whose validation it was trained on.
  with pytest.raises(errors.UserError, match='seed: 0 -> 1'):
    plan('sft', seed=1)
  with pytest.raises(errors.UserError, match='validation_fraction: 0.1 -> 0.2'):
    plan('sft', data__validation_fraction=0.2)


def test_a_stage_of_ones_own_can_be_named(plan, tmp_path):
  with pytest.raises(errors.UserError, match="names 'mine', which is no stage"):
    plan('sft', init_from__policy='mine')
  _begin(tmp_path, 'mine', of='pretrain', stage='mine')
  assert plan('sft', init_from__policy='mine') == ['sft']


def test_a_name_is_a_stage_whatever_lies_in_the_current_folder(
  plan, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'pretrain').mkdir()  # of text, say
  (tmp_path / 'configs').symlink_to(runs.ROOT / 'configs')
  assert plan('sft') == ['pretrain', 'sft']
  assert plan('sft', init_from__policy='./pretrain') == ['sft']


def test_a_damaged_config_of_a_stage(plan, tmp_path):
  _begin(tmp_path, 'pretrain', done=False)
  (tmp_path / 'pretrain' / 'config.json').write_text('{"stage": "pre')
  with pytest.raises(errors.UserError, match=r'config.json is damaged .* rem'):
    plan('sft')


def test_a_config_is_written_once(tmp_path, monkeypatch):
  monkeypatch.chdir(runs.ROOT)
  _begin(tmp_path, 'pretrain', done=False)
  path = tmp_path / 'pretrain' / 'config.json'
  before = path.stat().st_mtime_ns
  assert json.loads(path.read_text())['stage'] == 'pretrain'
  _begin(tmp_path, 'pretrain', done=False)
  assert path.stat().st_mtime_ns == before


def test_a_first_signal_asks_and_a_second_insists(caplog):
  before = signal.getsignal(signal.SIGTERM)
  with stages.StopSignal() as stop:
    assert not stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop() and stop.signal == signal.SIGTERM
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
  assert signal.getsignal(signal.SIGTERM) == before


def test_a_stage_that_knew_fewer_options_of_models_goes_on(tmp_path, plan):
  _begin(tmp_path, 'pretrain', done=False)
  path = tmp_path / 'pretrain' / 'config.json'
  told = json.loads(path.read_text())
  for option in ('gated', 'rope_scaling', 'banded_layers'):
    del told['model'][option]
  path.write_text(json.dumps(told))
  assert plan('pretrain') == ['pretrain']
  with pytest.raises(errors.UserError, match='model.gated: False -> True'):
    plan('pretrain', model__gated=True)


def test_a_stage_that_knew_no_attention_kernels_goes_on(tmp_path, plan):
  _begin(tmp_path, 'pretrain', done=False)
  path = tmp_path / 'pretrain' / 'config.json'
  told = json.loads(path.read_text())
  with pytest.raises(errors.UserError, match="attention_kernel: 'auto' -> 'xl"):
    plan('pretrain', attention_kernel='xla')
  del told['attention_kernel']
  path.write_text(json.dumps(told))
  with pytest.raises(errors.UserError, match='attention_kernel'):
    plan('pretrain', attention_kernel='xla')  # it had what 'auto' is
  for kernel in ('auto',):
    assert plan('pretrain', attention_kernel=kernel) == ['pretrain']


def test_a_stage_that_knew_no_tfds_goes_on(tmp_path, plan):
  _begin(tmp_path, 'pretrain', done=False)
  path = tmp_path / 'pretrain' / 'config.json'
  told = json.loads(path.read_text())
  del told['data']['tfds_dir']
  path.write_text(json.dumps(told))
  assert plan('pretrain') == ['pretrain']
  with pytest.raises(errors.UserError, match="data.tfds_dir: '' -> '/x'"):
    plan('pretrain', data__tfds_dir='/x')
