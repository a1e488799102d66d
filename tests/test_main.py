"""The main command: one line of shell from text to a report."""

from __future__ import annotations

import json
import shutil

import pytest

from tests import runs


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(records, workdir) of the run all tests share."""
  return runs.finished(tmp_path_factory)


def _json(path):
  return json.loads(path.read_text())


def _contents(folder):
  return {
    path: path.stat().st_mtime_ns
    for path in folder.rglob('*')
    if path.is_file()
  }


@pytest.mark.parametrize('stage', runs.STAGES)
def test_a_stage_leaves_what_is_promised(run, stage):
  folder = run[1] / stage
  config = _json(folder / 'config.json')
  assert config['stage'] == stage and config['seed'] == 0
  assert config['num_iterations'] == runs.ITERATIONS
  assert '|' not in json.dumps(config['init_from'])
  assert {p.name for p in (folder / 'checkpoints').iterdir()} == {'4', '6'}
  assert (folder / 'model' / 'model.json').is_file()
  assert (folder / 'model' / 'tokenizer.model').is_file()
  assert list((folder / 'tensorboard').glob('events*'))
  assert _json(folder / 'summary.json')['iterations'] == runs.ITERATIONS
  assert _json(folder / 'data.json')
  samples = runs.lines(folder / 'samples.jsonl')
  halves = [
    [x['prompt'] for x in samples if x['iteration'] == i] for i in (3, 6)
  ]
  assert halves[0] == halves[1] and sum(map(len, halves)) == len(samples) > 0


METRICS = {
  'pretrain': {'loss/language', 'loss/total', 'optim/learning_rate/policy'},
  'sft': {'loss/language', 'optim/grad_norm/policy'},
  'reward_model': {'loss/ranking', 'reward_model/accuracy'},
  'ppo_ptx': {
    'loss/policy',
    'loss/value',
    'objective/kl',
    'objective/scores',
    'objective/entropy',
    'ppo/policy/approxkl',
    'ppo/policy/clipfrac',
    'ppo/val/clipfrac',
    'ptx/loss',
    'rollout/response_length',
  },
}


PHASES = {'ppo_ptx': ('rollout', 'score', 'train')}


@pytest.mark.parametrize('stage', runs.STAGES)
def test_metrics_have_a_line_an_iteration_with_the_known_names(run, stage):
  lines = runs.lines(run[1] / stage / 'metrics.jsonl')
  assert [x['iteration'] for x in lines] == [1, 2, 3, 4, 5, 6]
  updates = 2 if stage == 'ppo_ptx' else 1
  assert [x['step'] for x in lines] == [updates * (i + 1) for i in range(6)]
  walls = [x['wall_seconds'] for x in lines]
  assert walls == sorted(walls) and walls[0] > 0
  for line in lines:
    assert line['stage'] == stage
    names = METRICS[stage] | {'perf/tokens_per_second'}
    for phase in PHASES.get(stage, ('train',)):
      names |= {f'time/{phase}', f'flops/{phase}'}
    assert names | {'perf/train_tokens_per_second', 'time/other'} <= set(line)
    assert 'perf/mfu' not in line  # a CPU's peak is not known
    assert ('perf/rollout_tokens_per_second' in line) == (stage in PHASES)
  watched = [
    line['iteration']
    for line in lines
    if any(name.startswith('validation/') for name in line)
  ]
  assert watched == [3, 6]


def test_ppo_hands_on_policy_average_and_value(run):
  folder = run[1] / 'ppo_ptx'
  kinds = {
    name: _json(folder / name / 'model.json')['kind']
    for name in ('model', 'model_ema', 'value_model')
  }
  assert kinds == {
    'model': 'policy',
    'model_ema': 'policy',
    'value_model': 'reward',
  }
  policy, ema = (runs.tree(folder / x / 'params') for x in kinds if 'm' == x[0])
  assert any((policy[name] != ema[name]).any() for name in policy)


def test_sft_is_handed_on_by_loss_and_then_by_reward(run):
  folder = run[1] / 'sft'
  first = _json(folder / 'summary.json')['epochs']
  assert first['by'] == 'validation_loss'
  losses = first['validation_loss']
  assert losses[str(first['epoch'])] == min(losses.values())
  chosen = _json(folder / 'epochs' / 'selection.json')
  means = {k: v['mean'] for k, v in chosen['reward'].items()}
  assert chosen['by'] == 'reward_model' and set(means) == set(losses)
  assert means[str(chosen['epoch'])] == max(means.values())
  epoch = runs.tree(folder / 'epochs' / f'{chosen["epoch"]:03d}' / 'params')
  model = runs.tree(folder / 'model' / 'params')
  assert all((model[name] == epoch[name]).all() for name in epoch)


def test_the_reward_models_zero_is_at_the_demonstrations(run):
  told = _json(run[1] / 'reward_model' / 'model' / 'model.json')
  stats = told['calibration']
  assert stats['demonstration_min'] < 0 < stats['demonstration_max']
  state = runs.tree(run[1] / 'reward_model' / 'checkpoints' / '6' / 'default')
  model = runs.tree(run[1] / 'reward_model' / 'model' / 'params')
  name = "['head']['bias']"
  before = state[f"['params']['reward_model']{name}"]
  shift = stats['demonstration_mean_before']
  assert model[name] == pytest.approx(before - shift, abs=1e-6)
  summary = _json(run[1] / 'reward_model' / 'summary.json')
  assert 0 <= summary['accuracy']['mean'] <= 1
  assert set(summary['by_k']) == {'2', '3'}
  assert all(name.startswith('labeler') for name in summary['by_labeler'])


def test_the_report_tells_every_stage(run):
  report = _json(run[1] / 'report.json')
  assert set(report['stages']) == set(runs.STAGES)
  policy = report['stages']['ppo_ptx']['summary']['policy']
  for name in ('scores', 'scores_gain_over_reference', 'kl'):
    assert policy[name]['low'] <= policy[name]['mean'] <= policy[name]['high']
  text = (run[1] / 'report.md').read_text()
  figures = {path.stem for path in (run[1] / 'figures').glob('*.png')}
  assert figures == set(runs.STAGES)
  rows = [text.index(f'\n| {stage} |') for stage in runs.STAGES]
  assert rows == sorted(rows)
  for stage in runs.STAGES:
    assert f'figures/{stage}.png' in text


def test_the_same_command_again_trains_nothing(run, tmp_path):
  data, workdir = run
  copy = shutil.copytree(workdir, tmp_path / 'run')
  before = _contents(copy)
  shutil.rmtree(copy / 'figures')
  result = runs.main(runs.arguments('ppo_ptx', data, copy))
  assert 'ppo_ptx is finished: nothing to do.' in result.stderr
  assert 'loss' not in result.stderr
  after = _contents(copy)
  assert after.keys() == before.keys()
  changed = {path for path in before if before[path] != after[path]}
  assert {path.parent.name for path in changed} <= {'run', 'figures'}
  assert (copy / 'report.json').read_text() == (
    workdir / 'report.json'
  ).read_text()


def test_ppo_alone_and_the_papers_starting_point(run, tmp_path):
  """rl_init grows from pretrain; PPO starts from it because it is there."""
  data, workdir = run
  copy = shutil.copytree(workdir, tmp_path / 'run')
  runs.main(runs.arguments('rl_init', data, copy))
  started = _json(copy / 'rl_init' / 'config.json')['init_from']
  assert started == {'policy': 'pretrain'}
  counts = _json(copy / 'rl_init' / 'data.json')
  assert counts['pretraining/train']['rows']  # a tenth of its rows
  result = runs.main(runs.arguments('ppo', data, copy))
  assert 'sft' not in result.stderr
  assert _json(copy / 'ppo' / 'config.json')['init_from'] == {
    'policy': 'rl_init',
    'reward_model': 'reward_model',
  }
  line = runs.lines(copy / 'ppo' / 'metrics.jsonl')[-1]
  assert 'ptx/loss' not in line and 'validation/pretraining_loss' in line
  reference = runs.tree(copy / 'ppo' / 'frozen')
  rl_init = runs.tree(copy / 'rl_init' / 'model' / 'params')
  for name, value in rl_init.items():
    assert (reference[f"['reference']{name}"] == value).all()
  assert 'ppo' in _json(copy / 'report.json')['stages']
  # The other runs of the folder are as they were.
  runs.assert_same(copy / 'ppo_ptx', workdir / 'ppo_ptx')


def test_a_python_function_in_the_place_of_the_reward_model(run, tmp_path):
  data, workdir = run
  copy = tmp_path / 'run'
  for name in ('pretrain', 'sft'):
    shutil.copytree(workdir / name, copy / name)
  shutil.copy(workdir / 'tokenizer.model', copy)
  rule = tmp_path / 'rule.py'
  rule.write_text(
    'def short(responses):\n  return [-len(r) for r in responses]'
  )
  more = {'reward_function': f'{rule}:short', 'num_iterations': 2}
  runs.main(runs.arguments('ppo', data, copy, **more))
  assert not (copy / 'reward_model').exists()
  line = runs.lines(copy / 'ppo' / 'metrics.jsonl')[-1]
  assert line['objective/scores'] < 0


def test_skipped_rows_are_listed_beside_the_stage(tmp_path):
  data = runs.write_records(tmp_path / 'data')
  with (data / 'pretraining.jsonl').open('a') as file:
    file.write('{"txt": "a"}\n{"text"\n')
  more = {'num_iterations': 1, 'num_samples': 0, 'eval_every_iterations': 0}
  more |= {'data__on_bad_row': 'skip', 'data__max_bad_share': 0.05}
  runs.main(runs.arguments('pretrain', data, tmp_path / 'run', **more))
  stage = tmp_path / 'run' / 'pretrain'
  counts = _json(stage / 'data.json')['pretraining']
  assert (counts['rows'], counts['records'], counts['bad_rows']) == (42, 40, 2)
  told = runs.lines(stage / 'bad_rows.jsonl')
  assert [(one['kind'], one['row']) for one in told] == [
    ('pretraining', f'{data}/pretraining.jsonl:{number}') for number in (41, 42)
  ]
  assert "got 'txt': rename" in told[0]['reason']
  assert 'broken JSON' in told[1]['reason']


def test_frozen_models_that_wait_in_the_host_change_nothing(run, tmp_path):
  """Told apart from others by their memory alone, on a CPU too."""
  data, workdir = run
  copy = shutil.copytree(workdir, tmp_path / 'run')
  shutil.rmtree(copy / 'ppo_ptx')
  offload = {'frozen__offload': True}
  runs.main(runs.arguments('ppo_ptx', data, copy, **offload))
  assert _json(copy / 'ppo_ptx' / 'config.json')['frozen']['offload']
  found, wanted = (
    runs.arrays(folder / 'ppo_ptx') for folder in (copy, workdir)
  )
  assert found.keys() == wanted.keys()
  assert all(found[k].tobytes() == wanted[k].tobytes() for k in wanted)
  assert runs.numbers(copy / 'ppo_ptx') == runs.numbers(workdir / 'ppo_ptx')


def test_several_devices_share_the_work(run, tmp_path):
  """Two devices that share parameters and rows make the same numbers as one,
  but for rounding."""
  data, workdir = run
  more = {'num_iterations': 2, 'num_samples': 0, 'eval_every_iterations': 0}
  args = runs.arguments(
    'pretrain', data, tmp_path / 'run', mesh__fsdp=2, profile_steps=2, **more
  )
  runs.main(args, devices=2)
  found = runs.numbers(tmp_path / 'run' / 'pretrain')
  wanted = runs.numbers(workdir / 'pretrain')
  for name in ('loss/language', 'optim/grad_norm/policy'):
    assert found[0][name] == pytest.approx(wanted[0][name], rel=1e-5)
  assert found[0]['flops/train'] == wanted[0]['flops/train']
  assert list((tmp_path / 'run/pretrain/profile').rglob('*.xplane.pb'))


@pytest.mark.parametrize('mistake', ['config', 'key', 'record'])
def test_a_mistake_costs_one_line_and_nothing_else(run, tmp_path, mistake):
  """The whole process: status 2, one line, the run as it was."""
  data, workdir = run
  args = runs.arguments('ppo_ptx', data, workdir)
  if mistake == 'config':
    args.append('--config.learning_rate.policy=1.0')
    said = 'ppo_ptx was started with another config, learning_rate.policy: '
  elif mistake == 'key':
    args.append('--config.hyper.kl_coeff=1.0')
    said = "config.hyper has no key 'kl_coeff'. Did you mean 'kl_coef'?"
  else:
    bad = runs.write_records(tmp_path / 'data') / 'comparisons.jsonl'
    lines = bad.read_text().splitlines()
    lines[6] = lines[6][:-9]
    bad.write_text('\n'.join(lines))
    args = runs.arguments('ppo_ptx', bad.parent, tmp_path / 'run')
    said = f'{bad}:7: needed one JSON value, got broken JSON'
  before = _contents(workdir)
  result = runs.run(['-m', 'instructjax.main', *args], fresh=True)
  assert result.returncode == 2 and result.stdout == ''
  (line,) = result.stderr.splitlines()
  assert line.startswith('error: ') and said in line
  assert _contents(workdir) == before
