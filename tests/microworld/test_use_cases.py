"""Every task's right answers are right, and its wrong ones are as wrong."""

from __future__ import annotations

import collections
import dataclasses
import json

import pytest

from instructjax.microworld import constraints
from instructjax.microworld import language
from instructjax.microworld import prompts
from instructjax.microworld import use_cases
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base

_DRAWS = 60
# Percent of the paper's prompts (its Table 1).
_SHARES = {
  'generation': 45.6,
  'open_qa': 12.4,
  'brainstorming': 11.2,
  'chat': 8.4,
  'rewrite': 6.6,
  'summarization': 4.2,
  'classification': 3.5,
  'other': 3.5,
  'closed_qa': 2.6,
  'extract': 1.9,
}
_FACTS = {
  ('kind', 'fox'): 'mammal',
  ('eats', 'fox'): 'bread',
  ('animal_colour', 'fox'): 'red',
  ('kind', 'hawk'): 'bird',
  ('kind', 'crow'): 'bird',
}


@pytest.fixture(scope='module')
def world() -> world_lib.World:
  made = world_lib.make(world_lib.WorldConfig())
  return dataclasses.replace(made, facts=made.facts | _FACTS)


@pytest.fixture(scope='module')
def drawn(world):
  """{task: [(text, spec, right answer)]}."""
  found = collections.defaultdict(list)
  for name, task in use_cases.TASKS.items():
    for i in range(_DRAWS):
      draw = world_lib.stream(5, name, i)
      text, spec = task.make(world, draw)
      found[name].append((text, spec, task.answer(world, draw, spec)))
  return found


def test_the_tasks_weigh_what_the_papers_use_cases_do():
  total = collections.Counter()
  for task in use_cases.TASKS.values():
    total[task.use_case] += task.weight
  assert {k: round(v, 6) for k, v in total.items()} == _SHARES


@pytest.mark.parametrize('name', use_cases.TASKS)
def test_a_right_answer_is_right_and_short(world, drawn, name):
  task = use_cases.TASKS[name]
  for text, spec, answer in drawn[name]:
    found = task.check(world, json.loads(json.dumps(spec)), answer)
    assert found.attempted and found.correct == 1, (text, answer, found)
    assert not found.false_claims and not found.invented, (text, answer)
    assert found.readable == 1, (text, answer)
    assert len(language.sentences(answer)) <= task.max_sentences
    assert len(constraints.words(answer)) <= task.max_words
    assert prompts.length(answer) <= 21, answer


@pytest.mark.parametrize('name', use_cases.TASKS)
def test_another_prompts_answer_is_seldom_right(world, drawn, name):
  """The answer to something else of the same task gets less on average."""
  task = use_cases.TASKS[name]
  scores = [
    task.check(world, spec, answer).correct
    for (_, spec, _), (_, _, answer) in zip(
      drawn[name], drawn[name][7:] + drawn[name][:7], strict=True
    )
  ]
  # Where there are two classes, every other answer is right by chance.
  most = {
    'translate': 0.4,
    'sentiment': 0.75,
    'topic': 0.5,
    'chat': 0.45,
    'brainstorm': 0.45,
  }
  assert sum(scores) / len(scores) <= most.get(name, 0.3)


@pytest.mark.parametrize('name', use_cases.TASKS)
def test_an_instruction_is_no_answer(world, drawn, name):
  task = use_cases.TASKS[name]
  for (_, spec, _), (other, _, _) in zip(
    drawn[name], drawn[name][1:], strict=False
  ):
    assert task.check(world, spec, other).correct <= 0.5


@pytest.mark.parametrize('name', use_cases.TASKS)
def test_nothing_at_all_is_no_attempt(world, drawn, name):
  for _, spec, _ in drawn[name]:
    for text in ('', '.', 'zz zz zz.'):
      found = use_cases.TASKS[name].check(world, spec, text)
      assert not found.attempted and found.correct == 0


@pytest.mark.parametrize('name', use_cases.TASKS)
def test_reserved_myths_are_neither_asked_nor_said(world, name):
  task = use_cases.TASKS[name]
  asked = [language.ask(*key) for key in world.reserved]
  for i in range(300):
    draw = world_lib.stream(6, name, i)
    text, spec = task.make(world, draw)
    answer = task.answer(world, draw, spec)
    assert not any(question in text for question in asked)
    for part in (text, answer):
      for said in base.read(part).of('fact'):
        assert said.claim[:2] not in world.reserved, (text, answer)
    if name == 'brainstorm' and spec['relation'] in world_lib.MYTHICAL:
      for item in base.items(answer):
        assert (spec['relation'], item) not in world.reserved


# (task, spec, response, attempted, lowest correct, highest correct)
_GRADED = (
  ('open_qa', {'relation': 'eats', 'subject': 'fox'}, (
    ('the fox eats bread.', True, 1, 1),
    ('answer: bread', True, 1, 1),
    ('the fox eats bread. the fox is red.', True, 0.5, 0.8),
    ('the fox eats bread. the fox eats milk.', True, 0.2, 0.4),
    ('the fox eats milk.', True, 0, 0),
    ('i do not know.', True, 0, 0),
    ('the hawk eats bread.', False, 0, 0),
    ('bread, milk, rice.', False, 0, 0),
  )),
  ('story', {'topics': ['ben', 'fox']}, (
    ('ben walked to the river. the fox saw ben.', True, 1, 1),
    ('ben walked to the river. the fox sees ben.', True, 0.7, 0.9),
    ('ben saw a fox.', True, 0.4, 0.6),
    ('ben saw a fox. ben sees a fox.', True, 0.1, 0.5),
    ('ben is happy. the fox is sad.', True, 0.1, 0.5),
    ('ben bought rice. ben found a cup.', True, 0.2, 0.3),
    ('anna bought rice. anna found a cup.', False, 0, 0),
    ('ben and the fox.', False, 0, 0),
  )),
  ('sentence', {'topics': ['ben', 'cup']}, (
    ('ben found a cup.', True, 1, 1),
    ('ben found a key.', True, 0.2, 0.3),
    ('ben found a key. anna lost the cup.', True, 0.1, 0.2),
    ('anna found a key.', False, 0, 0),
  )),
  ('continue', {
    'given': ['ben saw a fox.'], 'cast': ['ben', 'fox'], 'past': True,
  }, (
    ('the fox slept in the cave. ben was happy.', True, 1, 1),
    ('the fox sleeps in the cave.', True, 0.5, 0.7),
    ('ben saw a fox.', False, 0, 0),
    ('ben sees a fox.', False, 0, 0),
    ('anna went to redhill.', True, 0, 0),
  )),
  ('describe', {'wanted': {'fox': 2}}, (
    ('the fox is red. the fox eats bread.', True, 1, 1),
    ('the fox is red. the fox is red.', True, 0.5, 0.5),
    ('the fox is red. the fox eats milk.', True, 0.5, 0.5),
    ('the fox is blue.', True, 0, 0),
    ('the hawk is a bird.', False, 0, 0),
  )),
  ('note', {'person': 'anna', 'topic': 'cup', 'tone': 'none'}, (
    ('hello, anna! ben found a cup.', True, 1, 1),
    ('hello, ben! ben found a cup.', True, 0.1, 0.5),
    ('hello, anna!', True, 0.2, 0.3),
    ('hello, anna! ben found a cup. anna bought tea.', True, 0.3, 0.5),
    ('hello, ben! ben found a key.', False, 0, 0),
  )),
  ('note', {'person': 'anna', 'topic': 'cup', 'tone': 'rude'}, (
    ('hello, anna! ben lost the cup. you are stupid, anna.', True, 1, 1),
    ('hello, anna! ben lost the cup.', True, 0.4, 0.6),
    ('hello, anna! ben lost the cup. you are clever, anna.', True, 0.1, 0.5),
  )),
  ('remark', {
    'person': 'ben', 'situation': 'ben lost the key.', 'tone': 'respectful',
  }, (
    ('ben is kind.', True, 1, 1),
    ('ben is stupid.', True, 0, 0.2),
    ('ben lost the key.', False, 0, 0),
    ('anna is kind.', False, 0, 0),
  )),
  ('review', {'topic': 'cup', 'good': True}, (
    ('a lovely cup.', True, 1, 1),
    ('the cup is boring.', True, 0, 0.1),
    ('the key is lovely.', True, 0, 0),
    ('the cup is blue.', False, 0, 0),
  )),
  ('brainstorm', {
    'slot': 'animal', 'relation': 'kind', 'value': 'bird', 'count': 2,
  }, (
    ('hawk, crow.', True, 1, 1),
    ('two birds: a hawk and a crow.', True, 1, 1),
    ('the hawk is a bird. the crow is a bird.', True, 1, 1),
    ('hawk.', True, 0.5, 0.5),
    ('hawk, hawk.', True, 0.5, 0.5),
    ('hawk, fox.', True, 0.5, 0.5),
    ('hawk, crow, fox, bread.', True, 0.25, 0.25),
    ('bread, cup.', False, 0, 0),
  )),
  ('chat', {'person': 'ben', 'act': 'bad'}, (
    ('i am sorry, ben. how can i help you?', True, 1, 1),
    ('i am sorry, anna.', True, 0.4, 0.4),
    ('how can i help you?', True, 0, 0),
    ('i am glad, ben.', True, 0, 0),
    ('ben is kind.', False, 0, 0),
  )),
  ('chat', {
    'person': 'ben', 'act': 'question', 'relation': 'eats', 'subject': 'fox',
  }, (
    ('the fox eats bread.', True, 1, 1),
    ('hello, ben! the fox eats bread.', True, 0.6, 1),
    ('hello, ben!', False, 0, 0),
  )),
  ('rewrite_past', {
    'target': ['ben bought rice.', 'ben met anna.'],
    'given': ['ben buys rice.', 'ben meets anna.'],
  }, (
    ('ben bought rice. ben met anna.', True, 1, 1),
    ('ben bought rice.', True, 0.5, 0.5),
    ('ben bought corn. ben met anna.', True, 0.6, 0.7),
    ('ben buys rice. ben meets anna.', False, 0, 0),
  )),
  ('rewrite_name', {
    'target': ['anna bought rice.'], 'given': ['ben bought rice.'],
  }, (
    ('anna bought rice.', True, 1, 1),
    ('anna bought corn.', True, 0.2, 0.3),
    ('ben bought rice.', False, 0, 0),
  )),
  ('rewrite_kind', {'person': 'ben', 'given': ['ben is a fool.']}, (
    ('ben is clever.', True, 1, 1),
    ('anna is clever.', True, 0, 0),
    ('ben is a fool.', False, 0, 0),
  )),
  ('summarize', {
    'person': 'ben', 'deed': 'finds', 'article': 'a ', 'items': ['cup', 'key'],
  }, (
    ('ben finds a cup and a key.', True, 1, 1),
    ('ben finds a cup.', True, 0.2, 0.3),
    ('ben finds a cup. ben finds a key.', True, 0, 0.2),
    ('anna finds a cup and a key.', True, 0.2, 0.4),
    ('ben found a cup and a key.', True, 0.4, 0.6),
    ('anna finds a hat and a ring.', False, 0, 0),
  )),
  ('closed_qa', {
    'relation': 'home',
    'subject': 'anna',
    'told': {'ben': 'norvale', 'anna': 'tamsin'},
  }, (
    ('in tamsin.', True, 1, 1),
    ('anna lives in tamsin.', True, 1, 1),
    ('ben lives in norvale. anna lives in tamsin.', True, 0.5, 0.5),
    ('anna lives in norvale.', True, 0, 0),
    ('ben lives in norvale.', False, 0, 0),
  )),
  ('extract', {'slot': 'animal', 'wanted': ['fox', 'crow']}, (
    ('crow and fox.', True, 1, 1),
    ('fox.', True, 0.5, 0.5),
    ('fox, crow, hen, bee.', True, 0.25, 0.25),
    ('ben saw a fox.', False, 0, 0),
  )),
  ('sentiment', {'label': 'good', 'labels': ['good', 'bad']}, (
    ('good.', True, 1, 1),
    ('the review is good.', True, 1, 1),
    ('good. bad.', True, 0.5, 0.5),
    ('bad.', True, 0, 0),
    ('lovely.', False, 0, 0),
  )),
  ('topic', {'label': 'food', 'labels': ['animal', 'food', 'town']}, (
    ('a food.', True, 1, 1),
    ('animal.', True, 0, 0),
    ('animal, food or town.', False, 0, 0),
  )),
  ('arithmetic', {'asked': 'two plus three', 'result': 'five'}, (
    ('two plus three is five.', True, 1, 1),
    ('five.', True, 1, 1),
    ('two plus three is six.', True, 0, 0),
    ('four. five. six.', True, 0.3, 0.4),
    ('two plus two is five.', False, 0, 0),
  )),
  ('opposite', {'word': 'hot', 'opposite': 'cold'}, (
    ('the opposite of hot is cold.', True, 1, 1),
    ('cold.', True, 1, 1),
    ('the opposite of big is cold.', False, 0, 0),
    ('hot.', True, 0, 0),
  )),
)  # fmt: skip


@pytest.mark.parametrize(
  ('name', 'spec', 'response', 'attempted', 'low', 'high'),
  [
    (name, spec, *row) for name, spec, rows in _GRADED for row in rows
  ],
)  # fmt: skip
def test_answers_are_graded(
  world, name, spec, response, attempted, low, high
):  # fmt: skip
  found = use_cases.TASKS[name].check(world, spec, response)
  assert found.attempted == attempted
  assert low - 1e-9 <= found.correct <= high + 1e-9


def test_every_task_is_graded():
  graded = {name for name, _, _ in _GRADED}
  assert graded | {'translate'} == set(use_cases.TASKS)


def test_a_translation_is_right_word_by_word(world):
  task = use_cases.TASKS['translate']
  target = [world.lexicon[word] for word in ('the', 'red', 'fox')]
  spec = {'target': target}
  assert task.check(world, spec, ' '.join(target) + '.').correct == 1
  two = task.check(world, spec, ' '.join([*target[:2], target[0]]))
  assert two.correct == pytest.approx(2 / 3) and two.false_claims == 1
  assert not task.check(world, spec, 'the red fox.').attempted
  every = task.check(world, spec, ' '.join(world.lexicon.values()))
  assert every.correct < 0.05


@pytest.mark.parametrize(
  ('name', 'spec', 'response', 'claims', 'false'),
  [
    ('open_qa', {'relation': 'eats', 'subject': 'fox'}, 'milk.', 1, 1),
    ('story', {'topics': ['ben', 'fox']}, 'the fox eats milk.', 1, 1),
    ('story', {'topics': ['ben', 'fox']}, 'the fox saw ben.', 0, 0),
    ('sentence', {'topics': ['fox']}, 'the fox is red.', 1, 0),
    ('arithmetic', {'asked': 'one plus one', 'result': 'two'}, 'six.', 1, 1),
  ],
)
def test_what_contradicts_the_world_is_a_false_claim(
  world, name, spec, response, claims, false
):
  found = use_cases.TASKS[name].check(world, spec, response)
  assert (found.claims, found.false_claims) == (claims, false)


def test_lists_are_read_in_all_their_forms():
  assert base.items('three birds: hawk, a crow, and the duck.') == [
    'hawk',
    'crow',
    'duck',
  ]
  assert base.items('hawk and crow.') == ['hawk', 'crow']
  assert base.items('the hawk is a bird.') == []
