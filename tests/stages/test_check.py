"""Mistakes are told before anything trains: one line, status 2, no harm."""

from __future__ import annotations

import json
import pathlib

import pytest

from instructjax import cli
from instructjax import errors
from instructjax import main
from instructjax import stages
from instructjax.data import feeds
from instructjax.stages import check
from tests import runs


@pytest.fixture
def data(tmp_path):
  """Good records, for a test to spoil."""
  return runs.write_records(tmp_path / 'data')


@pytest.fixture
def refused(tmp_path, capsys, caplog):
  """Returns a function that runs a command line which must be refused.

  It gives the error's line, and sees to it that there is no other and that
  nothing was written.
  """

  def refused(args, workdir=None):
    workdir = pathlib.Path(workdir or tmp_path / 'run')
    before = _contents(workdir)
    assert cli.run(main.command, args) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.endswith('\n')
    (line,) = err.splitlines()
    assert line.startswith('error: ')
    assert [record.getMessage() for record in caplog.records] == []
    assert _contents(workdir) == before
    return line.removeprefix('error: ')

  return refused


def _contents(folder):
  return {
    path: path.read_bytes() for path in folder.rglob('*') if path.is_file()
  }


def _spoil(path, number, row):
  """Replaces a line of a JSONL file, counted from 1."""
  lines = path.read_text().splitlines()
  lines[number - 1] = row if isinstance(row, str) else json.dumps(row)
  path.write_text('\n'.join(lines) + '\n')


# The whole chain is to run, so each kind of record is read in the end.
@pytest.mark.parametrize(
  'kind, row, said',
  [
    ('pretraining', '{"text": "broken', 'broken JSON'),
    ('demonstrations', '{"prompt": "a" "response"}', 'broken JSON'),
    ('comparisons', '[1, 2', 'broken JSON'),
    ('prompts', 'Hello?', 'broken JSON'),
    ('prompts', {'text': 7}, 'text'),
    ('prompts', {'text': None}, 'text'),
    ('prompts', {'query': 'a'}, "'query'"),
    ('prompts', ['a'], 'JSON object'),
    ('demonstrations', {'prompt': ['a'], 'response': 'b'}, 'prompt'),
    ('demonstrations', {'prompt': 'a'}, 'response'),
    (
      'comparisons',
      {'prompt': 'a', 'responses': ['b', 'c', 'd'], 'ranks': [1, 2]},
      '3',
    ),
    ('comparisons', {'prompt': 'a', 'responses': ['b'], 'ranks': [1]}, '2'),
    (
      'comparisons',
      {'prompt': 'a', 'responses': ['b', 3], 'ranks': [1, 2]},
      'responses',
    ),
    ('pretraining', {'text': {}}, 'text'),
  ],
)
def test_a_bad_line_of_a_record_file(data, tmp_path, refused, kind, row, said):
  _spoil(data / f'{kind}.jsonl', 7, row)
  line = refused(runs.arguments('ppo_ptx', data, tmp_path / 'run'))
  assert line.startswith(f'{data}/{kind}.jsonl:7: ')
  assert said in line


def test_too_many_bad_lines_to_skip(data, tmp_path, refused):
  _spoil(data / 'prompts.jsonl', 7, {'text': 7})
  skip = {'data__on_bad_row': 'skip'}
  args = runs.arguments('ppo_ptx', data, tmp_path / 'run', **skip)
  line = refused(args)
  assert line.startswith(f'{data}/prompts.jsonl:7: ')
  assert 'first of 1 bad rows of 64 rows of prompts' in line
  assert 'raise --config.data.max_bad_share' in line


@pytest.mark.parametrize('kind', ['pretraining', 'comparisons', 'prompts'])
def test_an_empty_file(data, tmp_path, refused, kind):
  (data / f'{kind}.jsonl').write_text('')
  line = refused(runs.arguments('ppo_ptx', data, tmp_path / 'run'))
  assert line.startswith(f'{data}/{kind}.jsonl:1: needed at least one row')


@pytest.mark.parametrize('kind', ['pretraining', 'comparisons', 'prompts'])
def test_no_file(data, tmp_path, refused, kind):
  (data / f'{kind}.jsonl').unlink()
  line = refused(runs.arguments('ppo_ptx', data, tmp_path / 'run'))
  assert f'--config.data.{kind}=PATH' in line and str(data) in line


def test_paths_that_are_not_there(data, tmp_path, refused):
  args = runs.arguments('ppo_ptx', tmp_path / 'dat', tmp_path / 'run')
  assert "Did you mean 'data'?" in refused(args)
  more = {'data__prompts': data / 'promts.jsonl'}
  args = runs.arguments('ppo_ptx', data, tmp_path / 'run', **more)
  assert "Did you mean 'prompts.jsonl'?" in refused(args)
  args = runs.arguments('pretrain', '', tmp_path / 'run')
  assert 'config.data.folder' in refused(args)


@pytest.mark.parametrize(
  'override, said',
  [
    ({'batch_size': 7}, 'batch_size=7 must divide by 2'),
    ({'batch_size': 0}, 'batch_size=0 must divide by 2'),
    ({'num_microbatches': 3}, 'must divide by 6'),
    ({'num_microbatches': 0}, 'num_microbatches=0 must be at least 1'),
    ({'hyper.num_minibatches': 0}, 'num_minibatches=0 must be at least 1'),
    ({'mesh.tensor': 3}, 'mesh sizes data=-1, fsdp=1, tensor=3'),
    ({'mesh.data': 2}, 'must multiply to 1, the number of devices'),
    ({'mesh.fsdp': 0}, 'fsdp=0'),
    ({'stages.sft.loss_on': 'respnse'}, "Did you mean 'response'?"),
    ({'stages.sft.select_by': 'reward'}, "sft: config.select_by='reward'"),
    ({'stages.pretrain.schedule.kind': 'cosin'}, "Did you mean 'cosine'?"),
    ({'hyper.missing_eos': 'kep'}, "Did you mean 'keep'?"),
    ({'hyper.temperature': 0.0}, 'temperature=0.0 must be at least'),
    ({'keep_checkpoints': 0}, 'keep_checkpoints=0 must be at least 1'),
    ({'max_eval_rows': 0}, 'max_eval_rows=0 must be at least 1'),
    ({'num_iterations': -1}, 'num_iterations=-1 must be at least 0'),
    ({'num_iterations': 0}, 'num_iterations or num_epochs'),
    ({'train_on': 'comparisons'}, 'does not fit task=ppo'),
    ({'task': 'dpo'}, "config.task='dpo' is not one of sft"),
    ({'dtype': 'float16'}, 'model.dtype must be one of float32, bfloat16'),
    ({'remat': 'all'}, 'model.remat must be one of'),
    ({'attention_kernel': 'spalsh'}, "Did you mean 'splash'?"),
    ({'attention_kernel': 'splash'}, 'splash needs a TPU, given cpu'),
    ({'attention_kernel': 'cudnn'}, 'cudnn needs an NVIDIA GPU'),
    ({'stages.pretrain.model.num_heads': 0}, 'model.num_heads must be'),
    ({'data.on_bad_row': 'ski'}, "Did you mean 'skip'?"),
    ({'data.max_bad_share': -0.1}, 'data.max_bad_share=-0.1 must be at least'),
    ({'data.validation_fraction': 1.5}, 'validation fraction in [0, 1)'),
    ({'reward_function': 'nowhere:f'}, "reward_function='nowhere:f'"),
    ({'reward_function': 'json:dumsp'}, "no function 'dumsp'"),
    ({'reward_function': 'dumps'}, "'MODULE:NAME'"),
  ],
)
def test_values_that_cannot_be(data, tmp_path, refused, override, said):
  args = runs.arguments('ppo_ptx', data, tmp_path / 'run', **override)
  assert said in refused(args)


@pytest.mark.parametrize(
  'override, said',
  [
    ({'stages.microworld.world.num_users': 0}, 'num_users=0 must be at least'),
    ({'stages.collect.min_responses': 1}, 'min_responses=1 must be at least 2'),
    ({'stages.collect.base_share': -0.1}, 'base_share=-0.1 must be at least 0'),
    ({'stages.collect.base_share': 1.5}, 'base_share=1.5 must be at most 1'),
    ({'stages.sft.pack_to': -1}, 'pack_to=-1 must be at least 0'),
    ({'stages.sft.pack_to': 71}, 'pack_to=71 is less than'),
    (
      {'stages.collect.max_responses': 3},
      '=4 and max_responses=3',
    ),
    ({'stages.collect.max_responses': 10}, 'at most 9'),
    ({'stages.collect.max_response_length': 99}, 'sequences of up to 131'),
    ({'stages.reward_model.init_from.policy': 'collect'}, 'a record model'),
    ({'evaluate.models.sft.manner': 'plian'}, "Did you mean 'plain'?"),
    ({'ema_decay': 0.0}, 'there are none with ema_decay=0'),
    ({'also': 'ppo_pxt'}, "names 'ppo_pxt', which is no stage"),
    ({'batch_size': 7}, 'batch_size=7 must divide by'),
  ],
)
def test_values_that_cannot_be_in_the_microworld(
  tmp_path, refused, override, said
):
  args = ['--config=configs/ppo_ptx.py', f'--workdir={tmp_path / "run"}']
  args += [f'--config.{key}={value}' for key, value in override.items()]
  assert said in refused(args)


def test_the_microworld_asks_for_no_file(tmp_path):
  """Its records are checked as far as they are there."""
  args = ['--config=configs/ppo_ptx.py', f'--workdir={tmp_path}']
  config, workdir, _ = main.parse(args)
  missing = stages.plan(config, workdir)
  found = stages.find_records(config, workdir, missing)
  check.stages(workdir, missing, found)
  (tmp_path / 'microworld').mkdir()
  for name in ('pretraining', 'demonstrations', 'prompts', 'public_tasks'):
    (tmp_path / 'microworld' / f'{name}.jsonl').write_text('{')
  check.stages(workdir, missing, stages.find_records(config, workdir, missing))
  rest = [plain for plain in missing if plain['stage'] != 'microworld']
  with pytest.raises(errors.UserError, match='microworld/pretraining.jsonl:1'):
    check.stages(workdir, rest, stages.find_records(config, workdir, rest))


@pytest.mark.parametrize(
  'override, needed, role',
  [
    ({'stages.pretrain.sequence_length': 64}, 64, 'policy'),
    ({'stages.sft.max_prompt_length': 40}, 56, 'policy'),
    ({'stages.reward_model.max_response_length': 99}, 131, 'policy'),
    ({'hyper.max_response_length': 17}, 49, 'policy'),
    ({'sequence_length': 50}, 50, 'policy'),
  ],
)
def test_lengths_beyond_the_models_positions(
  data, tmp_path, refused, override, needed, role
):
  args = runs.arguments('ppo_ptx', data, tmp_path / 'run', **override)
  line = refused(args)
  assert f'sequences of up to {needed} tokens' in line
  assert f'need a {role}' in line and 'max_length is 48' in line


@pytest.mark.parametrize(
  'override, said',
  [
    ({'init_from.policy': 'sfd'}, "Did you mean 'sft'?"),
    ({'init_from.policy': 'sfd'}, 'written with a slash, as ./sfd'),
    ({'init_from.policy': 'ppo_ptx'}, 'goes in a circle: ppo_ptx -> ppo_ptx'),
    ({'init_from.policy': ''}, 'cannot start from nothing'),
    ({'init_from.policy': 'reward_model'}, 'holds a reward model'),
    ({'init_from.reward_model': 'sft'}, 'stage sft holds a policy model'),
    ({'stages.pretrain.init_from.policy': 'sft'}, 'sft -> pretrain -> sft'),
    ({'init_from.policy': './no/model'}, 'no model folder no/model'),
    ({'init_from.policy': './configs'}, 'is not a model folder'),
  ],
)
def test_starts_that_cannot_be(data, tmp_path, refused, override, said):
  args = runs.arguments('ppo_ptx', data, tmp_path / 'run', **override)
  assert said in refused(args)


def test_a_damaged_hugging_face_folder(data, tmp_path, refused):
  folder = tmp_path / 'gpt2'
  folder.mkdir()
  (folder / 'config.json').write_text('{"model_type": "gpt2"}')
  (folder / 'tokenizer.model').write_bytes(b'not ours')
  more = {'init_from__policy': folder}
  line = refused(runs.arguments('sft', data, tmp_path / 'run', **more))
  assert f"{folder}/config.json has no 'n_embd'" in line


def test_a_workdir_that_cannot_be_written_to(data, tmp_path, refused):
  file = tmp_path / 'file'
  file.write_text('kept')
  for workdir in (file, file / 'run', '/proc/instructjax'):
    line = refused(runs.arguments('pretrain', data, workdir), tmp_path)
    assert line.startswith(f'{workdir} needs to be a folder')
    assert '--workdir' in line


def test_iterations_to_trace_that_are_none(data, tmp_path, refused):
  args = runs.arguments('ppo', data, tmp_path / 'run', profile_steps='9:3')
  assert 'config.profile_steps=9:3 must be' in refused(args, tmp_path)


def test_a_package_that_is_not_installed(data, tmp_path, refused, monkeypatch):
  monkeypatch.setattr(check.importlib.util, 'find_spec', lambda name: None)
  more = {'wandb_project': 'mine'}
  line = refused(runs.arguments('pretrain', data, tmp_path / 'run', **more))
  assert "pip install 'instructjax[wandb]'" in line


def test_optional_records_are_not_asked_for(data, tmp_path, refused):
  """Pretraining reads no comparisons, so it does not mind a broken file."""
  _spoil(data / 'comparisons.jsonl', 7, '{')
  args = runs.arguments('pretrain', data, tmp_path / 'run', batch_size=0)
  assert 'batch_size=0' in refused(args)
  args = runs.arguments('pretrain', data, tmp_path / 'run')
  config, workdir, _ = main.parse(args)
  found = feeds.Feeds(config.data.to_dict())
  check.stages(workdir, stages.plan(config, workdir), found)
