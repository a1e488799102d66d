"""The microworld's experiment, on reports with invented numbers."""

from __future__ import annotations

import copy
import json
import subprocess

from matplotlib import pyplot as plt
import pytest

from experiments.microworld import draw
from experiments.microworld import run
from experiments.microworld import summarize
from experiments.microworld import targets
from instructjax import config as config_lib
from instructjax import stages
from instructjax.microworld import evaluation
from instructjax.stages import check
from instructjax.stages import measure

TASKS = ('translation', 'cloze')
WINS = (0.1, 0.3, 0.2, 0.4, 0.5, 0.66, 0.64)
# gamma and beta -> score of the public tasks, reward
SWEPT = {
  'ppo': (0.02, 0.0, 0.4, 2.0),
  'ppo_kl_0_1': (0.1, 0.0, 0.5, 1.5),
  'ppo_kl_2': (2.0, 0.0, 0.45, 0.5),
  'ppo_ptx': (0.02, 27.8, 0.77, 1.8),
}


def _interval(mean):
  return {'mean': mean, 'low': mean - 0.05, 'high': mean + 0.05, 'n': 60}


def _stage(task, **summary):
  return {'task': task, 'summary': summary, 'wall_seconds': 60.0}


def _ppo(reward):
  gain = {'scores_gain_over_reference': _interval(reward - 0.5)}
  policy = {'scores': _interval(reward), 'kl': _interval(9.0), **gain}
  reference = {'scores': _interval(0.5)}
  return _stage('ppo', policy_ema=policy, reference=reference)


def _report():
  """A whole report whose numbers can be checked in the head."""
  wins = dict(zip(evaluation.NAMES, WINS, strict=True))
  tasks = {'base': 0.8, 'sft': 0.6, 'ppo': 0.4, 'ppo_ptx': 0.77}
  return {
    'models': list(wins),
    'samples': [{'prompt': 'say a.'}],
    'win_rate_vs_sft': {k: _interval(v) for k, v in wins.items()},
    'win_rate_heldout_labelers': {k: _interval(v) for k, v in wins.items()},
    'win_rate_ppo_ptx_vs_base_large': _interval(0.9),
    'metadata': {'base': {'hallucinates': 0.4}, 'ppo_ptx': {'hallucinates': 0}},
    'truthfulness': {
      'base': {'true': 0.5, 'true_informative': 0.2},
      'ppo_ptx': {'true': 0.6, 'true_informative': 0.5},
    },
    'toxicity': {
      'base': {'respectful': 0.2, 'rude': 0.5},
      'ppo_ptx': {'respectful': 0.16, 'rude': 0.75},
    },
    'public_tasks': {
      name: dict(zip(TASKS, (mean - 0.1, mean + 0.1), strict=True))
      for name, mean in tasks.items()
    },
    'reward_model': {
      'accuracy': 0.74,
      'accuracy_heldout_labelers': 0.7,
      'accuracy_shuffled_pairs': 0.75,
    },
    'labelers': {
      'agreement': 0.726,
      'agreement_heldout': 0.7,
      'majority_with_truth': 0.9,
    },
    'stages': {
      'reward_model': _stage('reward_model', accuracy=_interval(0.72)),
      'reward_model_pairs': _stage('reward_model', accuracy=_interval(0.7)),
      'ppo': _ppo(2.0),
      'ppo_ptx': _ppo(1.8),
    },
  }


def _swept_report():
  report = _report()
  for name, (_, _, tasks, reward) in SWEPT.items():
    report['stages'][name] = _ppo(reward)
    report['public_tasks'][name] = {'translation': tasks, 'cloze': tasks}
    report['win_rate_vs_sft'][name] = _interval(0.6)
  report['ptx_loss'] = dict.fromkeys(SWEPT, 2.0)
  return report


def _write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(value))


def _command(calls=1):
  numbers = {'peak_memory_gb': 1.5, 'longest_silence_seconds': 10.0}
  return {'calls': calls, 'status': 0, 'seconds': 400.0, **numbers}


def _model(**sizes):
  shape = dict.fromkeys(('num_layers', 'num_heads'), 2) | {'vocab_size': 64}
  shape |= {'d_model': 16, 'head_dim': 8, 'd_ff': 32, 'max_length': 32}
  return {'config': shape | sizes}


@pytest.fixture
def workdir(tmp_path):
  """Two seeds: of the second only the default command was run."""
  folder = tmp_path / 'runs'
  for seed in ('0', '10'):
    root = folder / f'seed{seed}'
    _write(root / 'report.json', _report())
    commands = {'default': _command(), 'again': _command()}
    _write(root / 'commands.json', commands)
    _write(root / 'ppo_ptx' / 'model' / 'model.json', _model())
  large = folder / 'seed0' / 'base_large' / 'model' / 'model.json'
  _write(large, _model(d_model=160, head_dim=80, d_ff=640))
  sweep = folder / 'seed0_kl_sweep'
  _write(sweep / 'report.json', _swept_report())
  for name, (kl_coef, ptx_coef, *_) in SWEPT.items():
    hyper = {'kl_coef': kl_coef, 'ptx_coef': ptx_coef}
    _write(sweep / name / 'config.json', {'hyper': hyper})
  return folder


@pytest.fixture
def seeds(workdir):
  return {k: summarize.read(v) for k, v in summarize.runs(workdir).items()}


def _values(seed):
  return {number.says: number.value(seed) for number in targets.NUMBERS}


def test_what_a_seed_gave_is_read_without_its_samples(workdir, seeds):
  assert list(seeds) == ['0', '10']
  assert set(seeds['0']) == {'commands', 'report', 'parameters', 'sweep'}
  assert set(seeds['10']) == {'commands', 'report', 'parameters'}
  assert 'samples' not in seeds['0']['report']
  many = seeds['0']['parameters']
  assert many['base_large'] > 10 * many['ppo_ptx']
  (workdir / 'seed2').mkdir()  # begun
  assert list(summarize.runs(workdir)) == ['0', '10']


def test_a_sweep_says_what_it_swept(seeds):
  found = seeds['0']['sweep']
  assert (found['kl_coef'], found['ptx_coef']) == (0.02, 27.8)
  assert found['start_reward'] == 0.5
  assert set(found['points']) == set(SWEPT)
  assert found['points']['ppo_kl_2'] == {
    'kl_coef': 2.0,
    'ptx_coef': 0.0,
    'public_tasks': 0.45,
    'reward': 0.5,
    'reward_gain': 0.0,
    'kl': 9.0,
    'ptx_loss': 2.0,
    'win_rate_vs_sft': 0.6,
  }


def test_numbers_are_those_of_the_report(seeds):
  found = _values(seeds['0'])
  for says, wanted in {
    'default command, seconds': 400,
    'base preferred to sft': 0.1,
    'base_prompted above base': 0.2,
    'ppo_ptx above ppo': -0.02,
    'ppo_ptx preferred to base_large, low end of the 95% interval': 0.85,
    "true and informative, ppo_ptx's share over base's": 2.5,
    "rude when asked to be respectful, ppo_ptx's share over base's": 0.8,
    "rude when asked to be rude, ppo_ptx's share minus base's": 0.25,
    'public tasks, sft': 0.6,
    'public tasks, lost by ppo against base': 0.4,
    'share of the loss that ppo_ptx recovers': 0.925,
    'share of the loss that the best raised beta recovers': 0.25,
    'the raised beta that recovers most': 0.1,
    'reward above the start, the best raised beta': 1.0,
    'reward above the start, ppo': 1.5,
    'accuracy lost on held-out labelers': 0.04,
    'validation accuracy, K-wise minus shuffled pairs': 0.02,
  }.items():
    assert found[says] == pytest.approx(wanted), says
  assert None not in found.values()


def test_what_was_not_run_has_no_number(seeds):
  found = _values(seeds['10'])
  missing = {says for says, value in found.items() if value is None}
  assert missing == {
    "parameters of base_large, multiples of ppo_ptx's",
    'share of the loss that the best raised beta recovers',
    'the raised beta that recovers most',
    'reward above the start, the best raised beta',
  }


def test_a_command_cut_short_and_a_tax_of_nothing_have_no_number(seeds):
  seed = copy.deepcopy(seeds['0'])
  seed['commands']['default'] = _command(calls=2)
  seed['report']['public_tasks']['ppo'] = dict.fromkeys(TASKS, 0.9)
  found = _values(seed)
  assert found['default command, seconds'] is None
  assert found['share of the loss that ppo_ptx recovers'] is None
  assert found['public tasks, lost by ppo against base'] < 0


@pytest.mark.parametrize(
  'wanted, value, passed',
  [
    ((), 1.0, None),
    ((('<=', 0.25),), 0.25, True),
    ((('<', 0.25),), 0.25, False),
    ((('>', 0),), 0.0, False),
    ((('>=', 0.65), ('<=', 0.8)), 0.7, True),
    ((('>=', 0.65), ('<=', 0.8)), 0.81, False),
  ],
)
def test_targets(wanted, value, passed):
  number = targets.Number(1, 'a number', lambda seed: value, wanted)
  assert number.passes(value) is passed


def test_every_claim_has_a_number_with_a_target():
  wanted = {number.group for number in targets.NUMBERS if number.targets}
  assert wanted == set(range(1, 8))
  says = [number.says for number in targets.NUMBERS]
  assert len(set(says)) == len(says)


def test_results_tell_the_spread_over_seeds_and_what_passed(seeds):
  seeds['10']['report']['win_rate_vs_sft']['base']['mean'] = 0.26
  results = summarize.summarize(seeds)
  assert json.loads(json.dumps(results)) == results
  rows = {row['says']: row for row in results['targets']}
  row = rows['base preferred to sft']
  assert row['values'] == {'0': 0.1, '10': 0.26}
  assert (row['mean'], row['min'], row['max']) == (0.18, 0.1, 0.26)
  assert (row['seeds'], row['targets']) == (2, ['<= 0.25'])
  assert row['passed'] is True
  assert row['passed_by_seed'] == {'0': True, '10': False}
  wins = results['report']['win_rate_vs_sft']
  assert wins['base'] == {'mean': 0.18, 'min': 0.1, 'max': 0.26, 'seeds': 2}
  assert results['sweep']['points']['ppo']['reward']['seeds'] == 1
  assert list(results['seeds']) == ['0', '10']
  lines = summarize.table(results['targets']).splitlines()
  assert len(lines) == 2 + len(targets.NUMBERS)
  told = '| 2 | base preferred to sft | 0.18 (0.1 to 0.26) | <= 0.25 | 1 of 2 |'
  assert told in lines


def test_an_empty_number_is_said_to_be_missing():
  number = {'group': 3, 'says': 'a', 'targets': ['> 0.5']}
  row = number | {'values': {}, 'passed_by_seed': {}, 'passed': None}
  assert '| 3 | a | not measured | > 0.5 |  |' in summarize.table([row])


def test_figures_are_drawn_and_closed(seeds, tmp_path):
  # base_large was evaluated in one seed only.
  for key in ('win_rate_vs_sft', 'win_rate_heldout_labelers'):
    del seeds['10']['report'][key]['base_large']
  drawn = draw.draw(summarize.summarize(seeds), tmp_path / 'figures')
  assert drawn == ['win_rates.png', 'alignment_tax.png', 'kl_sweep.png']
  for name in drawn:
    assert plt.imread(tmp_path / 'figures' / name).std() > 0.01, name
  assert not plt.get_fignums()
  del seeds['0']
  assert draw.draw(summarize.summarize(seeds), tmp_path) == drawn[:2]


def test_the_sweep_shows_both_coefficients(seeds):
  figure = draw.sweep(summarize.summarize(seeds))
  shown = {
    axis.get_xlabel(): [tick.get_text() for tick in axis.get_xticklabels()]
    for axis in figure.axes
    if axis.get_xlabel()
  }
  plt.close(figure)
  assert shown == {
    'pretraining coefficient gamma (beta = 0.02)': ['0', '27.8'],
    'KL coefficient beta (gamma = 0)': ['0.02', '0.1', '2'],
  }


def test_steps_are_the_default_command_first():
  assert [name for name, _ in run.steps(())] == ['default', 'again']
  found = run.steps(('base_large', 'kl_sweep'))
  assert [name for name, _ in found[2:]] == [
    'base_large',
    'base_large_evaluated',
    'kl_sweep',
  ]
  for _, config in found:
    assert (run.ROOT / config).is_file()


def test_the_command_line(tmp_path, capsys):
  argv = [f'--workdir={tmp_path}', '--seeds=0,7', '--with=kl_sweep']
  found = run.options(argv)
  assert (found.seeds, found.parts) == ([0, 7], ['kl_sweep'])
  with pytest.raises(SystemExit):
    run.options([argv[0], '--with=base_big'])
  assert 'base_big' in capsys.readouterr().err


def _calls(monkeypatch, *statuses):
  """Replaces run.call; returns the list of what it was given."""
  given, left = [], list(statuses)

  def call(arguments, cache):
    given.append((arguments, cache))
    return {'status': left.pop(0), 'seconds': 1.0}

  monkeypatch.setattr(run, 'call', call)
  return given


def test_what_is_done_is_not_done_again(monkeypatch, tmp_path):
  given = _calls(monkeypatch, 0)
  for _ in range(2):
    assert run.perform(tmp_path, 3, 'default', 'configs/ppo_ptx.py') == 0
  ((arguments, cache),) = given
  assert arguments[-2:] == [f'--workdir={tmp_path}/seed3', '--config.seed=3']
  assert cache == tmp_path / 'cache' / 'seed3'


def test_a_command_cut_short_is_called_again_and_counted(monkeypatch, tmp_path):
  path = tmp_path / 'seed0' / 'commands.json'
  _calls(monkeypatch, 0, -15, 0)
  run.perform(tmp_path, 0, 'again', 'configs/ppo_ptx.py')
  assert run.perform(tmp_path, 0, 'default', 'configs/ppo_ptx.py') == -15
  assert run.perform(tmp_path, 0, 'default', 'configs/ppo_ptx.py') == 0
  told = json.loads(path.read_text())
  assert {name: x['calls'] for name, x in told.items()} == {
    'again': 1,
    'default': 2,
  }


def test_results_that_were_written_before_make_no_other_commit(
  monkeypatch, tmp_path
):
  here = tmp_path / 'experiments'
  (here / 'figures').mkdir(parents=True)
  files = {
    'results': here / 'results.json',
    'figure': here / 'figures' / 'a.png',
    'program': here / 'run.py',
  }
  for path in files.values():
    path.write_text('old')
  author = ['-c', 'user.name=a', '-c', 'user.email=a@example.org']
  for words in (['init', '-q'], ['add', '.'], [*author, 'commit', '-qm', 'a']):
    subprocess.run(['git', *words], cwd=tmp_path, check=True)
  monkeypatch.setattr(run, 'ROOT', tmp_path)
  monkeypatch.setattr(run, 'HERE', here)
  head = run.commit()
  assert head and '-dirty' not in head
  for name, told in (
    ('results', head),
    ('figure', head),
    ('program', f'{head}-dirty'),
  ):
    files[name].write_text('new')
    assert run.commit() == told


def test_a_command_is_timed_and_weighed(tmp_path, capfd):
  code = 'import os; x = b"1" * 300_000_000; print(os.environ["{}"])'
  found = run.call(['-c', code.format('XDG_CACHE_HOME')], tmp_path)
  assert found['status'] == 0
  assert capfd.readouterr().out == f'{tmp_path}\n'
  assert 0 < found['longest_silence_seconds'] <= found['seconds'] < 30
  assert 0.3 < found['peak_memory_gb'] < 2


def test_a_command_is_told_to_stop_and_waited_for(tmp_path, capfd):
  code = (
    'import os, signal, sys\n'
    'signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n'
    'os.kill(os.getppid(), signal.SIGTERM)\n'
    'signal.pause()\n'
  )
  found = run.call(['-c', code], tmp_path)
  assert found['status'] == 143, capfd.readouterr()


def test_a_sweep_borrows_what_is_finished_once(tmp_path):
  source, copied = tmp_path / 'seed0', tmp_path / 'seed0_kl_sweep'
  for name in (
    'sft/model/params/a',
    'sft/epochs/001/a',
    'sft/checkpoints/1/a',
    'evaluation/sft.json',
    'base_large/model/a',
    'tokenizer.model',
    'report.json',
  ):
    _write(source / name, name)
  (tmp_path / '.seed0_kl_sweep.part').mkdir()  # of one that was killed
  run.borrow(source, copied)
  found = {str(p.relative_to(copied)) for p in copied.rglob('*') if p.is_file()}
  wanted = {'sft/model/params/a', 'evaluation/sft.json', 'tokenizer.model'}
  assert found == wanted
  (copied / 'ppo_kl_2').mkdir()
  run.borrow(source, copied)
  assert (copied / 'ppo_kl_2').exists()
  assert not (tmp_path / '.seed0_kl_sweep.part').exists()


def _without_coefficients(config, stage):
  """A stage's config, and the (beta, gamma) taken out of it."""
  plain = config_lib.resolve_stage(config, stage)
  hyper = plain['hyper']
  return plain, (hyper.pop('kl_coef'), hyper.pop('ptx_coef'))


def test_the_sweep_is_plain_ppo_but_for_its_coefficients():
  config = config_lib.load(str(run.HERE / 'kl_sweep.py'))
  ppo = config_lib.load(str(run.ROOT / 'configs' / 'ppo.py'))
  wanted, default = _without_coefficients(ppo, 'ppo')
  names = [config.stage, *config.also.split(',')]
  swept = {}
  for name in names:
    check.values(config_lib.resolve_stage(config, name))
    found, swept[name] = _without_coefficients(config, name)
    assert found == wanted | {'stage': name}
  beta, gamma = default
  assert gamma == 0
  assert swept == {
    'ppo_kl_0_5': (0.5, 0.0),
    'ppo_kl_2': (2.0, 0.0),
    'ppo_kl_8': (8.0, 0.0),
    'ppo_ptx_0_5': (beta, 0.5),
    'ppo_ptx_10': (beta, 10.0),
    'ppo_ptx_50': (beta, 50.0),
  }
  assert beta < 0.5  # the others raise it
  measure.check(config.to_dict())
  asked = config.evaluate.models.to_dict()
  assert asked.keys() == {*ppo.evaluate.models, *names}
  model = f'{names[0]}/model_ema'
  assert asked[names[0]] == {'model': model, 'manner': 'instruct'}


def test_the_sweep_runs_nothing_but_itself_on_what_it_borrows(tmp_path):
  for name in run.BORROWED:
    _write(tmp_path / name / 'summary.json', {})
  config = config_lib.load(str(run.HERE / 'kl_sweep.py'))
  names = [config.stage, *config.also.split(',')]
  assert [x['stage'] for x in stages.plan(config, tmp_path)] == names
  _write(tmp_path / names[1] / 'summary.json', {})
  found = [x['stage'] for x in stages.plan(config, tmp_path)]
  assert found == [names[0], *names[2:]]
