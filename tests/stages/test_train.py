"""A stage that cannot start: what it says, and that it can be mended."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from instructjax import cli
from instructjax import main
from instructjax.data import tokenizer
from tests import runs


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """(records, workdir) of the run all tests share."""
  return runs.finished(tmp_path_factory)


@pytest.fixture
def begun(run, tmp_path):
  """A copy of the run in which SFT is all there is."""
  folder = tmp_path / 'run'
  for name in ('pretrain', 'sft'):
    shutil.copytree(run[1] / name, folder / name)
  shutil.copy(run[1] / 'tokenizer.model', folder)
  return folder


@pytest.fixture
def refused(capsys):
  """refused(args): the last line of a command line that must be refused."""

  def refused(args):
    assert cli.run(main.command, args) == 2
    err = capsys.readouterr().err
    *_, line = err.splitlines()
    assert line.startswith('error: ') and err.count('error: ') == 1
    assert 'Traceback' not in err
    return line

  return refused


def _truncate(path):
  os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
  'spoil, said',
  [
    (lambda m: _truncate(m / 'model.json'), 'sft/model/model.json is damaged'),
    (lambda m: (m / 'model.json').unlink(), 'sft/model is not a model folder'),
    (lambda m: _truncate(m / 'params/_METADATA'), 'params cannot be read'),
    (
      lambda m: _truncate(max((m / 'params/d').iterdir())),
      'params cannot be read',
    ),
    (lambda m: shutil.rmtree(m / 'params'), 'params cannot be read'),
    (lambda m: (m / 'tokenizer.model').unlink(), 'it has no tokenizer.model'),
    (lambda m: _truncate(m / 'tokenizer.model'), 'is cut'),
    (lambda m: shutil.rmtree(m), 'there is no model folder'),
    (lambda m: _truncate(m / '../../tokenizer.model'), 'is cut'),
  ],
)
def test_a_damaged_model_of_an_earlier_stage(run, begun, refused, spoil, said):
  spoil(begun / 'sft' / 'model')
  args = runs.arguments('reward_model', run[0], begun)
  for _ in range(2):  # it stays so
    line = refused(args)
    assert said in line and str(begun) in line


def test_a_config_changed_under_a_finished_stage(run, begun, refused):
  before = {p: p.read_bytes() for p in begun.rglob('*') if p.is_file()}
  for more, said in (
    ({'seed': 1}, 'seed: 0 -> 1'),
    ({'batch_size': 16}, 'batch_size: 8 -> 16'),
    ({'stages__pretrain__batch_size': 16}, 'batch_size: 8 -> 16'),
  ):
    args = runs.arguments('sft', run[0], begun, **more)
    if 'stages__pretrain__batch_size' not in more:
      assert said in refused(args)
      assert 'sft was started with another config' in refused(args)
    else:  # SFT is finished, so nothing needs pretraining any more
      shutil.rmtree(begun / 'sft')
      assert said in refused(args)
      assert 'pretrain was started with another config' in refused(args)
  after = {p: p.read_bytes() for p in begun.rglob('*') if p.is_file()}
  assert after.items() <= before.items()


def test_what_is_refused_can_be_mended(run, begun, refused):
  """The stage has not begun, so the command line may change."""
  data, _ = run
  more = {'max_prompt_length': 3}
  line = refused(runs.arguments('reward_model', data, begun, **more))
  assert 'needed prompts of at most max_prompt_length=3 tokens' in line
  assert not (begun / 'reward_model' / 'config.json').exists()
  line = refused(runs.arguments('reward_model', data, begun, max_responses=2))
  assert 'use --config.max_responses=3' in line
  assert json.loads((begun / 'sft' / 'config.json').read_text())['seed'] == 0


def test_a_tokenizer_of_a_run_that_never_began_is_not_kept(
  run, begun, tmp_path, refused
):
  new = tmp_path / 'new'
  more = {'init_from__policy': begun / 'pretrain', 'max_prompt_length': 3}
  line = refused(runs.arguments('sft', run[0], new, **more))
  assert 'needed prompts of at most' in line
  assert [path for path in new.rglob('*') if path.is_file()] == []


def test_a_vocabulary_the_text_cannot_fill(run, tmp_path, refused):
  more = {'tokenizer__vocab_size': 5000}
  line = refused(runs.arguments('pretrain', run[0], tmp_path / 'new', **more))
  assert 'tokenizer.vocab_size of at most' in line
  more = {'tokenizer__vocab_size': 200}
  line = refused(runs.arguments('pretrain', run[0], tmp_path / 'new', **more))
  assert 'tokenizer.vocab_size of at least' in line


def test_a_model_of_another_tokenizer(run, begun, tmp_path, refused):
  """Two runs do not mix: each has a tokenizer of its own."""
  other = shutil.copytree(begun / 'sft' / 'model', tmp_path / 'other')
  texts = ['The boats turned and turned again.'] * 9
  tokenizer.Tokenizer.train(texts, 290, str(other / 'tokenizer.model'))
  more = {'init_from__policy': other}
  line = refused(runs.arguments('reward_model', run[0], begun, **more))
  assert 'was trained with another tokenizer' in line


def test_a_file_in_the_place_of_a_stage(run, begun, refused):
  (begun / 'reward_model').write_text('a file')
  line = refused(runs.arguments('reward_model', run[0], begun))
  assert f'{begun}/reward_model needs to be a folder' in line


def test_a_reward_function_that_fails(run, begun, tmp_path, refused):
  """It is found at the first rollout, and keeps what was saved."""
  rule = tmp_path / 'rule.py'
  rule.write_text('def rate(responses): return ["good"] * len(responses)')
  more = {'reward_function': f'{rule}:rate', 'num_iterations': 1}
  line = refused(runs.arguments('ppo', run[0], begun, **more))
  assert "reward function 'rate' must return 8 numbers" in line
