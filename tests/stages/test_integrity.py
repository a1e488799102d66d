"""Changed data is refused; the same data, however old, is not."""

from __future__ import annotations

import hashlib
import json
import os
import signal

import pytest

from instructjax import errors
from instructjax.data import feeds as feeds_lib
from instructjax.stages import integrity
from tests import runs
from tests import tfds_data


@pytest.fixture
def begin(tmp_path):
  """begin(stage, {source: paths}): what a stage does before it trains."""

  def begin(stage, sources, learned=None, **config):
    feeds = feeds_lib.Feeds({'tfds_dir': str(tmp_path / 'tfds')})
    found = {s: [str(path) for path in paths] for s, paths in sources.items()}
    feeds.files, feeds.used = {'prompts': found}, {'prompts'}
    if learned:
      feeds.files['pretraining'] = learned
      feeds.learned = {'pretraining'}
    root = tmp_path / 'run'
    root.mkdir(exist_ok=True)
    integrity.check(root, [config], feeds)
    integrity.begin(root, {'stage': stage, **config}, feeds)
    (root / stage).mkdir(exist_ok=True)
    return json.loads((root / 'data.json').read_text())

  return begin


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"text": "a"}\n')
  return path


def test_what_is_written_down(begin, file, tmp_path):
  own = tmp_path / 'run' / 'microworld' / 'b.jsonl'
  own.parent.mkdir(parents=True)
  own.write_text('b')
  told = begin('sft', {str(tmp_path): [file], str(own): [own]})
  digest = hashlib.sha256(file.read_bytes()).hexdigest()
  state = file.stat()
  assert told['files'][str(file)] == {
    'bytes': state.st_size,
    'mtime_ns': state.st_mtime_ns,
    'sha256': digest,
  }
  assert told['files'].keys() == {str(file), 'microworld/b.jsonl'}
  assert told['stages'] == {
    'sft': {
      str(tmp_path): [str(file)],
      'microworld/b.jsonl': ['microworld/b.jsonl'],
    }
  }


@pytest.mark.parametrize('stage', ['sft', 'ppo'])
def test_changed_data_is_refused(begin, file, stage):
  begin('sft', {'a': [file]})
  file.write_text('{"text": "b"}\n')  # As many bytes.
  os.utime(file, ns=(1, 1))
  said = rf'^{file}: needed the data that sft .* has changed .*--workdir'
  with pytest.raises(errors.UserError, match=said) as caught:
    begin(stage, {'a': [file]})
  assert '\n' not in str(caught.value)
  file.write_text('{"text": "a"}\n')
  begin(stage, {'a': [file]})


def test_only_files_that_look_otherwise_are_hashed(begin, file, monkeypatch):
  before = begin('sft', {'a': [file]})
  hashed = []
  whole = integrity._hash
  monkeypatch.setattr(
    integrity, '_hash', lambda *args: hashed.append(args[0]) or whole(*args)
  )
  assert begin('sft', {'a': [file]}) == before and not hashed
  os.utime(file, ns=(10**18, 10**18))
  after = begin('sft', {'a': [file]})
  assert hashed == [str(file)]  # Once, though a start looks twice.
  assert after['files'][str(file)]['mtime_ns'] == 10**18
  assert begin('sft', {'a': [file]}) == after and len(hashed) == 1


def test_a_source_names_the_files_it_named(begin, file, tmp_path):
  other = tmp_path / 'b.jsonl'
  other.write_text('b')
  begin('sft', {'*.jsonl': [file]})
  with pytest.raises(errors.UserError, match=f'^{file}: .* one is missing'):
    begin('sft', {'*.jsonl': []})
  for stage in ('sft', 'ppo'):
    with pytest.raises(errors.UserError, match=f'^{other}: .* one is new'):
      begin(stage, {'*.jsonl': [file, other]})
  begin('ppo', {'b.jsonl': [other]})
  # A stage that goes on needs the sources it began with, and no more.
  with pytest.raises(errors.UserError, match=f'^{other}: .*that b.jsonl'):
    begin('sft', {'*.jsonl': [file], 'b.jsonl': [other]})
  assert begin('rm', {'c': [other]})['stages'].keys() == {'sft', 'ppo', 'rm'}


def test_stages_whose_folder_was_removed_are_forgotten(begin, file, tmp_path):
  begin('collect', {'a': [file]})
  file.write_text('other')
  with pytest.raises(errors.UserError, match='needed the data that collect'):
    begin('ppo', {'a': [file]})
  (tmp_path / 'run' / 'collect').rmdir()
  assert begin('ppo', {'a': [file]})['stages'].keys() == {'ppo'}


def test_what_the_tokenizer_learned_from_is_kept(begin, file, tmp_path):
  text = tmp_path / 'text.txt'
  text.write_text('text')
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'tokenizer.model').write_text('')
  learned = {str(text): [str(text)]}
  begin('pretrain', {'a': [file]}, learned)
  assert 'tokenizer' in begin('sft', {'a': [file]})['stages']
  text.write_text('texts')
  with pytest.raises(errors.UserError, match='that tokenizer of this run has'):
    begin('ppo', learned)


def test_a_reward_function_is_data(begin, file, tmp_path):
  rule = tmp_path / 'rule.py'
  rule.write_text('def short(texts):\n  return [0.0 for _ in texts]\n')
  told = begin('ppo', {'a': [file]}, reward_function=f'{rule}:short')
  assert str(rule) in told['files']
  rule.write_text('def short(texts):\n  return [1.0 for _ in texts]\n')
  with pytest.raises(errors.UserError, match=f'^{rule}: needed the data'):
    begin('ppo', {'a': [file]}, reward_function=f'{rule}:short')


def test_a_dataset_of_tfds_is_known_by_its_shards(begin, tmp_path):
  rows = {'train': [{'text': 'a'}] * 3}
  where, features = tmp_path / 'tfds', {'text': tfds_data.tfds.features.Text()}
  folder = tfds_data.write(where, 'some', features, rows)
  told = begin('sft', {'x': ['tfds:some:train']})
  assert told['files']['tfds:some:train']['bytes'] > 0
  assert begin('sft', {'x': ['tfds:some:train']}) == told
  info = json.loads((folder / 'dataset_info.json').read_text())
  info['description'] = 'Otherwise.'
  (folder / 'dataset_info.json').write_text(json.dumps(info))
  with pytest.raises(errors.UserError, match='^tfds:some:train: needed the da'):
    begin('sft', {'x': ['tfds:some:train']})


def test_a_damaged_or_missing_record(begin, file, tmp_path):
  begin('sft', {'a': [file]})
  path = tmp_path / 'run' / 'data.json'
  path.write_text('{"files"')
  with pytest.raises(errors.UserError, match='data.json is damaged'):
    begin('sft', {'a': [file]})
  path.unlink()  # As in runs that knew no hashes.
  file.write_text('other')
  assert begin('sft', {'a': [file]})['files'][str(file)]['bytes'] == 5
  with pytest.raises(errors.UserError, match='gone.*No such file'):
    begin('ppo', {'b': ['gone']})


def test_hashing_tells_how_far_it_is(tmp_path, monkeypatch, caplog):
  caplog.set_level('INFO', 'instructjax')
  path = tmp_path / 'large'
  path.write_bytes(b'x' * 3_000_000)
  monkeypatch.setattr(integrity, '_CHUNK', 10**6)
  monkeypatch.setattr(integrity, '_EVERY_SECONDS', -1.0)
  wanted = hashlib.sha256(path.read_bytes()).hexdigest()
  assert integrity._hash(str(path), 3_000_000) == wanted
  assert f'hashing {path}: 2 of 3 MB' in caplog.text


def _dolly(folder):
  """Demonstrations as TFDS has those of databricks_dolly."""
  text = tfds_data.tfds.features.Text()
  features = {name: text for name in ('instruction', 'context', 'response')}
  rows = [
    {'instruction': f'Say {i}.', 'context': '', 'response': f'{i}'}
    for i in range(24)
  ]
  tfds_data.write(folder, 'databricks_dolly', features, {'train': rows})


def test_a_run_on_a_mixture_and_tfds_goes_on_to_the_same_bits(tmp_path):
  data = runs.write_records(tmp_path / 'records')
  (data / 'demonstrations.jsonl').unlink()
  _dolly(tmp_path / 'tfds')
  extra = tmp_path / 'extra.jsonl'
  runs.write_jsonl(extra, [{'text': f'Extra page {i}.'} for i in range(40)])
  overrides = {
    'data__tfds_dir': tmp_path / 'tfds',
    'data__pretraining': f'{data}/pretraining.jsonl=0.7,{extra}=0.3',
    'data__demonstrations': 'tfds:databricks_dolly:train',
    'stages__pretrain__num_iterations': 4,
    'num_iterations': 2,
    'select_by': 'validation_loss',
  }
  found, wanted = tmp_path / 'found', tmp_path / 'wanted'
  runs.main(runs.arguments('sft', data, wanted, **overrides))
  args = runs.arguments('sft', data, found, **overrides)
  how = ['tests/interrupted.py', 'SIGKILL', 'pretrain', 'line:3']
  assert runs.run([*how, *args]).returncode == -signal.SIGKILL
  text = extra.read_text()
  extra.write_text(text.replace('Extra page 7.', 'Other page 7.'))
  result = runs.run(['-m', 'instructjax.main', *args])
  assert result.returncode == 2
  (line,) = result.stderr.strip().splitlines()[-1:]
  assert line.startswith(f'error: {extra}: needed the data that pretrain of')
  assert 'Traceback' not in result.stderr
  extra.write_text(text)
  runs.main(args)
  for stage in ('pretrain', 'sft'):
    runs.assert_same(found / stage, wanted / stage)
  counts = json.loads((found / 'pretrain' / 'data.json').read_text())
  assert f'pretraining[{extra}]/train' in counts
  told = json.loads((found / 'data.json').read_text())
  assert told['stages']['sft']['tfds:databricks_dolly:train']
  assert told['stages'].keys() == {'tokenizer', 'pretrain', 'sft'}
