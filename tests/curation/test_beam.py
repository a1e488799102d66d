"""The Beam pipeline: to the byte what the in-process pipeline writes."""

from __future__ import annotations

import gzip
import sys

import pytest

from instructjax import curation
from instructjax import errors
from instructjax import prepare
from instructjax.curation import beam
from instructjax.curation import beam_inputs
from instructjax.curation import pipeline
from tests.curation import far
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


def test_from_and_by_way_of_a_file_system_that_only_beam_knows(tmp_path):
  assert far.FarFileSystem.scheme() == 'far'  # Beam finds the class by it
  paths = _log(tmp_path, raw.messy(60), ['no JSON'])
  zipped = tmp_path / 'c.jsonl.gz'
  zipped.write_bytes(gzip.compress(paths[1].read_bytes()))
  paths[1].unlink()
  between = tmp_path / 'between'
  here, there = tmp_path / 'here', tmp_path / 'there'
  words = ['--config.on_bad_row=skip', '--config.max_bad_share=0.5']
  where = [f'--prompts={tmp_path}/*.jsonl*', f'--out={here}']
  assert prepare.command([*words, '--config.workers=1', *where]) == 0
  where = [f'--prompts=far://{tmp_path}/*.jsonl*', f'--out={there}']
  where += [DIRECT, f'--temp_location=far://{between}']
  assert prepare.command([*words, *where]) == 0
  found, expected = _contents(there), _contents(here)
  for contents in found, expected:
    del contents['config.json']  # has the paths, and digests of another kind
  told = found['dropped.jsonl']
  assert f'{{"row": "far://{tmp_path}/a.jsonl:31", "rule": "valid_row"' in (
    told.decode()
  )
  found['dropped.jsonl'] = told.replace(b'far://', b'')
  assert found == expected
  assert not _contents(between)


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


def test_files_are_looked_for_here_and_elsewhere(tmp_path):
  assert far.FarFileSystem.scheme() == 'far'
  paths = list(map(str, _log(tmp_path, raw.messy(4))))
  (tmp_path / 'notes.txt').write_text('no prompts')
  elsewhere = [f'far://{path}' for path in paths]
  assert beam_inputs.find(f'far://{tmp_path}/*') == elsewhere
  spec = f'{paths[1]},far://{paths[0]},far://{tmp_path}/*'
  assert beam_inputs.find(spec) == [paths[1], *elsewhere]
  scanned = beam_inputs.scan([elsewhere[0], paths[1]])
  assert [file.parts[0].path for file in scanned] == [elsewhere[0], paths[1]]
  with pytest.raises(errors.UserError, match='far://.* matches none'):
    beam_inputs.find(f'far://{tmp_path}/absent')
  with pytest.raises(errors.UserError, match=r'matches far://.*notes\.txt'):
    beam_inputs.find(f'far://{tmp_path}/notes.txt')
  with pytest.raises(errors.UserError, match='nowhere://.*Unable'):
    beam_inputs.find('nowhere://x/*.jsonl')


def test_a_folder_that_looks_like_a_pattern_is_refused(tmp_path):
  log = raw.write(tmp_path / 'raw.jsonl', raw.messy(3))
  folder = tmp_path / 'a[b]'
  with pytest.raises(errors.UserError, match='--temp_location'):
    beam.run(pipeline.scan([str(log)]), raw.settings(), folder, [DIRECT])
