"""Batches are a function of (seed, iteration); no row is lost or invented."""

import itertools
import time

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from instructjax import errors
from instructjax.data import loader


def _rows(count, offset=0):
  index = np.arange(offset, offset + count, dtype=np.int32)
  return {'index': index, 'tokens': index[:, None] * np.ones((1, 3), np.int32)}


def _take(source, start, count):
  return list(itertools.islice(source.from_iteration(start), count))


def _equal(left, right):
  assert type(left) is type(right)
  if isinstance(left, dict):
    assert list(left) == list(right)
    return all(_equal(left[k], right[k]) for k in left)
  return left.dtype == right.dtype and np.array_equal(left, right)


SOURCES = {
  'loader': lambda: loader.Loader(_rows(10), 4, seed=3),
  'larger than the data': lambda: loader.Loader(_rows(3), 8, seed=3),
  'mixture': lambda: loader.Mixture(_rows(10), _rows(4, 100), 0.3, 4, seed=3),
  'three sources': lambda: loader.Loader(
    loader.Parts([_rows(10), _rows(4, 100), _rows(7, 200)], [5, 2, 3.5]),
    4,
    seed=3,
  ),
  'mixture of sources': lambda: loader.Mixture(
    loader.Parts([_rows(10), _rows(4, 100)], [0.8, 0.2]),
    loader.Parts([_rows(5, 200), _rows(6, 300)], [1, 2]),
    0.25,
    4,
    seed=3,
  ),
  'joint': lambda: loader.Joint(
    {
      'prompts': loader.Loader(_rows(10), 4, seed=3),
      'ptx': loader.Loader(_rows(7, 100), 6, seed=4),
    }
  ),
}


@pytest.mark.parametrize('name', SOURCES)
def test_starting_anywhere_continues_the_run(name):
  whole = _take(SOURCES[name](), 0, 12)
  for start in (0, 1, 5, 11):
    rest = _take(SOURCES[name](), start, 12 - start)
    assert all(map(_equal, rest, whole[start:]))
    assert _equal(SOURCES[name]().batch(start), whole[start])


@pytest.mark.parametrize('name', SOURCES)
def test_processes_pick_the_same_batch_apart(name):
  source = SOURCES[name]()
  picks = [
    lambda size: np.arange(size)[0::2],
    lambda size: np.arange(size)[1::2],
  ]
  for iteration in (0, 3):
    whole = source.batch(iteration)
    parts = [source.batch(iteration, pick) for pick in picks]
    read = [next(source.from_iteration(iteration, pick)) for pick in picks]
    assert all(map(_equal, parts, read))
    for part, first in zip(parts, (0, 1), strict=True):
      assert _equal(part, _every_other(whole, first))


def _every_other(batch, first):
  if isinstance(batch, dict):
    return {name: _every_other(rows, first) for name, rows in batch.items()}
  return batch[first::2]


class _Watched(np.ndarray):
  """Rows that remember which of them were asked for."""

  def __getitem__(self, index):
    self.asked = index
    return np.asarray(super().__getitem__(index))


def _last_two(size):
  return np.arange(size - 2, size)


def test_a_process_gathers_its_rows_only():
  tokens = np.arange(40).reshape(20, 2).view(_Watched)
  source = loader.Loader({'tokens': tokens}, 8, seed=1)
  own = source.batch(2, lambda size: np.arange(size // 2, size))['tokens']
  assert len(tokens.asked) == len(own) == 4
  found = list(loader.eval_batches({'tokens': tokens}, 8, _last_two))
  assert len(tokens.asked) == 2
  kept = [keep.tolist() for _, keep in found]
  assert kept == [[True, True], [True, True], [False, False]]


@pytest.mark.parametrize('name', SOURCES)
def test_starting_far_away_is_quick(name):
  source = SOURCES[name]()
  start = time.perf_counter()
  _take(source, 10**9, 1)
  assert time.perf_counter() - start < 5  # not 10**9 steps


@hypothesis.given(
  count=strategies.integers(1, 12),
  batch_size=strategies.integers(1, 30),
  seed=strategies.integers(0, 2**32),
)
@hypothesis.settings(max_examples=50)
def test_each_epoch_holds_each_row_once(count, batch_size, seed):
  source = loader.Loader(_rows(count), batch_size, seed=seed)
  batches = [source.batch(i) for i in range(3 * count // batch_size + 1)]
  order = np.concatenate([b['index'] for b in batches])[: 3 * count]
  epochs = order[: len(order) // count * count].reshape(-1, count)
  assert (np.sort(epochs, 1) == np.arange(count)).all()
  assert all(b['tokens'].shape == (batch_size, 3) for b in batches)
  assert all((b['tokens'].T == b['index']).all() for b in batches)


def test_epochs_and_seeds_differ():
  orders = [
    loader.Loader(_rows(100), 100, seed=seed).batch(epoch)['index'].tolist()
    for seed in range(3)
    for epoch in range(3)
  ]
  assert len(set(map(tuple, orders))) == 9


def test_mixture_is_spread_evenly():
  source = loader.Mixture(_rows(50), _rows(20, 100), 0.1, 5, seed=1)
  order = np.concatenate([source.batch(i)['index'] for i in range(200)])
  other = order >= 100
  share = np.cumsum(other) - 0.1 * np.arange(1, 1001)
  assert (np.abs(share) <= 1).all() and other.sum() == 100
  assert np.bincount(order[~other]).tolist() == [18] * 50
  assert np.bincount(order[other] - 100).tolist() == [5] * 20


def test_mixture_of_nothing_is_the_loader():
  mixed = loader.Mixture(_rows(10), _rows(4, 100), 0.0, 4, seed=1)
  alone = loader.Loader(_rows(10), 4, seed=1)
  assert all(_equal(mixed.batch(i), alone.batch(i)) for i in range(6))


@pytest.mark.parametrize('fraction', [-0.1, 1.0])
def test_mixture_refuses(fraction):
  with pytest.raises(errors.UserError, match='needed a fraction'):
    loader.Mixture(_rows(3), _rows(3), fraction, 4)
  with pytest.raises(ValueError, match='differ'):
    loader.Mixture(_rows(3), {'index': np.arange(3)}, 0.1, 4)


# Shares in percent of GPT-3's training mix, which sum to 101 (PAPER.md, 1a).
GPT3 = (60, 22, 8, 8, 3)


def test_sources_come_in_their_proportions():
  parts = [_rows(50 + 10 * i, 1000 * i) for i in range(5)]
  source = loader.Loader(loader.Parts(parts, GPT3), 7, seed=1)
  order = np.concatenate([source.batch(i)['index'] for i in range(1010)])
  found = order // 1000
  assert np.bincount(found[: 101 * 70]).tolist() == [70 * x for x in GPT3]
  shares = np.asarray(GPT3)[:, None] / 101
  seen = np.cumsum(found == np.arange(5)[:, None], 1)
  assert np.abs(seen - shares * np.arange(1, len(order) + 1)).max() < 5


@hypothesis.given(
  sizes=strategies.lists(strategies.integers(1, 9), min_size=2, max_size=5),
  data=strategies.data(),
  seed=strategies.integers(0, 2**32),
)
@hypothesis.settings(max_examples=50)
def test_each_source_is_read_without_replacement(sizes, data, seed):
  weight = strategies.floats(0.01, 10)
  count = len(sizes)
  weights = data.draw(strategies.lists(weight, min_size=count, max_size=count))
  parts = [_rows(size, 100 * i) for i, size in enumerate(sizes)]
  source = loader.Loader(loader.Parts(parts, weights), 50, seed=seed)
  order = np.concatenate([source.batch(i)['index'] for i in range(4)])
  for i, size in enumerate(sizes):
    mine = order[order // 100 == i] - 100 * i
    epochs = mine[: len(mine) // size * size].reshape(-1, size)
    assert (np.sort(epochs, 1) == np.arange(size)).all()
    alone = loader.Shuffled(parts[i], seed, 2 * i)
    wanted = alone.rows_at(np.arange(len(mine)))['index']
    assert (order[order // 100 == i] == wanted).all()


def test_two_sources_are_the_mixture_of_two():
  parts = loader.Parts([_rows(50), _rows(20, 100)], [0.9, 0.1])
  found = loader.Loader(parts, 5, seed=1)
  mixed = loader.Mixture(_rows(50), _rows(20, 100), 0.1, 5, seed=1)
  for i in range(100):
    index, wanted = found.batch(i)['index'], mixed.batch(i)['index']
    assert ((index >= 100) == (wanted >= 100)).all()
    assert (index[index < 100] == wanted[wanted < 100]).all()


def test_an_epoch_of_several_sources_is_all_their_rows():
  parts = loader.Parts([_rows(30), _rows(10, 100)], [1, 1])
  assert loader.Loader(parts, 10).iterations() == 4
  assert loader.Mixture(parts, _rows(3, 900), 0.2, 10).iterations() == 5


def test_weights_too_far_apart_are_refused():
  with pytest.raises(errors.UserError, match='differ by less than 10,000'):
    loader.Loader(loader.Parts([_rows(3), _rows(3)], [1, 1e-6]), 4)


def test_parts_together_and_each():
  parts = loader.Parts([_rows(3), _rows(2, 10)], [1, 1])
  assert loader.joined(parts)['index'].tolist() == [0, 1, 2, 10, 11]
  shorter = loader.each(lambda rows: {k: v[:1] for k, v in rows.items()}, parts)
  assert loader.joined(shorter)['index'].tolist() == [0, 10]
  assert loader.joined(_rows(2))['index'].tolist() == [0, 1]


def test_joint_names_its_parts():
  batch = SOURCES['joint']().batch(2)
  assert batch['prompts']['index'].shape == (4,)
  assert batch['ptx']['index'].shape == (6,)
  assert (batch['ptx']['index'] >= 100).all()


def test_iterations_of_epochs():
  assert loader.Loader(_rows(10), 4).iterations() == 3
  assert loader.Loader(_rows(10), 4).iterations(2) == 5
  assert loader.Loader(_rows(10), 64).iterations() == 1
  mixed = loader.Mixture(_rows(90), _rows(4), 0.1, 10)
  assert mixed.iterations() == 10 and mixed.iterations(2) == 20


def test_no_rows_and_no_batch():
  with pytest.raises(errors.UserError, match='at least one row'):
    loader.Loader(_rows(0), 4)
  with pytest.raises(errors.UserError, match='at least one row'):
    loader.Loader({}, 4)
  with pytest.raises(errors.UserError, match='batch_size of at least 1'):
    loader.Loader(_rows(2), 0)


@pytest.mark.parametrize(
  ('count', 'batch_size'), [(7, 3), (6, 3), (2, 5), (1, 4)]
)
def test_eval_batches(count, batch_size):
  batches = list(loader.eval_batches(_rows(count), batch_size))
  assert all(b['tokens'].shape == (batch_size, 3) for b, _ in batches)
  seen = np.concatenate([b['index'][mask] for b, mask in batches])
  assert seen.tolist() == list(range(count))
  assert all(mask.dtype == bool and mask.any() for _, mask in batches)
  assert all(b['index'].max() < count for b, _ in batches)


def test_eval_batches_of_nothing():
  assert list(loader.eval_batches({}, 4)) == []
  assert list(loader.eval_batches(_rows(0), 4)) == []


def test_batches_are_the_callers_to_change():
  source = loader.Loader(_rows(5), 5, seed=0)
  first = source.batch(0)
  expected = first['index'].copy()
  first['index'][:] = -1
  assert (source.batch(0)['index'] == expected).all()


def test_batches_cost_little():
  rows = {
    'tokens': np.zeros((5000, 512), np.int32),
    'mask': np.zeros((5000, 512), bool),
    'loss_mask': np.zeros((5000, 512), bool),
  }
  batches = loader.Loader(rows, 64).from_iteration(0)
  next(batches)

  def seconds():
    start = time.perf_counter()
    for _ in range(50):
      next(batches)
    return (time.perf_counter() - start) / 50

  # The best of some: another process may hold the machine for a moment.
  assert min(seconds() for _ in range(5)) < 2e-3


def test_unfinished_iterators_let_the_process_exit(run_python):
  code = """
import numpy as np
from instructjax.data import loader
source = loader.Loader({'x': np.arange(10)}, 4)
kept = [source.from_iteration(i) for i in range(5)]
print([next(k)['x'].shape for k in kept][0], flush=True)
"""
  assert run_python(code, timeout=60).stdout == '(4,)\n'
