"""The committed example records: reproducible, well-formed and small."""

from __future__ import annotations

import json
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORDS = ROOT / 'examples' / 'records'
KINDS = ('pretraining', 'demonstrations', 'comparisons', 'prompts')
USE_CASES = {
  'generation',
  'open_qa',
  'brainstorming',
  'chat',
  'rewrite',
  'summarization',
  'classification',
  'other',
  'closed_qa',
  'extract',
}


def _rows(kind: str) -> list[dict]:
  text = (RECORDS / f'{kind}.jsonl').read_text(encoding='utf-8')
  return [json.loads(line) for line in text.splitlines()]


def _prompts(kind: str) -> list[str]:
  return [row['text' if kind == 'prompts' else 'prompt'] for row in _rows(kind)]


def test_the_program_writes_the_committed_files(run_python, tmp_path):
  run_python(['examples/make_records.py', f'--out={tmp_path}'])
  written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
  kept = {path.name: path.read_bytes() for path in RECORDS.glob('*.jsonl')}
  assert written == kept
  assert set(written) == {f'{kind}.jsonl' for kind in KINDS}


def test_no_prompt_occurs_twice():
  prompts = sum(map(_prompts, KINDS[1:]), [])
  assert len(prompts) == len(set(prompts)) == 800


@pytest.mark.parametrize('kind', KINDS[1:])
def test_prompts_are_short(kind):
  assert max(len(prompt.split()) for prompt in _prompts(kind)) < 24


def test_responses_are_short():
  responses = [row['response'] for row in _rows('demonstrations')]
  for row in _rows('comparisons'):
    responses += row['responses']
  assert max(len(response.split()) for response in responses) < 14


def test_comparisons_are_rankings():
  sizes, ties = set(), 0
  for row in _rows('comparisons'):
    ranks, ratings = row['ranks'], row['ratings']
    assert len(ranks) == len(ratings) == len(row['responses'])
    assert len(set(row['responses'])) == len(ranks)
    assert set(ranks) == set(range(1, max(ranks) + 1)) and max(ranks) > 1
    order = sorted(set(ratings), reverse=True)
    assert ranks == [order.index(rating) + 1 for rating in ratings]
    sizes.add(len(ranks))
    ties += len(set(ranks)) < len(ranks)
  assert sizes == {2, 3, 4, 5}
  assert 0 < ties < 100


def test_prompts_carry_every_field_and_use_case():
  rows = _rows('prompts')
  assert {row['use_case'] for row in rows} == USE_CASES
  assert {row['source'] for row in rows} == {'labeler', 'customer'}
  assert {row['kind'] for row in rows} == {'plain', 'few_shot', 'user_based'}
  assert len({row['prompt_id'] for row in rows}) == len(rows)
  assert all(row['user_id'] for row in rows)


def test_pretraining_text_tells_every_fact_that_is_asked_for(monkeypatch):
  monkeypatch.syspath_prepend(ROOT / 'examples')
  import village

  text = '\n'.join(row['text'] for row in _rows('pretraining'))
  assert 60_000 < len(text) < 100_000
  for x in village.ANIMALS:
    for fact in (x.home, x.food, x.trade, x.kind, x.colour):
      assert any(x.name in d and fact in d for d in text.splitlines()), fact
