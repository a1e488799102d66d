"""What compiled programs take of a device, and how long they take at best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import os
import re
import time
from typing import Any

import jax

from instructjax import devices as devices_lib
from instructjax import errors
from instructjax import sharding
from instructjax.planning import hlo
from instructjax.planning import programs as programs_lib

Report = dict[str, Any]
# Of a TPU's memory, what its runtime leaves: v4's compiler grants 30.75 of 32
# GiB, v5e's 15.75 of 16.
_USABLE = 0.96
# What a device sends for each byte of a result, over what a ring sends once.
_ROUNDS = {'all-reduce': 2.0}


def plan(
  stage: programs_lib.Stage,
  topology: str,
  say: Callable[[str], None] = lambda text: None,
) -> Report:
  """Compiles the programs of a stage and adds up what they cost.

  Args:
    stage: from programs.find_stage.
    topology: its name, for the report.
    say: told of each program before it is compiled.

  Returns:
    What `python -m instructjax.plan --json` writes (experiments/plan/README.md
    says what is what).
  """
  state = programs_lib.buffers(stage)
  device = stage.mesh.devices.flat[0]
  known = devices_lib.find(device.device_kind)
  memory = known.hbm_bytes if known else _host_memory() / stage.mesh.size
  limit = memory * (_USABLE if device.platform == 'tpu' else 1.0)
  found = []
  for program in programs_lib.find(stage):
    say(program.name)
    found.append(_measure(program, state, known, stage.mesh.size))
  peak = max(map(_held, found))
  return {
    'stage': stage.config['stage'],
    'topology': topology,
    'mesh': dict(stage.mesh.shape),
    'num_devices': stage.mesh.size,
    'hbm_bytes_per_device': int(memory),
    'usable_bytes_per_device': int(limit),
    'programs': found,
    'state': state,
    'peak_bytes_per_device': int(peak),
    'fits': bool(peak <= limit and not any(map(_is_too_large, found))),
    'estimated_seconds': _seconds(found),
  }


def _measure(
  program: programs_lib.Program,
  state: Mapping[str, int],
  known: devices_lib.Device | None,
  devices: int,
) -> Report:
  """Compiles one program, for as many devices."""
  begin = time.perf_counter()
  lowered = program.function.lower(*program.args)
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    took = time.perf_counter() - begin
    return _too_large(program, state, str(error), took) | {
      'analytic_flops': program.flops / devices
    }
  seconds = time.perf_counter() - begin
  told = compiled.memory_analysis()
  sizes = {
    f'{name}_bytes': int(getattr(told, f'{name}_size_in_bytes'))
    for name in ('argument', 'temp', 'output', 'alias')
  }
  peak = sizes['argument_bytes'] + sizes['temp_bytes'] + sizes['output_bytes']
  costs = hlo.costs(_text(compiled), loops=program.loops)
  report = {
    'name': program.name,
    'times': program.times,
    **sizes,
    'peak_bytes': peak - sizes['alias_bytes'],
    'waiting_bytes': _waiting(program, state),
    'flops': costs.flops,
    'analytic_flops': program.flops / devices,
    'bytes_accessed': costs.bytes_accessed,
    'collectives': costs.collectives,
    'silent_kernels': costs.silent_kernels,
    'compile_seconds': round(seconds, 1),
  }
  return report | {'estimated_seconds': _roofline(report, known)}


def _text(compiled: jax.stages.Compiled) -> str:
  """The program's HLO; UserError if JAX cannot read what libtpu wrote."""
  try:
    return compiled.as_text()
  except jax.errors.JaxRuntimeError as error:
    raise errors.UserError(
      'needed the libtpu that this JAX was made with, found another, whose'
      f' programs it cannot read ({str(error)[:80]}): pip install'
      " 'instructjax[plan]'."
    ) from None


def _waiting(program: programs_lib.Program, state: Mapping[str, int]) -> int:
  """Bytes of the state that lie on a device and are none of its arguments."""
  held = (*program.uses, 'kv_cache')
  return sum(size for name, size in state.items() if name not in held)


def _too_large(
  program: programs_lib.Program,
  state: Mapping[str, int],
  error: str,
  seconds: float,
) -> Report:
  """What is known of a program that the compiler found too large.

  Raises:
    RuntimeError: if that is not what the compiler says.
  """
  found = re.search(
    r'RESOURCE_EXHAUSTED.*?\(?(\d+(?:\.\d+)?)([KMG])\)? exceeds', error, re.S
  ) or re.search(
    r'RESOURCE_EXHAUSTED.*?Used (\d+(?:\.\d+)?)([KMG])', error, re.S
  )
  if not found:
    raise RuntimeError(error)
  size = float(found[1]) * {'K': 2**10, 'M': 2**20, 'G': 2**30}[found[2]]
  argument = programs_lib.bytes_per_device(program.args)
  unknown = (
    'output_bytes',
    'alias_bytes',
    'flops',
    'bytes_accessed',
  )
  return {
    'name': program.name,
    'times': program.times,
    'argument_bytes': argument,
    'temp_bytes': int(size),
    **dict.fromkeys(unknown),
    'peak_bytes': argument + int(size),
    'waiting_bytes': _waiting(program, state),
    'collectives': {},
    'silent_kernels': None,
    'compile_seconds': round(seconds, 1),
    'estimated_seconds': {},
    'too_large': True,
  }


def _is_too_large(program: Report) -> bool:
  return program.get('too_large', False)


def _held(program: Report) -> int:
  """Bytes that a device holds while the program runs."""
  return program['peak_bytes'] + program['waiting_bytes']


def _roofline(report: Report, known: devices_lib.Device | None) -> Report:
  """The least seconds of one run by each of three limits; {} if not known."""
  if known is None:
    return {}
  sent = sum(
    told['bytes'] * _ROUNDS.get(kind, 1.0)
    for kind, told in report['collectives'].items()
  )
  return {
    'compute': report['flops'] / known.flops_per_second,
    'memory': report['bytes_accessed'] / known.hbm_bytes_per_second,
    'network': sent / known.network_bytes_per_second,
  }


def _seconds(programs: Sequence[Report]) -> Report:
  """An iteration's: each program takes what its tightest limit allows."""
  terms = {'compute': 0.0, 'memory': 0.0, 'network': 0.0}
  total = 0.0
  for program in programs:
    limits = program['estimated_seconds']
    if not limits:
      return {'iteration': None, **dict.fromkeys(terms)}
    total += program['times'] * max(limits.values())
    for name in terms:
      terms[name] += program['times'] * limits[name]
  return {'iteration': total, **terms}


def _host_memory() -> int:
  """Bytes of this machine's memory."""
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def advice(stage: programs_lib.Stage, report: Report) -> list[str]:
  """Returns what to change if the plan does not fit; [] if it does.

  Told are changes of the config that lower what the fullest moment holds, and
  always that more devices would.
  """
  if report['fits']:
    return []
  config, mesh = stage.config, stage.mesh
  rows = sharding.num_row_shards(mesh)
  fullest = max(report['programs'], key=_held)
  state = sum(v for k, v in report['state'].items() if k != 'kv_cache')
  found = []
  if state > 0.6 * report['usable_bytes_per_device']:
    if mesh.shape['data'] > 1:
      found.append(
        '--config.mesh.data=1 --config.mesh.fsdp=-1: parameters and moments'
        ' are split over all devices'
      )
    if config['optimizer_dtype'] == 'float32':
      found.append('--config.optimizer_dtype=bfloat16: halves the moments')
    if 'reference' in report['state'] and not config['frozen']['offload']:
      found.append('--config.frozen.offload=True: they wait in the host')
  if fullest['name'] == 'train_step':
    if config['remat'] != 'full':
      found.append('--config.remat=full')
    parts = config.get('hyper', {}).get('num_minibatches', 1)
    more = 2 * config['num_microbatches']
    if config['batch_size'] % (rows * parts * more) == 0:
      found.append(f'--config.num_microbatches={more}')
  elif config['task'] == 'ppo':
    size = config['hyper']['rollout_batch_size'] or config['batch_size']
    if size % (2 * rows) == 0:
      found.append(f'--config.hyper.rollout_batch_size={size // 2}')
  found.append(
    f'more devices: parameters, moments and frozen models alone take'
    f' {_gib(state)} of each'
  )
  return found


def table(report: Report) -> str:
  """Returns the plan for people, a text of some lines."""
  memory = report['hbm_bytes_per_device']
  mesh = ' x '.join(f'{name} {size}' for name, size in report['mesh'].items())
  lines = [
    f'{report["stage"]} on {report["topology"]}: {report["num_devices"]}'
    f' devices of {_gib(memory)}, {mesh}',
    '',
    'held on each device',
    *(
      f'  {name:<14}{_gib(size):>12}' for name, size in report['state'].items()
    ),
    '',
    f'  {"program":<12}{"times":>6}{"peak":>11}{"TFLOP":>10}{"network":>11}'
    f'{"seconds, at best":>18}{"compiled in":>13}',
  ]
  for program in report['programs']:
    limits = program['estimated_seconds']
    limit = max(limits, key=limits.get) if limits else ''
    seconds = f'{limits[limit]:.3g} {limit}' if limits else 'unknown'
    if _is_too_large(program):
      seconds = 'too large'
    sent = sum(told['bytes'] for told in program['collectives'].values())
    lines.append(
      f'  {program["name"]:<12}{program["times"]:>6}'
      f'{_gib(_held(program)):>11}'
      f'{(program["flops"] or 0) / 1e12:>10.4g}{_gib(sent):>11}{seconds:>18}'
      f'{program["compile_seconds"]:>11.0f} s'
    )
  share = report['peak_bytes_per_device'] / memory
  seconds = report['estimated_seconds']
  lines += [
    '',
    f'peak {_gib(report["peak_bytes_per_device"])} of {_gib(memory)}'
    f' ({share:.0%}, {_gib(report["usable_bytes_per_device"])} are usable):'
    f' {"fits" if report["fits"] else "does NOT fit"}',
  ]
  if seconds['iteration'] is not None:
    lines.append(
      f'an iteration takes at least {seconds["iteration"]:.3g} s (an estimate'
      f' from peak rates: compute {seconds["compute"]:.3g}, memory'
      f' {seconds["memory"]:.3g}, network {seconds["network"]:.3g})'
    )
  return '\n'.join(lines)


def _gib(size: float) -> str:
  return f'{size / 2**30:.2f} GiB'
