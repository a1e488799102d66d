"""What experiments/streaming says is what it measured."""

from __future__ import annotations

import json
import pathlib
import re

from experiments.streaming import run
from instructjax.data import tokenizer as tokenizer_lib

HERE = pathlib.Path(__file__).resolve().parents[2] / 'experiments/streaming'
NAMES = ('10 MB', '100 MB', '1 GB', '4 GB')


def test_the_table_says_what_was_measured():
  results = json.loads((HERE / 'results.json').read_text())['results']
  text = (HERE / 'README.md').read_text()
  for name, size in zip(NAMES, run.SIZES, strict=True):
    row = re.search(rf'^\| {name} \|.*$', text, re.MULTILINE)[0]
    said = re.findall(r'([\d.]+) CPU s, peak (\d+) MB', row)
    kinds = [k for k in ('loaded', 'streamed') if f'{k}_{size}' in results]
    assert len(said) == len(kinds)
    for (seconds, peak), kind in zip(said, kinds, strict=True):
      found = results[f'{kind}_{size}']['first_batch']
      assert float(seconds) == round(found['cpu_seconds'], 1)
      assert int(peak) == found['peak_megabytes']
  for rows, told in results['shares_10'].items():
    row = re.search(rf'^\| {rows}( \(.*\))? \|.*$', text, re.MULTILINE)[0]
    assert f'| {told["blocks"]:,} |' in row
    assert f'| {told["left_out"]:.1%} | {told["padding"]:.2%} |' in row


def test_its_program_runs(tmp_path, monkeypatch):
  source = tmp_path / 'books'
  source.mkdir()
  (source / 'a.md').write_text('The ant eats hay. The bee eats nuts. ' * 300)
  monkeypatch.setattr(run, 'MEGABYTE', 10_000)
  monkeypatch.setattr(run, 'SHARD', 200_000)
  monkeypatch.setattr(run, 'SIZES', (10, 100))
  monkeypatch.setattr(run, 'LENGTH', 16)
  run.write_text(source, tmp_path)
  texts = run.feeds_of(run.shards(tmp_path, 10), 2**60).texts()
  path = str(tmp_path / 'tokenizer.model')
  tokenizer_lib.Tokenizer.train(texts, 300, path)
  results = {
    point: run.measure(point, tmp_path)
    for point in ('streamed_10', 'streamed_100', 'loaded_10', 'loaded_100')
  }
  assert results['streamed_100']['told']['bytes'] > 900_000
  assert results['streamed_10']['tokens_per_cpu_second'] > 0
  run.draw(results, tmp_path / 'figures' / 'a.png')
  assert (tmp_path / 'figures' / 'a.png').stat().st_size > 1000
