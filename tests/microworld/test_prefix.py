"""The page that shows a base model how instructions are answered."""

from __future__ import annotations

import pytest

from instructjax.microworld import prefix
from instructjax.microworld import prompts
from instructjax.microworld import truth
from instructjax.microworld import world as world_lib


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_its_examples_are_right_and_short(seed):
  config = world_lib.WorldConfig(
    seed=seed, num_demonstrations=200, num_ranked=50, num_prompts=50
  )
  world = world_lib.make(config)
  page = prefix.form(world)
  assert page == prefix.form(world)
  *lines, question, answer = page.split('\n')
  assert (question, answer) == (' question:{text}', ' answer:')
  assert len(lines) == 2 * len(prefix.USE_CASES)
  assert len(page.split()) <= 30
  shown = {p.text: p for p in prompts.training(world)['demonstrations']}
  for asked, given in zip(lines[::2], lines[1::2], strict=True):
    prompt = shown[asked.removeprefix(' question:')]
    response = given.removeprefix(' answer:')
    assert truth.utility(truth.judge(world, prompt, response, True)) >= 0.8


def test_none_of_it_is_tested():
  world = world_lib.make(world_lib.WorldConfig())
  page = prefix.form(world)
  for prompt in (*prompts.testing(world), *prompts.truthfulness(world)):
    assert f'question:{prompt.text}\n' not in page
