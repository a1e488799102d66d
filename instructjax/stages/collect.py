"""The stage in which labelers rank what the policy answers.

K responses to a prompt are sampled, most from the SFT policy and some from the
base model behind its helpful page, and ranked by one of the microworld's
labelers: a reward model should have seen bad answers too. To know how far its
judgment reaches, responses to the test users' prompts are ranked as well: by
labelers who train, and by labelers who never do.

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

from instructjax import distributed
from instructjax import sharding
from instructjax.microworld import files
from instructjax.microworld import labelers
from instructjax.microworld import prefix
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
  policy = _model(root, config, 'policy')
  base = _model(root, config, 'base', form=prefix.form(world), one_line=True)
  distributed.on_primary(workdir.write_config, root, config)
  ranked = _fitting(prompts_lib.training(world)['ranked'], policy)
  tested = _fitting(prompts_lib.testing(world), policy)
  asked = [*ranked, *tested]
  responses = _respond(config, (policy, base), asked, should_stop)
  if responses is None:
    return
  to_train, to_test = responses[: len(ranked)], responses[len(ranked) :]
  people, others = labelers.training(world), labelers.testing(world)

  def write():
    for name, group, asked, found in (
      ('labelers_test', people, tested, to_test),
      ('labelers_heldout', others, tested, to_test),
      ('comparisons', people, ranked, to_train),
    ):
      rows = rank(world, group, asked, found, name)
      files.write_rows(root / files.FOLDER / f'{name}.jsonl', rows)
    microworld.finish(root, config, counts, time.perf_counter() - begun)

  counts = {
    'prompts': len(ranked),
    'responses': sum(map(len, to_train)),
    'test_prompts': len(tested),
    'test_responses': sum(map(len, to_test)),
  }
  distributed.on_primary(write)


def _model(
  root: pathlib.Path, config: Mapping[str, Any], role: str, **manner: Any
) -> answers.Model:
  """Returns a model that answers."""
  mesh = sharding.make_mesh(**config['mesh'])
  options = build.model_options(config, mesh)
  start = workdir.find_start(root, role, config['init_from'][role], **options)
  tokenizer = workdir.load_tokenizer(root)
  train.check_tokenizer(root, start, tokenizer)
  keys = ('max_prompt_length', 'max_response_length', 'temperature')
  return answers.Model(
    role,
    start.config,
    start.load(mesh),
    tokenizer,
    batch_size=config['batch_size'],
    seed=config['seed'],
    **{key: config[key] for key in keys},
    **manner,
  )


def _fitting(
  asked: Sequence[prompts_lib.Prompt], model: answers.Model
) -> list[prompts_lib.Prompt]:
  """The prompts that are not too long."""
  room = model.lengths[0]
  return [p for p in asked if len(model.encode(p.text)) <= room]


def _respond(
  config, models, asked, should_stop
) -> list[list[answers.Answer]] | None:
  """Returns K responses to each prompt; None if told to stop.

  Args:
    config: of the stage.
    models: the policy, and the base model that gives config.base_share of the
      responses.
    asked: prompts.
    should_stop: asked after each batch.
  """
  least, most = config['min_responses'], config['max_responses']
  numbers: tuple[list[tuple[int, int]], ...] = ([], [])
  for row in range(len(asked)):
    draw = world_lib.stream(config['seed'], 'collect', row)
    for copy in range(draw.randint(least, most)):
      numbers[draw.random() < config['base_share']].append((row, copy))
  found: dict[tuple[int, int], answers.Answer] = {}
  total, told = sum(map(len, numbers)), time.perf_counter()
  for model, own in zip(models, numbers, strict=True):
    responses: list[answers.Answer] = []
    for batch in model.answers([asked[row].text for row, _ in own], own):
      responses += batch
      if time.perf_counter() - told > 5:
        told = time.perf_counter()
        done = len(found) + len(responses)
        log.info('collect %d/%d responses', done, total)
      if should_stop():
        return None
    found |= zip(own, responses, strict=True)
  grouped: list[list[answers.Answer]] = [[] for _ in asked]
  for row, copy in sorted(found):
    grouped[row].append(found[row, copy])
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
