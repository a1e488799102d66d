"""Paths, folders, globs and the rows of files, with FILE:LINE in errors."""

import gzip
import json
import re

import pytest

from instructjax import errors
from instructjax.data import sources


def _write(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return str(path)


@pytest.fixture
def folder(tmp_path):
  for name in ('a.jsonl', 'b.txt', 'sub/c.jsonl.gz', 'sub/.hidden.jsonl'):
    _write(tmp_path / name, b'{}')
  _write(tmp_path / 'README.md', 'about')
  _write(tmp_path / 'notes.csv', 'x')
  return tmp_path


def test_expand_names_files(folder):
  a, b, c = (str(folder / n) for n in ('a.jsonl', 'b.txt', 'sub/c.jsonl.gz'))
  assert sources.expand(a) == [a]
  assert sources.expand(str(folder)) == [a, b, c]
  assert sources.expand(str(folder), sources.JSON_SUFFIXES) == [a, c]
  assert sources.expand(f'{folder}/*.jsonl') == [a]
  assert sources.expand(f'{folder}/**/*.gz') == [c]
  assert sources.expand(f'{b}, {a}') == [b, a]
  assert sources.expand([a, b, a]) == [a, b]
  assert sources.expand(
    [a, f'{folder}/./a.jsonl', f'{folder}/sub/../a.jsonl']
  ) == [a]


def test_a_link_to_a_folder_above_is_not_followed(folder):
  before = sources.expand(str(folder))
  (folder / 'sub' / 'up').symlink_to(folder)
  assert sources.expand(str(folder)) == before


def test_a_link_to_nothing_is_refused(folder):
  (folder / 'z.jsonl').symlink_to(folder / 'nothing')
  with pytest.raises(errors.UserError, match='z.jsonl: .*No such file'):
    sources.expand(str(folder))


def test_expand_takes_a_comma_inside_a_name(tmp_path):
  path = _write(tmp_path / 'red, white.txt', 'x')
  assert sources.expand(path) == [path]


@pytest.mark.parametrize(
  ('spec', 'said'),
  [
    ('a.jsnl', r"a\.jsnl: needed an existing.*Did you mean 'a\.jsonl'\?"),
    ('sbu/c.jsonl', r"does not exist.*Did you mean 'sub'\?"),
    ('*.tsv', r'\*\.tsv: needed a glob that matches'),
    ('notes.csv', r'notes\.csv: needed a file ending in \.jsonl'),
    ('void', r'void: needed a folder with .*\(it is empty\)'),
    ('empty.jsonl', r'empty\.jsonl:1: .*empty file'),
  ],
)
def test_expand_refuses(folder, spec, said):
  (folder / 'void').mkdir()
  _write(folder / 'empty.jsonl', '')
  with pytest.raises(errors.UserError, match=said):
    sources.expand(str(folder / spec))


def test_expand_refuses_nothing():
  with pytest.raises(errors.UserError, match='empty string'):
    sources.expand(' , ')


def test_find_takes_what_is_named_by_kind(tmp_path):
  assert sources.find(str(tmp_path), 'prompts') is None
  one = _write(tmp_path / 'prompts.jsonl', '{}')
  _write(tmp_path / 'prompts.md', 'a note')
  _write(tmp_path / 'pretrain' / 'x.txt', 'x')
  assert sources.find(str(tmp_path), 'prompts') == one
  assert sources.find(str(tmp_path), 'pretraining') == str(
    tmp_path / 'pretrain'
  )
  two = _write(
    tmp_path / 'prompts_more.jsonl.gz', gzip.compress(b'{}', mtime=0)
  )
  spec = sources.find(str(tmp_path), 'prompts')
  assert sources.expand(spec, sources.JSON_SUFFIXES) == [one, two]
  with pytest.raises(errors.UserError, match='needed a folder'):
    sources.find(one, 'prompts')


ROWS = [{'text': 'a'}, {'text': 'b\u2028c'}, 3]
LINES = '\ufeff{"text": "a"}\r\n\n{"text": "b\u2028c"}\n  \n3'


@pytest.mark.parametrize('zipped', [False, True])
@pytest.mark.parametrize(
  ('name', 'content', 'lines'),
  [
    ('x.jsonl', LINES, [1, 3, 5]),
    ('x.json', LINES, [1, 3, 5]),
    ('x.json', json.dumps(ROWS), [1, 1, 1]),
    ('x.json', json.dumps(ROWS, indent=1), [2, 5, 8]),
    ('x.json', '\n[\n' + ',\n'.join(map(json.dumps, ROWS)) + ']\n', [3, 4, 5]),
  ],
)
def test_rows_carry_their_line(tmp_path, zipped, name, content, lines):
  content = content.encode()
  path = tmp_path / (name + '.gz' if zipped else name)
  path = _write(path, gzip.compress(content) if zipped else content)
  found = list(sources.read_rows(path))
  assert [row for _, row in found] == ROWS
  assert [location for location, _ in found] == [f'{path}:{n}' for n in lines]


@pytest.mark.parametrize('name', ['x.txt', 'x.md', 'x.txt.gz'])
def test_text_file_is_one_document(tmp_path, name):
  text = '# One\r\n\n  two\t\n'
  content = gzip.compress(text.encode()) if 'gz' in name else text.encode()
  path = _write(tmp_path / name, content)
  assert list(sources.read_rows(path)) == [(f'{path}:1', {'text': text})]


def test_lines_that_cannot_be_read_are_told(tmp_path):
  good, lines = b'{"a": 1}', [b'{"a"', b'{"a": "\xff"}', b'{} {}']
  content = b'\n'.join([lines[0], good, lines[1], b'', lines[2], good])
  told = []
  for name in ('x.jsonl', 'x.json'):
    # A .json file is one text, so it has no line of other bytes.
    bad = content if name == 'x.jsonl' else content.replace(b'\xff', b'"')
    path = _write(tmp_path / name, bad)
    told.clear()
    found = list(sources.read_rows(path, lambda *one: told.append(one)))
    assert found == [(f'{path}:2', {'a': 1}), (f'{path}:6', {'a': 1})]
    assert [location for location, _ in told] == [
      f'{path}:{number}' for number in (1, 3, 5)
    ]
    assert all(reason.startswith('needed ') for _, reason in told)


def test_a_file_of_broken_lines_only_is_told_line_by_line(tmp_path):
  path, told = _write(tmp_path / 'x.jsonl', '{\n}\n'), []
  assert list(sources.read_rows(path, lambda *one: told.append(one))) == []
  assert len(told) == 2


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('x.json', b'[1, 2, {]'),
    ('x.json', b'\xff'),
    ('x.txt', b'a\n\xff'),
    ('x.jsonl.gz', gzip.compress(b'{"a": 1}\n' * 9999)[:-9]),
    ('x.jsonl', b'\n'),
  ],
)
def test_what_nothing_readable_can_follow_is_refused(tmp_path, name, content):
  path = _write(tmp_path / name, content)
  with pytest.raises(errors.UserError):
    list(sources.read_rows(path, lambda *one: None))


GOOD = '{"text": "x"}\n'


@pytest.mark.parametrize(
  ('name', 'content', 'line', 'said'),
  [
    ('x.jsonl', GOOD * 6 + '{"text": \n' + GOOD, 7, 'broken JSON'),
    ('x.jsonl', GOOD * 2 + '{"a": 1} {"b": 2}\n', 3, 'Extra data'),
    ('x.jsonl', GOOD + '[' * 100_000, 2, 'broken JSON'),
    ('x.jsonl', '\n \n', 1, 'got none'),
    ('x.json', '[\n{"a": 1},\n{"a" 2}]', 3, 'broken JSON'),
    ('x.json', '[\n1\n2]', 3, "expecting ',' or ']'"),
    ('x.json', '[1,\n2', 2, "expecting ',' or ']'"),
    ('x.json', '[1,\n2,]', 2, 'Expecting value'),
    ('x.json', '[,]', 1, 'Expecting value'),
    ('x.json', '[1]\n]', 1, 'broken JSON'),
    ('x.json', '[]', 1, 'got none'),
    ('x.json', '{"a":\n 1}', 1, 'one JSON dict'),
    ('x.json', 'word', 1, 'broken JSON'),
    ('x.txt', b'caf\xe9', 1, 'byte 0xe9 at column 4'),
    ('x.jsonl', GOOD.encode() * 2 + b'{"text": "\xff"}', 3, 'UTF-8'),
    ('x.jsonl.gz', b'plain', 1, 'gzip'),
    ('x.txt.gz', gzip.compress(b'a\nb\n' * 999, mtime=0)[:-9], None, 'gzip'),
  ],
)
def test_broken_files_are_refused_with_their_line(
  tmp_path, name, content, line, said
):
  path = _write(tmp_path / name, content)
  with pytest.raises(errors.UserError, match=re.escape(said)) as caught:
    list(sources.read_rows(path))
  message = str(caught.value)
  assert '\n' not in message
  assert message.startswith(f'{path}:{line or ""}'), message
