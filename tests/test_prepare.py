"""instructjax.prepare as a command: its files, manners, and being killed."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import time

from array_record.python import array_record_data_source
import grain
import pytest

from instructjax import cli
from instructjax import prepare
from instructjax.curation import files
from instructjax.curation import finish
from instructjax.curation import pii
from instructjax.curation import rules
from instructjax.curation import settings as settings_lib
from instructjax.data import records
from instructjax.data import tokenizer as tokenizer_lib
from instructjax.microworld import prompts as microworld_prompts
from instructjax.microworld import world as world_lib
from tests.curation import raw

TIGHT = [
  *('--config.min_chars=24', '--config.max_per_user=6'),
  *('--config.max_length=36', '--config.workers=1'),
]


def _call(log, out, *more):
  return cli.run(prepare.command, [f'--prompts={log}', f'--out={out}', *more])


def _contents(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


@pytest.fixture(scope='module')
def log(tmp_path_factory):
  return raw.write(tmp_path_factory.mktemp('log') / 'raw.jsonl', raw.messy(300))


@pytest.fixture(scope='module')
def out(log):
  """What the command makes of a messy log, in both formats."""
  folder = log.parent / 'out'
  assert _call(log, folder, *TIGHT, '--config.formats=jsonl,arrayrecord') == 0
  return folder


def test_the_files(out):
  assert sorted(path.name for path in out.iterdir()) == sorted(
    [
      *('config.json', 'dropped.jsonl', 'figures', 'ledger.json', 'stats.md'),
      *(f'{name}.jsonl' for name in settings_lib.FILES),
      *(f'{name}.array_record' for name in settings_lib.FILES),
    ]
  )
  ledger = json.loads((out / 'ledger.json').read_text())
  assert ledger['input'] == 300
  text = (out / 'stats.md').read_text()
  assert all(f'Table {i})' in text for i in (1, 6, 8))
  shown = [line for line in text.splitlines() if line.startswith('![')]
  assert len(shown) == len(list((out / 'figures').glob('*.png'))) >= 4


def test_the_prompts_are_records(out):
  for name in settings_lib.FILES:
    found = records.load('prompts', str(out / f'{name}.jsonl'))
    rows = raw.read(out / f'{name}.jsonl')
    assert [record.text for record in found] == [row['text'] for row in rows]
    assert all(record.prompt_id and record.source for record in found)
    assert all(len(row['language']) in (2, 3) for row in rows)
    talks = [bool(record.conversation) for record in found]
    assert talks == ['messages' in row for row in rows]


def test_array_records_are_read_at_random(out):
  for name in settings_lib.FILES:
    lines = (out / f'{name}.jsonl').read_bytes().splitlines()
    path = str(out / f'{name}.array_record')
    source = grain.sources.ArrayRecordDataSource(path)
    assert len(source) == len(lines) > 0
    order = range(len(lines) - 1, -1, -1)
    assert [source[i] for i in order] == lines[::-1]
    with array_record_data_source.ArrayRecordDataSource(path) as of_tfds:
      assert of_tfds.__getitems__([len(lines) - 1, 0]) == [lines[-1], lines[0]]


def test_no_file_of_array_records_is_missing_though_it_is_empty(tmp_path):
  log = raw.write(tmp_path / 'raw.jsonl', [{'text': 'one prompt'}])
  assert _call(log, tmp_path / 'out', '--config.formats=jsonl,arrayrecord') == 0
  lengths = []
  for name in settings_lib.FILES:
    path = str(tmp_path / 'out' / f'{name}.array_record')
    with array_record_data_source.ArrayRecordDataSource(path) as source:
      lengths.append(len(source))
  assert sorted(lengths) == [0] * 6 + [1]


class TestTheFolder:
  """What is there already."""

  def test_the_same_command_again_gives_the_same_bytes(self, log, out, capsys):
    before = _contents(out)
    more = [*TIGHT, '--config.formats=jsonl,arrayrecord']
    assert _call(log, out, *more) == 0
    assert _contents(out) == before
    assert f'{log} -> {out}' in capsys.readouterr().out

  @pytest.mark.parametrize(
    'more, said',
    [
      ([], 'one made with config.'),
      ([*TIGHT], "one made with config.formats='jsonl,arrayrecord'"),
    ],
  )
  def test_another_config_is_refused(self, log, out, capsys, more, said):
    before = _contents(out)
    assert _call(log, out, *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and '--config.overwrite=True' in line
    assert _contents(out) == before

  def test_other_prompts_are_refused_or_replace_it(self, tmp_path, capsys):
    log, out = tmp_path / 'raw.jsonl', tmp_path / 'out'
    raw.write(log, [{'text': 'one prompt'}])
    more = ['--config.formats=jsonl,arrayrecord']
    assert _call(log, out, *more) == 0
    raw.write(log, [{'text': 'another prompt'}])
    capsys.readouterr()
    assert _call(log, out, *more) == 2
    assert f'made from other prompts ({log})' in capsys.readouterr().err
    assert _call(log, out, '--config.overwrite=True') == 0
    texts = [
      row['text']
      for name in settings_lib.FILES
      for row in raw.read(out / f'{name}.jsonl')
    ]
    assert texts == ['another prompt']
    assert not list(out.glob('*.array_record'))

  def test_another_tokenizer_of_the_same_name_is_refused(
    self, log, tmp_path, capsys
  ):
    model, out = tmp_path / 'tokenizer.model', tmp_path / 'out'
    more = [*TIGHT, f'--config.tokenizer={model}']
    text = 'the harbour master kept a list of every boat that came in\n' * 9
    for size in (300, 310):
      tokenizer_lib.Tokenizer.train([text] * 4, size, str(model))
      finish._load.cache_clear()  # as in another process
      status = _call(log, out, *more)
      assert status == (0 if size == 300 else 2)
    said = capsys.readouterr().err
    assert f'got one made with another tokenizer ({model})' in said

  def test_a_damaged_config_is_no_config(self, log, tmp_path, capsys):
    for text in ('{"config": null}', '5', '{"config"'):
      (tmp_path / 'test.jsonl').write_text('mine')
      (tmp_path / 'config.json').write_text(text)
      assert _call(log, tmp_path) == 2
      assert 'and no config.json that says' in capsys.readouterr().err

  def test_somebody_elses_files_stay(self, log, tmp_path, capsys):
    (tmp_path / 'test.jsonl').write_text('mine')
    (tmp_path / 'notes.txt').write_text('mine as well')
    assert _call(log, tmp_path) == 2
    said = capsys.readouterr().err
    assert 'got test.jsonl, and no config.json that says what made it' in said
    (tmp_path / 'test.jsonl').unlink()
    assert _call(log, tmp_path, *TIGHT) == 0
    assert (tmp_path / 'notes.txt').read_text() == 'mine as well'

  def test_a_mistake_leaves_nothing(self, tmp_path, capsys):
    log = tmp_path / 'raw.jsonl'
    log.write_text('{"text": "good"}\n{"text": \n')
    assert _call(log, tmp_path / 'out') == 2
    assert f'error: {log}:2: needed one JSON value' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'link').symlink_to('empty')
    for name in ('link', 'empty'):
      assert _call(log, tmp_path / name) == 2
      assert f'error: {log}:2: needed' in capsys.readouterr().err
      assert list((tmp_path / name).iterdir()) == []
    assert _call(log, log / 'out') == 2
    assert 'needed a folder to write to' in capsys.readouterr().err


class TestKilled:
  """Killed right after a function has returned, with workers at hand."""

  CODE = """
import functools, multiprocessing, os, signal, sys
from instructjax import cli, prepare
from instructjax.curation import {module} as module, pipeline
pipeline.scan = functools.partial(pipeline.scan, part_bytes=9000)
pipeline.run = functools.partial(pipeline.run, partition_bytes=9000)
function, left = module.{name}, [{calls}]
def wrapped(*args, **kwargs):
  result = function(*args, **kwargs)
  left[0] -= 1
  if not left[0]:
    workers = [child.pid for child in multiprocessing.active_children()]
    print(*workers, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
  return result
module.{name} = wrapped
cli.run(prepare.command, sys.argv[1:])
"""
  MOMENTS = [
    ('pipeline', '_read', 1),
    ('pipeline', '_cap', 1),
    ('stats', 'write', 1),
    ('files', 'move', 6),
  ]

  @pytest.mark.parametrize('module, name, calls', MOMENTS)
  def test_nothing_half_is_left(
    self, module, name, calls, log, out, tmp_path, run_python
  ):
    code = self.CODE.format(module=module, name=name, calls=calls)
    target = tmp_path / 'out'
    more = [*TIGHT, '--config.formats=jsonl,arrayrecord']
    argv = [f'--prompts={log}', f'--out={target}', *more]
    done = run_python(['-c', code, *argv, '--config.workers=2'], check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole = _contents(out)
    left = _contents(target)
    own = {k: v for k, v in left.items() if not k.startswith('.partial')}
    assert own.items() <= whole.items() and files.LEDGER not in own
    assert (len(own) > 0) == (name == 'move')
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == (2 if module == 'pipeline' else 0)
    _wait_for_the_end(workers)
    assert _call(log, target, *more) == 0
    assert _contents(target) == whole


def _wait_for_the_end(processes):
  """Returns when none of these runs any more; some may not be reaped."""
  for _ in range(300):
    states = []
    for pid in processes:
      try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
        states.append(stat.rpartition(')')[2].split()[0])
      except OSError:
        states.append('gone')
    if set(states) <= {'gone', 'Z'}:
      return
    time.sleep(0.1)
  raise AssertionError(f'still running: {processes} {states}')


class TestManners:
  @pytest.mark.parametrize(
    'more, said',
    [
      (['--config.min_share=1.5'], 'config.min_share=1.5: needed in (0, 1]'),
      (['--config.max_per_user=0'], 'config.max_per_user=0: needed at least 1'),
      (['--config.splits.train=0.7'], 'config.splits: needed shares that add'),
      (['--config.cap_by=user'], "Did you mean 'user_id'?"),
      (['--config.pii_kinds=email,fone'], "not 'fone'"),
      (
        ['--config.pii=remove'],
        'config.pii=remove: needed one of drop, redact',
      ),
      (['--config.languages=en,EN'], "Did you mean 'en'?"),
      (['--config.formats=parquet'], 'needed one of jsonl, arrayrecord'),
      (['--config.formats=arrayrecord'], 'config.formats=arrayrecord: needed'),
      (['--config.sizes.test=-1'], 'config.sizes.test=-1: needed at least 0'),
      (['--config.labeler.ppo=0.1'], "config.labeler has no key 'ppo'"),
      (['--config.workers=-1'], 'config.workers=-1: needed at least 0'),
      (['--config.tokenizer=nowhere'], 'config.tokenizer=nowhere: needed'),
      (['--config.max_bad_share=2'], '=2.0: needed in [0, 1]'),
      (['--config.on_bad_row=ignore'], 'needed one of refuse, skip'),
      (['--config.salt=\udcff'], "config.salt='\\udcff': needed UTF-8"),
      (['--config.min_charz=3'], "Did you mean 'min_chars'?"),
      (['--promts=x'], "Did you mean '--prompts'?"),
      (['--config=nowhere.py'], 'no such file'),
    ],
  )
  def test_what_cannot_be(self, log, tmp_path, capsys, more, said):
    assert _call(log, tmp_path / 'out', *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ') and said in line
    assert not (tmp_path / 'out').exists()

  def test_where_it_would_read_its_own_output(self, tmp_path, capsys):
    raw.write(tmp_path / 'a.jsonl', [{'text': 'one prompt'}])
    (tmp_path / 'out').mkdir()
    raw.write(tmp_path / 'out' / 'b.jsonl', [{'text': 'one prompt'}])
    for spec, out in (
      (tmp_path, 'out'),
      (tmp_path / 'a.jsonl', '.'),
      (f'{tmp_path}/**/*.jsonl', 'out'),
      (f'{tmp_path}/a.jsonl,{tmp_path}/out/b.jsonl', 'out'),
      (f'{tmp_path}:train', 'out'),
    ):
      assert _call(spec, tmp_path / out) == 2
      assert 'a folder apart from the prompts' in capsys.readouterr().err
    assert _call(tmp_path / 'a.jsonl', '') == 2
    assert "--out='': needed a folder" in capsys.readouterr().err
    assert _call(tmp_path / 'a.jsonl', tmp_path / ('x' * 300)) == 2
    assert 'needed a folder to write to' in capsys.readouterr().err

  def test_a_path_that_is_not_unicode(self, tmp_path, capsys):
    log = os.fsdecode(os.fsencode(tmp_path / 'a') + b'\xff.jsonl')
    raw.write(pathlib.Path(log), [{'text': 'one prompt'}])
    assert _call(log, tmp_path / 'out') == 2
    assert 'needed a path of UTF-8' in capsys.readouterr().err

  def test_prompts_that_are_not_there(self, tmp_path, capsys):
    for spec in (tmp_path / 'no.jsonl', tmp_path / '*.jsonl'):
      assert _call(spec, tmp_path / 'out') == 2
      assert str(spec) in capsys.readouterr().err
    (tmp_path / 'notes.txt').write_text('no prompts')
    assert _call(tmp_path / 'notes.txt', tmp_path / 'out') == 2
    assert 'got plain text' in capsys.readouterr().err
    assert _call('tfds:a/b:train', tmp_path / 'out') == 2
    assert 'got a dataset of TFDS' in capsys.readouterr().err

  def test_the_console_script(self, log, tmp_path, capsys):
    argv = ['prepare', f'--prompts={log}', f'--out={tmp_path / "out"}']
    assert cli.dispatch([*argv, *TIGHT]) == 0
    assert (tmp_path / 'out' / 'ledger.json').exists()
    assert cli.dispatch(['prepare', '--prompts=x']) == 2
    assert 'required: --out' in capsys.readouterr().err

  def test_two_workers_of_a_program_from_another_folder(
    self, log, out, tmp_path, run_python
  ):
    long = json.dumps({'text': 'x ' * (1 << 24)})  # makes it two partitions
    (tmp_path / 'raw.jsonl').write_text(f'{log.read_text()}{long}\n')
    argv = ['--prompts=raw.jsonl', '--out=found', *TIGHT]
    argv += ['--config.workers=2']
    done = run_python(['-m', 'instructjax.prepare', *argv], cwd=tmp_path)
    assert done.stdout == 'raw.jsonl -> found\n'
    found = tmp_path / 'found'
    rows = raw.read(found / 'dropped.jsonl')
    assert rows and all(row['row'].startswith('raw.jsonl:') for row in rows)
    assert rows[-1] == {'row': 'raw.jsonl:301', 'rule': 'max_length'} | {
      'duplicate_of': None
    }
    for name in settings_lib.FILES:
      file = f'{name}.jsonl'
      assert (found / file).read_bytes() == (out / file).read_bytes()


class TestTheMicroworld:
  """Its raw logs go through, and what is dropped is what it planted."""

  @pytest.fixture
  def world(self):
    sizes = {'num_demonstrations': 150, 'num_ranked': 250, 'num_prompts': 200}
    return world_lib.make(world_lib.WorldConfig(num_users=40, **sizes))

  def test_near_duplicates_and_personal_information(self, world, tmp_path):
    planted = {
      f'{name}.jsonl:{i}': prompt
      for name, found in microworld_prompts.training(world).items()
      for i, prompt in enumerate(found, 1)
    }
    for name in 'demonstrations', 'ranked', 'reinforcement':
      own = [p for k, p in planted.items() if k.startswith(name)]
      raw.write(
        tmp_path / f'{name}.jsonl', [prompt.to_record() for prompt in own]
      )
    # Its prompts are short; a courtesy behind one leaves all of it as prefix.
    more = ['--config.min_chars=24', '--config.min_share=1.0']
    more += ['--config.max_per_user=1000', '--config.splits.train=1.0']
    more += ['--config.splits.valid=0.0', '--config.splits.test=0.0']
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
      assert _call('*.jsonl', 'out', *more, '--config.workers=1') == 0
    finally:
      os.chdir(here)
    out = tmp_path / 'out'
    texts = {prompt.text: place for place, prompt in planted.items()}
    repeated = {
      texts[prompt.text.removesuffix(courtesy)]
      for prompt in planted.values()
      for courtesy in (' thank you.', ' please be quick.')
      if prompt.text.removesuffix(courtesy) != prompt.text
      if prompt.text.removesuffix(courtesy) in texts
    }
    long = {
      place
      for place in repeated
      if len(rules.comparison_key(planted[place].text)) >= 24
    }
    gone = set(raw.dropped(out, 'common_prefix'))
    assert len(long) > 10 and long <= gone
    for row in raw.read(out / 'dropped.jsonl'):
      if row['rule'] == 'common_prefix':
        whole = rules.comparison_key(planted[row['duplicate_of']].text)
        part = rules.comparison_key(planted[row['row']].text)
        assert whole.startswith(part) and whole != part
    marked = {place for place, prompt in planted.items() if prompt.pii}
    assert set(raw.dropped(out, 'pii')) == marked - gone and marked
    for name in settings_lib.FILES:
      for row in raw.read(out / f'{name}.jsonl'):
        assert not pii.find(row['text'])
