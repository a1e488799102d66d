"""What a process of a run does in test_distributed.py, apart from training.

python tests/processes.py COORDINATOR COUNT PROCESS WHAT
"""

from __future__ import annotations

import os
import signal
import sys
import time

import jax
import numpy as np

from instructjax import cli
from instructjax import distributed
from instructjax import errors
from instructjax import sharding
from instructjax import stages
from instructjax.data import loader

# The first two split the rows over the processes, the others do not, or not as
# the devices are counted.
MESHES = (
  {'data': 4},
  {'data': 1, 'fsdp': 2, 'tensor': 2},
  {'data': 1, 'tensor': 4},
)
ROWS = 8


def share() -> None:
  """Each process gathers what its devices hold, and no more."""
  rows = {'tokens': np.arange(3 * 60, dtype=np.int32).reshape(60, 3)}
  source = loader.Joint(
    {
      'a': loader.Loader(rows, ROWS, seed=1),
      'b': loader.Mixture(rows, rows, 0.3, 2 * ROWS, seed=2),
    }
  )
  wanted = source.batch(5)
  crossed = np.asarray(jax.devices()).reshape(2, 2).T.ravel()
  meshes = [sharding.make_mesh(**sizes) for sizes in MESHES]
  meshes.append(sharding.make_mesh(data=4, devices=list(crossed)))
  for mesh in meshes:
    own = sharding.own_rows(ROWS, mesh)
    batch = source.batch(
      5, lambda size, mesh=mesh: sharding.own_rows(size, mesh)
    )
    whole = mesh.shape['tensor'] == 4
    assert len(batch['a']['tokens']) == len(own) == ROWS // (1 if whole else 2)
    assert len(batch['b']['tokens']) == 2 * len(own)
    spread = sharding.put_batch(batch, mesh)
    assert spread['a']['tokens'].shape == (ROWS, 3)
    for shard in spread['b']['tokens'].addressable_shards:
      expected = wanted['b']['tokens'][shard.index]
      np.testing.assert_array_equal(shard.data, expected)
    jax.tree.map(
      np.testing.assert_array_equal, sharding.to_host(spread), wanted
    )
  if jax.process_index():  # the last mesh gives it every other row
    assert own.tolist() == [2, 3, 6, 7]


def talk() -> None:
  """What the processes tell each other."""
  number = jax.process_index()
  assert int(distributed.largest(3 - number)) == 3
  assert distributed.any_process(number == 1)
  assert not distributed.any_process(False)
  told = np.full(2, 7.5 if number == 0 else np.nan, np.float32)
  assert distributed.from_primary(lambda: told, told).tolist() == [7.5, 7.5]


def notice() -> None:
  """The coordinator says that one process will be stopped; both stop."""
  stop, asked = stages.StopSignal(), 0  # JAX keeps hearing SIGTERM
  if jax.process_index():
    os.kill(os.getpid(), signal.SIGTERM)
  while not stop():
    asked += 1
    time.sleep(0.002 * (1 + jax.process_index()))
  assert stop.signal == signal.SIGTERM and asked
  most = int(distributed.largest(asked))
  assert not distributed.any_process(asked != most)


def mistake() -> None:
  """One process finds a mistake while the other waits for it."""
  if jax.process_index():
    raise errors.UserError('needed this,\n  got that.')
  distributed.barrier('never')


def defect() -> None:
  """One process fails while the other waits for it."""
  if jax.process_index():
    raise ZeroDivisionError('of ours')
  distributed.barrier('never')


def death() -> None:
  """The first process dies while the other computes with it."""
  for i in range(10**6):
    if i == 20 and distributed.is_primary():
      os.kill(os.getpid(), signal.SIGKILL)
    int(distributed.largest(i))


def command(argv: list[str]) -> int:
  """Runs what is named."""
  coordinator, count, number, *names = argv
  with distributed.connected(coordinator, int(count), int(number)):
    for name in names:
      globals()[name]()
  return 0


if __name__ == '__main__':
  sys.exit(cli.run(command, sys.argv[1:]))
