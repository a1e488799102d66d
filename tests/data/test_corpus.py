"""Large text read in parts: nothing twice, nothing lost, words whole."""

from __future__ import annotations

import json

from array_record.python import array_record_module
import hypothesis
from hypothesis import strategies
import numpy as np
import pyarrow
from pyarrow import parquet
import pytest
import tensorflow_datasets as tfds

from instructjax import errors
from instructjax.data import corpus as corpus_lib
from instructjax.data import pieces
from tests import tfds_data

WORDS = 'the ant eats nuts and caf\u00e9 \u4f60\u597d \U0001f600 corn'.split()


def _text(rng, words):
  return ' '.join(rng.choice(WORDS, words)) + rng.choice([' ', '.\n', '\n'])


def _documents(count=60, words=80, seed=0):
  rng = np.random.default_rng(seed)
  return [_text(rng, int(rng.integers(1, words))) for _ in range(count)]


def _write_lines(path, documents, **more):
  lines = [json.dumps({'text': text, **more}) + '\n' for text in documents]
  path.write_text(''.join(lines))
  return str(path)


def _write_records(path, rows, ascii_only=False):
  writer = array_record_module.ArrayRecordWriter(str(path), 'group_size:4')
  for row in rows:
    writer.write(json.dumps(row, ensure_ascii=ascii_only).encode())
  writer.close()


def _write_table(path, rows, _=False):
  table = pyarrow.Table.from_pylist(rows)
  parquet.write_table(table, path, row_group_size=7)


def _write_open_lines(path, rows, ascii_only):
  """No newline at the end."""
  lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
  path.write_text('\n'.join(lines))


WRITERS = {
  'jsonl': _write_open_lines,
  'array_record': _write_records,
  'parquet': _write_table,
}


def _cut_at(corpus, cuts):
  """The parts between some places of the text to train on."""
  found = []
  for start, end in zip(cuts, cuts[1:], strict=False):
    found += corpus.parts(start, end)
  return found


def _joined(parts):
  """The documents that parts make up."""
  documents, text = [], ''
  for part in parts:
    text += part.text
    if part.ends:
      documents.append(text)
      text = ''
  assert not text
  return documents


@hypothesis.given(
  cuts=strategies.lists(strategies.floats(0, 1), max_size=12),
  ascii_only=strategies.booleans(),
)
@hypothesis.settings(
  max_examples=60,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@pytest.mark.parametrize('suffix', ['jsonl', 'txt', 'array_record', 'parquet'])
def test_parts_make_up_the_whole(tmp_path, suffix, cuts, ascii_only):
  documents = _documents()
  paths = [tmp_path / f'a.{suffix}', tmp_path / f'b.{suffix}']
  if suffix != 'txt':
    for path, half in zip(paths, (documents[:20], documents[20:]), strict=True):
      rows = [{'id': 7, 'text': text} for text in half]
      WRITERS[suffix](path, rows, ascii_only)
  else:
    documents = [''.join(documents[:20]), ''.join(documents[20:])]
    for path, text in zip(paths, documents, strict=True):
      path.write_text(text)
  corpus = corpus_lib.Corpus(map(str, paths), 0.0, 0)
  assert corpus.held_out == [] and corpus.size == sum(
    path.stat().st_size for path in paths
  )
  places = sorted({0, corpus.size, *(int(x * corpus.size) for x in cuts)})
  parts = _cut_at(corpus, places)
  assert _joined(parts) == documents
  assert all(part.text or part.ends for part in parts)
  for part in parts:  # words survive
    assert set(part.text.replace('.', '').split()) <= set(WORDS)


def test_a_place_gives_no_earlier_cut_than_one_before_it():
  rng = np.random.default_rng(1)
  text = ''.join(
    rng.choice(['a', ' ', '\n', 'b'], 3000, p=[0.9, 0.05, 0, 0.05])
  )
  text = text[:1000] + '\n' + text[1000:2000] + '\n\n' + 'x' * 700
  cuts = [corpus_lib.cut(text, near) for near in range(len(text) + 1)]
  assert cuts == sorted(cuts) and cuts[-1] == len(text)
  assert all(near - 256 <= cut <= near for near, cut in enumerate(cuts))


def test_a_document_of_many_parts(tmp_path):
  text = 'word ' * 200_000
  path = _write_lines(tmp_path / 'a.jsonl', ['short', text, 'last'])
  corpus = corpus_lib.Corpus([path], 0.0, 0)
  places = np.linspace(0, corpus.size, 40).astype(int).tolist()
  parts = _cut_at(corpus, places)
  assert _joined(parts) == ['short', text, 'last']
  sizes = [len(part.text) for part in parts[2:-3]]
  assert max(sizes) - min(sizes) <= 16  # in proportion


def test_plain_text_of_many_segments(tmp_path):
  text = ''.join(_documents(3000, 80, seed=2))
  (tmp_path / 'a.txt').write_text('\ufeff' + text)
  corpus = corpus_lib.Corpus([str(tmp_path / 'a.txt')], 0.0, 0)
  assert corpus.size > 2**19
  places = [*range(0, corpus.size, 9999), corpus.size]
  parts = _cut_at(corpus, places)
  assert _joined(parts) == [text]
  assert max(len(part.text.encode()) for part in parts) < 9999 + 512


def _long(tmp_path, name='a.jsonl', seed=0, megabytes=12.5):
  """A file of several regions, each document with a number of its own."""
  rng = np.random.default_rng(seed)
  path = tmp_path / name
  with path.open('a') as file:
    number, size = 0, 0
    while size < megabytes * 2**20:
      text = f'<{seed}.{number}> ' + 'abcdefghi ' * int(rng.integers(50, 2000))
      size += file.write(json.dumps({'text': text + '.'}) + '\n')
      number += 1
  return str(path)


def _sides(corpus):
  train = [part.text for part in corpus.parts(0, corpus.size)]
  valid = [part.text for part in corpus.held_out_parts(2**40)]
  return train, valid


def _numbers(texts):
  return {t.split('>')[0] for t in texts if t.startswith('<')}


def test_regions_are_held_out(tmp_path):
  path = _long(tmp_path)
  corpus = corpus_lib.Corpus([path], 0.3, 0)
  train, valid = _sides(corpus)
  assert train and valid
  assert _numbers(train).isdisjoint(_numbers(valid))
  assert all(t.startswith('<') and t.endswith('.') for t in valid)
  held = sum(map(len, corpus.held_out))
  assert corpus.size + held == (tmp_path / 'a.jsonl').stat().st_size
  every = corpus_lib.Corpus([path], 0.0, 0)
  whole = _numbers(part.text for part in every.parts(0, every.size))
  cut = whole - _numbers(train) - _numbers(valid)  # by a region's ends
  assert len(cut) <= 2 * len(corpus.held_out)
  few = list(corpus.held_out_parts(200_000))
  assert 150_000 < sum(len(part.text) for part in few) < 300_000
  other = corpus_lib.Corpus([path], 0.3, 1)
  assert {x.start for x in other.held_out} != {x.start for x in corpus.held_out}


def test_more_data_moves_nothing_to_the_other_side(tmp_path):
  first = _long(tmp_path)
  before = [_numbers(x) for x in _sides(corpus_lib.Corpus([first], 0.3, 0))]
  second = _long(tmp_path, '0.jsonl', seed=1, megabytes=5.5)
  _long(tmp_path, 'a.jsonl', seed=2, megabytes=4)  # appended to
  after = [
    _numbers(x) for x in _sides(corpus_lib.Corpus([second, first], 0.3, 0))
  ]
  assert before[0].isdisjoint(after[1]) and before[1].isdisjoint(after[0])
  # All but what the old file's last, partial region held is where it was.
  assert len(before[0] - after[0]) <= 1 and before[1] <= after[1]


@pytest.mark.parametrize('fraction', [0.01, 0.1])
def test_little_text_holds_out_the_end_of_the_largest_file(tmp_path, fraction):
  paths = [
    _write_lines(tmp_path / 'a.jsonl', _documents(10)),
    _write_lines(tmp_path / 'b.jsonl', _documents(60)),
  ]
  corpus = corpus_lib.Corpus(paths, fraction, 0)
  assert [x.path for x in corpus.held_out] == paths[1:]
  train, valid = _sides(corpus)
  assert train and valid
  half = (tmp_path / 'b.jsonl').stat().st_size // 2
  assert len(corpus.held_out[0]) <= half


def test_samples_are_drawn_from_all_of_it(tmp_path):
  corpus = corpus_lib.Corpus([_long(tmp_path)], 0.1, 0)
  drawn = corpus.sample(1000, 50)
  assert drawn == corpus.sample(1000, 50) and len(drawn) > 40
  starts = np.array([start for start, _ in drawn])
  assert starts.min() < corpus.size / 5 and starts.max() > corpus.size * 4 / 5
  assert all(0 <= a < b <= corpus.size for a, b in drawn)
  size = sum(map(len, corpus.texts(2**21)))
  assert 2**20 < size <= 2**21
  assert len(corpus.texts(2**30)) == sum(
    1 for _ in corpus.parts(0, corpus.size)
  )


@pytest.mark.parametrize(
  ('line', 'match'),
  [
    (b'{"text": "cut', r'a.jsonl:4: needed a JSON object with a .text.'),
    (b'{"body": "x"}', 'a.jsonl:4: needed'),
    (b'{"text": 3}', 'a.jsonl:4: needed .* got int 3'),
    (b'["text"]', 'a.jsonl:4: needed'),
    (b'{"text": "\\ud83d"}', 'a.jsonl:4: needed .* Unicode'),
    (b'{"text": "\xff"}', 'a.jsonl:4: needed'),
  ],
)
def test_a_broken_line_is_told_by_its_number(tmp_path, line, match, caplog):
  path = tmp_path / 'a.jsonl'
  path.write_bytes(b'{"text": "a b"}\n\n{"text": "c"}\n' + line + b'\n')
  corpus = corpus_lib.Corpus([str(path)], 0.0, 0)
  assert [part.text for part in corpus.parts(0, 20)] == ['a b']
  with pytest.raises(errors.UserError, match=match):
    list(corpus.parts(0, corpus.size))
  lenient = corpus_lib.Corpus([str(path)], 0.0, 0, max_bad_share=0.0)
  assert [part.text for part in lenient.parts(0, lenient.size)] == ['a b', 'c']
  assert (lenient.read, lenient.bad) == (2, 1)
  assert f'{path}, at 31, is left out: needed' in caplog.text


def test_what_has_no_middle_is_refused(tmp_path):
  for name, how in (('a.jsonl.gz', 'decompress it'), ('a.json', 'convert it')):
    with pytest.raises(errors.UserError, match=f'{how}, or raise'):
      corpus_lib.Corpus([str(tmp_path / name)], 0.1, 0)
  path = tmp_path / 'a.txt'
  path.write_bytes(b'one\ntwo\n\xff three')
  with pytest.raises(errors.UserError, match='a.txt:3: needed UTF-8 .* 0xff'):
    list(corpus_lib.Corpus([str(path)], 0.0, 0).parts(0, 5))


def test_a_line_may_be_too_long(tmp_path, monkeypatch):
  monkeypatch.setattr(pieces, 'MAX_LINE', 100)
  path = _write_lines(tmp_path / 'a.jsonl', ['short', 'word ' * 50])
  with pytest.raises(errors.UserError, match='a.jsonl:2: needed lines of at'):
    list(corpus_lib.Corpus([path], 0.0, 0).parts(0, 400))


def test_records_that_hold_no_text(tmp_path):
  path = tmp_path / 'a.array_record'
  _write_records(path, [{'text': 'a b'}, {'body': 'x'}, {'text': 'c'}])
  corpus = corpus_lib.Corpus([str(path)], 0.0, 0)
  with pytest.raises(errors.UserError, match='a.array_record:2: needed'):
    list(corpus.parts(0, corpus.size))
  path = tmp_path / 'a.parquet'
  _write_table(path, [{'text': 'a b'}, {'text': None}, {'text': 'c'}])
  corpus = corpus_lib.Corpus([str(path)], 0.0, 0)
  with pytest.raises(errors.UserError, match='a.parquet:2: needed .* None'):
    list(corpus.parts(0, corpus.size))
  corpus = corpus_lib.Corpus([str(path)], 0.0, 0, max_bad_share=0.5)
  assert _joined(corpus.parts(0, corpus.size)) == ['a b', 'c']
  _write_table(path, [{'body': 'a'}])
  with pytest.raises(errors.UserError, match="needed a column 'text', got 'b"):
    list(corpus_lib.Corpus([str(path)], 0.0, 0).parts(0, 100))


@pytest.mark.parametrize('suffix', ['array_record', 'parquet'])
def test_a_broken_file_of_records(tmp_path, suffix):
  path = tmp_path / f'a.{suffix}'
  path.write_bytes(b'no such file' * 1000)
  with pytest.raises(errors.UserError, match='needed a whole file, got "'):
    list(corpus_lib.Corpus([str(path)], 0.0, 0).parts(0, 100))


def test_too_many_bad_rows_are_refused(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"text": "a b"}\n{"text": 3}\n' * 100)
  lenient = corpus_lib.Corpus([str(path)], 0.0, 0, max_bad_share=0.5)
  assert len(list(lenient.parts(0, lenient.size))) == lenient.bad == 100
  corpus = corpus_lib.Corpus([str(path)], 0.0, 0, max_bad_share=0.1)
  with pytest.raises(errors.UserError, match='a.jsonl:22: .*share=0.1 of what'):
    list(corpus.parts(0, corpus.size))


def test_datasets_of_tfds(tmp_path):
  documents = _documents(100)
  feature = {'text': tfds.features.Text()}
  rows = [{'text': text} for text in documents]
  tfds_data.write(tmp_path, 'c4', feature, {'train': rows}, config='en')
  rows = [{'text': 'a'}, {'text': b'\xff'}, {'text': 'b'}]
  tfds_data.write(tmp_path, 'odd', feature, {'train': rows})

  def corpus_of(spec, **options):
    options |= {'tfds_dir': str(tmp_path)}
    return corpus_lib.Corpus([spec], 0.0, 0, **options)

  corpus = corpus_of('tfds:c4/en:train')
  places = [*range(0, corpus.size, 777), corpus.size]
  assert _joined(_cut_at(corpus, places)) == documents
  half = corpus_of('tfds:c4/en:train[:50%]')
  assert _joined(half.parts(0, half.size)) == documents[:50]
  odd = corpus_of('tfds:odd:train')
  with pytest.raises(errors.UserError, match='tfds:odd:train:1: needed UTF-8'):
    list(odd.parts(0, odd.size))
  odd = corpus_of('tfds:odd:train', max_bad_share=0.0)
  assert _joined(odd.parts(0, odd.size)) == ['a', 'b']
