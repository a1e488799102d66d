"""Prompts: as many as asked for, of the right kinds, apart where they must."""

from __future__ import annotations

import collections
import json
import os
import re

import pytest

from instructjax.microworld import language
from instructjax.microworld import prompts
from instructjax.microworld import truth
from instructjax.microworld import use_cases
from instructjax.microworld import world as world_lib


@pytest.fixture(scope='module')
def world() -> world_lib.World:
  return world_lib.make(world_lib.WorldConfig())


@pytest.fixture(scope='module')
def training(world):
  return prompts.training(world)


@pytest.fixture(scope='module')
def testing(world):
  return prompts.testing(world)


@pytest.fixture(scope='module')
def every(training, testing):
  return [p for some in training.values() for p in some] + testing


def test_there_are_as_many_as_asked_for(world, training, testing):
  config = world.config
  assert {name: len(some) for name, some in training.items()} == {
    'demonstrations': config.num_demonstrations,
    'ranked': config.num_ranked,
    'reinforcement': config.num_prompts,
  }
  assert len(testing) == config.num_test_prompts


def test_no_text_is_in_two_places(every):
  assert len({p.text for p in every}) == len(every)
  assert len({p.prompt_id for p in every}) == len(every)


def test_no_prompt_that_evaluates_is_trained_on(world, training, testing):
  evaluating = [testing, prompts.truthfulness(world)]
  evaluating += prompts.toxicity(world).values()
  texts = {p.text for some in evaluating for p in some}
  assert texts.isdisjoint(p.text for some in training.values() for p in some)


def test_training_and_test_have_different_users(world, training, testing):
  ours = {p.user_id for some in training.values() for p in some}
  assert ours.isdisjoint(p.user_id for p in testing)
  assert len(ours) > 0.9 * world.config.num_users
  assert len({p.user_id for p in testing}) > 0.9 * world.config.num_test_users


def test_training_users_are_heavy_tailed(training):
  counts = collections.Counter(p.user_id for p in training['reinforcement'])
  (_, first), *rest = counts.most_common()
  assert first > 200  # so that a limit per user has work to do
  assert first > 20 * sorted(counts.values())[len(counts) // 2]
  assert rest


def test_prompts_are_drawn_by_the_seed(world, training):
  again = prompts.training(world)
  assert again == training
  config = world_lib.WorldConfig(seed=1)
  other = prompts.training(world_lib.make(config))['ranked']
  assert [p.text for p in other] != [p.text for p in training['ranked']]


def test_the_use_cases_have_the_papers_shares(every):
  total = collections.Counter()
  for task in use_cases.TASKS.values():
    total[task.use_case] += task.weight / 100
  counts = collections.Counter(p.use_case for p in every)
  for use_case, share in total.items():
    assert counts[use_case] / len(every) == pytest.approx(share, abs=0.02)


def test_constraints_and_tones_have_their_shares(every):
  constrained = sum(p.constraint is not None for p in every) / len(every)
  assert constrained == pytest.approx(0.263, abs=0.02)
  kinds = collections.Counter(p.constraint.kind for p in every if p.constraint)
  assert min(kinds.values()) > 0.02 * len(every) and len(kinds) == 6
  tones = collections.Counter(p.tone for p in every)
  assert tones['respectful'] / len(every) == pytest.approx(0.06, abs=0.01)
  assert tones['rude'] / len(every) == pytest.approx(0.03, abs=0.008)
  closed = sum(p.closed_domain for p in every) / len(every)
  assert closed == pytest.approx(0.19, abs=0.02)


def test_kinds_and_sources_go_together(training, testing):
  for p in (*training['reinforcement'], *testing):
    assert p.source == 'customer' and p.kind != 'user_based'
  written = collections.Counter(
    (p.source, p.kind) for p in training['demonstrations']
  )
  assert {kind for source, kind in written if source == 'labeler'} == {
    'plain',
    'few_shot',
    'user_based',
  }
  for p in training['demonstrations']:
    assert (p.kind == 'few_shot') == p.text.endswith('answer:')
    assert (p.kind == 'user_based') == p.text.startswith(' i am a ')


def test_there_is_what_the_papers_rules_take_out(training):
  some = training['reinforcement']
  found = [p.pii for p in some if p.pii]
  assert {'email', 'phone'} == set(found) and len(found) < 0.03 * len(some)
  for p in some:
    assert (p.pii == 'email') == bool(re.search(r'\w+@\w+\.\w+', p.text))
    assert (p.pii == 'phone') == bool(re.search(r'\d{3}-\d{4}', p.text))
  near = collections.Counter()
  for users in _by_user(some).values():
    texts = sorted(users)
    near.update(
      len(os.path.commonprefix([a, b])) > 0.6 * len(b)
      for a, b in zip(texts, texts[1:], strict=False)
    )
  assert near[True] > 0.04 * len(some)


def _by_user(some):
  found = collections.defaultdict(list)
  for p in some:
    found[p.user_id].append(p.text)
  return found


def test_prompts_are_short_plain_lower_case_text(every):
  for p in every:
    assert prompts.length(p.text) <= prompts.MAX_LENGTH
    assert p.text == p.text.lower() == ' ' + ' '.join(p.text.split())


def test_every_prompt_can_be_answered(world, every):
  for p in every:
    answer = truth.ideal(world, world_lib.stream(2, p.prompt_id), p)
    value = truth.utility(truth.judge(world, p, answer, True))
    assert value == pytest.approx(1.0), (p.text, answer)
    assert prompts.length(answer) <= 23
    if p.constraint:
      assert p.constraint.text() in p.text and p.constraint.holds(answer)


def test_no_prompt_leaks_a_reserved_myth(world, every):
  asked = {language.ask(*key) for key in world.reserved}
  for p in every:
    assert not any(question in p.text for question in asked)
    key = p.spec.get('relation'), p.spec.get('subject')
    assert key not in world.reserved
    answer = truth.ideal(world, world_lib.stream(3, p.prompt_id), p)
    for said in map(language.parse, language.sentences(answer)):
      assert not (said and said.claim) or (said.claim[:2] not in world.reserved)


def test_every_myth_is_asked_about_reserved_ones_first(world):
  found = prompts.truthfulness(world)
  keys = [(p.spec['relation'], p.spec['subject']) for p in found]
  assert set(keys) == set(world.myths) and len(keys) == len(world.myths)
  assert set(keys[: len(world.reserved)]) == world.reserved
  assert [p.text for p in found] == [f' {language.ask(*key)}' for key in keys]


def test_one_situation_comes_in_three_tones(world):
  found = prompts.toxicity(world)
  assert list(found) == ['none', 'respectful', 'rude']
  for none, respectful, rude in zip(*found.values(), strict=True):
    assert none.spec['situation'] == respectful.spec['situation']
    assert none.text == respectful.text.replace(' respectful', '')
    assert none.text == rude.text.replace(' rude', '')
    assert (none.tone, respectful.tone) == ('none', 'respectful')
    assert rude.tone == 'rude'


def test_a_record_has_only_what_a_record_has(every):
  record = every[0].to_record()
  assert list(record) == [
    'prompt_id',
    'text',
    'user_id',
    'source',
    'kind',
    'use_case',
  ]
  json.dumps([p.spec for p in every])


def test_the_webs_instructions_are_like_prompts(world):
  draw = world_lib.stream(0, 'test')
  texts = [prompts.instruction(world, draw) for _ in range(300)]
  assert len(set(texts)) > 280
  assert not any('@' in text for text in texts)
  asked = {language.ask(*key) for key in world.reserved}
  assert not any(question in text for text in texts for question in asked)
