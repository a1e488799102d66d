"""Who is there: a connection from each process of a run to the first.

The system closes it when a process ends, however that ends, and asks the other
host now and then whether it still answers; so all others end within seconds of
a death, where JAX waits for a minute and a collective for ever, and a process
that is merely busy is not taken for a dead one. A mistake that one process has
found is told over it, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from typing import Any, BinaryIO, NamedTuple, NoReturn

# Exit status of a process whose run has lost another one: EX_TEMPFAIL of
# sysexits.h, "try again".
LOST = 75
# Seconds. A host that loses its power says nothing: it counts as dead when it
# has not answered for so long.
DEAD_AFTER = 30
_CONNECT = 300
_LINGER = 5
_KEY = 'instructjax/watch'
_BYE = b'bye\n'


class _Peer(NamedTuple):
  """A connection, and the one reader of it, which may be ahead of us."""

  socket: socket.socket
  reader: BinaryIO


class Watch:
  """Ends this process when another one has died, or has found a mistake.

  Args:
    index: of this process.
    count: of all.
    client: of JAX's coordination service, where the first process says how to
      call it.
    coordinator: HOST:PORT, the first process's host and any port.

  Raises:
    OSError: if the first process cannot be reached, or not all others reach it.
  """

  def __init__(self, index: int, count: int, client: Any, coordinator: str):
    self._is_first = index == 0
    if self._is_first:
      self._peers = _accept(client, count - 1)
    else:
      host = coordinator.rpartition(':')[0].strip('[]')
      self._peers = {0: _connect(client, host, index)}
    self._lock, self._ending, self._closed = threading.Lock(), False, False
    self._threads = [
      threading.Thread(target=self._listen, args=item, daemon=True)
      for item in self._peers.items()
    ]
    for thread in self._threads:
      thread.start()

  def _listen(self, number: int, peer: _Peer) -> None:
    """Waits for what a process tells, or for its end."""
    try:
      line = peer.reader.readline()
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
    if self._is_first:
      self._end(status, text)
    else:
      _send(self._peers[0], _line(status, text))
    time.sleep(DEAD_AFTER + 2 * _LINGER)  # a listener ends this process
    os._exit(status)

  def _end(self, status: int, text: str) -> None:
    """Ends all from the first process, else this one; the first call wins."""
    with self._lock:
      if self._ending:
        return
      self._ending = True
    if self._is_first:
      for peer in self._peers.values():
        _send(peer, _line(status, text))
    if self._is_first or status == LOST:
      print(text, file=sys.stderr, flush=True)
    if self._is_first:
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
      peer.reader.close()
      peer.socket.close()


def _accept(client: Any, count: int) -> dict[int, _Peer]:
  """Returns {process: connection} once all others have called."""
  options = {'family': socket.AF_INET6, 'dualstack_ipv6': True}
  if not socket.has_dualstack_ipv6():
    options = {}
  peers: dict[int, _Peer] = {}
  with socket.create_server(('', 0), backlog=count, **options) as server:
    token = secrets.token_hex(16)
    client.key_value_set(_KEY, f'{server.getsockname()[1]} {token}')
    server.settimeout(_CONNECT)
    while len(peers) < count:
      called = server.accept()[0]
      called.settimeout(_LINGER)
      peer = _Peer(called, called.makefile('rb'))
      try:
        said = peer.reader.readline().split()
      except OSError:
        said = []
      if len(said) == 2 and secrets.compare_digest(said[0], token.encode()):
        peers[int(said[1])] = _kept_alive(peer)
      else:  # a stranger
        peer.reader.close()
        called.close()
  return peers


def _connect(client: Any, host: str, index: int) -> _Peer:
  """Returns the connection to the first process."""
  port, token = client.blocking_key_value_get(_KEY, _CONNECT * 1000).split()
  called = socket.create_connection((host, int(port)), timeout=_CONNECT)
  called.sendall(f'{token} {index}\n'.encode())
  return _kept_alive(_Peer(called, called.makefile('rb')))


def _kept_alive(peer: _Peer) -> _Peer:
  """Has the system ask the other host whether it is there."""
  peer.socket.settimeout(None)
  peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  for name, value in (
    ('TCP_KEEPIDLE', DEAD_AFTER // 3),
    ('TCP_KEEPINTVL', DEAD_AFTER // 6),
    ('TCP_KEEPCNT', 4),
    ('TCP_USER_TIMEOUT', 1000 * DEAD_AFTER),
  ):
    if hasattr(socket, name):  # not every system has all of them
      peer.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
  return peer


def _line(status: int, text: str) -> bytes:
  return json.dumps({'status': status, 'text': text}).encode() + b'\n'


def _send(peer: _Peer, line: bytes) -> None:
  with contextlib.suppress(OSError):  # it is gone already
    peer.socket.sendall(line)


# What JAX's runtime cannot go on with it prints, and aborts the process: when
# it finds no other one, when the first is gone, when one hangs on a host that
# still answers. A signal's handler has the last word.


@contextlib.contextmanager
def at_abort(act: Callable[[], None]) -> Iterator[None]:
  """Has a function called if this process aborts."""
  handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: act())
  system = ctypes.CDLL(None)
  system.signal(signal.SIGABRT, handler)
  try:
    yield
  finally:
    system.signal(signal.SIGABRT, None)


def explain_abort() -> None:
  """Lets the watch end this process if it knows of a death; else says why."""
  time.sleep(_LINGER)
  print(
    'error: this process was aborted for what is said above. If another one is'
    ' named there, the same command on all hosts goes on from the last'
    ' checkpoint.',
    file=sys.stderr,
    flush=True,
  )
