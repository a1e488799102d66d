"""A microworld's part of the report: what goes in besides the answers."""

from __future__ import annotations

import json

import pytest

from instructjax.evaluation import measured

INTERVAL = {'mean': 0.5, 'low': 0.25, 'high': 0.75, 'n': 4, 'pairs': 9}
POLICIES = {
  'base': ('pretrain/model', 3.0),
  'sft': ('sft/model', 4.0),
  'ppo_ptx': ('ppo_ptx/model', 3.5),
  'ppo': ('ppo/model_ema', None),
}
STAGES = {
  'pretrain': {'summary': {'validation_loss': 3.0}, 'wall_seconds': 9.0},
  'ppo_ptx': {
    'summary': {
      'policy': {'kl': {'mean': 2.0}},
      'policy_ema': {'kl': {'mean': 7.0}},
      'reference': {},
    },
    'wall_seconds': 5.0,
  },
  'ppo': {
    'summary': {
      'policy': {'kl': {'mean': 7.0}},
      'policy_ema': {'kl': {'mean': 8.0}},
    },
    'wall_seconds': 4.0,
  },
}


@pytest.fixture
def told(tmp_path, monkeypatch):
  """told(judges): what the microworld's summary is given."""
  monkeypatch.setattr(measured.files, 'load_world', lambda folder: folder)
  monkeypatch.setattr(
    measured.evaluation,
    'summarize',
    lambda world, found, **more: {'intervals': {}, 'asked': found, **more},
  )
  (tmp_path / 'microworld').mkdir()
  (tmp_path / 'microworld' / 'world.json').write_text('{}')
  (tmp_path / 'evaluation').mkdir()

  def write(name, model, what, **more):
    value = {'of': {'model': model}, 'measured': what, 'wall_seconds': 1.5}
    path = tmp_path / 'evaluation' / f'{name}.json'
    path.write_text(json.dumps(value | more))

  def told(judges=(), policies=POLICIES):
    for name, (model, loss) in policies.items():
      more = {} if loss is None else {'pretraining_loss': loss}
      write(name, model, {'asked': name}, **more)
    for name in judges:
      accuracies = ('accuracy', 'accuracy_heldout_labelers')
      write(name, f'{name}/model', dict.fromkeys(accuracies, INTERVAL))
    (tmp_path / 'evaluation' / '.sft.json.part').write_text('{')
    return measured.summarize(tmp_path, STAGES)

  return told


def test_numbers_of_stages_go_by_the_models_names(told):
  found = told()
  assert set(found['asked']) == set(POLICIES)
  assert found['kl'] == {'ppo_ptx': 2.0, 'ppo': 8.0}
  assert found['ptx_loss'] == {'base': 3.0, 'sft': 4.0, 'ppo_ptx': 3.5}
  seconds = {'pretrain': 9.0, 'ppo_ptx': 5.0, 'ppo': 4.0, 'evaluation': 6.0}
  assert found['wall_seconds'] == seconds
  assert found['reward_model'] == {}


def test_reward_models_are_told_apart_from_policies(told):
  found = told(['reward_model'])
  both = {'accuracy': 0.5, 'accuracy_heldout_labelers': 0.5}
  assert found['reward_model'] == both
  assert found['intervals']['reward_model']['accuracy'] == INTERVAL
  assert set(found['asked']) == set(POLICIES)
  pairs = told(['reward_model', 'reward_model_pairs'])['reward_model']
  assert pairs.keys() - both.keys() == {
    'accuracy_shuffled_pairs',
    'accuracy_shuffled_pairs_heldout_labelers',
  }


def test_without_a_baseline_or_a_world_there_is_nothing_to_say(told, tmp_path):
  assert told(policies={'base': POLICIES['base']}) == {}
  assert told() != {}
  (tmp_path / 'microworld' / 'world.json').unlink()
  assert told() == {}
