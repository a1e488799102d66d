"""The converters of experiments/real_text, on rows made by hand."""

from __future__ import annotations

import gzip
import itertools
import json

import hypothesis
from hypothesis import strategies as st
import pytest

from experiments.real_text import convert
from instructjax.data import records
from instructjax.data import sources

BOOK = """# Title: A Book

## Author: Nobody

## Year: 1900

-------

## Part I

### Chapter 1 - The Start

One line.\x20\x20
Its second.



Another paragraph.

### Chapter 2

The end.

### Notes
"""


def test_a_book_becomes_chapters_without_its_header():
  texts = [record['text'] for record in convert.book(BOOK)]
  assert texts == [
    'Part I\n\nChapter 1 - The Start\n\nOne line.\nIts second.\n\n'
    'Another paragraph.',
    'Chapter 2\n\nThe end.',
  ]


def test_a_book_without_header_or_headings_is_one_document():
  assert convert.book('Only this.\n') == [{'text': 'Only this.'}]


def test_a_long_chapter_is_cut_between_paragraphs():
  paragraph = 'word ' * 500  # 2,500 characters, four to a block with separators
  texts = [
    r['text'] for r in convert.book('# C\n\n' + (paragraph + '\n\n') * 7)
  ]
  assert [len(text.split()) for text in texts] == [1501, 1500, 500]
  assert all(len(text) <= convert.MAX_CHARACTERS for text in texts)


@hypothesis.given(
  st.lists(st.text('ab ', min_size=1, max_size=30), max_size=20),
  st.integers(1, 60),
)
def test_blocks_lose_nothing_and_keep_to_the_limit(paragraphs, limit):
  texts = convert.blocks(paragraphs, limit)
  assert '\n\n'.join(texts) == '\n\n'.join(paragraphs)
  assert all(len(t) <= limit or '\n\n' not in t for t in texts)


def test_plays_are_cut_between_speeches():
  speech = 'First Citizen:\n' + 'Speak, speak. ' * 200
  texts = [r['text'] for r in convert.play((speech + '\n\n') * 5)]
  assert len(texts) == 3
  assert all(text.startswith('First Citizen:\nSpeak') for text in texts)


@pytest.mark.parametrize(
  'instruction, context, response, expected',
  [
    (' Why? ', '', 'So. ', [{'prompt': 'Why?', 'response': 'So.'}]),
    ('Why?', 'A passage.', 'So.', ['has a context']),
    ('Why?', '', ' ', ['empty text']),
    (' ', '', 'So.', ['empty text']),
  ],
)
def test_dolly_short(instruction, context, response, expected):
  row = dict(instruction=instruction, context=context, response=response)
  assert convert.dolly_short(row) == expected


def _dialogue(*turns: str) -> str:
  names = itertools.cycle(('Human', 'Assistant'))
  return ''.join(f'\n\n{next(names)}: {turn}' for turn in turns)


def test_hh_single_turn():
  row = {
    'chosen': _dialogue('Hi', 'Hello!'),
    'rejected': _dialogue('Hi', 'No.'),
  }
  assert convert.hh(row) == [
    {
      'prompt': 'Hi',
      'responses': ['Hello!', 'No.'],
      'ranks': [1, 2],
      'source': 'hh',
    }
  ]


@pytest.mark.parametrize(
  'chosen, rejected, reason',
  [
    (('Hi', 'a', 'b', 'c'), ('Hi', 'a', 'b', 'd'), 'more than one turn'),
    (('Hi', 'a'), ('Hi', 'a', 'b', 'd'), 'more than one turn'),
    (('Hi', 'a'), ('Hi', ''), 'empty text'),
    (('Hi', 'a'), ('Hi', 'a'), 'all tied'),
  ],
)
def test_hh_drops(chosen, rejected, reason):
  row = {'chosen': _dialogue(*chosen), 'rejected': _dialogue(*rejected)}
  assert convert.hh(row) == [reason]


def _message(role, text, *replies, rank=None):
  return {'role': role, 'text': text, 'rank': rank, 'replies': list(replies)}


def test_oasst_groups_at_every_depth():
  deep = [
    _message('assistant', 'x', rank=1),
    _message('assistant', 'y', rank=0),
  ]
  tree = _message(
    'prompter',
    'Q',
    _message('assistant', 'a', _message('prompter', 'And?', *deep), rank=2),
    _message('assistant', 'b', rank=0),
    _message('assistant', 'c', rank=1),
  )
  first, second = convert.oasst({'prompt': tree})
  assert first['prompt'] == 'Q'
  assert first['responses'] == ['a', 'b', 'c']
  assert first['ranks'] == [3, 1, 2]
  assert (
    second['prompt'] == 'Human: Q\n\nAssistant: a\n\nHuman: And?\n\nAssistant:'
  )
  assert (second['responses'], second['ranks']) == (['x', 'y'], [2, 1])


def test_oasst_leaves_out_unranked_replies_and_prompters_branches():
  ranked = [_message('assistant', t, rank=r) for t, r in (('a', 0), ('b', 1))]
  unranked = _message('assistant', 'c')
  branches = [_message('prompter', 'd'), _message('prompter', 'e')]
  (record,) = convert.oasst(
    {'prompt': _message('prompter', 'Q', *ranked, unranked)}
  )
  assert record['responses'] == ['a', 'b']
  lone = _message('prompter', 'Q', ranked[0], unranked)
  assert convert.oasst({'prompt': lone}) == ['fewer than two ranked replies']
  single = _message(
    'prompter', 'Q', _message('assistant', 'a', *branches, rank=0)
  )
  assert convert.oasst({'prompt': single}) == []


def _labels(ranks):
  return tuple(
    0 if ranks[i] == ranks[j] else 1 if ranks[i] < ranks[j] else 2
    for i, j in itertools.combinations(range(4), 2)
  )


def test_pair_labels_agree_with_all_weak_orderings_of_four():
  # Every weak ordering, written with ranks that leave no gap.
  orderings = [
    ranks
    for ranks in itertools.product(range(1, 5), repeat=4)
    if set(ranks) == set(range(1, max(ranks) + 1))
  ]
  assert len(orderings) == 75  # the fourth Fubini number
  expected = {_labels(ranks): list(ranks) for ranks in orderings}
  assert len(expected) == 75
  for labels in itertools.product((0, 1, 2), repeat=6):
    assert convert.ranks_of_pairs(labels) == expected.get(labels)


def _qa_row(preference):
  answers = {f'prediction {i}': f'answer {i} ' for i in range(1, 5)}
  return {'question': 'Why? ', 'preference': preference, **answers}


@pytest.mark.parametrize(
  'preference, ranks',
  [
    ([1, 1, 1, 1, 1, 1], [1, 2, 3, 4]),
    ([2, 2, 2, 2, 2, 2], [4, 3, 2, 1]),
    ([0, 1, 2, 1, 2, 2], [2, 2, 3, 1]),
  ],
)
def test_qa_feedback(preference, ranks):
  (record,) = convert.qa_feedback(_qa_row(preference))
  assert record['prompt'] == 'Why?'
  assert record['responses'] == [f'answer {i}' for i in range(1, 5)]
  assert record['ranks'] == ranks


@pytest.mark.parametrize(
  'preference, reason',
  [
    # 1 beats 2, 2 beats 3, 3 beats 1.
    ([1, 2, 1, 1, 1, 1], 'labels contradict each other'),
    # 1 = 2 and 2 = 3, yet 1 beats 3.
    ([0, 1, 1, 0, 1, 1], 'labels contradict each other'),
    ([0, 0, 0, 0, 0, 0], 'all tied'),
  ],
)
def test_qa_feedback_drops(preference, reason):
  assert convert.qa_feedback(_qa_row(preference)) == [reason]


def test_prompts():
  assert convert.oasst_prompt(' Why? ') == [{'text': 'Why?'}]
  assert convert.oasst_prompt('  ') == ['empty text']
  assert convert.vicuna({'turns': ['How?', 'And?']}) == [{'text': 'How?'}]
  dolly = {'text': '### Human: Who?\nYou? ### Assistant: Me. ### Human: x'}
  assert convert.dolly_open_qa(dolly) == [{'text': 'Who?\nYou?'}]
  assert convert.dolly_open_qa({'text': 'Who?'}) == ['another layout']


def test_summarise_counts_sizes_pairs_and_ties():
  rows = [{'ranks': [1, 2]}, {'ranks': [1, 1, 2]}, {'ranks': [2, 1]}]
  assert convert.summarise(rows) == {
    'by_k': {'2': 2, '3': 1},
    'pairs': 4,
    'ties': 1,
  }


@pytest.fixture
def source(tmp_path):
  """A folder with one or two rows of every source."""
  folder = tmp_path / 'source'
  pair = {'chosen': _dialogue('Hi', 'Yes'), 'rejected': _dialogue('Hi', 'No')}
  long = {'chosen': _dialogue(*'abcd'), 'rejected': _dialogue(*'abce')}
  ranked = [_message('assistant', t, rank=r) for t, r in (('a', 0), ('b', 1))]
  dolly = {'instruction': 'Why?', 'context': '', 'response': 'So.'}
  jsonl = {
    convert.DOLLY_SHORT: [dolly, dolly],
    convert.DOLLY_OPEN_QA: [{'text': '### Human: Who? ### Assistant: Me.'}],
    convert.OASST_TREES: [{'prompt': _message('prompter', 'Q', *ranked)}],
    convert.OASST_PROMPTS: ['What?', 'Why?', 'What?'],
    convert.VICUNA: [{'turns': ['How?']}],
  }
  texts = {
    name: ''.join(json.dumps(row) + '\n' for row in rows)
    for name, rows in jsonl.items()
  }
  texts[f'{convert.BOOKS}/a_book.md'] = BOOK
  texts[convert.SHAKESPEARE] = 'All:\nSpeak.\n'
  circle = [1, 2, 1, 1, 1, 1]
  rows = [_qa_row([1, 0, 1, 2, 0, 1]), _qa_row(circle)]
  texts[convert.QA_FEEDBACK] = json.dumps(rows, indent=1)
  for name, text in texts.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding='utf-8')
  with gzip.open(folder / convert.HH, 'wt', encoding='utf-8') as file:
    file.writelines(json.dumps(row) + '\n' for row in (pair, long))
  return folder


def test_everything_converted_loads_as_records(source, tmp_path):
  out = tmp_path / 'out'
  counts = convert.convert(source, out, dolly_prompts=True)
  assert json.loads((out / 'counts.json').read_text()) == counts
  loaded = {
    kind: records.load(kind, sources.find(str(out), kind))
    for kind in ('pretraining', 'demonstrations', 'comparisons', 'prompts')
  }
  assert {kind: len(rows) for kind, rows in loaded.items()} == {
    'pretraining': 3,
    'demonstrations': 1,
    'comparisons': 3,
    'prompts': 3,
  }
  found = [(p.prompt_id, p.text) for p in loaded['prompts']]
  assert found == [
    ('oasst-1', 'What?'),
    ('vicuna-1', 'How?'),
    ('dolly-1', 'Who?'),
  ]
  assert loaded['comparisons'][2].ranks == (1, 2, 1, 2)


def test_the_counts_tell_what_was_dropped_and_why(source, tmp_path):
  counts = convert.convert(source, tmp_path / 'out')
  assert counts['pretraining']['books']['kept'] == 2
  dropped = counts['demonstrations']['dolly_short']['dropped']
  assert dropped == {'repeated': 1}
  assert counts['comparisons']['hh'] == {
    'rows': 2,
    'kept': 1,
    'dropped': {'more than one turn': 1},
    'by_k': {'2': 1},
    'pairs': 1,
    'ties': 0,
  }
  contradictions = counts['comparisons']['qa_feedback']['dropped']
  assert contradictions == {'labels contradict each other': 1}
  both = {'by_k': {'2': 2, '4': 1}, 'pairs': 6, 'ties': 2}
  assert counts['comparisons']['all'] == both
  assert counts['prompts']['oasst']['dropped'] == {
    'is a demonstration': 1,
    'repeated': 1,
  }
  assert 'dolly' not in counts['prompts']


def test_a_missing_source_is_one_line_and_status_2(
  run_python, source, tmp_path
):
  (source / convert.VICUNA).unlink()
  args = [f'--source={source}', f'--out={tmp_path / "out"}']
  result = run_python(['experiments/real_text/convert.py', *args], check=False)
  assert result.returncode == 2
  (line,) = result.stderr.splitlines()
  assert 'vicuna_bench_question.jsonl' in line
