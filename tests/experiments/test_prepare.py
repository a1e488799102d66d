"""The experiments on raw prompt logs, on very small ones."""

from __future__ import annotations

import gzip
import itertools
import json
import pathlib
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / 'experiments/prepare'
sys.path.insert(0, str(FOLDER))

import raw_logs  # noqa: E402
import real_sample  # noqa: E402
import run  # noqa: E402
import scale  # noqa: E402


def test_a_large_log_begins_with_a_small_one():
  small = list(raw_logs.rows(40, seed=3))
  large = itertools.islice(raw_logs.rows(10_050, seed=3), 40)
  assert small == list(large)
  assert small != list(raw_logs.rows(40, seed=4))
  assert len({row['prompt_id'] for row in raw_logs.rows(10_050, 0)}) == 10_050


def test_a_size_is_measured(tmp_path):
  row = scale.run(tmp_path, 300, workers=2)
  assert row['prompts'] == 300
  assert row['written'] + sum(row['dropped'].values()) == 300
  assert row['cpu_seconds'] > 0 and 0.01 < row['peak_memory_gb'] < 2


def test_what_is_paid_once_is_told_apart(tmp_path):
  def rows(workers, *seconds):
    return [
      {'prompts': n, 'workers': workers, 'cpu_seconds': s, 'wall_seconds': s}
      | {'peak_memory_gb': 0.5}
      for n, s in zip((100, 200), seconds, strict=True)
    ]

  rounds = [rows(1, 2.0, 2.5) + rows(2, 3.0, 5.0), rows(1, 1.0, 1.2)]
  of_all = scale.values(rounds, 'cpu_seconds', 1)
  assert of_all == {100: [0.02, 0.01], 200: [0.0125, 0.006]}
  beyond = scale.values(rounds, 'cpu_seconds', 1, beyond=True)
  assert beyond == {200: pytest.approx([0.01, -0.003])}  # without 1.5 each
  beyond = scale.values(rounds, 'cpu_seconds', 2, beyond=True)
  assert beyond == {200: [pytest.approx(0.02)]}
  scale.draw(rounds[:1], tmp_path / 'figures' / 'cost.png')
  assert (tmp_path / 'figures' / 'cost.png').stat().st_size > 5000


@pytest.fixture
def data(tmp_path):
  """A folder like the one of public data, with a few rows in every file."""
  folder = tmp_path / 'data'

  def write(name, lines):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = '\n'.join(
      line if isinstance(line, str) else json.dumps(line) for line in lines
    )
    data = f'{text}\n'.encode()
    path.write_bytes(gzip.compress(data) if name.endswith('.gz') else data)

  def said(i):
    return (
      f'Question number {i} of a list that goes on: what would you say to'
      f' somebody who asks for {i} things at once and wants them all today?'
    )

  numbers = range(40)
  demonstrations = 'demonstrations'
  write(
    f'{demonstrations}/dolly_short_derived_part1.jsonl',
    [
      {'instruction': f'Tell me why. {said(i)}', 'context': ''} for i in numbers
    ],
  )
  write(
    f'{demonstrations}/dolly_open_qa_part1.jsonl',
    [
      {'text': f'### Human: Who, {said(i)} ### Assistant: Nobody.'}
      for i in numbers
    ],
  )
  write(
    f'{demonstrations}/t0_p3/a.jsonl',
    [{'prompt': f'{i}. {said(i)}', 'completion': ' x'} for i in range(410)],
  )
  write(
    'prompts/vicuna_bench_question.jsonl',
    [{'turns': [said(i) * 2]} for i in numbers],
  )
  write(
    'prompts/oasst_prompt_lottery_en_250_text.jsonl',
    [json.dumps(f'Please! {said(i)}') for i in numbers],
  )
  for side in 'eng', 'fra':
    write(
      f'eval/nlp/tatoeba.fra-eng.part1.{side}',
      [f'Phrase {side} {i}.' for i in numbers],
    )
  talk = '\n\nHuman: Hello {i}\n\nAssistant: Hi.\n\nHuman: Why?\n\nAssistant: '
  write(
    'comparisons/hh_harmless_base_test_part1.jsonl.gz',
    [
      {'chosen': talk.format(i=i) + 'So.', 'rejected': talk.format(i=i) + 'No.'}
      for i in numbers
    ],
  )
  return folder


def test_a_real_sample_goes_through(data, tmp_path):
  _, told = real_sample.log(data, seed=0)
  assert {'again', 'personal', 'harmless'} <= {k for e in told for k in e}
  result = run.real(tmp_path / 'work', data)
  ledger, checks = result['ledger'], result['checks']
  assert ledger['input'] == len(told)
  assert ledger['rules'][0]['dropped'] == 3
  assert checks['prompts'] == sum(ledger['output'].values()) > 0
  assert checks['users_in_two_splits'] == checks['twins'] == 0
  for counts in result['personal'].values():
    assert counts['in training'] == 0
  assert sum(c['planted'] for c in result['personal'].values()) > 0
  assert sum(c['rows'] for c in result['by_source'].values()) == len(told)
  for counts in result['again'].values():
    assert counts['missed'] == 0
  assert {row['min_chars'] for row in result['sweep']} == set(run.MIN_CHARS)
