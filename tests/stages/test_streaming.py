"""A run whose text is read as it trains: every stage that has text."""

from __future__ import annotations

import json

import pytest

from tests import runs

_SHORT = {
  'num_iterations': 4,
  'checkpoint_every_iterations': 1,
  'eval_every_iterations': 2,
  'log_every_iterations': 1,
  'num_samples': 0,
}
# A Python rule scores, so that there are three stages.
KEYS = {
  **_SHORT,
  **{
    f'stages.{stage}.{key}': value
    for stage in ('pretrain', 'rl_init')
    for key, value in _SHORT.items()
  },
  'stages.pretrain.optimizer': 'adam',
  'stages.rl_init.num_epochs': 1.0,
  'stages.rl_init.max_prompt_length': 32,
  'stages.rl_init.max_response_length': 16,
  'stages.rl_init.batch_size': 8,
  'stages.rl_init.pack_to': 48,
  'init_from.policy': 'rl_init',
  'hyper.num_minibatches': 1,
  'data.stream_above_bytes': 0,
}
STAGES = ('pretrain', 'rl_init', 'ppo_ptx')


def _arguments(data, folder, rule):
  keys = KEYS | {'reward_function': f'{rule}:short'}
  more = [f'--config.{key}={value}' for key, value in keys.items()]
  found = [
    word
    for word in runs.arguments('ppo_ptx', data, folder)
    if 'stages.sft' not in word and 'stages.reward_model' not in word
  ]
  return [*found, *more]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """(records, rule, folder of an uninterrupted run)."""
  base = tmp_path_factory.mktemp('streamed')
  data, rule = runs.write_records(base / 'records'), base / 'rule.py'
  rows = runs.lines(data / 'pretraining.jsonl')
  more = [{'text': f'{i}. {x["text"]}'} for i in range(10) for x in rows]
  runs.write_jsonl(data / 'pretraining.jsonl', more)
  rule.write_text(
    'def short(responses):\n  return [-len(r) for r in responses]'
  )
  runs.main(_arguments(data, base / 'run', rule))
  return data, rule, base / 'run'


def test_what_it_says_of_its_text(made):
  for stage in STAGES:
    told = json.loads((made[2] / stage / 'data.json').read_text())
    train, valid = told['pretraining/train'], told['pretraining/valid']
    assert train['blocks'] > 60 and train['rows_per_block'] > 1
    assert train['rows'] == train['blocks'] * train['rows_per_block']
    assert 0 <= train['share_padding'] < 0.2 and valid['rows'] > 0
  for line in runs.lines(made[2] / 'ppo_ptx' / 'metrics.jsonl')[1::2]:
    assert line['validation/pretraining_loss'] > 0


def test_killed_it_goes_on_to_the_same_bits(made, tmp_path):
  data, rule, wanted = made
  args = _arguments(data, tmp_path / 'run', rule)
  for stage in STAGES:
    result = runs.run(
      ['tests/interrupted.py', 'SIGKILL', stage, 'line:3', *args]
    )
    assert result.returncode == -9, result.stderr
  result = runs.main(args)
  assert 'ppo_ptx goes on at iteration ' in result.stderr
  for stage in STAGES:
    runs.assert_same(tmp_path / 'run' / stage, wanted / stage)
