"""A stage's state before there are arrays: types and places of its parts."""

from __future__ import annotations

import jax
import pytest

from instructjax import config as config_lib
from instructjax.planning import programs
from tests import runs


def _state(*overrides):
  config = config_lib.load(f'{runs.ROOT}/configs/ppo_ptx.py')
  for key, value in overrides:
    config_lib.override(config, key, value)
  return programs.find_stage(config, jax.devices()[:1]).state


def _types(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): str(leaf.dtype)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def test_frozen_models_keep_their_products_weights_in_their_own_type():
  state = _state(('frozen.dtype', 'bfloat16'))
  types = _types(state.frozen)
  short = {name for name, kind in types.items() if kind == 'bfloat16'}
  assert short == {
    name for name in types if name.split('/')[-1] in ('kernel', 'tokens')
  }
  assert 'reference/layers/qkv/kernel' in short
  assert set(_types(state.params).values()) == {'float32'}
  assert set(_types(state.ema).values()) == {'float32'}


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_moments_have_their_own_type(dtype):
  state = _state(('optimizer_dtype', dtype))
  moments = {str(x.dtype) for x in jax.tree.leaves(state.opt_state) if x.ndim}
  assert moments == {dtype}


def test_frozen_models_may_wait_in_the_host():
  def kinds(tree):
    return {x.sharding.memory_kind for x in jax.tree.leaves(tree)}

  state = _state(('frozen.offload', 'True'))
  assert kinds(state.frozen) == {'pinned_host'}
  assert 'pinned_host' not in kinds((state.params, state.opt_state))
  assert programs.bytes_per_device(state.frozen) == 0
