"""A whole run in seconds: its records, its command line, and looking at it.

`finished(...)` runs pretrain -> SFT -> reward model -> PPO-ptx once for all
tests of a session, whatever worker asks first; tests that change it copy it.
"""

from __future__ import annotations

from collections.abc import Sequence
import fcntl
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp

from instructjax import config as config_lib
from tests import forked
from tests import warned

ROOT = pathlib.Path(__file__).resolve().parents[1]
STAGES = ('pretrain', 'sft', 'reward_model', 'ppo_ptx')
ITERATIONS = 6

_MODEL = {
  'num_layers': 2,
  'd_model': 32,
  'num_heads': 2,
  'head_dim': 16,
  'd_ff': 64,
  'max_length': 48,
}
_ANY = {
  'num_iterations': ITERATIONS,
  'batch_size': 8,
  'log_every_iterations': 1,
  'eval_every_iterations': 3,
  'checkpoint_every_iterations': 2,
  'sample_every_iterations': 3,
  'num_samples': 8,  # as many as validation prompts: one program for both
}
_PROMPT = {'max_prompt_length': 32}
_SFT = {**_ANY, **_PROMPT, 'max_response_length': 16, 'num_epochs': 3.0}
SETTINGS = {
  'pretrain': {
    **_ANY,
    'optimizer': 'muon',  # its state is to be saved and sharded like any other
    'sequence_length': 48,
    **{f'model.{key}': value for key, value in _MODEL.items()},
  },
  'sft': _SFT,
  'rl_init': _SFT,
  'reward_model': {
    **_ANY,
    **_PROMPT,
    'max_response_length': 16,
    'max_responses': 3,
  },
  'ppo': {
    **_ANY,
    **_PROMPT,
    'hyper.max_response_length': 12,
    'hyper.num_minibatches': 2,
    'ptx_ratio': 2,
    'sequence_length': 32,
  },
}
SETTINGS['ppo_ptx'] = SETTINGS['ppo']

# The same in a microworld, at the lengths of its configs.
_WORLD = {
  'num_documents': 300,
  'num_users': 20,
  'num_test_users': 5,
  'num_demonstrations': 60,
  'num_ranked': 40,
  'num_prompts': 60,
  'num_test_prompts': 20,
  'num_labelers': 6,
  'num_test_labelers': 4,
}
SMALL_MODEL = {f'model.{k}': v for k, v in _MODEL.items()}
SMALL_MODEL |= {'model.num_layers': 1, 'model.max_length': 128}
_PPO = {**_ANY, 'hyper.num_minibatches': 2, 'ptx_ratio': 2}
MICRO = {
  'microworld': {f'world.{key}': value for key, value in _WORLD.items()},
  'pretrain': {**_ANY, **SMALL_MODEL},
  'sft': {**_ANY, 'num_epochs': 3.0},
  'base_finetuned': _ANY,
  'collect': {'batch_size': 32},
  'reward_model': _ANY,
  'reward_model_pairs': _ANY,
  'ppo': _PPO,
  'ppo_ptx': _PPO,
  'base_large': {**_ANY, **SMALL_MODEL, 'model.d_model': 48},
}


def write_records(folder: pathlib.Path) -> pathlib.Path:
  """Writes a few records of every kind, and returns the folder."""
  names = ('ant', 'bee', 'cat', 'dog', 'elk', 'fox', 'gnu', 'hen')
  foods = ('hay', 'nuts', 'fish', 'bone', 'moss', 'mice', 'corn', 'seed')
  pairs = list(itertools.product(names, foods))
  rng = np.random.default_rng(0)
  rows = {'pretraining': [], 'demonstrations': [], 'comparisons': []}
  for _ in range(40):
    chosen = [pairs[i] for i in rng.integers(len(pairs), size=8)]
    text = ' '.join(f'The {name} eats {food}.' for name, food in chosen)
    rows['pretraining'].append({'text': text})
  for i, (name, food) in enumerate(pairs[:40]):
    who = {'labeler_id': f'labeler{i % 4}'}
    prompt = f'Is {food} for {name}?'
    row = {'prompt': prompt, 'response': f'{name} eats {food}', **who}
    rows['demonstrations'].append(row)
    responses = [f'yes {food}', 'no', name][: 2 + i // 4 % 2]
    ranks = [1, 2, 2][: len(responses)]
    row = {'prompt': f'{name}, {food}?', 'responses': responses, 'ranks': ranks}
    rows['comparisons'].append(row | who)
  rows['prompts'] = [
    {'text': f'Give {food} to {name}?', 'user_id': f'user{i % 8}'}
    for i, (name, food) in enumerate(pairs)
  ]
  folder.mkdir(parents=True, exist_ok=True)
  for kind, found in rows.items():
    write_jsonl(folder / f'{kind}.jsonl', found)
  return folder


def write_jsonl(path: pathlib.Path, rows: Sequence[object]) -> None:
  """Writes one JSON value a line."""
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def settings(config: str) -> dict[str, object]:
  """What makes a config and the stages before it small."""
  before = {
    'pretrain': (),
    'sft': ('pretrain',),
    'rl_init': ('pretrain',),
    'reward_model': ('pretrain', 'sft'),
  }.get(config, ('pretrain', 'sft', 'reward_model'))
  found = {'tokenizer.vocab_size': 320, **SETTINGS[config]}
  for stage in before:
    for key, value in SETTINGS[stage].items():
      found[f'stages.{stage}.{key}'] = value
  return found


def arguments(
  config: str, data: pathlib.Path | str, workdir: pathlib.Path, **overrides
) -> list[str]:
  """Command line of a config, without the program.

  `overrides` replace settings, with '__' for the dots of a key.
  """
  keys = settings(config)
  keys |= {k.replace('__', '.'): v for k, v in overrides.items()}
  return [
    f'--config=configs/{config}.py:tiny,data={data}',
    f'--workdir={workdir}',
    *(f'--config.{key}={value}' for key, value in keys.items()),
  ]


def micro_arguments(
  config: str, workdir: pathlib.Path, **overrides
) -> list[str]:
  """Command line of a config that lives in a small microworld."""
  stages = config_lib.load(f'{ROOT}/configs/{config}.py').stages
  keys = {'tokenizer.vocab_size': 600, **MICRO[config]}
  for stage in stages.keys() & MICRO.keys():
    for key, value in MICRO[stage].items():
      keys[f'stages.{stage}.{key}'] = value
  keys |= {k.replace('__', '.'): v for k, v in overrides.items()}
  return [
    f'--config=configs/{config}.py',
    f'--workdir={workdir}',
    *(f'--config.{key}={value}' for key, value in keys.items()),
  ]


def start(
  args: Sequence[object], devices: int = 1, fresh: bool = False, **options
) -> subprocess.Popen | forked.Process:
  """Starts Python in the repository's root, in a process group of its own.

  Args:
    args: the words behind `python`.
    devices: how many virtual ones of the CPU.
    fresh: starts it as a user would, not forked; so does source text ('-c').
    options: of subprocess.Popen, for a fresh one.
  """
  words = [str(word) for word in args]
  flags = [
    os.environ.get('XLA_FLAGS', ''),
    f'--xla_force_host_platform_device_count={devices}',
  ]
  paths = {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ' '.join(flags)}
  environment = {**os.environ, **paths}
  if not (fresh or options or words[0] == '-c'):
    return forked.Process(words, environment)
  return subprocess.Popen(
    [sys.executable, '-W', 'error', *warned.HARMLESS, *words],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    start_new_session=True,
    **{'text': True, **options},
  )


def finish(
  process: subprocess.Popen | forked.Process,
) -> subprocess.CompletedProcess:
  """Waits for a process."""
  try:
    out, err = process.communicate(timeout=300)
  finally:
    process.kill()
  return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(args: Sequence[object], **options) -> subprocess.CompletedProcess:
  """Runs Python to its end."""
  return finish(start(args, **options))


def main(args: Sequence[object], **options) -> subprocess.CompletedProcess:
  """Runs instructjax.main, which must end well."""
  result = run(['-m', 'instructjax.main', *args], **options)
  assert result.returncode == 0, (result.returncode, result.stderr)
  return result


def finished(tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
  """Returns (records, workdir) of a finished run that no test changes."""
  base = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    base = base.parent
  data, workdir = base / 'shared_records', base / 'shared_run'
  with (base / 'shared_run.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (workdir / 'report.json').exists():
      main(arguments('ppo_ptx', write_records(data), workdir), fresh=True)
  return data, workdir


def lines(path: pathlib.Path) -> list[dict]:
  """Reads JSON lines, all of which must be whole."""
  return [json.loads(line) for line in path.read_text().splitlines()]


def numbers(folder: pathlib.Path) -> list[dict]:
  """The lines of a stage's metrics.jsonl without what a clock measured."""
  return [
    {
      name: value
      for name, value in line.items()
      if name != 'wall_seconds' and not name.startswith(('perf/', 'time/'))
    }
    for line in lines(folder / 'metrics.jsonl')
  ]


def tree(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads whatever arrays orbax wrote to a folder, by path."""
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with ocp.StandardCheckpointer() as checkpointer:
    told = checkpointer.metadata(folder.absolute()).item_metadata.tree
    target = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), told
    )
    found = checkpointer.restore(folder.absolute(), target)
  leaves, _ = jax.tree_util.tree_flatten_with_path(found)
  return {jax.tree_util.keystr(k): np.asarray(v) for k, v in leaves}


def arrays(folder: pathlib.Path) -> dict[str, np.ndarray]:
  """All arrays of a stage: last checkpoint, epochs and handed-on models."""
  steps = [p for p in (folder / 'checkpoints').iterdir() if p.name.isdigit()]
  last = max(steps, key=lambda path: int(path.name))
  parts = [last / 'default', *folder.glob('*/params')]
  parts += [*folder.glob('epochs/*/params'), *folder.glob('frozen')]
  return {
    f'{part.relative_to(folder)}{name}': value
    for part in parts
    for name, value in tree(part).items()
  }


def assert_same(folder: pathlib.Path, other: pathlib.Path) -> None:
  """Two folders of a stage hold the same to the bit, and say the same."""
  found, wanted = arrays(folder), arrays(other)
  assert found.keys() == wanted.keys()
  unlike = [k for k in wanted if found[k].tobytes() != wanted[k].tobytes()]
  assert not unlike
  assert numbers(folder) == numbers(other)
  for name in ('samples.jsonl', 'summary.json', 'config.json', 'data.json'):
    assert (folder / name).read_text() == (other / name).read_text(), name


def wait_for(condition, process: subprocess.Popen | forked.Process) -> None:
  """Returns once a condition holds; fails if the process ends before."""
  while not condition():
    assert process.poll() is None, process.communicate()
    time.sleep(0.002)
