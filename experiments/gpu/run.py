"""Speed of training on one accelerator: SFT, reward model and PPO-ptx.

  python experiments/gpu/run.py --model=1.3B --length=2048

Takes steps of the three kinds with random weights and random tokens, through
the tasks and the loop that real runs take, each kind in a process of its own
(a device's peak of memory cannot be set back). No row has padding, and no
response ends before it is full. Writes results.json beside this file: seconds
by phase, tokens per second, the share of the device's peak, and peak memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import itertools
import json
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from instructjax import clock as clock_lib
from instructjax import devices
from instructjax import optim
from instructjax import tasks
from instructjax import trainer
from instructjax.models import config as model_config
from instructjax.models import heads
from instructjax.models import transformer

KINDS = ('sft', 'reward_model', 'ppo_ptx')
NO_TOKEN = -1  # as end-of-text it is never drawn


def parse(args: Sequence[str] | None = None) -> argparse.Namespace:
  """Reads the flags."""
  flags = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  flags.add_argument('--model', default='1.3B', help='of models/config.py')
  flags.add_argument('--length', type=int, default=2048, help='tokens a row')
  flags.add_argument(
    '--response_length',
    type=int,
    default=0,
    help='those of them that are the response; 0: half',
  )
  flags.add_argument('--batch', type=int, default=16, help='rows or prompts')
  flags.add_argument('--responses', type=int, default=4, help='to be ranked')
  flags.add_argument('--minibatches', type=int, default=1, help="PPO's")
  flags.add_argument('--microbatches', type=int, default=1)
  flags.add_argument('--dtype', default='bfloat16')
  flags.add_argument('--remat', default='full')
  flags.add_argument('--warmup', type=int, default=2, help='iterations')
  flags.add_argument('--iterations', type=int, default=5, help='measured')
  flags.add_argument('--only', choices=KINDS, help='prints its numbers')
  path = pathlib.Path(__file__).with_name('results.json')
  flags.add_argument('--output', type=pathlib.Path, default=path)
  return flags.parse_args(args)


def _model(options: argparse.Namespace) -> model_config.ModelConfig:
  return model_config.preset(
    options.model,
    max_length=options.length,
    dtype=options.dtype,
    remat=options.remat,
  )


def _task(kind: str, options: argparse.Namespace) -> Any:
  model, response = _model(options), _response_length(options)
  if kind != 'ppo_ptx':
    return tasks.TASKS[kind]({'policy': model})
  return tasks.TASKS['ppo'](
    {'policy': model, 'reward_model': model},
    eos_id=NO_TOKEN,
    pad_id=0,
    max_response_length=response,
    num_minibatches=options.minibatches,
  )


def _response_length(options: argparse.Namespace) -> int:
  return options.response_length or options.length // 2


def _batch(kind: str, options: argparse.Namespace) -> dict[str, Any]:
  """Random tokens, all of which count."""
  rng = np.random.default_rng(0)
  B, T, K = options.batch, options.length, options.responses
  R = _response_length(options)
  vocab_size = _model(options).vocab_size

  def rows(name, *shape, masks=('mask',)):
    tokens = rng.integers(vocab_size, size=shape, dtype=np.int32)
    return {name: tokens} | {mask: np.ones(shape, bool) for mask in masks}

  text = rows('tokens', B, T, masks=('mask', 'loss_mask'))
  if kind == 'sft':
    return text
  prompts = rows('prompts', B, T - R, masks=('prompt_mask',))
  if kind == 'ppo_ptx':
    return {'prompts': prompts, 'ptx': text}
  responses = rows('responses', B, K, R, masks=('response_mask',))
  ranks = np.tile(np.arange(1, K + 1, dtype=np.int32), (B, 1))
  compared = {
    'ranks': ranks,
    'mask': np.ones((B, K), bool),
    'labeler': np.zeros(B, np.int32),
  }
  return prompts | responses | compared


def _positions(kind: str, options: argparse.Namespace) -> int:
  """Token positions that an iteration trains on."""
  B, T, K = options.batch, options.length, options.responses
  R = _response_length(options)
  if kind == 'reward_model':
    return B * (T - R + K * R)
  return B * T if kind == 'sft' else 2 * B * T


def _state(task: Any, kind: str, options: argparse.Namespace, optimizer) -> Any:
  """The first state, drawn on the device."""
  model = _model(options)

  def make(key):
    start = {'policy': transformer.init(model, key)}
    if kind == 'ppo_ptx':
      head = heads.init_scalar_head(key, model.d_model)
      trunk = jax.tree.map(jnp.copy, start['policy'])
      start['reward_model'] = heads.with_head(trunk, head)
    params, frozen = task.init(key, start)
    return trainer.init_state(params, frozen, optimizer, extras=task.extras())

  # Left to JAX, its place would not be the batch's, and all compile twice.
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.jit(make, out_shardings=place)(jax.random.key(0))


def measure(kind: str, options: argparse.Namespace) -> dict[str, Any]:
  """Takes the steps; returns an iteration's numbers, as metrics.jsonl has."""
  task, found = _task(kind, options), {}
  rate = optim.schedule('constant', 1e-6, total_steps=1)
  optimizer = optim.per_network(
    {name: optim.adam(rate) for name in ('policy', 'value', 'reward_model')}
  )
  state = _state(task, kind, options, optimizer)
  step = trainer.make_train_step(
    task.loss,
    optimizer,
    normalize=task.normalize,
    num_microbatches=options.microbatches,
  )
  clock, device = clock_lib.Clock(), jax.devices()[0]
  tokens = _positions(kind, options)

  def hook(iteration, state, metrics):
    if iteration not in (options.warmup, total):
      return
    clock.lap('train', state)
    seconds = {k: v / options.iterations for k, v in clock.take().items()}
    numbers = {name: float(np.mean(x)) for name, x in metrics.items()}
    found.update({k: v for k, v in numbers.items() if k.startswith('flops/')})
    found.update(
      clock_lib.rates(
        seconds,
        numbers,
        tokens=tokens,
        train_tokens=tokens,
        peak_flops=devices.peak_flops([device]),
      )
    )

  total = options.warmup + options.iterations
  batch = jax.device_put(_batch(kind, options), device)
  trainer.fit(
    state,
    task,
    step,
    itertools.repeat(batch),
    num_iterations=total,
    key=jax.random.key(1),
    hooks=[hook],
    lap=clock.lap,
  )
  memory = device.memory_stats() or {}  # a CPU has none
  return found | {
    'device': device.device_kind,
    'jax': jax.__version__,
    'peak_bytes': memory.get('peak_bytes_in_use'),
  }


def main(args: Sequence[str] | None = None) -> int:
  """Measures all kinds, prints a table and writes the results."""
  options = parse(args)
  if options.only:
    print(json.dumps(measure(options.only, options)))
    return 0
  found = {}
  given = sys.argv[1:] if args is None else args
  for kind in KINDS:
    command = [sys.executable, __file__, *given, f'--only={kind}']
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found[kind] = json.loads(run.stdout.splitlines()[-1])
    print(f'{kind}: {_line(found[kind])}', flush=True)
  told = {k: v for k, v in vars(options).items() if k not in ('only', 'output')}
  told['parameters'] = transformer.num_parameters(_model(options))
  text = json.dumps({'options': told, 'measured': found}, indent=2)
  options.output.write_text(text + '\n')
  return 0


def _line(found: dict[str, Any]) -> str:
  parts = [f'{found["perf/tokens_per_second"]:,.0f} tokens/s']
  if 'perf/mfu' in found:
    parts.append(f'MFU {found["perf/mfu"]:.1%}')
  if found['peak_bytes']:
    parts.append(f'peak {found["peak_bytes"] / 2**30:.1f} GiB')
  parts += [
    f'{name.removeprefix("time/")} {seconds:.3f} s'
    for name, seconds in found.items()
    if name.startswith('time/')
  ]
  return ', '.join(parts)


if __name__ == '__main__':
  sys.exit(main())
