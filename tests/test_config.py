"""Config files, their overrides, and what is said about wrong ones."""

from __future__ import annotations

import ml_collections
import pytest

from instructjax import config as config_lib
from instructjax import errors
from tests import runs


def _config():
  return ml_collections.ConfigDict(
    {
      'seed': 0,
      'rate': 0.5,
      'mix': False,
      'name': 'a',
      'model': {'layers': 2},
    }
  ).lock()


@pytest.mark.parametrize(
  'key, text, value',
  [
    ('seed', '7', 7),
    ('seed', '-7', -7),
    ('rate', '1', 1.0),
    ('rate', '1e-5', 1e-5),
    ('mix', 'true', True),
    ('mix', 'False', False),
    ('name', '3', '3'),
    ('name', '', ''),
    ('name', 'a=b,c', 'a=b,c'),
    ('model.layers', '12', 12),
  ],
)
def test_overrides_take_the_type_of_what_they_replace(key, text, value):
  config = _config()
  config_lib.override(config, key, text)
  found = config
  for name in key.split('.'):
    found = found[name]
  assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
  ('config', 'started'),
  [
    ('pretrain', {'pretrain'}),
    ('sft', {'sft'}),
    ('rl_init', {'rl_init'}),
    ('reward_model', {'sft'}),
    ('ppo_ptx', {'sft', 'rl_init'}),
    ('base_large', {'base_large'}),
  ],
)
def test_a_base_in_the_place_of_pretraining(config, started):
  found = config_lib.load(f'{runs.ROOT}/configs/{config}.py:tiny,data=d,base=f')
  stages = {found.stage: found} | dict(found.stages.items())
  starts = {
    name for name, part in stages.items() if './f' in part.init_from.values()
  }
  assert starts == started
  other = config_lib.load(f'{runs.ROOT}/configs/{config}.py:tiny,data=d')
  assert './f' not in str(other)


@pytest.mark.parametrize(
  ('spec', 'said'),
  [
    ('sft.py:base=a,base=b', 'needed one base=FOLDER, given 2'),
    ('sft.py:base=', 'base= needs a model folder'),
    ('microworld.py:base=a', 'no stage of this config starts from'),
  ],
)
def test_bases_that_say_nothing(spec, said):
  with pytest.raises(errors.UserError, match=said):
    config_lib.load(f'{runs.ROOT}/configs/{spec}')


@pytest.mark.parametrize(
  'key, text, said',
  [
    ('sead', '1', "config has no key 'sead'. Did you mean 'seed'?"),
    ('model.layer', '1', "config.model has no key 'layer'. Did you mean"),
    ('modl.layers', '1', "config has no key 'modl'. Did you mean 'model'?"),
    ('seed.x', '1', "config.seed has no key 'x'"),
    ('seed', '1.5', 'needed int, as in --config.seed=0'),
    ('seed', 'one', '--config.seed=one: needed int'),
    ('seed', '', 'needed int'),
    ('seed', 'True', 'needed int'),
    ('seed', '[', 'needed int'),
    ('seed', '{[]}', 'needed int'),
    ('rate', 'fast', 'needed float'),
    ('mix', '1', 'needed bool'),
    ('mix', 'yes', 'needed bool'),
    ('model', '1', 'is a section: set one of its keys (layers)'),
    ('', '1', "config has no key ''"),
  ],
)
def test_wrong_overrides_change_nothing(key, text, said):
  config = _config()
  with pytest.raises(errors.UserError) as error:
    config_lib.override(config, key, text)
  assert said in str(error.value) and '\n' not in str(error.value)
  assert config == _config()


def test_an_argument_is_a_size_and_words():
  assert config_lib.parse_arg('6B,data=a/b') == ('6B', {'data': 'a/b'})
  assert config_lib.parse_arg('data=a,tiny') == ('tiny', {'data': 'a'})
  assert config_lib.parse_arg('6B') == ('6B', {'data': ''})


def test_without_data_tiny_lives_in_the_microworld():
  micro = ('tiny', {'data': 'microworld'})
  assert config_lib.parse_arg('') == config_lib.parse_arg('tiny') == micro
  assert config_lib.parse_arg('tiny,data=') == ('tiny', {'data': ''})


@pytest.mark.parametrize(
  'arg, overridden, folder, length',
  [
    ('', [], 'microworld', 48),
    ('', ['seed', 'data.validation_fraction'], 'microworld', 48),
    ('', ['data.on_bad_row', 'data.max_bad_share'], 'microworld', 48),
    ('', ['data.prompts'], '', 96),
    (':tiny', ['data.folder'], '', 96),
    (':data=microworld', ['data.prompts'], 'microworld', 48),
    (':tiny,data=DIR', ['data.prompts'], 'DIR', 96),
    (':gpt2', ['data.prompts'], '', 512),
  ],
)
def test_who_names_data_of_his_own_gets_the_config_for_it(
  arg, overridden, folder, length, monkeypatch
):
  monkeypatch.chdir(runs.ROOT)
  config = config_lib.load(f'configs/sft.py{arg}', overridden)
  assert config.data.folder == folder
  assert config.max_prompt_length == length


@pytest.mark.parametrize('arg', ['175b', '7B', 'dat=x', 'tiny,6Bs', 'size=6B'])
def test_wrong_arguments(arg):
  with pytest.raises(errors.UserError, match='config argument'):
    config_lib.parse_arg(arg)


@pytest.mark.parametrize(
  'spec, said',
  [
    ('configs/sftt.py', "no such file. Did you mean 'configs/sft.py'?"),
    ('configs/sft', "no such file. Did you mean 'configs/sft.py'?"),
    ('nowhere/sft.py', 'no such file.'),
    ('configs', 'no such file.'),
    ('configs/sft.py:6b', "Did you mean '6B'?"),
    ('README.md', 'needed Python, got in line'),
    ('examples/village.py', 'must define get_config'),
  ],
)
def test_wrong_config_files(spec, said, monkeypatch):
  monkeypatch.chdir(runs.ROOT)
  with pytest.raises(errors.UserError) as error:
    config_lib.load(spec)
  assert said in str(error.value) and '\n' not in str(error.value)


def test_a_config_that_does_not_run(tmp_path):
  path = tmp_path / 'x.py'
  path.write_text('import os\n{"text": true}\n')
  with pytest.raises(errors.UserError) as error:
    config_lib.load(str(path))
  said = 'got in line 2 "NameError: name \'true\' is not defined"'
  assert said in str(error.value) and '\n' not in str(error.value)


def test_a_loaded_config_is_locked(monkeypatch):
  monkeypatch.chdir(runs.ROOT)
  config = config_lib.load('configs/sft.py:gpt2')
  with pytest.raises((AttributeError, KeyError)):
    config.learnig_rate = 1.0


def test_a_stage_takes_the_runs_shared_sections(monkeypatch):
  monkeypatch.chdir(runs.ROOT)
  config = config_lib.load('configs/ppo_ptx.py:tiny,data=there')
  config_lib.override(config, 'seed', '3')
  config_lib.override(config, 'stages.sft.num_epochs', '2')
  plain = config_lib.resolve_stage(config, 'sft')
  assert plain['seed'] == 3 and plain['data']['folder'] == 'there'
  assert plain['num_epochs'] == 2.0 and 'stages' not in plain
  own = config_lib.resolve_stage(config, 'ppo_ptx')
  assert own['stage'] == 'ppo_ptx' and 'stages' not in own
  with pytest.raises(errors.UserError, match="Did you mean 'sft'"):
    config_lib.resolve_stage(config, 'stf')


@pytest.mark.parametrize(
  'old, new, said',
  [
    ({'a': 1, 'b': {'c': 2}}, {'b': {'c': 2}, 'a': 1}, None),
    ({'a': 1, 'b': {'c': 2}}, {'a': 1, 'b': {'c': 3}}, 'b.c: 2 -> 3'),
    ({'a': 1}, {'a': 1, 'b': 2}, 'b: absent -> 2'),
    ({'a': 1, 'b': ''}, {'a': 1}, 'b:  -> absent'),
    ({'a': {'b': 1}}, {'a': 1}, "a: {'b': 1} -> 1"),
    ({'a': 1, 'b': 1}, {'a': 2, 'b': 2}, 'a: 1 -> 2'),
  ],
)
def test_the_first_difference(old, new, said):
  assert config_lib.first_difference(old, new) == said


MIXED = """
import ml_collections
from instructjax import config as config_lib

def get_config(arg='tiny'):
  size, words = config_lib.parse_arg(arg)
  shared = config_lib.common(size, words)
  shared['data']['pretraining'] = {'books/*.txt': 0.8, 'tfds:c4/en:train': 0.2}
  own = {'stage': 'pretrain', 'init_from': {'policy': ''}, 'stages': {}}
  return ml_collections.ConfigDict(own | shared, allow_dotted_keys=True)
"""


def test_a_config_may_hold_a_mixture_of_sources(tmp_path):
  path = tmp_path / 'mixed.py'
  path.write_text(MIXED)
  config = config_lib.load(f'{path}:tiny,data=')
  plain = config_lib.resolve_stage(config, 'pretrain')
  mixture = {'books/*.txt': 0.8, 'tfds:c4/en:train': 0.2}
  assert plain['data']['pretraining'] == mixture
  assert config_lib.as_stage(config).stage == 'pretrain'
  config_lib.override(config, 'data.pretraining', 'a.txt=1,b.txt=2')
  assert config.data.pretraining == 'a.txt=1,b.txt=2'
