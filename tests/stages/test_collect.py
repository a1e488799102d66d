"""What labelers say of the policy's responses, as records."""

from __future__ import annotations

import json
import types

from instructjax.data import records
from instructjax.microworld import labelers
from instructjax.microworld import prompts as prompts_lib
from instructjax.microworld import world as world_lib
from instructjax.stages import collect

WORLD = world_lib.make()
PEOPLE = labelers.training(WORLD)
ASKED = prompts_lib.testing(WORLD)[:20]
GOOD, BAD = ('the fox is red.', True), ('a a a', True)
FOUND = [[GOOD, BAD, GOOD, (BAD[0], False)]] * len(ASKED)


def _rank(name='comparisons', asked=ASKED):
  return collect.rank(WORLD, PEOPLE, asked, FOUND[: len(asked)], name)


def test_one_labeler_rates_and_ranks_each_prompts_responses(tmp_path):
  rows = _rank()
  path = tmp_path / 'comparisons.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  ids = {labeler.labeler_id for labeler in PEOPLE}
  for row, prompt, record in zip(
    rows, ASKED, records.load('comparisons', str(path)), strict=True
  ):
    assert record.prompt == prompt.text and record.labeler_id in ids
    assert row['prompt_id'] == prompt.prompt_id
    assert row['user_id'] == prompt.user_id
    assert list(record.responses) == [text for text, _ in FOUND[0]]
    assert set(record.ratings) <= set(range(1, 8))
    # The same answer, read twice, is one judgment; a cut one is another.
    assert record.ranks[0] == record.ranks[2]
    assert record.ratings[0] == record.ratings[2]
    for i, j in ((0, 1), (0, 3), (1, 3)):
      if record.ranks[i] < record.ranks[j]:
        assert record.ratings[i] >= record.ratings[j]
  assert any(row['ratings'][1] != row['ratings'][3] for row in rows)
  assert len({row['labeler_id'] for row in rows}) > 5


def test_what_is_said_depends_on_the_prompt_and_the_file_alone():
  rows = _rank()
  assert rows == _rank() and rows[3:4] != _rank('labelers_test')[3:4]
  assert collect.rank(WORLD, PEOPLE, ASKED[5:6], FOUND[:1], 'comparisons') == [
    rows[5]
  ]


class _Stub:
  """Answers with its name and the numbers that it was given."""

  def __init__(self, name):
    self.name = name

  def answers(self, texts, numbers):
    assert [int(text) for text in texts] == [row for row, _ in numbers]
    for start in range(0, len(numbers), 7):
      part = numbers[start : start + 7]
      yield [(f'{self.name} {row} {copy}', True) for row, copy in part]


def _respond(share, should_stop=lambda: False):
  config = {'seed': 0, 'min_responses': 4, 'max_responses': 9}
  config['base_share'] = share
  asked = [types.SimpleNamespace(text=str(row)) for row in range(200)]
  models = _Stub('policy'), _Stub('base')
  return collect._respond(config, models, asked, should_stop)


def test_some_responses_are_the_base_models():
  found = _respond(0.25)
  for row, responses in enumerate(found):
    assert 4 <= len(responses) <= 9
    for copy, (text, _) in enumerate(responses):
      assert text.split(' ', 1)[1] == f'{row} {copy}'
  names = [text.split()[0] for responses in found for text, _ in responses]
  assert 0.2 < names.count('base') / len(names) < 0.3
  assert all('policy' in text for rows in _respond(0.0) for text, _ in rows)
  assert _respond(0.25, lambda: True) is None
