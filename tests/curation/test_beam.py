"""The Beam pipeline: to the byte what the in-process pipeline writes."""

from __future__ import annotations

import sys

import pytest

from instructjax import curation
from instructjax import errors
from instructjax import prepare
from instructjax.curation import beam
from instructjax.curation import pipeline
from tests.curation import raw

DIRECT = '--runner=DirectRunner'


def _contents(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def _log(folder, rows, bad=()):
  """Writes rows to two files, with what is no row in between."""
  half = len(rows) // 2
  paths = [
    raw.write(folder / 'a.jsonl', rows[:half]),
    raw.write(folder / 'b.jsonl', rows[half:]),
  ]
  with open(paths[0], 'a', encoding='utf-8') as file:
    file.writelines(f'{line}\n' for line in bad)
  return paths


def test_every_rule_with_bad_rows_and_limited_sizes(tmp_path):
  settings = raw.settings(
    min_chars=24,
    max_per_user=6,
    max_length=36,
    languages='en,und',
    cap_labelers=False,
    on_bad_row='skip',
    sizes__ppo_train=9,
    sizes__test=2,
    sizes__rm_valid=1000,
  )
  bad = '{"text": 5}', 'no JSON', '[]'
  paths = _log(tmp_path, raw.messy(400), bad)
  here, there = tmp_path / 'here', tmp_path / 'there'
  cut = {'part_bytes': 5000, 'partition_bytes': 9000}
  expected = raw.prepared(here, paths, settings, **cut)
  there.mkdir()
  scanned = pipeline.scan([str(path) for path in paths], 7000)
  found = beam.run(scanned, settings, there, [DIRECT], 11000)
  assert found == expected
  assert _contents(there) == _contents(here)
  idle = {r['rule'] for r in found.ledger['rules'] if not r['dropped']}
  assert idle == {'few_shot', 'normalization', 'split'}


def test_the_command_writes_the_same_folder(tmp_path):
  _log(tmp_path, raw.messy(120))
  words = [f'--prompts={tmp_path}/*.jsonl', '--config.workers=1']
  assert prepare.command([*words, f'--out={tmp_path / "here"}']) == 0
  words += [DIRECT, '--direct_num_workers', '1']
  assert prepare.command([*words, f'--out={tmp_path / "there"}']) == 0
  here, there = (_contents(tmp_path / name) for name in ('here', 'there'))
  assert here == there
  assert {'ledger.json', 'stats.md', 'figures/rules.png'} <= set(there)


def test_the_first_bad_row_of_all_files_is_refused(tmp_path):
  paths = _log(tmp_path, raw.messy(60), ['{"text": 5}', 'no JSON'])
  raw.write(paths[1], [{'no': 'text'}])
  out = tmp_path / 'out'
  words = [f'--prompts={tmp_path}/*.jsonl', f'--out={out}', DIRECT]
  with pytest.raises(errors.UserError, match=r'a\.jsonl:31: .*as text'):
    prepare.command(words)
  assert not out.exists()


@pytest.mark.parametrize(
  'flags, says',
  [
    ([DIRECT, '--direct_num_worker=2'], "unknown flag .* 'direct_num_workers'"),
    (['--runner=NoRunner'], '--runner=NoRunner: needed a runner .*NoRunner'),
  ],
)
def test_wrong_flags_are_told_before_anything_runs(tmp_path, flags, says):
  log = raw.write(tmp_path / 'raw.jsonl', raw.messy(3))
  scanned = pipeline.scan([str(log)])
  with pytest.raises(errors.UserError, match=says):
    beam.run(scanned, raw.settings(), tmp_path, flags)
  assert list(tmp_path.iterdir()) == [log]


def test_without_beam_the_flag_is_refused(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  monkeypatch.delitem(sys.modules, 'instructjax.curation.beam')
  monkeypatch.delattr(curation, 'beam')
  log = raw.write(tmp_path / 'raw.jsonl', raw.messy(3))
  words = [f'--prompts={log}', f'--out={tmp_path / "out"}', DIRECT]
  with pytest.raises(errors.UserError, match=r"install 'instructjax\[beam\]'"):
    prepare.command(words)


def test_only_with_a_runner_are_there_flags_of_beam():
  ours = ['--prompts', 'x', '--config.salt=a', '--out=y']
  assert prepare.split([*ours, '--region=z']) == ([*ours, '--region=z'], [])
  mixed = [*ours[:2], '--region', 'z', *ours[2:], DIRECT, '--streaming']
  assert prepare.split(mixed) == (
    [*ours, DIRECT],
    ['--region', 'z', '--streaming'],
  )


def test_beam_is_imported_for_a_runner_only(run_python):
  code = """
import sys
from instructjax import prepare
from instructjax.curation import figures, pipeline
assert 'apache_beam' not in sys.modules
"""
  run_python(code)
