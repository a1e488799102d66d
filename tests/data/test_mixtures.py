"""What a spec says of several sources with weights."""

from __future__ import annotations

import pytest

from instructjax import errors
from instructjax.data import mixtures


@pytest.mark.parametrize(
  ('spec', 'found'),
  [
    ('a.txt', {'a.txt': 1.0}),
    ('a.txt,b.txt', {'a.txt,b.txt': 1.0}),
    ('runs/x=3/a.jsonl', {'runs/x=3/a.jsonl': 1.0}),
    ('a=0.8,b=.2', {'a': 0.8, 'b': 0.2}),
    ('a=3, b=1 ', {'a': 3.0, 'b': 1.0}),
    ('a=1', {'a': 1.0}),
    ('a=1e3,b=.5e-1', {'a': 1000.0, 'b': 0.05}),
    ('x=1/a=2,b=1', {'x=1/a': 2.0, 'b': 1.0}),
    (
      'books/*.txt=0.8,tfds:c4/en:train[:1%]=0.2',
      {'books/*.txt': 0.8, 'tfds:c4/en:train[:1%]': 0.2},
    ),
    ({'a,b': 0.5, 'c': 2}, {'a,b': 0.5, 'c': 2}),
  ],
)
def test_parse(spec, found):
  assert mixtures.parse(spec) == found
  assert list(mixtures.parse(spec)) == list(found)


def test_paths_that_are_there_are_no_weights(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'day=1').mkdir()
  (tmp_path / 'day=2').mkdir()
  for spec in ('day=1', 'day=1,day=2', 'day=[12]', 'day=1,day=3'):
    assert mixtures.parse(spec) == {spec: 1.0}
  assert mixtures.parse('day=3') == {'day': 3.0}


@pytest.mark.parametrize(
  ('spec', 'said'),
  [
    ('a=0.8,b', "got 'b' without one: write b=NUMBER"),
    ('a=0.8,b=0', 'b: needed a weight above 0, got 0.0'),
    ('a=1,a=2', 'each once'),
    ({'a': -1}, 'a: needed a weight above 0, got -1'),
    ({'a': 'x'}, 'a: needed a weight above 0, got x'),
    ({'a': True}, 'a: needed a weight above 0, got True'),
    ({}, 'needed one or more sources'),
  ],
)
def test_refuses(spec, said):
  with pytest.raises(errors.UserError, match=said):
    mixtures.parse(spec)
