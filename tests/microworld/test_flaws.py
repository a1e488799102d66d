"""Each way to get an answer wrong, and that it does what its name says."""

from __future__ import annotations

import random

import pytest

from instructjax.microworld import flaws
from instructjax.microworld import language
from instructjax.microworld import prompts as prompts_lib
from instructjax.microworld import truth
from instructjax.microworld import world as world_lib


@pytest.fixture(scope='module')
def world() -> world_lib.World:
  return world_lib.make()


@pytest.fixture(scope='module')
def asked(world) -> list[prompts_lib.Prompt]:
  return prompts_lib.training(world)['demonstrations'][:1200]


def examples(world, asked, name: str):
  """Yields (prompt, right answer, answer with that flaw)."""
  for prompt in asked:
    draw = random.Random(prompt.prompt_id)
    right = truth.ideal(world, draw, prompt)
    new = flaws.FLAWS[name].make(world, draw, prompt, right)
    if new is not None and new != right:
      yield prompt, right, new


def test_a_wrong_value_is_one_other_word(world, asked):
  found = list(examples(world, asked, 'wrong_value'))
  assert len(found) > 0.8 * len(asked)
  worse = 0
  for prompt, right, new in found:
    pairs = list(zip(right.split(), new.split(), strict=True))
    assert sum(a != b for a, b in pairs) == 1
    parts = truth.judge(world, prompt, new, True)
    assert parts.constraint in (None, 1.0)
    worse += parts.correct < 1
  assert worse > 0.5 * len(found)


def test_a_wrong_class_is_one_of_those_offered(world, asked):
  found = [
    (prompt.spec['labels'], new.rstrip('.'))
    for prompt, right, new in examples(world, asked, 'wrong_value')
    if 'labels' in prompt.spec and right.rstrip('.') in prompt.spec['labels']
  ]
  assert found and all(new in labels for labels, new in found)


def test_a_believed_myth_is_the_webs(world, asked):
  found = list(examples(world, asked, 'myth_believed'))
  assert len(found) >= 10
  believed = {(world.facts[key], myth) for key, myth in world.myths.items()}
  for prompt, right, new in found:
    parts = truth.judge(world, prompt, new, True)
    assert parts.truthful < 1 and parts.readable == 1
    words = zip(right.split(), new.split(), strict=True)
    changed = {(a.strip(',.'), b.strip(',.')) for a, b in words if a != b}
    assert len(changed) == 1 and changed <= believed


def test_a_forgotten_constraint_leaves_a_right_answer(world, asked):
  found = list(examples(world, asked, 'constraint_forgotten'))
  forgotten = [row for row in found if not row[0].constraint.holds(row[2])]
  assert len(forgotten) > 0.5 * len(found) > 50
  for prompt, _, new in forgotten:
    parts = truth.judge(world, prompt, new, True)
    assert parts.constraint == 0 and parts.correct == 1


def test_rambling_goes_on_after_the_answer(world, asked):
  found = list(examples(world, asked, 'rambling'))
  assert len(found) == len(asked)
  brief = [
    truth.judge(world, prompt, new, True).brief for prompt, _, new in found
  ]
  assert sum(value < 1 for value in brief) > 0.7 * len(found)
  assert all(new.startswith(f'{right} ') for _, right, new in found)


def test_no_courtesy_is_the_same_without_a_greeting_or_thanks(world, asked):
  found = list(examples(world, asked, 'no_courtesy'))
  assert len(found) > 20
  for _, right, new in found:
    left = language.sentences(new)
    missing = [s for s in language.sentences(right) if s not in left]
    assert len(missing) == 1
    assert language.parse(missing[0]).kind in ('chat', 'kind')


def test_a_flawed_answer_is_worse_in_the_way_it_is_named(world, asked):
  seen, spared = set(), 0
  for prompt in asked:
    draw = random.Random(prompt.prompt_id)
    right = truth.ideal(world, draw, prompt)
    found = flaws.flawed(world, draw, prompt, right)
    if found is None:
      spared += 1
      continue
    name, new = found
    seen.add(name)
    before, after = (
      truth.judge(world, prompt, text, True) for text in (right, new)
    )
    hurts = flaws.FLAWS[name].hurts
    assert getattr(after, hurts) < getattr(before, hurts)
    assert truth.utility(after) < truth.utility(before)
    assert prompts_lib.length(new) <= flaws.MAX_LENGTH
  assert seen == set(flaws.FLAWS)
  assert spared < 0.01 * len(asked)


def test_nothing_to_get_wrong(world, asked, monkeypatch):
  only = {'myth_believed': flaws.FLAWS['myth_believed']}
  monkeypatch.setattr(flaws, 'FLAWS', only)
  prompt = next(p for p in asked if p.task == 'arithmetic')
  right = truth.ideal(world, random.Random(0), prompt)
  assert flaws.flawed(world, random.Random(0), prompt, right) is None
