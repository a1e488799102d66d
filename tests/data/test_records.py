"""Every layout that is read, every mistake that is named."""

import json
import tempfile

import hypothesis
from hypothesis import strategies
import pytest

from instructjax import errors
from instructjax.data import records
from instructjax.data import rows


def _load(folder, kind, *rows):
  path = folder / f'{kind}.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return records.load(kind, str(path))


def _messages(*contents, system=None):
  roles = ('user', 'assistant') * len(contents)
  messages = [{'role': 'system', 'content': system}] if system else []
  return messages + [
    {'role': role, 'content': content}
    for role, content in zip(roles, contents, strict=False)
  ]


CHAT = 'Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:'


@pytest.mark.parametrize(
  ('row', 'text'),
  [
    ({'text': ' a\n'}, ' a\n'),
    ({'text': 'a', 'prompt_id': 3, 'anything': [1]}, 'a'),
    ({'prompt': 'a', 'prompt_id': 'x'}, 'a'),
    ({'prompt': _messages('a')}, 'a'),
    ({'messages': _messages('a')}, 'a'),
    ({'messages': _messages('a', 'b')}, 'a'),
    ({'messages': _messages('a', 'b', 'c')}, CHAT),
    ({'messages': _messages('a', system='s')}, 's\n\na'),
    ({'messages': _messages('a', 'b', 'c', system='s')}, f's\n\n{CHAT}'),
    ({'instruction': 'a', 'input': '', 'output': 'o', 'text': 'template'}, 'a'),
    ({'instruction': 'a', 'context': 'b'}, 'a\n\nb'),
    (
      {
        'chosen': '\n\nHuman: a\n\nAssistant: b',
        'rejected': '\n\nHuman: a\n\nAssistant: c',
      },
      'a',
    ),
  ],
)
def test_prompt_layouts(tmp_path, row, text):
  (prompt,) = _load(tmp_path, 'prompts', row)
  assert prompt.text == text
  assert prompt.location == f'{tmp_path}/prompts.jsonl:1'


def test_prompt_keeps_what_the_data_rules_need(tmp_path):
  row = {
    'text': 'a',
    'prompt_id': 7,
    'user_id': 'u',
    'source': 'labeler',
    'kind': 'few_shot',
    'use_case': 'open_qa',
  }
  (prompt,) = _load(tmp_path, 'prompts', row)
  expected = {**row, 'prompt_id': '7'}
  assert {name: getattr(prompt, name) for name in row} == expected


@pytest.mark.parametrize(
  ('row', 'prompt', 'response'),
  [
    ({'prompt': 'a', 'response': ' b'}, 'a', ' b'),
    ({'prompt': 'a', 'completion': ''}, 'a', ''),
    (
      {'prompt': _messages('a'), 'completion': _messages('a', 'b')[1:]},
      'a',
      'b',
    ),
    ({'messages': _messages('a', 'b')}, 'a', 'b'),
    (
      {'messages': _messages('a', 'b', 'c', 'd', system='s')},
      f's\n\n{CHAT}',
      'd',
    ),
    ({'instruction': 'a', 'input': 'b', 'output': 'c'}, 'a\n\nb', 'c'),
    ({'instruction': 'a', 'input': ' ', 'output': 'c'}, 'a', 'c'),
    ({'instruction': 'a', 'context': 'b', 'response': 'c'}, 'a\n\nb', 'c'),
    ({'instruction': 'a', 'context': None, 'response': 'c'}, 'a', 'c'),
    (
      {'prompt': 'a', 'response': 'b', 'messages': None, 'text': None},
      'a',
      'b',
    ),
    ({'messages': _messages('a', 'b'), 'prompt': None}, 'a', 'b'),
  ],
)
def test_demonstration_layouts(tmp_path, row, prompt, response):
  (found,) = _load(tmp_path, 'demonstrations', {**row, 'labeler_id': 5})
  assert (found.prompt, found.response) == (prompt, response)
  assert found.labeler_id == '5'


def _turns(*contents):
  names = ('Human', 'Assistant') * len(contents)
  return ''.join(f'\n\n{n}: {c}' for n, c in zip(names, contents, strict=False))


@pytest.mark.parametrize(
  ('chosen', 'rejected', 'prompt', 'responses', 'extra'),
  [
    (_turns('a', 'b'), _turns('a', ' '), 'a', ('b', ''), {}),
    (_turns('a', 'b c'), _turns('a', 'b d'), 'a', ('b c', 'b d'), {}),
    (_turns('a', 'b', 'c', 'd'), _turns('a', 'b', 'c', 'e'), CHAT, 'de', {}),
    (
      _turns('a', 'b', 'c', 'd'),
      _turns('a', 'x', 'c', 'd'),
      'a',
      ('b\n\nHuman: c\n\nAssistant: d', 'x\n\nHuman: c\n\nAssistant: d'),
      {},
    ),
    (
      _turns('a', 'b', 'c', 'd'),
      _turns('a', 'b'),
      'a',
      ('b\n\nHuman: c\n\nAssistant: d', 'b'),
      {},
    ),
    (
      _turns('a', 'b', 'c', 'd'),
      _turns('a', 'b', 'x', 'd'),
      'a',
      ('b\n\nHuman: c\n\nAssistant: d', 'b\n\nHuman: x\n\nAssistant: d'),
      {},
    ),
    ('b', 'c', 'a', 'bc', {'prompt': 'a'}),
    (_turns('b'), 'c', 'a', (_turns('b'), 'c'), {'prompt': 'a'}),
    ('b', 'c', 'a', 'bc', {'prompt': _messages('a')}),
    (_messages('a', 'b'), _messages('a', 'c'), 'a', 'bc', {}),
    (_messages('a', 'b'), _messages('a', 'c'), 'a', 'bc', {'prompt': 'a'}),
    (
      _messages('a', 'b')[1:],
      _messages('a', 'c')[1:],
      'a',
      'bc',
      {'prompt': _messages('a')},
    ),
    (
      _messages('a', 'b', 'c', 'd'),
      _messages('a', 'b', 'c', 'e'),
      CHAT,
      'de',
      {'prompt': 'c', 'score_chosen': 1.5},
    ),
  ],
)
def test_pair_layouts(tmp_path, chosen, rejected, prompt, responses, extra):
  row = {'chosen': chosen, 'rejected': rejected, **extra}
  (found,) = _load(tmp_path, 'comparisons', row)
  assert found.prompt == prompt
  assert found.responses == tuple(responses)
  assert found.ranks == (1, 2)


def test_equal_pair_is_a_tie(tmp_path):
  row = {'chosen': _turns('a', 'b'), 'rejected': _turns('a', 'b')}
  (found,) = _load(tmp_path, 'comparisons', row)
  assert found.responses == ('b', 'b')
  assert found.ranks == (1, 1)


def test_comparison(tmp_path):
  row = {
    'prompt': 'a',
    'responses': ['b', '', 'd'],
    'ranks': [2, 1, 2],
    'labeler_id': 'l',
    'ratings': [7, {'overall': 1}, None],
  }
  (found,) = _load(tmp_path, 'comparisons', row)
  assert found.responses == ('b', '', 'd')
  assert found.ranks == (2, 1, 2)
  assert found.ratings == (7, {'overall': 1}, None)
  assert found.labeler_id == 'l'


def test_documents(tmp_path):
  (tmp_path / 'a.md').write_text('# A\n')
  (tmp_path / 'b.jsonl').write_text('{"text": "b", "meta": 1}\n{"text": ""}')
  found = records.load('pretraining', str(tmp_path))
  assert [document.text for document in found] == ['# A\n', 'b', '']


PAIR = {'prompt': 'a', 'responses': ['b', 'c'], 'ranks': [1, 2]}
BAD = [
  ('prompts', {'text': 5}, "needed 'text' as text, got int 5"),
  ('prompts', {'prompt': 5}, "needed 'prompt' as text, got int 5"),
  ('prompts', {'instruction': 5}, "needed 'instruction' as text, got int 5"),
  ('prompts', {'prompt': None}, "needed 'prompt' as text, got NoneType"),
  ('prompts', {'text': ' \n'}, "needed a 'text' with text in it"),
  ('prompts', {'text': 'a', 'use_case': 'open qa'}, "mean 'open_qa'?"),
  ('prompts', {'text': 'a', 'source': []}, "needed 'source' of labeler"),
  ('prompts', {'text': 'a', 'user_id': 1.5}, "needed 'user_id' as text"),
  ('prompts', 3, 'needed a JSON object, got int 3'),
  ('prompts', {'query': 'a'}, "got 'query': rename"),
  ('prompts', {}, 'got no keys'),
  ('prompts', {'messages': []}, "needed 'messages' as a list of messages"),
  ('prompts', {'messages': ['a']}, 'roles system, user, assistant'),
  ('prompts', {'messages': [{'role': 'tool', 'content': 'a'}]}, "str 'tool'"),
  ('prompts', {'messages': [{'role': 'user'}]}, "'content' as text"),
  (
    'prompts',
    {'messages': _messages('a')[:0] + [{'role': 'assistant', 'content': 'a'}]},
    "needed a user's message",
  ),
  ('demonstrations', {'prompt': 'a', 'responses': ['b']}, "'prompt', 'resp"),
  ('demonstrations', {'prompt': 'a', 'response': 1}, "'response' as text"),
  ('demonstrations', {'prompt': [1], 'response': 'b'}, "in 'prompt', got int"),
  ('demonstrations', {'messages': _messages('a')}, "last is the user's"),
  ('demonstrations', {'instruction': 'a', 'input': 3, 'output': 'b'}, 'int 3'),
  ('demonstrations', {'prompt': 'a', 'response': '\ud83d'}, 'surrogate'),
  ('demonstrations', PAIR, 'rename'),
  ('comparisons', {**PAIR, 'ranks': [1]}, 'each of the 2 responses, got 1'),
  ('comparisons', {**PAIR, 'responses': ['b']}, '2 to 9 responses to compare'),
  ('comparisons', {**PAIR, 'responses': ['b'] * 10}, 'got 10'),
  ('comparisons', {**PAIR, 'responses': 'bc'}, "'responses' as a list"),
  ('comparisons', {**PAIR, 'responses': ['b', 3]}, "'responses[1]' as text"),
  (
    'comparisons',
    {**PAIR, 'ranks': [0, 1]},
    'numbers from 1 (best), got int 0',
  ),
  ('comparisons', {**PAIR, 'ranks': [1, 2.0]}, 'got float 2.0'),
  ('comparisons', {**PAIR, 'ranks': [1, True]}, 'got bool True'),
  ('comparisons', {**PAIR, 'ratings': [1]}, 'one rating for each'),
  ('comparisons', {'prompt': 'a', 'responses': ['b', 'c']}, 'rename'),
  ('comparisons', {**PAIR, 'prompt': 3}, "needed 'prompt' as text, got int 3"),
  ('comparisons', {'chosen': 'a', 'rejected': 'b'}, "needed 'prompt' beside"),
  ('comparisons', {'chosen': 'a', 'rejected': None}, 'str and NoneType'),
  ('comparisons', {'chosen': 1, 'rejected': 'b', 'prompt': 'a'}, 'int and str'),
  (
    'comparisons',
    {'chosen': _turns('a', 'b'), 'rejected': _turns('x', 'b')},
    "share a user's message",
  ),
  (
    'comparisons',
    {
      'chosen': _messages('a', 'b'),
      'rejected': _messages('a', 'c'),
      'prompt': 'another',
    },
    "to open with 'prompt'",
  ),
  ('pretraining', {'txt': 'a'}, "as 'text', got 'txt'"),
  ('pretraining', {'text': ['a']}, "needed 'text' as text, got list"),
]


@pytest.mark.parametrize(('kind', 'row', 'said'), BAD)
def test_bad_row_is_named(tmp_path, kind, row, said):
  good = {
    'prompts': {'text': 'a'},
    'demonstrations': {'prompt': 'a', 'response': 'b'},
    'comparisons': PAIR,
    'pretraining': {'text': 'a'},
  }[kind]
  with pytest.raises(errors.UserError) as caught:
    _load(tmp_path, kind, good, good, row)
  message = str(caught.value)
  assert message.startswith(f'{tmp_path}/{kind}.jsonl:3: needed')
  assert said in message
  assert '\n' not in message


def test_text_files_are_for_pretraining_only(tmp_path):
  (tmp_path / 'a.txt').write_text('a')
  with pytest.raises(errors.UserError, match='got plain text'):
    records.load('prompts', str(tmp_path / 'a.txt'))
  with pytest.raises(errors.UserError, match='needed a folder with .jsonl'):
    records.load('prompts', str(tmp_path))


@pytest.mark.parametrize(
  ('kind', 'row'),
  [
    ('prompts', {'text': 'a'}),
    ('demonstrations', {'prompt': 'a', 'response': 'b'}),
    ('comparisons', PAIR),
  ],
)
def test_a_key_of_anothers_does_not_pass_for_messages(tmp_path, kind, row):
  (found,) = _load(tmp_path, kind, row | {'conversation': [['user', 'x']]})
  assert found.conversation is None and records.asked(found) == 'a'


def test_unknown_kind(tmp_path):
  with pytest.raises(errors.UserError, match="Did you mean 'prompts'"):
    records.load('prompt', str(tmp_path))


_KEYS = strategies.sampled_from(
  'text prompt response completion messages instruction input output context '
  'responses ranks ratings chosen rejected labeler_id user_id source role '
  'content question answer answer_0 answer_1 score_0 score_1 full_text '
  'passages history human_ref_A human_ref_B labels completions overall_score '
  'annotations instances conversations from value turns replies rank spam name '
  'preference deleted category'.split()
)
_WORDS = strategies.sampled_from(
  [*('', 'a', 'user', 'assistant', 'prompter', '7', 'nan'), _turns('a', 'b')]
)
_JSON = strategies.recursive(
  strategies.none()
  | strategies.booleans()
  | strategies.integers()
  | strategies.floats()
  | _WORDS,
  lambda inner: (
    strategies.lists(inner, max_size=3)
    | strategies.dictionaries(_KEYS, inner, max_size=5)
  ),
  max_leaves=12,
)


@hypothesis.given(
  kind=strategies.sampled_from(sorted(rows.KEYS)),
  row=strategies.dictionaries(_KEYS, _JSON, max_size=6),
)
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_row_is_read_or_refused_in_one_line(kind, row):
  with tempfile.NamedTemporaryFile('w', suffix='.jsonl') as file:
    file.write(json.dumps(row))
    file.flush()
    try:
      found = records.load(kind, file.name)
    except errors.UserError as error:
      assert str(error).startswith((f'{file.name}:1: ', f'{file.name}: needed'))
      assert '\n' not in str(error)
    else:
      for record in found:
        assert records.prompt_of(record).strip() or kind == 'pretraining'


BROKEN = ['{"text"', 5, {'text': 5}, {}, {'text': 'a'}]


def _mixed(folder, good):
  lines = [x if isinstance(x, str) else json.dumps(x) for x in BROKEN]
  lines += [json.dumps({'text': f't{i}'}) for i in range(good)]
  path = folder / 'rows.jsonl'
  path.write_bytes('\n'.join(lines).encode() + b'\n{"text": "\xff"}\n')
  return str(path)


def test_bad_rows_may_be_skipped(tmp_path):
  path = _mixed(tmp_path, 94)
  found = records.gather('prompts', path, on_bad_row='skip', max_bad_share=0.05)
  assert len(found.records) == 95
  assert found.counts() == {'rows': 100, 'records': 95, 'bad_rows': 5}
  locations = [location for location, _ in found.bad]
  assert locations == [f'{path}:{n}' for n in (1, 2, 3, 4, 100)]
  reasons = [reason for _, reason in found.bad]
  for reason, said in zip(
    reasons,
    ('broken JSON', 'a JSON object', "'text' as text", 'no keys', '0xff'),
    strict=True,
  ):
    assert reason.startswith('needed') and said in reason
  with pytest.raises(errors.UserError, match='rows.jsonl:1: needed one JSON'):
    records.gather('prompts', path, max_bad_share=1.0)


def test_too_many_bad_rows_are_refused(tmp_path):
  path = _mixed(tmp_path, 93)
  said = (
    'rows.jsonl:1: needed one JSON .* first of 5 bad rows of 99 rows of '
    'prompts, more than the share of max_bad_share=0.05: mend them, or raise'
  )
  with pytest.raises(errors.UserError, match=said):
    records.gather('prompts', path, on_bad_row='skip', max_bad_share=0.05)
  share = {'on_bad_row': 'skip', 'max_bad_share': 0.0}
  with pytest.raises(errors.UserError, match='share of max_bad_share=0.0'):
    records.gather('prompts', path, **share)


def test_no_good_row_is_refused_whatever_the_share(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_text('{}\n')
  share = {'on_bad_row': 'skip', 'max_bad_share': 1.0}
  with pytest.raises(errors.UserError, match='at least one record of prompts'):
    records.gather('prompts', str(path), **share)


def test_the_first_hundred_bad_rows_are_listed(tmp_path):
  path = tmp_path / 'x.jsonl'
  path.write_text('{}\n' * 150 + '{"text": "a"}\n')
  share = {'on_bad_row': 'skip', 'max_bad_share': 1.0}
  found = records.gather('prompts', str(path), **share)
  assert found.bad_rows == 150 and len(found.bad) == 100
  assert found.bad[-1][0] == f'{path}:100'


def test_pairs_of_a_ranking():
  row = records.Comparison('p', ('a', 'b', 'c'), (2, 1, 2), 'who', (5, 6, 5))
  found = records.pairs([row, records.Comparison('q', ('d', 'e'), (1, 1))])
  assert [pair.responses for pair in found] == [('b', 'a'), ('b', 'c')]
  for pair in found:
    assert (pair.prompt, pair.ranks, pair.labeler_id) == ('p', (1, 2), 'who')
    assert pair.ratings is None
