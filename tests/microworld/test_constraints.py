"""Constraints: kept, broken, asked for, and always possible."""

from __future__ import annotations

import itertools

import pytest

from instructjax.microworld import constraints
from instructjax.microworld import world as world_lib

_CASES = (
  ('exactly', 4, 'the fox eats bread.', 'bread.'),
  ('at_most', 2, 'in redhill.', 'ben lives in redhill.'),
  ('without', 'red', 'the fox is tired.', 'the fox is red.'),
  ('with', 'red', 'the fox is red.', 'the fox is tired.'),
  ('end', 'please', 'bread please.', 'please, bread.'),
  ('start', 'well', 'well, bread.', 'bread, well.'),
)


@pytest.mark.parametrize(('kind', 'value', 'kept', 'broken'), _CASES)
def test_a_constraint_is_kept_or_not(kind, value, kept, broken):
  constraint = constraints.Constraint(kind, value)
  assert constraint.holds(kept) and not constraint.holds(broken)
  assert not constraint.holds('') and not constraint.holds(' . ')


def test_it_is_asked_for_in_words():
  assert {c[0] for c in _CASES} == set(constraints.KINDS)
  said = {k: constraints.Constraint(k, v).text() for k, v, _, _ in _CASES}
  assert said['exactly'] == 'use exactly four words.'
  assert said['end'] == 'end with please.'
  one = constraints.Constraint('exactly', 1)
  assert one.text() == 'use exactly one word.'


@pytest.mark.parametrize('kind', ['start', 'end'])
@pytest.mark.parametrize('text', ['bread.', 'hello, ben!', 'no stop'])
def test_a_decoration_comes_off_again(kind, text):
  constraint = constraints.Constraint(kind, 'okay')
  decorated = constraint.decorate(text)
  assert constraint.holds(decorated) and constraint.strip(decorated) == text
  assert constraint.strip(text) == text


def test_what_is_chosen_can_be_kept():
  answers = itertools.cycle(['the fox is red.', 'the fox is a mammal.', 'red.'])
  for i in range(50):
    draw = world_lib.stream(1, i)
    chosen = constraints.choose(
      draw, constraints.KINDS, lambda: next(answers), 'describe the fox.'
    )
    found = constraints.keep(chosen, lambda: next(answers))
    assert chosen.holds(found) and chosen.value != 'fox'


def test_no_constraint_where_none_suits():
  draw = world_lib.stream(0)
  assert constraints.choose(draw, (), lambda: 'red.', '') is None
  assert constraints.choose(draw, ('with',), lambda: 'red.', 'red?') is None
  assert constraints.keep(None, lambda: 'red.') == 'red.'


def test_what_cannot_be_kept_is_an_error():
  impossible = constraints.Constraint('exactly', 9)
  with pytest.raises(ValueError, match='needed an answer that keeps'):
    constraints.keep(impossible, lambda: 'red.')


def test_all_decorations_come_off():
  assert constraints.undecorate('sure, red please.') == 'red.'
  assert constraints.undecorate('the well is sure.') == 'the well is sure.'
