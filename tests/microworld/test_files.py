"""A world on disk: records that any run could read, and the truth beside."""

from __future__ import annotations

import dataclasses
import json

import pytest

from instructjax import errors
from instructjax.data import records
from instructjax.data import sources
from instructjax.microworld import files
from instructjax.microworld import prompts
from instructjax.microworld import world as world_lib

SMALL = world_lib.WorldConfig(
  seed=3,
  num_documents=200,
  num_users=20,
  num_test_users=4,
  num_demonstrations=30,
  num_ranked=20,
  num_prompts=40,
  num_test_prompts=10,
  num_labelers=5,
  num_test_labelers=3,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('world') / 'microworld'
  files.write(path, SMALL)
  return path


def _contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_are_records(folder, tmp_path):
  counts = files.write(tmp_path / 'again', SMALL)
  names = ('pretraining', 'demonstrations', 'to_rank', 'prompts')
  assert set(counts) == {*names, 'public_tasks'}
  kinds = {name: name for name in names}
  kinds |= {'to_rank': 'prompts', 'public_tasks': 'demonstrations'}
  for name, kind in kinds.items():
    found = records.load(kind, str(folder / f'{name}.jsonl'))
    assert len(found) == counts[name] > 0
  assert counts['demonstrations'] == 30 and counts['prompts'] == 40
  # By their names a folder's files are found, and no others.
  for kind in ('pretraining', 'demonstrations', 'prompts', 'public_tasks'):
    assert sources.find(str(folder), kind) == str(folder / f'{kind}.jsonl')
  assert sources.find(str(folder), 'comparisons') is None


def test_the_same_config_writes_the_same_bytes(folder, tmp_path):
  files.write(tmp_path / 'again', SMALL)
  assert _contents(tmp_path / 'again') == _contents(folder)
  other = dataclasses.replace(SMALL, seed=4)
  files.write(tmp_path / 'other', other)
  assert _contents(tmp_path / 'other') != _contents(folder)


def test_the_world_can_be_read_back(folder):
  found, made = files.load_world(folder), world_lib.make(SMALL)
  assert found == made
  asked = prompts.training(found)['ranked']
  rows = records.load('prompts', str(folder / 'to_rank.jsonl'))
  assert [row.text for row in rows] == [prompt.text for prompt in asked]
  told = json.loads((folder / 'world.json').read_text())
  assert sum(myth['reserved'] for myth in told['myths']) == len(made.reserved)
  assert len(told['facts']) == len(made.facts)


@pytest.mark.parametrize(
  'spoil, said',
  [
    (lambda told: told['facts'][0].__setitem__(2, 'gold'), 'another version'),
    (lambda told: told['lexicon'].popitem(), 'another version'),
    (lambda told: told.pop('config'), 'missing or damaged'),
    (lambda told: told['config'].update(size=3), 'missing or damaged'),
    (lambda told: told.clear(), 'missing or damaged'),
  ],
)
def test_another_world_is_refused(folder, tmp_path, spoil, said):
  told = json.loads((folder / 'world.json').read_text())
  spoil(told)
  (tmp_path / 'world.json').write_text(json.dumps(told))
  with pytest.raises(errors.UserError, match=said):
    files.load_world(tmp_path)


def test_no_world(tmp_path):
  with pytest.raises(errors.UserError, match='missing or damaged'):
    files.load_world(tmp_path)


def test_an_interrupted_write_leaves_no_half_of_a_file(tmp_path, monkeypatch):
  class Killed(Exception):
    pass

  def kill(path, target):
    raise Killed

  path = tmp_path / 'rows.jsonl'
  files.write_rows(path, [{'a': 1}])
  monkeypatch.setattr(files.pathlib.Path, 'replace', kill)
  with pytest.raises(Killed):
    files.write_rows(path, [{'a': 2}, {'a': 3}])
  assert path.read_text() == '{"a": 1}\n'
