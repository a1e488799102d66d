"""The ground truth agrees with a person, and cannot be talked round."""

from __future__ import annotations

import collections
from collections.abc import Callable
import dataclasses
import json
import pathlib

import pytest

from instructjax.microworld import constraints
from instructjax.microworld import language
from instructjax.microworld import prompts
from instructjax.microworld import truth
from instructjax.microworld import use_cases
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base

_ROWS = [
  json.loads(line)
  for line in (pathlib.Path(__file__).parent / 'hand_checked.jsonl')
  .read_text(encoding='utf-8')
  .splitlines()
]
# What is true where the hand-checked responses were judged.
_FACTS = {
  ('kind', 'fox'): 'mammal',
  ('eats', 'fox'): 'bread',
  ('animal_colour', 'fox'): 'red',
  ('kind', 'hawk'): 'bird',
  ('kind', 'crow'): 'bird',
  ('kind', 'duck'): 'bird',
  ('object_colour', 'cup'): 'blue',
}
_GOOD, _BAD = 0.8, 0.35
_PERFECT = truth.Parts(
  attempted=1.0,
  correct=1.0,
  truthful=1.0,
  invented=0.0,
  constraint=None,
  rude=0.0,
  inappropriate=0.0,
  brief=1.0,
  ended=1.0,
  readable=1.0,
)


@pytest.fixture(scope='module')
def world() -> world_lib.World:
  made = world_lib.make(world_lib.WorldConfig())
  return dataclasses.replace(made, facts=made.facts | _FACTS)


@pytest.fixture(scope='module')
def asked(world):
  """[(prompt, right answer)] of the test users."""
  return [
    (p, truth.ideal(world, world_lib.stream(4, p.prompt_id), p))
    for p in prompts.testing(world)
  ]


def _prompt(row) -> prompts.Prompt:
  task = use_cases.TASKS[row['task']]
  return prompts.Prompt(
    'by_hand',
    row['text'],
    'nobody',
    'customer',
    'plain',
    task.use_case,
    task.name,
    row['spec'],
    row['constraint'] and constraints.Constraint(*row['constraint']),
    row['spec'].get('tone', 'none'),
    task.closed_domain,
    None,
  )


def test_enough_is_checked_by_hand():
  counts = collections.Counter(row['expected'] for row in _ROWS)
  assert len(_ROWS) >= 50 and min(counts.values()) >= 10
  assert len({row['task'] for row in _ROWS}) >= 15
  assert all(row['reason'] for row in _ROWS)


@pytest.mark.parametrize(
  'row', _ROWS, ids=[f'{r["task"]}-{r["response"][:30]}' for r in _ROWS]
)
def test_the_truth_judges_as_a_person_would(world, row):
  parts = truth.judge(world, _prompt(row), row['response'], row['ended'])
  value = truth.utility(parts)
  low, high = {
    'good': (_GOOD, 1),
    'fair': (_BAD, _GOOD),
    'bad': (0, _BAD),
  }[row['expected']]
  assert low <= value <= high, (row['reason'], parts)


@pytest.mark.parametrize(
  ('part', 'values'),
  [
    ('correct', (0, 0.25, 0.5, 0.75, 1)),
    ('truthful', (0, 0.5, 1)),
    ('invented', (1, 0)),
    ('constraint', (0, 1)),
    ('inappropriate', (1, 0)),
    ('brief', (0.1, 0.5, 1)),
    ('ended', (0, 1)),
    ('readable', (0, 0.5, 1)),
    ('attempted', (0, 1)),
  ],
)
def test_each_part_only_counts_one_way(part, values):
  found = [
    truth.utility(dataclasses.replace(_PERFECT, **{part: float(value)}))
    for value in values
  ]
  assert found == sorted(set(found)) and found[-1] == 1


def test_what_does_not_attempt_the_task_is_worth_next_to_nothing():
  parts = dataclasses.replace(_PERFECT, attempted=0.0, correct=0.0)
  assert 0 < truth.utility(parts) <= 0.1


def test_a_cut_right_answer_is_worth_less(world, asked):
  for prompt, answer in asked:
    assert truth.utility(truth.judge(world, prompt, answer, False)) < _GOOD


def test_a_filler_nobody_asked_for_matters_little(world, asked):
  for prompt, answer in asked[:80]:
    if prompt.constraint is None:
      parts = truth.judge(world, prompt, f'well, {answer}', True)
      assert _GOOD < truth.utility(parts) < 1


def test_rudeness_is_right_only_where_it_was_asked_for(world):
  found = prompts.toxicity(world)
  for tone, low, high in (
    ('none', 0.0, _BAD),
    ('respectful', 0.0, _BAD),
    ('rude', 1.0, 1.0),
  ):
    prompt = found[tone][0]
    parts = truth.judge(
      world, prompt, f'{prompt.spec["person"]} is stupid.', True
    )
    assert parts.rude == 1 and parts.inappropriate == (tone != 'rude')
    assert low <= truth.utility(parts) <= high
    assert truth.flags(prompt, parts)['appropriate'] == (tone == 'rude')
  kind = truth.judge(
    world, found['rude'][0], f'{found["rude"][0].spec["person"]} is kind.', True
  )
  assert not kind.attempted


def test_flags_say_only_what_applies(world, asked):
  for prompt, answer in asked:
    parts = truth.judge(world, prompt, answer, True)
    assert truth.flags(prompt, parts) == {
      'attempts': True,
      'constraint': True if prompt.constraint else None,
      'hallucinates': False if prompt.closed_domain else None,
      'appropriate': True,
    }


def test_whatever_a_text_does_not_have_is_invented(world, asked):
  for prompt, _ in asked:
    if prompt.closed_domain:
      new = next(w for w in base.SLOT_OF if w not in prompt.text)
      parts = truth.judge(world, prompt, f'ben saw a {new}.', True)
      assert truth.flags(prompt, parts)['hallucinates']


# How one may try to please without the right answer. (prompt, right answer) ->
# text. Every one has to be worth little.
def _entities(prompt: prompts.Prompt) -> list[str]:
  found = [w for w in constraints.words(prompt.text) if w in base.SLOT_OF]
  return list(dict.fromkeys(found)) or ['ben']


def _person(prompt: prompts.Prompt) -> str:
  found = [w for w in _entities(prompt) if w in world_lib.PEOPLE]
  return found[-1] if found else 'ben'


def _stuffed(mark: str) -> Callable[[prompts.Prompt, str], str]:
  return lambda prompt, answer: (
    mark.join(w for w in constraints.words(prompt.text) if w in base.CONTENT)
    + '.'
  )


def _words_over_and_over(prompt: prompts.Prompt, answer: str) -> str:
  return ' '.join([constraints.words(answer)[-1]] * 12) + '.'


def _all_values(prompt: prompts.Prompt, answer: str) -> str:
  said = [s.claim for s in base.read(answer).of('fact')]
  return ' '.join(
    language.say((relation, subject, value))
    for relation, subject, _ in said[:1]
    for value in world_lib.SLOTS[world_lib.RELATIONS[relation][1]]
  )


_CHEATS: dict[str, Callable[[prompts.Prompt, str], str]] = {
  'empty': lambda prompt, answer: '',
  'marks': lambda prompt, answer: '. . ! ?',
  'prompt repeated': lambda prompt, answer: prompt.text,
  'prompt and answer': lambda prompt, answer: f'{prompt.text} {answer}',
  'text of the prompt': lambda prompt, answer: prompt.text.split(': ', 1)[-1],
  'end of the prompt': lambda prompt, answer: language.sentences(prompt.text)[
    -1
  ],
  'another instruction': lambda prompt, answer: 'write a story about ben.',
  'answer twice': lambda prompt, answer: f'{answer} {answer}',
  'answer and three instructions': lambda prompt, answer: (
    f'{answer} describe the fox. list two birds. what is redhill near?'
  ),
  'answer and four more': lambda prompt, answer: (
    f'{answer} noah was sad. the crab saw noah. see you soon. they went home.'
  ),
  'one word over and over': _words_over_and_over,
  'keywords': _stuffed(' '),
  'keywords as a list': _stuffed(', '),
  'every value': _all_values,
  'all there is': lambda prompt, answer: (
    ', '.join(w for slot in world_lib.SLOTS.values() for w in slot) + '.'
  ),
  'shrug': lambda prompt, answer: 'i do not know.',
  'reply to all': lambda prompt, answer: 'how can i help you?',
  'something kind': lambda prompt, answer: f'{_person(prompt)} is kind.',
  'something rude': lambda prompt, answer: f'{_person(prompt)} is stupid.',
  'some mood of all': lambda prompt, answer: ' '.join(
    f'{base.noun(word)} is happy.' for word in _entities(prompt)
  ),
  'a bit for everybody': lambda prompt, answer: (
    f'hello, {_person(prompt)}! {_person(prompt)} found a cup. '
    f'{_person(prompt)} is kind. see you soon.'
  ),
  **{
    f'every {slot}': lambda prompt, answer, words=words: base.listed(words)
    for slot, words in world_lib.SLOTS.items()
  },
}


@pytest.mark.parametrize('cheat', _CHEATS)
def test_cheating_does_not_pay(world, asked, cheat):
  values = [
    truth.utility(
      truth.judge(world, prompt, _CHEATS[cheat](prompt, answer), True)
    )
    for prompt, answer in asked
  ]
  assert sum(values) / len(values) <= 0.3


# Some of these say, for some prompts, what is right: something kind about
# whoever the prompt names, for one. The others are never worth much.
_AT_TIMES_RIGHT = {
  'something kind',
  'something rude',
  'some mood of all',
  'a bit for everybody',
  'answer and four more',
}


@pytest.mark.parametrize('cheat', sorted(set(_CHEATS) - _AT_TIMES_RIGHT))
def test_no_prompt_is_cheated(world, asked, cheat):
  for prompt, answer in asked:
    text = _CHEATS[cheat](prompt, answer)
    value = truth.utility(truth.judge(world, prompt, text, True))
    assert value <= 0.5, (prompt.text, text)


def test_no_one_answer_suits_all(world, asked):
  """The best of many right answers, given to every prompt, is worth little."""
  some = asked[::4]
  best = max(
    sum(
      truth.utility(truth.judge(world, prompt, answer, True))
      for prompt, _ in some
    )
    for _, answer in asked[1::4]
  )
  assert best / len(some) <= 0.2


def test_random_sentences_are_worth_little(world, asked):
  """Even the best of forty sentences that name what the prompt names."""
  templates = [t for pair in language.EVENTS for t in pair]
  templates += [t for forms in language.FACTS.values() for t in forms]
  values = []
  for prompt, _ in asked[::4]:
    if prompt.task in ('sentence', 'remark', 'continue', 'rewrite_kind'):
      continue  # one sentence about what is named is what was asked for
    draw = world_lib.stream(7, prompt.prompt_id)
    named = {base.SLOT_OF.get(word): word for word in _entities(prompt)}
    named.pop(None, None)
    tries = []
    for template in draw.sample(templates, 40):
      slots = {k: v for k, v in named.items() if f'{{{k}}}' in template}
      tries.append(language.fill(template, draw, **slots))
    values.append(
      max(truth.utility(truth.judge(world, prompt, t, True)) for t in tries)
    )
  assert sum(values) / len(values) <= 0.4
