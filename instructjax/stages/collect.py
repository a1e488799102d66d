"""The stage in which labelers rank what the policy answers.

K responses to a prompt are sampled from the SFT policy and ranked by one of
the microworld's labelers. To know how far a reward model's judgment reaches,
responses to the test users' prompts are ranked too: by labelers who train, and
by labelers who never do.

  RUN/microworld/comparisons.jsonl          the reward model's training data
                /labelers_test.jsonl        test prompts, training labelers
                /labelers_heldout.jsonl     the same responses, other labelers

Whatever is drawn is a function of the seed and the prompt's place, so that a
run killed here begins the stage again to the same bits.

Source: Ouyang et al. 2022, sections 3.2 and 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import logging
import pathlib
import time
from typing import Any

from instructjax import sharding
from instructjax.data import tokenizer as tokenizer_lib
from instructjax.microworld import files
from instructjax.microworld import labelers
from instructjax.microworld import prompts as prompts_lib
from instructjax.microworld import truth
from instructjax.microworld import world as world_lib
from instructjax.stages import answers
from instructjax.stages import build
from instructjax.stages import microworld
from instructjax.stages import train
from instructjax.stages import workdir

log = logging.getLogger('instructjax')
Rows = list[dict[str, Any]]


def collect(
  root: pathlib.Path,
  config: Mapping[str, Any],
  should_stop: Callable[[], bool],
) -> None:
  """Writes the ranked responses; nothing, if it is told to stop before.

  Args:
    root: the run's folder, with the world and the policy.
    config: from workdir.settle.
    should_stop: asked after each batch of responses.
  """
  begun = time.perf_counter()
  world = files.load_world(root / files.FOLDER)
  model = _policy(root, config)
  workdir.write_config(root, config)
  ranked = _fitting(prompts_lib.training(world)['ranked'], model)
  tested = _fitting(prompts_lib.testing(world), model)
  responses = _respond(config, model, [*ranked, *tested], should_stop)
  if responses is None:
    return
  to_train, to_test = responses[: len(ranked)], responses[len(ranked) :]
  people, others = labelers.training(world), labelers.testing(world)
  for name, group, asked, found in (
    ('labelers_test', people, tested, to_test),
    ('labelers_heldout', others, tested, to_test),
    ('comparisons', people, ranked, to_train),
  ):
    rows = rank(world, group, asked, found, name)
    files.write_rows(root / files.FOLDER / f'{name}.jsonl', rows)
  counts = {
    'prompts': len(ranked),
    'responses': sum(map(len, to_train)),
    'test_prompts': len(tested),
    'test_responses': sum(map(len, to_test)),
  }
  microworld.finish(root, config, counts, time.perf_counter() - begun)


def _policy(root: pathlib.Path, config: Mapping[str, Any]) -> answers.Model:
  """Returns the model that answers."""
  options = build.model_options(config)
  start = workdir.find_start(
    root, 'policy', config['init_from']['policy'], **options
  )
  train.check_tokenizer(root, start)
  path = root / 'tokenizer.model'
  keys = ('max_prompt_length', 'max_response_length', 'temperature')
  return answers.Model(
    config['stage'],
    start.config,
    start.load(sharding.make_mesh(**config['mesh'])),
    tokenizer_lib.Tokenizer.load(str(path)),
    batch_size=config['batch_size'],
    seed=config['seed'],
    **{key: config[key] for key in keys},
  )


def _fitting(
  asked: Sequence[prompts_lib.Prompt], model: answers.Model
) -> list[prompts_lib.Prompt]:
  """The prompts that are not too long."""
  room = model.lengths[0]
  return [p for p in asked if len(model.encode(p.text)) <= room]


def _respond(
  config, model, asked, should_stop
) -> list[list[answers.Answer]] | None:
  """Returns K responses to each prompt; None if told to stop."""
  least, most = config['min_responses'], config['max_responses']
  numbers = []
  for row in range(len(asked)):
    draw = world_lib.stream(config['seed'], 'collect', row)
    numbers += [(row, copy) for copy in range(draw.randint(least, most))]
  texts = [asked[row].text for row, _ in numbers]
  found: list[answers.Answer] = []
  told = time.perf_counter()
  for batch in model.answers(texts, numbers):
    found += batch
    if time.perf_counter() - told > 5:
      told = time.perf_counter()
      log.info('collect %d/%d responses', len(found), len(texts))
    if should_stop():
      return None
  grouped: list[list[answers.Answer]] = [[] for _ in asked]
  for (row, _), answer in zip(numbers, found, strict=True):
    grouped[row].append(answer)
  return grouped


def rank(
  world: world_lib.World,
  people: Sequence[labelers.Labeler],
  asked: Sequence[prompts_lib.Prompt],
  responses: Sequence[Sequence[answers.Answer]],
  name: str,
) -> Rows:
  """Has one labeler rate and rank the responses to each prompt.

  Args:
    world: that the prompts are about.
    people: who may rank.
    asked: prompts.
    responses: to each of them, (text, whether it ended) pairs.
    name: of what is ranked; the labelers' moods depend on it.

  Returns:
    Comparison records, with the prompt's 'prompt_id' and 'user_id'.
  """
  rows = []
  for prompt, found in zip(asked, responses, strict=True):
    draw = world_lib.stream(world.config.seed, 'rank', name, prompt.prompt_id)
    labeler = draw.choice(people)
    texts = [text for text, _ in found]
    parts = [truth.judge(world, prompt, *answer) for answer in found]
    row = labeler.compare(draw, prompt, texts, parts)
    ids = {'prompt_id': prompt.prompt_id, 'user_id': prompt.user_id}
    rows.append(row | ids)
  return rows
