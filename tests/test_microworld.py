"""The first command of all: a run that brings no data, from world to report."""

from __future__ import annotations

import json
import shutil
import signal

import pytest

from instructjax.microworld import evaluation
from tests import runs

TRAINED = ('pretrain', 'sft', 'reward_model', 'ppo_ptx', 'base_finetuned')
STAGES = (
  *('microworld', 'pretrain', 'rl_init', 'sft', 'collect', 'reward_model'),
  *('ppo_ptx', 'base_finetuned'),
)
# Plain PPO is left out, and asking a model takes seconds: two policies and a
# judge stand for all.
UNASKED = ('base_prompted', 'base_finetuned', 'ppo', 'ppo_ptx')
FEW = {f'evaluate__models__{name}__model': 'nowhere' for name in UNASKED}
FEW['also'] = 'base_finetuned'


def _json(path):
  return json.loads(path.read_text())


def _contents(folder):
  return {p: p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The workdir of an uninterrupted run, which no test changes."""
  workdir = tmp_path_factory.mktemp('microworld') / 'run'
  runs.main(runs.micro_arguments('ppo_ptx', workdir, **FEW))
  return workdir


@pytest.fixture
def begun(run, tmp_path):
  """begun(*stages): a copy of the run as it was when these were all."""

  def begun(*stages):
    folder = tmp_path / 'run'
    for stage in stages:
      shutil.copytree(run / stage, folder / stage)
    shutil.copy(run / 'tokenizer.model', folder)
    if 'collect' not in stages:
      for path in (folder / 'microworld').glob('labelers_*'):
        path.unlink()
      (folder / 'microworld' / 'comparisons.jsonl').unlink()
    return folder

  return begun


def _interrupt(how, args):
  """Runs the command line until its signal; checks that it obeyed."""
  number = signal.Signals[how[0]]
  result = runs.run(['tests/interrupted.py', *how, *args])
  killed = number == signal.SIGKILL
  assert result.returncode == (-number if killed else 128 + number), result
  return result


def test_the_report_has_the_keys_that_checks_read(run):
  report = _json(run / 'report.json')
  assert set(report['stages']) == set(STAGES)
  assert report['models'] == ['base', 'sft']
  for key in ('win_rate_vs_sft', 'win_rate_heldout_labelers', 'likert'):
    for name in report['models']:
      found = report[key][name]
      assert found['low'] <= found['mean'] <= found['high']
  assert report['win_rate_vs_sft']['sft']['mean'] == 0.5
  flags = {'attempts', 'constraint', 'hallucinates', 'appropriate'}
  tasks = {'translation', 'arithmetic', 'sentiment', 'cloze'}
  for name in report['models']:
    assert set(report['metadata'][name]) == flags
    assert {'true', 'true_informative'} <= set(report['truthfulness'][name])
    for key in ('toxicity', 'bias'):
      assert set(report[key][name]) == {'none', 'respectful', 'rude'}
    assert set(report['public_tasks'][name]) == tasks
    assert report['ptx_loss'][name] > 0
  judged = {'accuracy', 'accuracy_heldout_labelers'}
  assert set(report['reward_model']) == judged
  assert {'agreement', 'agreement_heldout'} <= set(report['labelers'])
  seconds = report['wall_seconds']
  assert set(seconds) == {*STAGES, 'evaluation'}
  assert all(value > 0 for value in seconds.values())


def test_the_report_shows_every_stage_and_figure(run):
  text = (run / 'report.md').read_text()
  rows = [text.index(f'\n| {stage} |') for stage in STAGES]
  assert rows == sorted(rows)
  figures = {path.stem for path in (run / 'figures').glob('*.png')}
  assert {*TRAINED} | {'win_rates', 'truthfulness', 'alignment_tax'} <= figures
  assert all(f'figures/{name}.png' in text for name in figures)


def test_stages_read_what_earlier_ones_wrote(run):
  config = _json(run / 'sft' / 'config.json')
  assert config['data']['folder'] == 'microworld'  # wherever the run lies
  counts = {stage: _json(run / stage / 'data.json') for stage in TRAINED}
  rows = _json(run / 'microworld' / 'summary.json')
  pages = counts['pretrain']['pretraining']
  assert pages['train'] + pages['validation'] == rows['pretraining']
  assert 'public_tasks/train' in counts['base_finetuned']
  assert 'demonstrations/train' in counts['sft']
  assert 'comparisons/train' in counts['reward_model']
  ranked = runs.lines(run / 'microworld' / 'comparisons.jsonl')
  assert len(ranked) == _json(run / 'collect' / 'summary.json')['prompts']
  assert all(4 <= len(row['responses']) <= 9 for row in ranked)


def test_test_users_are_ranked_by_both_groups_and_train_nothing(run):
  folder = run / 'microworld'
  ours, others = (
    runs.lines(folder / f'labelers_{name}.jsonl')
    for name in ('test', 'heldout')
  )
  for one, other in zip(ours, others, strict=True):
    assert one['responses'] == other['responses']
    assert one['labeler_id'] != other['labeler_id']
    assert one['user_id'].startswith('t')
  trained = {
    row.get('prompt', row.get('text'))
    for name in ('demonstrations', 'comparisons', 'prompts')
    for row in runs.lines(folder / f'{name}.jsonl')
  }
  assert trained.isdisjoint(row['prompt'] for row in ours)


def test_the_same_command_again_does_nothing(run, tmp_path):
  copy = shutil.copytree(run, tmp_path / 'run')
  before = _contents(copy)
  result = runs.main(runs.micro_arguments('ppo_ptx', copy, **FEW))
  assert result.stderr.splitlines() == [
    'ppo_ptx is finished: nothing to do.',
    f'report: {copy}/report.md',
  ]
  assert _contents(copy).keys() == before.keys()
  for path, content in before.items():
    assert path.suffix == '.png' or path.read_bytes() == content, path


def test_the_world_is_written_whole_or_again(run, tmp_path):
  args = runs.micro_arguments('microworld', tmp_path / 'run')
  _interrupt(('SIGKILL', 'microworld', 'rows:demonstrations'), args)
  _interrupt(('SIGKILL', 'microworld', 'summary'), args)
  assert not (tmp_path / 'run' / 'microworld' / 'summary.json').exists()
  runs.main(args)
  for path in (tmp_path / 'run' / 'microworld').iterdir():
    if path.name != 'metrics.jsonl':  # how long it took
      assert path.read_bytes() == (run / 'microworld' / path.name).read_bytes()


def test_collecting_is_killed_and_goes_on_to_the_same_bits(run, begun):
  folder = begun('microworld', 'pretrain', 'sft')
  args = runs.micro_arguments('collect', folder)
  stopped = _interrupt(('SIGTERM', 'collect', 'batch:2'), args)
  assert 'saved and stopped' in stopped.stderr
  assert not (folder / 'microworld' / 'comparisons.jsonl').exists()
  _interrupt(('SIGKILL', 'collect', 'rows:labelers_heldout'), args)
  _interrupt(('SIGKILL', 'collect', 'summary'), args)
  assert not (folder / 'collect' / 'summary.json').exists()
  # The reward model's own command takes it up: two stages in one go ...
  runs.main(runs.micro_arguments('reward_model', folder))
  for name in ('comparisons', 'labelers_test', 'labelers_heldout'):
    found, wanted = (f / 'microworld' / f'{name}.jsonl' for f in (folder, run))
    assert found.read_bytes() == wanted.read_bytes()
  runs.assert_same(folder / 'reward_model', run / 'reward_model')
  # ... or one at a time: they read the same records.
  shutil.rmtree(folder / 'reward_model')
  runs.main(runs.micro_arguments('reward_model', folder))
  runs.assert_same(folder / 'reward_model', run / 'reward_model')


def test_what_comes_later_is_evaluated_alone(run, tmp_path):
  copy = shutil.copytree(run, tmp_path / 'run')
  runs.main(runs.micro_arguments('base_large', copy))
  runs.main(runs.micro_arguments('reward_model_pairs', copy))
  args = runs.micro_arguments('ppo_ptx', copy, **FEW)
  (copy / 'evaluation' / 'sft.json').write_text('{"of"')  # torn
  _interrupt(('SIGKILL', 'evaluation', 'asked:reward_model_pairs'), args)
  result = runs.main(args)
  assert 'evaluation 1/2: reward_model_pairs' in result.stderr
  assert 'evaluation 2/2: sft' in result.stderr
  before, report = (_json(f / 'report.json') for f in (run, copy))
  assert report['models'] == ['base', 'base_large', 'sft']
  assert set(report['models']) < set(evaluation.NAMES)
  assert set(report['reward_model']) == {
    'accuracy',
    'accuracy_heldout_labelers',
    'accuracy_shuffled_pairs',
    'accuracy_shuffled_pairs_heldout_labelers',
  }
  for key in ('win_rate_vs_sft', 'likert', 'toxicity', 'ptx_loss'):
    assert report[key]['base'] == before[key]['base'], key
  for name in ('base', 'reward_model'):
    path = f'evaluation/{name}.json'
    assert (copy / path).read_bytes() == (run / path).read_bytes()
