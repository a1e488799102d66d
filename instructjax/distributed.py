"""Several processes that run as one, usually one a host.

JAX connects them (`jax.distributed`), found by itself in a cluster or told by
flags; a run of one process takes no notice of this module. All processes run
the same program on arrays that are spread over all their devices. The first
one alone logs, and writes whatever is not an array; the others read it, so all
need to see one folder.

When one of them dies or finds a mistake, all end (watch.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import functools
import hashlib
import json
import logging
import os
import pathlib
import secrets
import socket
import sys
import time
import traceback
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils
import numpy as np

from instructjax import errors
from instructjax import watch as watch_lib

log = logging.getLogger('instructjax')

# Seconds in which all processes must have started.
_CONNECT = 300
# JAX ends all with a page of C++ when one has been silent for so many seconds;
# the watch comes first where it can.
_JAX_DEAD_AFTER = 50
_ALONE = (
  f'could not connect to the other processes in {_CONNECT} seconds: start all'
  ' of them within that time, each with an id of its own from 0 up, and one'
  ' coordinator that all hosts can reach.'
)
_LATE = 5  # seconds that a network's folder may be late


# Connecting.


@contextlib.contextmanager
def connected(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> Iterator[None]:
  """Makes this process one of those of a run, and ends with them.

  Without arguments it asks JAX whether a cluster started it (Cloud TPU, GKE,
  SLURM, Open MPI) and does nothing otherwise. It must come before anything
  that asks JAX for a device. Where there are several processes, exceptions do
  not leave it: all processes end together.

  Args:
    coordinator: HOST:PORT of the first process.
    num_processes: of the run; 1 is this process alone, whatever started it.
    process_id: of this process, from 0.

  Raises:
    UserError: if the other processes cannot be found.
  """
  if not _initialize(coordinator, num_processes, process_id):
    yield
    return
  if not is_primary():
    log.setLevel(logging.WARNING)
  # JAX has no public way to the address it found, or to say something before
  # there are arrays; Orbax takes this one, too.
  from jax._src import distributed as private

  state, number = private.global_state, jax.process_index()
  with watch_lib.at_abort(watch_lib.explain_abort):
    try:
      watch = watch_lib.Watch(
        number, jax.process_count(), state.client, state.coordinator_address
      )
    except OSError as error:
      _leave(
        f'process {number} has no connection to process 0 at'
        f' {state.coordinator_address} ({error}): allow TCP between all hosts.'
      )
    with _ending_together(watch):
      yield
    watch.close()
    jax.distributed.shutdown()


@contextlib.contextmanager
def _ending_together(watch: watch_lib.Watch) -> Iterator[None]:
  """Has the exceptions of one process end all; else waits for all others."""
  try:
    yield
    barrier('end')
  except errors.UserError as error:
    watch.tell(2, errors.line(error))
  except KeyboardInterrupt:
    watch.tell(130, 'interrupted')
  except Exception as error:
    # A collective fails when a process dies: the watch knows better.
    if isinstance(error, jax.errors.JaxRuntimeError):
      time.sleep(watch_lib.DEAD_AFTER)
    traceback.print_exc()
    said = str(error).strip().partition('\n')[0][:200]
    name, number = type(error).__name__, jax.process_index()
    watch.tell(1, f'error: process {number} failed: {name}: {said}')


def _initialize(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> bool:
  """Returns whether there are several processes, once they are connected."""
  if num_processes == 1:
    return False
  found = coordinator is None and launcher()
  if coordinator is None and not found:
    return False
  if process_id == 0:
    _check_port(coordinator)
  try:
    with watch_lib.at_abort(lambda: _leave(_ALONE)):
      jax.distributed.initialize(
        coordinator,
        num_processes,
        process_id,
        cluster_detection_method=None if found else 'deactivate',
        initialization_timeout=_CONNECT,
        heartbeat_timeout_seconds=_JAX_DEAD_AFTER,
      )
  except ValueError as error:
    if found == 'Cloud TPU':  # of another kind, or a single chip
      return False
    raise errors.UserError(
      f'{found or coordinator} should tell of several processes, and JAX cannot'
      f' tell which this is ({error}): give --coordinator=HOST:PORT,'
      ' --num_processes=N and --process_id=I, or --num_processes=1 to run'
      ' alone.'
    ) from error
  return jax.process_count() > 1


def _check_port(coordinator: str) -> None:
  """Raises UserError if the first process cannot listen where it should."""
  port = int(coordinator.rpartition(':')[2])
  try:
    socket.create_server(('', port)).close()
  except OSError as error:
    raise errors.UserError(
      f'--coordinator={coordinator}: port {port} cannot be used on this host,'
      f' which is to be process 0 ({os.strerror(error.errno)}): give another'
      ' one to all.'
    ) from error


def launcher() -> str:
  """Names what may have started several processes, by its traces; ''.

  JAX finds out the rest. It is asked only then, as it takes one task of SLURM
  or Open MPI to own one device of the host's eight, and any pod of Kubernetes
  for one of a job.
  """
  environment = os.environ
  if 'tpu' in (jax.config.jax_platforms or '').split(','):
    return 'Cloud TPU'
  if 'SLURM_STEP_NODELIST' in environment:
    return 'SLURM' * (environment.get('SLURM_NTASKS', '1') != '1')
  if environment.get('OMPI_COMM_WORLD_SIZE', '1') != '1':
    return 'Open MPI'
  return 'Kubernetes' * ('JOB_COMPLETION_INDEX' in environment)


def _leave(said: str) -> NoReturn:
  """Ends a process that has not found the others, and cannot tell them."""
  print(errors.line(errors.UserError(said)), file=sys.stderr, flush=True)
  os._exit(2)


# What a run of several processes is made of; with one, each does nothing.


def is_primary() -> bool:
  """Whether this process is the one that logs and writes files."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Returns when all processes have come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def on_primary(write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
  """Calls `write` in the first process; all return when its files are there.

  It waits for the others before, too: what they have looked for in a folder
  has not been written behind their backs.
  """
  barrier('before writing')
  if is_primary():
    write(*args, **kwargs)
  barrier('written')


def from_primary(
  function: Callable[..., np.ndarray], like: np.ndarray
) -> np.ndarray:
  """Returns everywhere what `function()` gives in the first process.

  Args:
    function: called in the first process only.
    like: an array of the shape and type it gives.
  """
  value = function() if is_primary() else np.zeros_like(like)
  return multihost_utils.broadcast_one_to_all(value)


def largest(number: int) -> jax.Array | int:
  """The largest of the numbers that the processes give.

  A process waits for it only when it reads it; until then the devices go on.
  """
  if jax.process_count() == 1:
    return number
  devices = np.asarray(jax.devices())
  mesh = jax.sharding.Mesh(devices, 'devices')
  spread = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec('devices')
  )
  numbers = jax.make_array_from_callback(
    devices.shape, spread, lambda index: np.full(1, number, np.int32)
  )
  return _largest(mesh)(numbers)


@functools.lru_cache
def _largest(mesh: jax.sharding.Mesh) -> Callable:
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  return jax.jit(lambda numbers: numbers.max(), out_shardings=whole)


def any_process(flag: bool) -> bool:
  """Whether any process says so."""
  return bool(largest(int(flag)))


def check_same(what: str, value: Any) -> None:
  """Raises UserError unless all processes hold the same value.

  Args:
    what: of the message: what the processes do not agree on, and a remedy.
    value: anything JSON holds.
  """
  if jax.process_count() == 1:
    return
  text = json.dumps(value, sort_keys=True, default=str)
  own = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
  first = multihost_utils.broadcast_one_to_all(own)
  if any_process(not np.array_equal(own, first)):
    raise errors.UserError(f'the processes differ in {what}.')


def check_shared(folder: pathlib.Path) -> None:
  """Raises UserError unless all processes see what the first one writes."""
  if jax.process_count() == 1:
    return
  number = np.asarray(secrets.randbelow(2**31), np.int32)
  path = folder / f'.seen.{from_primary(lambda: number, number)}'
  on_primary(path.touch)
  deadline = time.monotonic() + _LATE
  while not path.exists() and time.monotonic() < deadline:
    time.sleep(0.1)  # a network's folder may be late
  missing = largest(0 if path.exists() else jax.process_index())
  on_primary(path.unlink, missing_ok=True)
  if missing:
    raise errors.UserError(
      f'process {missing} does not see what the first one writes to {folder}:'
      ' give a --workdir that all hosts share.'
    )


def noticed(ask: int) -> bool:
  """Whether the coordinator gave notice that a process will be stopped.

  True once, for the same ask in all processes.

  Args:
    ask: how often this was asked, counted from 1.
  """
  return multihost_utils.reached_preemption_sync_point(ask)
