"""Which models are asked, and which were asked already."""

from __future__ import annotations

import json

import pytest

from instructjax import errors
from instructjax.stages import measure


@pytest.fixture
def run(tmp_path, monkeypatch):
  """run(**more): the names asked by a run with two of three models."""
  asked = []

  def answers(asking, name):
    asked.append(name)
    return {'measured': {'asked': name}}

  monkeypatch.setattr(measure, '_prepare', lambda *unused: None)
  monkeypatch.setattr(measure, '_answers', answers)
  monkeypatch.setattr(measure, '_judgment', answers)
  for stage in ('sft', 'judge'):
    write_model(tmp_path, stage)

  def run(stop_after=9, **more):
    asked.clear()
    models = {
      'sft': {'model': 'sft/model', 'manner': 'instruct'},
      'page': {'model': 'sft/model', 'manner': 'plain'},
      'later': {'model': 'later/model', 'manner': 'plain'},
      'judge': {'model': 'judge/model', 'manner': 'reward'},
    }
    evaluate = {'models': models, 'temperature': 1.0}
    config = {'seed': more.pop('seed', 0), 'evaluate': evaluate | more}
    busy = measure.models(
      tmp_path, config, None, lambda: len(asked) >= stop_after
    )
    assert busy == bool(asked)
    return list(asked)

  return run


def write_model(root, stage, iteration=1):
  folder = root / stage / 'model'
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'tokenizer.model').write_bytes(b'')
  told = {'config': {}, 'kind': 'policy', 'iteration': iteration}
  (folder / 'model.json').write_text(json.dumps(told))


def test_each_model_is_asked_once_when_it_is_there(run, tmp_path):
  assert run() == ['sft', 'page', 'judge']
  assert run() == []
  write_model(tmp_path, 'later')
  assert run() == ['later']
  assert run() == []
  found = json.loads((tmp_path / 'evaluation' / 'later.json').read_text())
  assert found['measured'] == {'asked': 'later'}
  assert found['of']['manner'] == 'plain' and found['wall_seconds'] >= 0


def test_what_changed_is_asked_again(run, tmp_path):
  run()
  write_model(tmp_path, 'sft', iteration=2)
  assert run() == ['sft', 'page']
  assert run(temperature=0.5) == ['sft', 'page', 'judge']
  assert run(temperature=0.5, seed=1) == ['sft', 'page', 'judge']
  path = tmp_path / 'evaluation' / 'judge.json'
  path.write_text(path.read_text()[:-9])
  assert run(temperature=0.5, seed=1) == ['judge']


def test_it_stops_between_models(run):
  assert run(stop_after=0) == []
  assert run(stop_after=1) == ['sft']
  assert run() == ['page', 'judge']


def test_no_models_no_world(tmp_path):
  config = {'seed': 0, 'evaluate': {'models': {}}}
  assert not measure.models(tmp_path, config, None, lambda: False)
  assert list(tmp_path.iterdir()) == []


def test_a_manner_nobody_knows():
  models = {'sft': {'model': 'sft/model', 'manner': 'instrct'}}
  with pytest.raises(errors.UserError, match="Did you mean 'instruct'"):
    measure.check({'evaluate': {'models': models}})
