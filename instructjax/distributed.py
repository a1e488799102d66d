"""Several processes that run as one, usually one a host.

JAX connects them (`jax.distributed`), found by itself in a cluster or told by
flags; a run of one process takes no notice of this module. All processes run
the same program on arrays that are spread over all their devices. The first
one alone logs, and writes whatever is not an array; the others read it, so all
need to see one folder.

Each process keeps a connection to the first. A mistake that any of them finds
is told over it, once; and when it breaks a process has died, and all others
end, in seconds where JAX would let them wait for a minute or for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import ctypes
import functools
import hashlib
import json
import logging
import os
import pathlib
import secrets
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, NoReturn

import jax
from jax.experimental import multihost_utils
import numpy as np

from instructjax import errors

log = logging.getLogger('instructjax')

# Exit status of a process whose run has lost another one: EX_TEMPFAIL of
# sysexits.h, "try again".
LOST = 75
# Seconds. A host that loses its power sends nothing: it counts as dead when it
# has not answered the system's own questions for so long. JAX, which ends all
# with a page of C++, comes second.
_DEAD_AFTER = 30
_JAX_DEAD_AFTER = 50
_CONNECT = 300
_LINGER = 5
_KEY = 'instructjax/watch'
_BYE = b'bye\n'


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
  watch = _Watch()
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
      time.sleep(_DEAD_AFTER + _LINGER)
    traceback.print_exc()
    said = str(error).strip().partition('\n')[0][:200]
    name, number = type(error).__name__, jax.process_index()
    watch.tell(1, f'error: process {number} failed: {name}: {said}')
  watch.close()
  jax.distributed.shutdown()


def _initialize(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> bool:
  """Returns whether there are several processes, once they are connected."""
  if num_processes == 1:
    return False
  found = coordinator is None and _launcher()
  if coordinator is None and not found:
    return False
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
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
  except jax.errors.JaxRuntimeError as error:
    said = str(error).strip().partition('\n')[0]
    raise errors.UserError(
      f'could not connect to the other processes ({said}): start all of them'
      ' within five minutes, with one --coordinator that all can reach and'
      ' ids from 0 up.'
    ) from error
  return jax.process_count() > 1


def _launcher() -> str:
  """Names what may have started several processes, by its environment; ''.

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


# What a run of several processes is made of; with one, each does nothing.


def is_primary() -> bool:
  """Whether this process is the one that logs and writes files."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Returns when all processes have come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def on_primary(write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
  """Calls `write` in the first process; all return when its files are there."""
  if is_primary():
    write(*args, **kwargs)
  barrier('on_primary')


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
  deadline = time.monotonic() + _LINGER
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


# Who is there.


class _Watch:
  """A connection from each process to the first, open while both live.

  The system closes it when a process ends, however that ends, and asks the
  other host now and then whether it is still there: a process that is busy is
  not taken for a dead one.
  """

  def __init__(self):
    # JAX has no public way to the address it found, or to say something to
    # processes that share no array yet; Orbax takes this one, too.
    from jax._src import distributed

    state = distributed.global_state
    if is_primary():
      self._peers = _accept(state.client, jax.process_count() - 1)
    else:
      self._peers = {0: _connect(state.client, state.coordinator_address)}
    self._lock, self._ending, self._closed = threading.Lock(), False, False
    self._threads = [
      threading.Thread(target=self._listen, args=item, daemon=True)
      for item in self._peers.items()
    ]
    for thread in self._threads:
      thread.start()
    self._late = _delay_aborts()

  def _listen(self, number: int, peer: socket.socket) -> None:
    """Waits for what a process tells, or for its end."""
    try:
      line = peer.makefile('rb').readline()
    except OSError:  # the host does not answer
      line = b''
    if line == _BYE or (not line and self._closed):
      return
    if line:
      self._end(**json.loads(line))
    else:
      self._end(
        LOST,
        f'error: process {number} is gone, and the run cannot go on without'
        ' it: the same command on all hosts goes on from the last checkpoint.',
      )

  def tell(self, status: int, text: str) -> NoReturn:
    """Ends all processes with a status; the first one prints the text."""
    if is_primary():
      self._end(status, text)
    else:
      _send(self._peers[0], _line(status, text))
    time.sleep(_DEAD_AFTER + 2 * _LINGER)  # a listener ends this process
    os._exit(status)

  def _end(self, status: int, text: str) -> None:
    """Ends all from the first process, else this one; the first call wins."""
    with self._lock:
      if self._ending:
        return
      self._ending = True
    if is_primary():
      for peer in self._peers.values():
        _send(peer, _line(status, text))
    if is_primary() or status == LOST:
      print(text, file=sys.stderr, flush=True)
    if is_primary():
      # JAX would end the others in its own manner as soon as this one is gone.
      deadline = time.monotonic() + _LINGER
      for thread in self._threads:
        if thread is not threading.current_thread():
          thread.join(max(0.0, deadline - time.monotonic()))
    os._exit(status)

  def close(self) -> None:
    """Says goodbye, when all processes are done."""
    self._closed = True
    for peer in self._peers.values():
      _send(peer, _BYE)
    for thread in self._threads:
      thread.join(_LINGER)
    for peer in self._peers.values():
      peer.close()


def _accept(client: Any, count: int) -> dict[int, socket.socket]:
  """Returns {process: connection} once all others have called."""
  options = {'family': socket.AF_INET6, 'dualstack_ipv6': True}
  if not socket.has_dualstack_ipv6():
    options = {}
  peers: dict[int, socket.socket] = {}
  with socket.create_server(('', 0), backlog=count, **options) as server:
    token = secrets.token_hex(16)
    client.key_value_set(_KEY, f'{server.getsockname()[1]} {token}')
    server.settimeout(_CONNECT)
    while len(peers) < count:
      peer = server.accept()[0]
      peer.settimeout(_LINGER)
      try:
        said = peer.makefile('rb').readline().decode().split()
      except (OSError, ValueError):
        said = []
      if len(said) == 2 and secrets.compare_digest(said[0], token):
        peers[int(said[1])] = _kept_alive(peer)
      else:  # a stranger
        peer.close()
  return peers


def _connect(client: Any, coordinator: str) -> socket.socket:
  """Returns the connection to the first process."""
  port, token = client.blocking_key_value_get(_KEY, _CONNECT * 1000).split()
  host = coordinator.rpartition(':')[0].strip('[]')
  peer = socket.create_connection((host, int(port)), timeout=_CONNECT)
  peer.sendall(f'{token} {jax.process_index()}\n'.encode())
  return _kept_alive(peer)


def _kept_alive(peer: socket.socket) -> socket.socket:
  """Has the system ask the other host whether it is there."""
  peer.settimeout(None)
  peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  for name, value in (
    ('TCP_KEEPIDLE', _DEAD_AFTER // 3),
    ('TCP_KEEPINTVL', _DEAD_AFTER // 6),
    ('TCP_KEEPCNT', 4),
    ('TCP_USER_TIMEOUT', 1000 * _DEAD_AFTER),
  ):
    if hasattr(socket, name):  # not every system has all of them
      peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
  return peer


def _line(status: int, text: str) -> bytes:
  return json.dumps({'status': status, 'text': text}).encode() + b'\n'


def _send(peer: socket.socket, line: bytes) -> None:
  with contextlib.suppress(OSError):  # it is gone already
    peer.sendall(line)


def _delay_aborts() -> Any:
  """Lets the watch speak first where JAX's runtime aborts the process.

  It does as soon as the first process is gone. Returns what must be kept.
  """
  handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(
    lambda number: time.sleep(_LINGER)
  )
  ctypes.CDLL(None).signal(signal.SIGABRT, handler)
  return handler
