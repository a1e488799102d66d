"""Configs refuse nonsense, and the presets have the published sizes."""

import dataclasses

import pytest

from instructjax import errors
from instructjax.models import config as config_lib
from instructjax.models import transformer


def _by_hand(c):
  """Counts parameters from the architecture's description."""
  d, inner = c.d_model, c.num_heads * c.head_dim
  norms = 2 * 2 * d
  attention = d * 3 * inner + 3 * inner + inner * d + d
  mlp = d * c.d_ff + c.d_ff + c.d_ff * d + d
  embeddings = (c.vocab_size + c.max_length) * d
  return embeddings + c.num_layers * (norms + attention + mlp) + 2 * d


# The GPT-2 number is the released checkpoint's; GPT-3's table prints rounded
# ones, and 2.7B and 6.7B where we say 2.7B and 6B.
@pytest.mark.parametrize(
  'name, exact, printed',
  [
    ('tiny', 1_088_256, None),
    ('gpt2', 124_439_808, 124e6),
    ('350M', 355_871_744, 350e6),
    ('760M', 760_300_032, 760e6),
    ('1.3B', 1_315_723_264, 1.3e9),
    ('2.7B', 2_651_553_280, 2.7e9),
    ('6B', 6_658_404_352, 6.7e9),
    ('13B', 12_936_488_380, 13e9),
    ('175B', 174_604_259_328, 175e9),
  ],
)
def test_presets_have_the_published_sizes(name, exact, printed):
  config = config_lib.preset(name)
  assert transformer.num_parameters(config) == exact == _by_hand(config)
  if printed:
    assert abs(exact / printed - 1) < 0.025


def test_rotary_positions_and_norms_are_counted():
  config = config_lib.preset('tiny', positions='rotary', qk_norm=True)
  expected = _by_hand(config) - config.max_length * config.d_model
  expected += config.num_layers * 2 * config.head_dim
  assert transformer.num_parameters(config) == expected


def test_every_preset_is_counted():
  assert len(config_lib.PRESETS) == 9


def test_dict_round_trip_and_hash():
  config = config_lib.preset('6B', dropout=0.2, remat='dots')
  assert config_lib.ModelConfig.from_dict(config.to_dict()) == config
  assert hash(config) == hash(dataclasses.replace(config))


@pytest.mark.parametrize(
  'make, words',
  [
    (lambda: config_lib.preset('175b'), ["'175b'", "Did you mean '175B'?"]),
    (lambda: config_lib.preset('tiny', heads=2), ['model.heads']),
    (lambda: config_lib.preset('tiny', num_head=2), ["'num_heads'"]),
    (lambda: config_lib.preset('tiny', remat='dot'), ['remat', "'dots'"]),
    (lambda: config_lib.preset('tiny', dtype='float8'), ['dtype', 'float32']),
    (lambda: config_lib.preset('tiny', attention='x'), ['attention']),
    (lambda: config_lib.preset('tiny', positions='rope'), ['positions']),
    (lambda: config_lib.preset('tiny', rope_theta=0.5), ['rope_theta', '0.5']),
    (lambda: config_lib.preset('tiny', rope_theta='x'), ['rope_theta', "'x'"]),
    (lambda: config_lib.preset('tiny', qk_norm='no'), ['qk_norm', "'no'"]),
    (
      lambda: config_lib.preset('tiny', positions='rotary', head_dim=5),
      ['head_dim', 'use 6'],
    ),
    (lambda: config_lib.preset('tiny', num_layers=0), ['num_layers', '0']),
    (lambda: config_lib.preset('tiny', d_ff=1.5), ['d_ff', '1.5']),
    (lambda: config_lib.preset('tiny', band=True), ['band', 'True']),
    (lambda: config_lib.preset('tiny', dropout=1.0), ['dropout', '1.0']),
    (lambda: config_lib.ModelConfig.from_dict({'d_ff': 4}), ['vocab_size']),
  ],
)
def test_mistakes_are_named_in_one_line(make, words):
  with pytest.raises(errors.UserError) as caught:
    make()
  message = str(caught.value)
  assert '\n' not in message
  for word in words:
    assert word in message
