"""Published models, by their config.json: exactly as many parameters.

Nothing is allocated.
"""

from __future__ import annotations

import functools
import json
import math

import jax
import jax.numpy as jnp
import pytest

from instructjax.checkpoints import hf_config
from instructjax.models import transformer
from tests import published

_PUBLISHED = published.PUBLISHED


def _config(name, tmp_path):
  (tmp_path / 'config.json').write_text(json.dumps(_PUBLISHED[name][0]))
  return hf_config.describe(tmp_path).config


@pytest.mark.parametrize('name', _PUBLISHED)
def test_as_many_parameters_as_published(name, tmp_path):
  config = _config(name, tmp_path)
  assert transformer.num_parameters(config) == _PUBLISHED[name][1]


@pytest.mark.parametrize('name', _PUBLISHED)
def test_logits_of_the_real_size_trace(name, tmp_path):
  config = _config(name, tmp_path)
  params = jax.eval_shape(
    functools.partial(transformer.init, config), jax.random.key(0)
  )
  tokens = jax.ShapeDtypeStruct((2, 16), jnp.int32)
  run = functools.partial(transformer.logits, config)
  logits = jax.eval_shape(run, params, tokens)
  assert logits.shape == (2, 16, config.vocab_size)
  assert logits.dtype == jnp.float32


@pytest.mark.parametrize('name', _PUBLISHED)
def test_every_tensor_has_one_place(name, tmp_path):
  config = _config(name, tmp_path)
  family = hf_config.describe(tmp_path).family
  shapes = jax.eval_shape(
    functools.partial(transformer.init, config), jax.random.key(0)
  )
  leaves = {
    '/'.join(key.key for key in path): math.prod(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
  }
  rules = family.name_map(config)
  assert sorted(rule.leaf for rule in rules) == sorted(leaves)
  names = [name for rule in rules for name in rule.names]
  assert len(names) == len(set(names))


@pytest.mark.parametrize('name', _PUBLISHED)
def test_the_config_comes_back(name, tmp_path):
  config = _config(name, tmp_path)
  family = _PUBLISHED[name][0]['model_type']
  fields = hf_config.config_fields(config, family)
  (tmp_path / 'config.json').write_text(json.dumps(fields))
  assert hf_config.describe(tmp_path).config == config
