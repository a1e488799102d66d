"""A run's report, made from what its stages left on disk."""

from __future__ import annotations

import json

import pytest

from instructjax.evaluation import report

INTERVAL = {'mean': 0.5, 'low': 0.25, 'high': 0.75, 'n': 4}
SUMMARIES = {
  'sft': {'validation_loss': 2.345, 'iterations': 3},
  'reward_model': {'accuracy': INTERVAL | {'pairs': 12}, 'iterations': 3},
  'ppo_ptx': {
    'policy': {
      'scores_gain_over_reference': INTERVAL,
      'kl': INTERVAL,
      'pretraining_loss': 3.25,
    },
    'policy_ema': {'pretraining_loss': 3.125},
    'reference': {'pretraining_loss': 3.0},
    'iterations': 3,
  },
}
TASKS = {'sft': 'sft', 'reward_model': 'reward_model', 'ppo_ptx': 'ppo'}
METRICS = {
  'sft': {'loss/language': 3.0, 'validation/loss': 3.1, 'perf/mfu': 0.4567},
  'reward_model': {'loss/ranking': 0.7, 'reward_model/accuracy': 0.5},
  'ppo_ptx': {'objective/scores': 0.1, 'objective/kl': None},
}


@pytest.fixture
def run(tmp_path):
  for stage, summary in SUMMARIES.items():
    folder = tmp_path / stage
    folder.mkdir()
    config = {
      'task': TASKS[stage],
      'train_on': 'prompts',
      'init_from': {'policy': 'base'},
      'seed': 3,
    }
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'summary.json').write_text(json.dumps(summary))
    lines = [
      {'iteration': i, 'wall_seconds': 60.0 * i, **METRICS[stage]}
      | {'perf/tokens_per_second': 9.0 if i == 1 else 1233.0 + i}
      for i in (1, 2, 3)
    ]
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'metrics.jsonl').write_text(text)
  samples = [
    {'iteration': i, 'prompt': 'a|b', 'response': f'at {i},\n' + 'x' * 300}
    for i in (1, 2, 3)
  ]
  text = ''.join(json.dumps(line) + '\n' for line in samples)
  (tmp_path / 'ppo_ptx' / 'samples.jsonl').write_text(text)
  (tmp_path / 'sft' / 'data.json').write_text('{"rows": 5}')
  (tmp_path / 'unfinished').mkdir()
  return tmp_path


def test_report_holds_all_finished_stages(run):
  found = report.write(run)
  assert found == json.loads((run / 'report.json').read_text())
  stages = found['stages']
  assert stages.keys() == SUMMARIES.keys()
  assert stages['sft']['summary'] == SUMMARIES['sft']
  assert stages['sft']['data'] == {'rows': 5}
  assert stages['sft']['wall_seconds'] == 180.0
  assert (stages['ppo_ptx']['task'], stages['ppo_ptx']['seed']) == ('ppo', 3)


def test_report_reads_well(run):
  report.write(run)
  text = (run / 'report.md').read_text()
  rows = [line for line in text.splitlines() if line.startswith('| ')]
  start = '| sft | prompts | 3 | 3.0 | 1,235 | 45.7% | validation loss 2.345'
  assert start in text
  assert '| ppo_ptx | prompts | 3 | 3.0 | 1,235 |  | last weights' in text
  assert 'accuracy 0.500 [0.250, 0.750] on 12 held-out pairs' in text
  assert 'last weights: reward over its start 0.500 [0.250, 0.750]' in text
  assert 'pretraining loss 3.000 -> 3.250' in text
  assert '<br>averaged: pretraining loss 3.000 -> 3.125 |' in text
  # First and last answers side by side, on one line, not breaking the table.
  (answers,) = [line for line in rows if 'at 1,' in line]
  assert 'at 3,' in answers and 'at 2,' not in text
  assert answers.startswith('| a\\|b | at 1, x') and '…' in answers


def test_every_stage_has_its_figure(run):
  report.write(run)
  figures = sorted(path.name for path in (run / 'figures').iterdir())
  assert figures == [f'{stage}.png' for stage in sorted(SUMMARIES)]
  text = (run / 'report.md').read_text()
  for name in figures:
    assert (run / 'figures' / name).stat().st_size > 1000
    assert f'![figures/{name}](figures/{name})' in text


def test_run_without_finished_stages(tmp_path):
  assert report.write(tmp_path) == {'stages': {}}
  assert (tmp_path / 'report.md').read_text().startswith('# Report')
