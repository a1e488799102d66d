"""Text that is read as training goes on: its order, its rows, its cost."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from instructjax import errors
from instructjax.data import corpus as corpus_lib
from instructjax.data import loader
from instructjax.data import packing
from instructjax.data import streaming
from instructjax.data import tokenizer as tokenizer_lib

LENGTH = 32


def _write(path, count, seed=0, **kinds):
  """Documents of numbered words, so that each place of the text is known."""
  rng = np.random.default_rng(seed)
  documents, word = [], 0
  for _ in range(count):
    length = int(rng.integers(1, 60))
    documents.append(' '.join(f'w{word + i}' for i in range(length)))
    word += length
  rows = [{'text': text, **kinds} for text in documents]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return documents


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('text')


@pytest.fixture(scope='module')
def documents(folder):
  return _write(folder / 'a.jsonl', 900)


@pytest.fixture(scope='module')
def tokenizer(documents, folder):
  path = folder / 'tokenizer.model'
  return tokenizer_lib.Tokenizer.train(documents, 320, str(path))


@pytest.fixture(scope='module')
def corpus(documents, folder):
  return corpus_lib.Corpus([str(folder / 'a.jsonl')], 0.0, 0)


@pytest.fixture(scope='module')
def text(corpus, tokenizer):
  return streaming.plan(corpus, tokenizer, LENGTH)[0]


def _source(text, batch_size, seed=3, **options):
  lanes = streaming.Lanes(text, batch_size, seed, **options)
  return loader.Loader(lanes, batch_size)


def _take(source, start, count, pick=None):
  batches = source.from_iteration(start, pick)
  return [next(batches) for _ in range(count)]


def _same(left, right):
  return list(left) == list(right) and all(
    left[k].dtype == right[k].dtype and (left[k] == right[k]).all()
    for k in left
  )


def test_what_is_told_of_a_text(corpus, tokenizer, text, caplog):
  again, told = streaming.plan(corpus, tokenizer, LENGTH)
  assert again == text
  forced = told | {'blocks': 50}
  assert streaming.plan(corpus, tokenizer, LENGTH, forced)[0].num_blocks == 50
  assert streaming.plan(corpus, tokenizer, 16, forced)[0].num_blocks > 50
  mended = streaming.plan(corpus, tokenizer, LENGTH, forced | {'bytes': 9})[0]
  assert mended.num_blocks == 50
  assert 'had 9 bytes to train on when this began' in caplog.text
  assert told['rows'] == text.num_rows == told['blocks'] * text.rows_per_block
  lengths = np.array([len(x) for x in text.encode(range(text.num_blocks))])
  needed = text.rows_per_block * LENGTH
  short = np.maximum(needed - lengths, 0).sum() / lengths.sum()
  over = np.maximum(lengths - needed, 0).sum() / lengths.sum()
  assert 0 < over < 0.2 and abs(over - told['share_left_out']) < 0.05
  assert short < 0.02 and abs(short - told['share_padding']) < 0.02
  assert (lengths < needed).mean() < 0.15
  assert abs(corpus.size / lengths.sum() - told['bytes_per_token']) < 0.1


def test_blocks_are_the_text(documents, tokenizer, text):
  ids = np.concatenate(list(text.encode(range(text.num_blocks))))
  ends = np.flatnonzero(ids == tokenizer.eos_id)
  found = [tokenizer.decode(x.tolist()) for x in np.split(ids, ends + 1)]
  assert found == [*documents, '']  # each with eos behind it, nothing else


@pytest.mark.parametrize('batch_size', [1, 7, 24, 500])
def test_an_epoch_holds_each_row_once(text, batch_size):
  count = text.num_rows
  lanes = streaming.Lanes(text, batch_size, seed=1)
  places = lanes.places(np.arange(3 * count))
  for epoch in range(3):
    inside = places[epoch * count : (epoch + 1) * count]
    assert (inside[:, 0] == epoch).all()
    rows = inside[:, 2] * text.rows_per_block + inside[:, 3]
    assert sorted(rows) == list(range(count))
  orders = [places[e * count : (e + 1) * count, 2].tolist() for e in range(3)]
  assert orders[0] != orders[1] != orders[2]
  other = streaming.Lanes(text, batch_size, seed=2).places(np.arange(count))
  assert (other != places[:count]).any()


def test_a_block_stays_in_its_column(text):
  """So one process reads it, in all groups but the last of an epoch."""
  batch_size = 7
  lanes = streaming.Lanes(text, batch_size, seed=1)
  places = lanes.places(np.arange(2 * text.num_rows))
  last = (text.num_blocks - 1) // batch_size
  columns = {}
  for position, (epoch, group, block, _) in enumerate(places.tolist()):
    if group != last:
      columns.setdefault((epoch, block), set()).add(position % batch_size)
  assert len(columns) == 2 * last * batch_size
  assert all(len(found) == 1 for found in columns.values())


def test_starting_anywhere_continues_the_run(text):
  whole = _take(_source(text, 200), 0, 40)
  assert 40 * 200 > 2 * text.num_rows
  for start in (0, 1, 17, 39):
    rest = _take(_source(text, 200), start, min(3, 40 - start))
    assert all(map(_same, rest, whole[start:]))
    assert _same(_source(text, 200).batch(start), whole[start])


@pytest.mark.parametrize('parts', [2, 3])
def test_processes_read_their_share(text, parts):
  def pick(part):
    return lambda size: np.split(np.arange(size), parts)[part]

  whole = _take(_source(text, 12), 3, 9)
  pieces, read = [], []
  for part in range(parts):
    source = _source(text, 12)
    pieces.append(_take(source, 3, 9, pick(part)))
    read.append(set(source.rows._open))
  for i, batch in enumerate(whole):
    joined = {k: np.concatenate([p[i][k] for p in pieces]) for k in batch}
    assert _same(joined, batch)
  assert sum(map(len, read)) == len(set().union(*read))


def test_each_block_is_encoded_once_an_epoch(text, monkeypatch):
  seen = []
  encode = streaming.Text.encode

  def watched(self, blocks):
    blocks = list(blocks)
    seen.extend(blocks)
    return encode(self, blocks)

  monkeypatch.setattr(streaming.Text, 'encode', watched)
  source = _source(text, 5)
  open_at_most = 0
  for i in range(2 * text.num_rows // 5):
    source.batch(i)
    open_at_most = max(open_at_most, len(source.rows._open))
  counts = np.bincount(seen, minlength=text.num_blocks)
  assert counts.tolist() == [2] * text.num_blocks
  assert open_at_most <= 10  # two groups, where one ends within a batch


def test_rows_are_the_text_of_their_documents(documents, tokenizer, text):
  batch = streaming.Lanes(text, 8, 0).rows_at(np.arange(text.num_rows))
  assert batch['tokens'].dtype == np.int32
  assert batch['tokens'].shape == batch['mask'].shape
  assert not batch['loss_mask'][:, 0].any()
  assert (batch['loss_mask'][:, 1:] == batch['mask'][:, 1:]).all()
  assert (batch['tokens'][~batch['mask']] == tokenizer.pad_id).all()
  stream = tokenizer.decode(
    np.concatenate(
      [[*tokenizer.encode(x), tokenizer.eos_id] for x in documents]
    )
  )
  for tokens, mask in zip(batch['tokens'], batch['mask'], strict=True):
    assert (np.diff(mask.astype(int)) <= 0).all()  # padding is at the end
    assert tokenizer.decode(tokens[mask].tolist()) in stream


def test_all_text_is_seen_within_a_few_epochs(tokenizer, text):
  """What a block has too much is another part of it each epoch."""
  needed = text.rows_per_block * LENGTH
  for ids in text.encode(range(text.num_blocks)):
    seen = set()
    for epoch in range(2):
      rows, kept = text.rows_of(np.arange(len(ids)), epoch)
      assert rows.shape == (text.rows_per_block, LENGTH)
      assert kept.sum() == min(needed, len(ids))
      seen |= {int(x) for r, k in zip(rows, kept, strict=True) for x in r[:k]}
    assert seen == set(range(len(ids)))
  long = np.arange(5 * needed - 3)  # far denser than the sample
  windows = [text.rows_of(long, epoch)[0] for epoch in range(5)]
  assert set(np.concatenate(windows).ravel()) == set(long.tolist())
  assert (text.rows_of(long, 5)[0] == windows[0]).all()


def test_a_short_block_is_padded(tokenizer, text):
  ids = np.arange(10, 10 + LENGTH + 3)
  rows, kept = text.rows_of(ids, 1)
  assert kept.tolist() == [LENGTH, 3] + [0] * (text.rows_per_block - 2)
  assert rows[1].tolist() == [10 + LENGTH + i for i in range(3)] + [
    tokenizer.pad_id
  ] * (LENGTH - 3)


def test_packed_rows(text):
  plain = _source(text, 6).batch(2)
  packed = _source(text, 6, finish=packing.text).batch(2)
  assert _same(packed, packing.text(plain))


def test_a_part_of_a_mixture(text):
  rng = np.random.default_rng(0)
  others = {
    'tokens': rng.integers(0, 9, (40, LENGTH)).astype(np.int32),
    'mask': np.ones((40, LENGTH), bool),
    'loss_mask': np.ones((40, LENGTH), bool),
  }
  lanes = streaming.Lanes(text, 3, 0)
  mixed = loader.Mixture(others, lanes, 0.25, 12, seed=1)
  alone = loader.Loader(streaming.Lanes(text, 3, 0), 3)
  batches = _take(mixed, 0, 30)
  for i, batch in enumerate(batches):
    theirs = {k: v[3::4] for k, v in batch.items()}
    assert _same(theirs, alone.batch(i))
  assert _same(_take(mixed, 21, 1)[0], batches[21])
  with pytest.raises(ValueError, match='differ'):
    loader.Mixture({'tokens': others['tokens']}, lanes, 0.25, 12)


def test_threads_see_the_same(text):
  source, found = _source(text, 6), {}
  whole = [_source(text, 6).batch(i) for i in range(12)]

  def read(start):
    found.update({i: source.batch(i) for i in range(start, 12, 3)})

  threads = [threading.Thread(target=read, args=(i,)) for i in range(3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert all(_same(found[i], batch) for i, batch in enumerate(whole))


def test_held_out_rows(folder, documents, tokenizer):
  corpus = corpus_lib.Corpus([str(folder / 'a.jsonl')], 0.2, 0)
  rows, counts = streaming.held_out(corpus, tokenizer, LENGTH, 9, 2.0)
  assert rows['tokens'].shape == (9, LENGTH) and counts['rows'] == 9
  rows, counts = streaming.held_out(corpus, tokenizer, LENGTH, 10**6, 2.0)
  assert 9 < counts['rows'] < 10**4
  valid = tokenizer.decode(rows['tokens'][rows['mask']].tolist())
  text, _ = streaming.plan(corpus, tokenizer, LENGTH)
  train = np.concatenate(list(text.encode(range(text.num_blocks)))).tolist()
  words = set(tokenizer.decode(train).replace('w', ' w').split())
  held = valid.replace('w', ' w').split()[:-1]  # a row may end in a word
  assert len(words) > 1000 and len(held) > 1000 and words.isdisjoint(held)


def test_iterations_of_epochs(text):
  source = _source(text, 10)
  assert source.iterations() == -(-text.num_rows // 10)


def test_no_text(tokenizer, tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('\n\n\n')
  corpus = corpus_lib.Corpus([str(path)], 0.0, 0)
  with pytest.raises(errors.UserError, match='needed pretraining text'):
    streaming.plan(corpus, tokenizer, LENGTH)
  with pytest.raises(errors.UserError, match='needed length of at least 2'):
    streaming.plan(corpus, tokenizer, 1)


def test_memory_does_not_grow_with_the_text(tokenizer, folder, run_python):
  path = folder / 'large.jsonl'
  lines = (folder / 'a.jsonl').read_bytes()
  with path.open('wb') as file:
    for _ in range(200_000_000 // len(lines)):
      file.write(lines)
  code = f"""
from instructjax.data import corpus, loader, streaming, tokenizer
def peak():  # of this program, not of what started it
  lines = open('/proc/self/status').read().split('\\n')
  return next(int(x.split()[1]) for x in lines if x[:6] == 'VmHWM:') // 1024
ids = tokenizer.Tokenizer.load({str(folder / 'tokenizer.model')!r})
source = loader.Loader({{'x': __import__('numpy').zeros(8)}}, 8)
next(source.from_iteration(0))  # imports what it needs
before = peak()
text = corpus.Corpus([{str(path)!r}], 0.1, 0)
plan, told = streaming.plan(text, ids, 64)
streaming.held_out(text, ids, 64, 256, told['bytes_per_token'])
source = loader.Loader(streaming.Lanes(plan, 16, 0), 16)
batches = source.from_iteration(0)
for _ in range(40):
  next(batches)
print(text.size // 2**20, peak() - before)
"""
  size, grown = map(int, run_python(code, timeout=300).stdout.split())
  path.unlink()
  assert size > 150 and grown < 40  # megabytes
