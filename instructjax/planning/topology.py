"""The devices of a topology by its name, none of which need be there."""

from __future__ import annotations

import importlib.util
import math
import os
import re

import jax

from instructjax import errors

_KINDS = ('v4', 'v5e', 'v5p', 'v6e', 'cpu')
_EXAMPLES = "'v5p:8x8x8', 'v5e:16x16' or 'cpu:8'"


def find(name: str) -> list[jax.Device]:
  """Returns devices to compile for.

  Args:
    name: 'v4:2x2x1', 'v5p:8x8x8', 'v5e:16x16', 'v6e:8x8': chips of a TPU slice,
      by libtpu's compiler (the extra `plan`); 'cpu:8': as many virtual devices
      of this machine. To be asked before JAX has looked for devices.

  Raises:
    UserError: if the name means nothing, or libtpu is missing.
  """
  kind, _, shape = name.partition(':')
  sizes = shape.split('x')
  fits = re.fullmatch(r'(\d+x){0,2}\d+', shape) and all(map(int, sizes))
  if kind not in _KINDS or not fits:
    raise errors.UserError(
      f'--topology={name}: needed KIND:SHAPE such as {_EXAMPLES}, KIND one of'
      f' {", ".join(_KINDS)}: write one of these.{errors.nearest(kind, _KINDS)}'
    )
  jax.config.update('jax_platforms', 'cpu')
  if kind == 'cpu':
    count = math.prod(map(int, sizes))
    # JAX refuses to be told twice.
    flags = os.environ.get('XLA_FLAGS', '').split()
    os.environ['XLA_FLAGS'] = ' '.join(
      flag for flag in flags if 'host_platform_device_count' not in flag
    )
    jax.config.update('jax_num_cpu_devices', count)
    return jax.devices()
  if not importlib.util.find_spec('libtpu'):
    raise errors.UserError(
      f"--topology={name} needs libtpu, TPU's compiler: pip install"
      " 'instructjax[plan]', or plan for virtual devices by --topology=cpu:8."
    )
  # Else libtpu asks the network which machine it is on, and waits.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('TPU_ACCELERATOR_TYPE', 'v5p-8')
  # Only a chip can be used by one process alone; a compiler by many.
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  from jax.experimental import topologies

  # One device a chip, as a program on such a slice sees it.
  options = {'chip_config_name': 'megacore'} if kind == 'v4' else {}
  try:
    found = topologies.get_topology_desc(
      platform='tpu', topology_name=name, **options
    )
  except Exception as error:  # libtpu's own, of no public class
    first = str(error).strip().splitlines()[0]
    raise errors.UserError(
      f'--topology={name} is none that libtpu knows ({first}): use one such as'
      f' {_EXAMPLES}.'
    ) from None
  return list(found.devices)
