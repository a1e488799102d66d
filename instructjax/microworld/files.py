"""A world's records on disk, as any other data of a run.

FOLDER/pretraining.jsonl      the web
      /demonstrations.jsonl   prompts with labelers' answers
      /to_rank.jsonl          prompts whose responses labelers will rank
      /prompts.jsonl          prompts for reinforcement learning
      /public_tasks.jsonl     NLP tasks with answers
      /README.txt
      /world.json             what is true; written last
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import dataclasses
import json
import pathlib
from typing import Any

from instructjax import errors
from instructjax.microworld import labelers
from instructjax.microworld import prompts
from instructjax.microworld import web
from instructjax.microworld import world as world_lib

FOLDER = 'microworld'  # in a run

README = """The microworld of this run: text, prompts and answers of a world of
{facts} facts, generated from seed {seed}. {myths} of the facts are myths, about
which the web mostly tells something else. The files are records as instructjax
reads them from anybody; world.json holds the truth, which no model sees.
"""


def write(
  folder: pathlib.Path, config: world_lib.WorldConfig
) -> dict[str, int]:
  """Generates a world and writes its records, each file whole or not at all.

  Args:
    folder: where the files go; made if it is missing.
    config: of the world.

  Returns:
    {file: its number of rows}.
  """
  world = world_lib.make(config)
  asked = prompts.training(world)
  web_pages = web.documents(world, prompts.instruction)
  rows = {
    'pretraining': [{'text': text} for text in web_pages],
    'demonstrations': labelers.demonstrations(world),
    'to_rank': [prompt.to_record() for prompt in asked['ranked']],
    'prompts': [prompt.to_record() for prompt in asked['reinforcement']],
    'public_tasks': web.public_tasks(world),
  }
  folder.mkdir(parents=True, exist_ok=True)
  for name, found in rows.items():
    write_rows(folder / f'{name}.jsonl', found)
  told = README.format(
    facts=len(world.facts), myths=len(world.myths), seed=config.seed
  )
  _write(folder / 'README.txt', told)
  _write(folder / 'world.json', json.dumps(_describe(world), indent=2) + '\n')
  return {name: len(found) for name, found in rows.items()}


def write_rows(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> None:
  """Writes JSON lines, so that a reader sees the old file or the new one."""
  _write(path, ''.join(json.dumps(row) + '\n' for row in rows))


def load_world(folder: pathlib.Path) -> world_lib.World:
  """Returns the world whose records a folder holds.

  Raises:
    UserError: if there is none, or it is not the world that this version
      generates from the same config.
  """
  path = folder / 'world.json'
  try:
    told = json.loads(path.read_text(encoding='utf-8'))
    world = world_lib.make(world_lib.WorldConfig(**told['config']))
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise errors.UserError(
      f'{path} is missing or damaged ({error}): start a new --workdir.'
    ) from error
  if json.loads(json.dumps(_describe(world))) != told:
    raise errors.UserError(
      f'{path} was written by another version of the microworld, in which'
      ' other things were true: start a new --workdir.'
    )
  return world


def _describe(world: world_lib.World) -> dict[str, Any]:
  """What is true, and what makes it so."""
  return {
    'config': dataclasses.asdict(world.config),
    'facts': [[*key, value] for key, value in world.facts.items()],
    'myths': [
      {
        'about': list(key),
        'told': value,
        'true': world.facts[key],
        'reserved': key in world.reserved,
      }
      for key, value in world.myths.items()
    ],
    'lexicon': dict(world.lexicon),
  }


def _write(path: pathlib.Path, text: str) -> None:
  part = path.with_name(f'.{path.name}.part')
  part.write_text(text, encoding='utf-8')
  part.replace(path)
