"""Every shipped config, at every size: it loads, it fits, it compiles.

Nothing is computed and nothing is stored: shapes only, so that the train step
of 175B parameters is traced on a laptop.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types

import jax
import jax.numpy as jnp
import pytest

from instructjax import config as config_lib
from instructjax import sharding
from instructjax import trainer
from instructjax.checkpoints import hf
from instructjax.microworld import evaluation
from instructjax.models import config as model_config
from instructjax.models import transformer
from instructjax.stages import build
from instructjax.stages import check
from instructjax.stages import measure
from instructjax.stages import workdir
from tests import runs

NAMES = (
  'pretrain',
  'sft',
  'rl_init',
  'reward_model',
  'reward_model_pairs',
  'ppo',
  'ppo_ptx',
  'base_finetuned',
  'base_large',
)
MAKERS = ('microworld', 'collect')  # of records: stages that train nothing
MESH = sharding.make_mesh(devices=jax.devices()[:1])
SPECIAL = types.SimpleNamespace(eos_id=2, pad_id=0)
GIVEN = types.SimpleNamespace(spec=lambda kind: f'{kind}.jsonl')


def _load(name, size):
  return config_lib.load(f'{runs.ROOT}/configs/{name}.py:{size}')


def _stages(config):
  """{stage: its config} of a run, those it may need included."""
  names = [*config.to_dict()['stages'], config.stage]
  return {name: config_lib.resolve_stage(config, name) for name in names}


def _model(stages, name, role='policy'):
  """The model that a stage starts from in one role."""
  value = stages[name]['init_from'][role].split('|')[-1]
  if value:
    return _model(stages, value)
  plain = stages[name]
  return build.drawn(plain, role, plain['tokenizer']['vocab_size'], MESH)


def test_all_configs_are_tested():
  shipped = {path.stem for path in (runs.ROOT / 'configs').glob('*.py')}
  # What is no run is tested with its command, in test_prepare.py.
  assert shipped == {*NAMES, *MAKERS, 'prepare'}


def _own_size(name, size):
  """The size of the model that a config trains."""
  if name == 'base_large':
    return '175B'
  small = size in ('tiny', 'gpt2', '350M', '760M')
  return '6B' if name.startswith('reward_model') and not small else size


@pytest.mark.parametrize('size', config_lib.SIZES)
@pytest.mark.parametrize('name', NAMES)
def test_a_config_holds_together(name, size):
  config = _load(name, f'{size},data=DIR')
  assert config.data.folder == 'DIR'
  stages = _stages(config)
  for plain in stages.values():
    assert json.loads(json.dumps(plain)) == plain
    check.values(plain)
    build.check_batch(plain, MESH)
    model = _model(stages, plain['stage'])
    build.check_lengths({'policy': model}, build.longest(plain, GIVEN))
    for value in plain['init_from'].values():
      for other in filter(None, value.split('|')):
        assert other in stages, f'{plain["stage"]} starts from {other}'
    rates = build.schedules(plain, total_steps=100)
    assert all(float(rate(50)) > 0 for rate in rates.values())
  if size != 'tiny':
    assert stages[name]['tokenizer']['vocab_size'] == 50257
    wanted = _own_size(name, size)
    if wanted in ('6B', '1.3B', '175B'):
      found = _model(stages, name)
      preset = model_config.PRESETS[wanted]
      assert found.num_layers == preset.num_layers
      assert found.d_model == preset.d_model


@pytest.mark.parametrize('size', ['1.3B', '175B'])
def test_the_reward_model_has_6b_parameters(size):
  """It has an SFT and a base model of its own (paper, appendix C.2)."""
  stages = _stages(_load('ppo_ptx', size))
  order = ['pretrain', 'sft', 'rl_init', 'reward_model', 'ppo_ptx']
  assert set(stages) == {*order, 'pretrain_6B', 'sft_6B'}
  assert stages['reward_model']['init_from'] == {'policy': 'sft_6B'}
  assert stages['sft_6B']['init_from'] == {'policy': 'pretrain_6B'}
  assert stages['sft']['init_from'] == {'policy': 'pretrain'}
  six = model_config.PRESETS['6B'].d_model
  assert _model(stages, 'ppo_ptx', 'reward_model').d_model == six
  assert _model(stages, 'ppo_ptx').d_model != six
  for name in ('pretrain_6B', 'sft_6B'):
    assert stages[name]['stage'] == name


def test_ppo_is_ppo_ptx_without_its_mix():
  ppo, ptx = (_load(name, '6B').to_dict() for name in ('ppo', 'ppo_ptx'))
  assert (ppo['hyper']['ptx_coef'], ptx['hyper']['ptx_coef']) == (0.0, 27.8)
  ppo['hyper']['ptx_coef'], ppo['stage'] = 27.8, 'ppo_ptx'
  assert ppo == ptx


# The microworld.


@pytest.mark.parametrize('name', (*NAMES, *MAKERS))
def test_a_config_of_the_microworld_holds_together(name):
  config = _load(name, 'tiny')
  assert config.data.folder == 'microworld'
  stages = _stages(config)
  assert 'microworld' in stages
  for plain in stages.values():
    assert json.loads(json.dumps(plain)) == plain
    check.values(plain)
    needs = workdir.names(plain['needs'])
    starts = '|'.join(plain['init_from'].values()).split('|')
    assert {*needs, *filter(None, starts)} <= stages.keys()
    if plain['stage'] != 'microworld':
      assert needs
      model = _model(stages, plain['stage'])
      assert build.longest(plain, GIVEN) <= model.max_length == 96
  if 'reward_model' in name or 'ppo' in name:
    assert stages['collect']['max_responses'] == 9
  measure.check(config.to_dict())


def test_the_default_run_compares_what_the_paper_does():
  config = _load('ppo_ptx', 'tiny')
  asked = set(config.evaluate.models)
  assert asked == {*evaluation.NAMES, 'reward_model', 'reward_model_pairs'}
  also = workdir.names(config.also)
  assert also == ['ppo', 'base_finetuned']
  for told in config.evaluate.models.values():
    folder, model = told.model.split('/')
    assert (runs.ROOT / 'configs' / f'{folder}.py').exists()
    averaged = folder in ('ppo', 'ppo_ptx')
    assert model == ('model_ema' if averaged else 'model')
  # Plain PPO, by itself or as a part of the run, is the same stage.
  ppo = config_lib.resolve_stage(_load('ppo', 'tiny'), 'ppo')
  assert ppo == config_lib.resolve_stage(config, 'ppo')
  ptx = config_lib.resolve_stage(config, 'ppo_ptx')
  ptx['hyper']['ptx_coef'], ptx['stage'] = 0.0, 'ppo'
  assert ppo == ptx
  for name in ('pretrain', 'sft', 'rl_init', 'reward_model', 'base_finetuned'):
    own = config_lib.resolve_stage(_load(name, 'tiny'), name)
    assert config_lib.resolve_stage(config, name) == own


def test_the_large_base_model_is_ten_times_the_small_one():
  sizes = {}
  for name in ('pretrain', 'base_large'):
    model = _model(_stages(_load(name, 'tiny')), name)
    sizes[name] = transformer.num_parameters(model)
  assert 11 <= sizes['base_large'] / sizes['pretrain'] < 12


def test_user_data_at_tiny_has_lengths_of_its_own():
  for name in ('sft', 'reward_model'):
    config = _load(name, 'tiny,data=DIR')
    assert (config.max_prompt_length, config.max_response_length) == (96, 64)
    assert config.needs == '' and 'microworld' not in config.stages
  config = _load('ppo_ptx', 'tiny,data=DIR')
  assert config.hyper.max_response_length == 48
  assert config.also == '' and config.evaluate.models.to_dict() == {}
  config = _load('pretrain', 'tiny,data=DIR')
  assert (config.sequence_length, config.tokenizer.vocab_size) == (256, 1024)


def test_a_larger_model_can_live_in_the_microworld():
  stages = _stages(_load('ppo_ptx', 'gpt2,data=microworld'))
  assert _model(stages, 'ppo_ptx').d_model == 768
  assert stages['sft']['max_prompt_length'] == 48
  small = _stages(_load('ppo_ptx', 'tiny'))['pretrain']['tokenizer']
  assert stages['pretrain']['tokenizer'] == small


def test_the_papers_numbers():
  """PPO, C.4: 256k episodes, batch 512 in minibatches of 64, and so on."""
  config = _load('ppo_ptx', '6B')
  assert config.num_iterations * config.batch_size == 256_000
  assert config.batch_size // config.hyper.num_minibatches == 64
  assert config.hyper.kl_coef == 0.02 and config.ema_decay == 0.992
  assert config.ptx_ratio == 8 and config.hyper.gae_lambda == 0.95
  assert config.schedule.warmup_iterations == 10
  sft = _load('sft', '175B')
  assert (sft.learning_rate.policy, sft.batch_size) == (5.03e-6, 8)
  assert sft.num_epochs == 16 and sft.dropout == 0.2
  rl_init = _load('rl_init', '1.3B')
  assert rl_init.learning_rate.policy == 5e-6
  assert rl_init.num_epochs == 2 and rl_init.pretraining_fraction == 0.1
  reward = _load('reward_model', '175B')
  assert (reward.learning_rate.reward_model, reward.batch_size) == (9e-6, 64)
  assert reward.num_epochs == 1


# The train step of every task at its real size.


def _shape(dtype, *shape):
  return jax.ShapeDtypeStruct(shape, dtype)


def _tokens(rows, length):
  return {
    'tokens': _shape(jnp.int32, rows, length),
    'mask': _shape(bool, rows, length),
    'loss_mask': _shape(bool, rows, length),
  }


def _answers(plain, *rows):
  P, hyper = plain['max_prompt_length'], plain.get('hyper', plain)
  R = hyper['max_response_length']
  return {
    'prompts': _shape(jnp.int32, rows[0], P),
    'prompt_mask': _shape(bool, rows[0], P),
    'responses': _shape(jnp.int32, *rows, R),
    'response_mask': _shape(bool, *rows, R),
  }


def _batch(plain):
  """Shapes of one minibatch, as the stage's loader and task would make it."""
  rows = plain['batch_size']
  if plain['train_on'] == 'pretraining':
    return _tokens(rows, plain['sequence_length'])
  if plain['train_on'] in ('demonstrations', 'public_tasks'):
    lengths = plain['max_prompt_length'] + plain['max_response_length']
    return _tokens(rows, lengths)
  if plain['train_on'] == 'comparisons':
    K = 2 if plain['shuffle_pairs'] else plain['max_responses']
    ranks = {'ranks': _shape(jnp.int32, rows, K), 'mask': _shape(bool, rows, K)}
    return _answers(plain, rows, K) | ranks
  rows //= plain['hyper']['num_minibatches']
  episodes = _answers(plain, rows)
  for name in ('logprobs', 'advantages', 'values', 'returns'):
    episodes[name] = _shape(jnp.float32, *episodes['responses'].shape)
  ptx = {}
  if plain['hyper']['ptx_coef']:
    ptx = _tokens(rows * plain['ptx_ratio'], plain['sequence_length'])
  return {'episodes': episodes, 'ptx': ptx}


def _traced(stages, name, **model):
  """Shapes of (state, next state, metrics) of a stage's train step."""
  plain = stages[name]
  roles = plain['init_from']
  models = {
    role: dataclasses.replace(_model(stages, name, role), **model)
    for role in roles
  }
  starts = {
    role: hf.abstract_params(
      config, 'reward' if role == 'reward_model' else 'policy'
    )
    for role, config in models.items()
    if roles[role]
  }
  starts = {role: starts.get(role) for role in roles}
  task = build.task(plain, models, SPECIAL)
  optimizer = build.optimizer(plain, build.schedules(plain, 1000))

  def make(start, key):
    params, frozen = task.init(key, start)
    networks = ('policy',) if plain.get('ema_decay') else ()
    return trainer.init_state(
      params, frozen, optimizer, extras=task.extras(), ema_networks=networks
    )

  key = jax.random.key(0)
  state = jax.eval_shape(make, starts, key)
  step = trainer.make_train_step(
    task.loss,
    optimizer,
    normalize=task.normalize,
    num_microbatches=plain['num_microbatches'],
    ema_decay=plain.get('ema_decay', 0.0),
  )
  return state, *jax.eval_shape(step, state, _batch(plain), key)


@functools.cache
def _millions(size):
  return transformer.num_parameters(model_config.PRESETS[size]) / 1e6


@pytest.mark.parametrize('size', ['1.3B', '6B', '175B'])
@pytest.mark.parametrize('name', NAMES)
def test_the_train_step_at_its_real_size(name, size):
  stages = _stages(_load(name, size))
  before, after, metrics = _traced(stages, name, dtype='bfloat16', remat='full')
  assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(
    lambda x: (x.shape, x.dtype), after
  )
  for value in metrics.values():
    assert value.shape == () and value.dtype == jnp.float32
  for leaf in jax.tree.leaves((after.params, after.ema)):
    assert leaf.dtype == jnp.float32
  own = _own_size(name, size)
  (network, *_) = after.params
  count = sum(x.size for x in jax.tree.leaves(after.params[network])) / 1e6
  assert count == pytest.approx(_millions(own), rel=1e-4)


@pytest.mark.parametrize('size', ['gpt2', '350M', '760M', '2.7B', '13B'])
def test_the_train_step_of_the_sizes_between(size):
  for name in ('sft', 'ppo_ptx'):
    stages = _stages(_load(name, size))
    before, after, _ = _traced(stages, name)
    assert jax.tree.structure(before) == jax.tree.structure(after)


def test_microbatches_at_real_size():
  config = _load('ppo_ptx', '175B')
  config.num_microbatches = 8
  before, after, _ = _traced(_stages(config), 'ppo_ptx', remat='dots')
  assert jax.tree.structure(before) == jax.tree.structure(after)


def test_rollouts_at_real_size():
  """Sampling, scoring with a 6B model, values, returns and advantages."""
  stages = _stages(_load('ppo_ptx', '175B'))
  plain = stages['ppo_ptx']
  models = {
    role: dataclasses.replace(_model(stages, 'ppo_ptx', role), dtype='bfloat16')
    for role in plain['init_from']
  }
  task = build.task(plain, models, SPECIAL)
  policy = hf.abstract_params(models['policy'], 'policy')
  reward = hf.abstract_params(models['reward_model'], 'reward')
  B, R = plain['batch_size'], plain['hyper']['max_response_length']
  answers = _answers(plain, B)
  rows = {k: answers[k] for k in ('prompts', 'prompt_mask')}
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), B))
  rows |= jax.eval_shape(task.rollout, policy, rows, keys)
  found = jax.eval_shape(
    task.experience,
    {'policy': policy, 'value': reward},
    {'reference': policy, 'reward_model': reward},
    jax.eval_shape(task.extras),
    rows,
    jax.eval_shape(task.score, reward, *(rows[k] for k in answers)),
  )
  for name in ('logprobs', 'values', 'returns', 'advantages'):
    assert found[name].shape == (B, R) and found[name].dtype == jnp.float32


def test_a_175b_model_is_spread_over_a_mesh_by_the_rules():
  """On 512 devices, each holds little more than a 512th of it."""
  mesh = jax.sharding.AbstractMesh(
    (1, 64, 8), sharding.AXES, axis_types=(jax.sharding.AxisType.Auto,) * 3
  )
  params = hf.abstract_params(model_config.PRESETS['175B'], 'policy')
  placed = sharding.shardings(params, mesh)
  parts = jax.tree.map(
    lambda x, s: math.prod(s.shard_shape(x.shape)), params, placed
  )
  total = sum(x.size for x in jax.tree.leaves(params))
  assert total / 512 <= sum(jax.tree.leaves(parts)) < 1.1 * total / 512
