"""What pretraining text costs to begin with, and to feed, as it grows.

  python experiments/streaming/run.py --source=DIR --workdir=DIR

Writes JSON lines of documents drawn from the books in SOURCE (.md or .txt) to
WORKDIR, up to 4 GB, and removes them in the end. Each measurement is a process
of its own: what it takes to have the first batch, loaded as small text is and
streamed as large text is, then what a batch costs. Writes results.json and
figures/ beside this file. Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time

import numpy as np

from instructjax import plots
from instructjax.data import corpus as corpus_lib
from instructjax.data import feeds as feeds_lib
from instructjax.data import loader
from instructjax.data import streaming
from instructjax.data import tokenizer as tokenizer_lib

HERE = pathlib.Path(__file__).resolve().parent
MEGABYTE = 10**6
SHARD = 100 * MEGABYTE
SIZES = (10, 100, 1000, 4000)  # MB
LOADED_UP_TO = 100  # MB; a gigabyte needs more memory than there is
LENGTH, BATCH_SIZE, VOCAB_SIZE = 1024, 32, 8192
ROWS_PER_BLOCK = (1, 4, 16, 64)


def write_text(source: pathlib.Path, folder: pathlib.Path) -> None:
  """Writes the shards: documents of 50 to 5000 words, drawn from the books."""
  paths = sorted([*source.rglob('*.md'), *source.rglob('*.txt')])
  books = [path.read_text().split(' ') for path in paths]
  names = [('small', 10 * MEGABYTE)]
  names += [(f'{i:03}', SHARD) for i in range(max(SIZES) * MEGABYTE // SHARD)]
  for seed, (name, size) in enumerate(names):
    path, part = folder / f'{name}.jsonl', folder / f'{name}.part'
    if path.exists():
      continue
    rng = np.random.default_rng(seed)
    with part.open('w') as file:
      while file.tell() < size:
        book = books[rng.integers(len(books))]
        length = int(np.exp(rng.uniform(np.log(50), np.log(5000))))
        start = rng.integers(max(1, len(book) - length))
        text = ' '.join(book[start : start + length])
        file.write(json.dumps({'text': text}) + '\n')
    part.rename(path)


def shards(folder: pathlib.Path, megabytes: int) -> str:
  """Returns the spec of a text of so many megabytes."""
  if megabytes == 10:
    return str(folder / 'small.jsonl')
  count = megabytes * MEGABYTE // SHARD
  return ','.join(str(folder / f'{i:03}.jsonl') for i in range(count))


def usage() -> dict[str, float]:
  """Returns the process's seconds, CPU seconds and peak memory so far."""
  # The peak of this program; getrusage's includes what started it.
  lines = pathlib.Path('/proc/self/status').read_text().splitlines()
  peak = next(x for x in lines if x.startswith('VmHWM:'))
  return {
    'seconds': time.perf_counter(),
    'cpu_seconds': time.process_time(),
    'peak_megabytes': int(peak.split()[1]) / 1024,
  }


def since(before: dict[str, float]) -> dict[str, float]:
  """Returns what was used since; the peak is the whole process's."""
  now = usage()
  took = {k: round(now[k] - before[k], 3) for k in ('seconds', 'cpu_seconds')}
  return took | {'peak_megabytes': round(now['peak_megabytes'])}


def feeds_of(spec: str, above: int) -> feeds_lib.Feeds:
  """Returns the records of a run that has pretraining text alone."""
  data = dict.fromkeys(
    ('folder', 'demonstrations', 'comparisons', 'prompts', 'public_tasks'), ''
  )
  data |= {
    'pretraining': spec,
    'validation_fraction': 0.01,
    'on_bad_row': 'refuse',
    'max_bad_share': 0.0,
    'stream_above_bytes': above,
    'tfds_dir': '',
  }
  return feeds_lib.Feeds(data)


def first_batch(spec: str, tokenizer, above: int) -> dict[str, object]:
  """Measures from nothing to the first batch, and the batches that follow."""
  imported = usage()
  feeds = feeds_of(spec, above)
  feeds.check('pretraining')
  checked = since(imported)
  train, valid = feeds.pretraining(tokenizer, LENGTH, 256)
  planned = since(imported)
  if isinstance(train, streaming.Text):
    rows = streaming.Lanes(train, BATCH_SIZE, seed=0)
  else:
    rows = loader.endless(train, seed=0)
  source = loader.Loader(rows, BATCH_SIZE)
  source.batch(0)
  begun = since(imported)
  found = {
    'imported_megabytes': round(imported['peak_megabytes']),
    'check': checked,
    'rows': planned,
    'first_batch': begun,
    'validation_rows': len(valid['tokens']),
    'told': feeds.counts.get('pretraining/train', {}),
  }
  if isinstance(train, streaming.Text):
    before, count = usage(), 3 * streaming.MAX_ROWS
    for i in range(streaming.MAX_ROWS, streaming.MAX_ROWS + count):
      source.batch(i)
    took = since(before)
    tokens = count * BATCH_SIZE * LENGTH
    found['tokens_per_cpu_second'] = round(tokens / took['cpu_seconds'])
    found['peak_megabytes'] = took['peak_megabytes']
  return found


def opening(folder: pathlib.Path, megabytes: int) -> dict[str, float]:
  """Measures opening a file of that size, which is a hole: none is read."""
  path = folder / 'hole.jsonl'
  with path.open('wb') as file:
    file.truncate(megabytes * MEGABYTE)
  before = usage()
  corpus = corpus_lib.Corpus([str(path)], 0.01, 0)
  took = since(before)
  path.unlink()
  return took | {'held_out_regions': len(corpus.held_out)}


def shares(spec: str, tokenizer) -> dict[str, dict[str, float]]:
  """Measures what blocks of R rows leave out and lack, over all of a text."""
  corpus = corpus_lib.Corpus(spec.split(','), 0.01, 0)
  found = {}
  for rows in ROWS_PER_BLOCK:
    streaming.MAX_ROWS, streaming._MIN_BLOCKS = rows, 1
    text, _ = streaming.plan(corpus, tokenizer, LENGTH)
    lengths = np.array([len(x) for x in text.encode(range(text.num_blocks))])
    needed = rows * LENGTH
    over = np.maximum(lengths - needed, 0).sum() / lengths.sum()
    short = np.maximum(needed - lengths, 0).sum() / (needed * len(lengths))
    found[str(rows)] = {
      'blocks': text.num_blocks,
      'left_out': round(float(over), 4),
      'padding': round(float(short), 4),
    }
  return found


def measure(what: str, folder: pathlib.Path) -> dict[str, object]:
  """Makes one measurement in this process."""
  kind, megabytes = what.split('_')
  tokenizer = tokenizer_lib.Tokenizer.load(str(folder / 'tokenizer.model'))
  if kind == 'opening':
    return opening(folder, int(megabytes))
  spec = shards(folder, int(megabytes))
  if kind == 'shares':
    return shares(spec, tokenizer)
  above = 0 if kind == 'streamed' else 2**60
  return first_batch(spec, tokenizer, above)


def draw(results: dict, path: pathlib.Path) -> None:
  """Draws seconds and memory to the first batch against the text's size."""
  plots.save(path.parent, {path.name: lambda: _figure(results)})


def _figure(results: dict):
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(1, 2, figsize=(8, 3.2), layout='constrained')
  wanted = (
    ('cpu_seconds', 'CPU seconds to the first batch'),
    ('peak_megabytes', 'peak memory, MB'),
  )
  for axis, (key, label) in zip(axes, wanted, strict=True):
    for kind, style in (('loaded', 's--'), ('streamed', 'o-')):
      sizes = [n for n in SIZES if f'{kind}_{n}' in results]
      values = [results[f'{kind}_{n}']['first_batch'][key] for n in sizes]
      axis.plot(sizes, values, style, label=kind)
    axis.set(xscale='log', xlabel='text, MB', ylabel=label, ylim=(0, None))
    axis.set_xticks(SIZES, [str(n) for n in SIZES])
    axis.tick_params(axis='x', which='minor', bottom=False)
    axis.grid(alpha=0.3)
    axis.legend()
  return figure


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--source', type=pathlib.Path)
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--measure', help='of one point, for the program itself')
  parser.add_argument('--keep', action='store_true', help='keep the text')
  args = parser.parse_args()
  if args.measure:
    print(json.dumps(measure(args.measure, args.workdir)))
    return
  args.workdir.mkdir(parents=True, exist_ok=True)
  write_text(args.source, args.workdir)
  path = args.workdir / 'tokenizer.model'
  if not path.exists():
    texts = feeds_of(shards(args.workdir, 10), 2**60).texts()
    tokenizer_lib.Tokenizer.train(texts, VOCAB_SIZE, str(path))
  points = [f'streamed_{n}' for n in SIZES]
  points += [f'loaded_{n}' for n in SIZES if n <= LOADED_UP_TO]
  points += ['opening_4000', 'opening_1000000', 'shares_10']
  known = args.workdir / 'results.json'
  results = json.loads(known.read_text()) if known.exists() else {}
  for point in points:
    if point not in results:
      words = [__file__, f'--workdir={args.workdir}', f'--measure={point}']
      told = subprocess.run(
        [sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True
      )
      results[point] = json.loads(told.stdout)
      print(point, results[point], flush=True)
      known.write_text(json.dumps(results))
  told = {
    'machine': {'cores': os.cpu_count()},
    'python': platform.python_version(),
    'length': LENGTH,
    'batch_size': BATCH_SIZE,
    'vocab_size': VOCAB_SIZE,
    'results': results,
  }
  (HERE / 'results.json').write_text(json.dumps(told, indent=2) + '\n')
  draw(results, HERE / 'figures' / 'first_batch.png')
  if not args.keep:
    shutil.rmtree(args.workdir)


if __name__ == '__main__':
  main()
