"""Turns public datasets into the record files that one run trains on.

  python experiments/real_text/convert.py --source=DIR --out=DIR

SOURCE holds files of these public repositories, at these places (`part` in a
name: some of the original's rows, in its format):

  mlschmitt/classic-books-markdown, public domain
    pretrain/books/*.md                  28 books
  karpathy/char-rnn, public domain
    pretrain/tinyshakespeare.txt         its data/tinyshakespeare/input.txt
  nayohan/dolly-15k-analysis; text of databricks-dolly-15k, CC-BY-SA-3.0
    demonstrations/dolly_short_derived_part1.jsonl
  prp-e/chinkara-openqa-dataset; text of databricks-dolly-15k, CC-BY-SA-3.0
    demonstrations/dolly_open_qa_part1.jsonl    only for --dolly-prompts
  anthropics/hh-rlhf, MIT; offensive text, for reward models only
    comparisons/hh_harmless_base_test_part1.jsonl.gz
  LAION-AI/Open-Assistant, Apache-2.0; its model/model_eval/manual/data
    comparisons/oasst_en_100_tree_part1.jsonl
    prompts/oasst_prompt_lottery_en_250_text.jsonl
  allenai/FineGrainedRLHF, Apache-2.0; its tasks/qa_feedback/data
    comparisons/qa_feedback_dev_part1.json
  lm-sys/FastChat, Apache-2.0; its fastchat/llm_judge/data/vicuna_bench
    prompts/vicuna_bench_question.jsonl

OUT receives pretraining/*.jsonl, demonstrations.jsonl, comparisons.jsonl,
prompts.jsonl, and counts.json, which says how many rows of each source were
kept, and why the others were not. Comparisons carry a `source` key beside the
fields of the record format.

A converter takes one row of its source and returns a list in which a dict is a
record and a string the reason why there is none.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable, Iterable, Sequence
import itertools
import json
import pathlib
import re
import sys
from typing import Any

from instructjax import cli
from instructjax import errors
from instructjax.data import layouts
from instructjax.data import sources
from instructjax.data.rows import compared

Record = dict[str, Any]
Converter = Callable[[Any], list[Record | str]]

BOOKS = 'pretrain/books'
SHAKESPEARE = 'pretrain/tinyshakespeare.txt'
DOLLY_SHORT = 'demonstrations/dolly_short_derived_part1.jsonl'
DOLLY_OPEN_QA = 'demonstrations/dolly_open_qa_part1.jsonl'
HH = 'comparisons/hh_harmless_base_test_part1.jsonl.gz'
OASST_TREES = 'comparisons/oasst_en_100_tree_part1.jsonl'
QA_FEEDBACK = 'comparisons/qa_feedback_dev_part1.json'
OASST_PROMPTS = 'prompts/oasst_prompt_lottery_en_250_text.jsonl'
VICUNA = 'prompts/vicuna_bench_question.jsonl'

# A document this long is still one scene, and there are enough of them for a
# validation split by document.
MAX_CHARACTERS = 8000
QA_PAIRS = tuple(itertools.combinations(range(4), 2))


def blocks(paragraphs: Iterable[str], max_characters: int) -> list[str]:
  """Joins paragraphs to texts of at most `max_characters`, none cut."""
  texts, held, size = [], [], 0
  for paragraph in paragraphs:
    if held and size + len(paragraph) > max_characters:
      texts.append('\n\n'.join(held))
      held, size = [], 0
    held.append(paragraph)
    size += len(paragraph) + 2
  return texts + ['\n\n'.join(held)] if held else texts


def _paragraphs(text: str) -> list[str]:
  lines = '\n'.join(line.rstrip() for line in text.splitlines())
  pieces = (piece.strip('\n') for piece in re.split(r'\n{2,}', lines))
  return [piece for piece in pieces if piece.strip()]


def book(text: str) -> list[Record | str]:
  """Cuts a Markdown book into chapters, and long chapters into blocks.

  The header (title, author and year, above the first rule) is left out. A
  heading without text of its own, such as that of a part, goes with the next.
  """
  header = re.match(r'(?s).{0,400}?^-{3,}[ \t]*$', text, re.MULTILINE)
  body = text[header.end() :] if header else text
  records, titles = [], []
  # Splitting at headings gives text, heading, text, heading, ..., text.
  pieces = re.split(r'(?m)^#{1,6}[ \t]+(.*)$', body)
  for title, chapter in zip(['', *pieces[1::2]], pieces[::2], strict=True):
    titles += [title.strip()] if title.strip() else []
    paragraphs = _paragraphs(chapter)
    if paragraphs:
      texts = blocks([*titles, *paragraphs], MAX_CHARACTERS)
      records += [{'text': block} for block in texts]
      titles = []
  return records


def play(text: str) -> list[Record | str]:
  """Cuts plays into blocks of whole speeches."""
  return [{'text': b} for b in blocks(_paragraphs(text), MAX_CHARACTERS)]


def dolly_short(row: Record) -> list[Record | str]:
  """An instruction without context, and its answer."""
  prompt, response = row['instruction'].strip(), row['response'].strip()
  if row['context'].strip():
    return ['has a context']
  if not prompt or not response:
    return ['empty text']
  return [{'prompt': prompt, 'response': response}]


def hh(row: Record) -> list[Record | str]:
  """Two answers to a first message, one chosen; longer dialogues are left."""
  for dialogue in (row['chosen'], row['rejected']):
    turns = re.findall(r'(?:^|\n\n)(Human|Assistant):', dialogue)
    if turns != ['Human', 'Assistant']:
      return ['more than one turn']
  pair = compared.pair(row)
  return [_comparison(pair['prompt'], pair['responses'], pair['ranks'], 'hh')]


def oasst(row: Record) -> list[Record | str]:
  """Every group of ranked replies in a tree of messages.

  Replies to the first message have it as their prompt, deeper ones the dialogue
  up to them. Ranks in the file begin at 0.
  """
  return list(_oasst_groups(row['prompt'], []))


def _oasst_groups(
  message: Record, above: list[tuple[str, str]]
) -> Iterable[Record | str]:
  role = 'user' if message['role'] == 'prompter' else 'assistant'
  dialogue = [*above, (role, message['text'].strip())]
  replies = message['replies']
  if role == 'user' and len(replies) >= 2:
    ranked = [reply for reply in replies if reply.get('rank') is not None]
    if len(ranked) < 2:
      yield 'fewer than two ranked replies'
    else:
      texts = [reply['text'].strip() for reply in ranked]
      ranks = [reply['rank'] + 1 for reply in ranked]
      yield _comparison(layouts.render(dialogue), texts, ranks, 'oasst')
  for reply in replies:
    yield from _oasst_groups(reply, dialogue)


def ranks_of_pairs(labels: Sequence[int]) -> list[int] | None:
  """Returns the weak ordering of four answers that six pair labels describe.

  Args:
    labels: for the pairs (1,2), (1,3), (1,4), (2,3), (2,4), (3,4): 1 where the
      first is better, 2 where the second is, 0 where they are equal.

  Returns:
    Ranks from 1, without gaps, equal for ties; None if no ordering gives all
    six labels, as with a circle.
  """
  better = [0] * 4  # how many answers are better than each
  for (i, j), label in zip(QA_PAIRS, labels, strict=True):
    better[j] += label == 1
    better[i] += label == 2
  # If there is an ordering, it is that of these counts.
  implied = [
    0 if better[i] == better[j] else 1 if better[i] < better[j] else 2
    for i, j in QA_PAIRS
  ]
  if implied != list(labels):
    return None
  order = sorted(set(better))
  return [order.index(count) + 1 for count in better]


def qa_feedback(row: Record) -> list[Record | str]:
  """Four answers to a question, without the passages they were drawn from."""
  ranks = ranks_of_pairs(row['preference'])
  if ranks is None:
    return ['labels contradict each other']
  texts = [row[f'prediction {i}'].strip() for i in range(1, 5)]
  return [_comparison(row['question'].strip(), texts, ranks, 'qa_feedback')]


def _comparison(
  prompt: str, responses: Sequence[str], ranks: Sequence[int], source: str
) -> Record | str:
  """A comparison that can teach something, or the reason why it cannot."""
  if not prompt.strip() or not all(text.strip() for text in responses):
    return 'empty text'
  if len(set(ranks)) == 1:
    return 'all tied'
  return {
    'prompt': prompt,
    'responses': list(responses),
    'ranks': list(ranks),
    'source': source,
  }


def oasst_prompt(row: str) -> list[Record | str]:
  """A first message."""
  return [{'text': row.strip()}] if row.strip() else ['empty text']


def vicuna(row: Record) -> list[Record | str]:
  """The first question of a dialogue."""
  return oasst_prompt(row['turns'][0])


def dolly_open_qa(row: Record) -> list[Record | str]:
  """The question of a `### Human: ... ### Assistant: ...` text."""
  found = re.match(r'### Human: (.*?) ### Assistant: ', row['text'], re.DOTALL)
  return oasst_prompt(found.group(1)) if found else ['another layout']


def collect(
  rows: Iterable[Any], converter: Converter
) -> tuple[list[Record], Record]:
  """Returns the records of all rows, and counts of rows, kept and dropped."""
  records, dropped, count = [], collections.Counter(), 0
  for row in rows:
    count += 1
    for item in converter(row):
      if isinstance(item, str):
        dropped[item] += 1
      else:
        records.append(item)
  counts = {'rows': count, 'kept': len(records), 'dropped': dict(dropped)}
  return records, counts


def without_repeats(
  converter: Converter, key: str, seen: dict[str, str]
) -> Converter:
  """Returns the converter less records whose text `seen` holds already.

  `seen` maps a text to the reason why its next occurrence is left out.
  """

  def convert_new(row: Any) -> list[Record | str]:
    items = []
    for item in converter(row):
      text = item if isinstance(item, str) else item[key]
      items.append(item if isinstance(item, str) else seen.get(text, item))
      if not isinstance(item, str):
        seen.setdefault(text, 'repeated')
    return items

  return convert_new


def summarise(comparisons: Iterable[Record]) -> Record:
  """Counts comparisons by K, their pairs and their ties."""
  sizes, pairs, ties = collections.Counter(), 0, 0
  for row in comparisons:
    sizes[len(row['ranks'])] += 1
    for one, other in itertools.combinations(row['ranks'], 2):
      pairs += one != other
      ties += one == other
  by_size = {str(k): sizes[k] for k in sorted(sizes)}
  return {'by_k': by_size, 'pairs': pairs, 'ties': ties}


def _rows(path: pathlib.Path) -> list[Any]:
  if not path.is_file():
    raise errors.UserError(
      f'{path}: needed this file of --source, it does not exist: '
      'convert.py lists the files it reads at its top.'
    )
  return [row for _, row in sources.read_rows(str(path))]


def _write(path: pathlib.Path, records: Iterable[Record]) -> None:
  lines = (json.dumps(r, ensure_ascii=False) + '\n' for r in records)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(lines), encoding='utf-8', newline='\n')
  except OSError as error:
    raise errors.UserError(
      f'{path}: needed a folder to write to, got "{error.strerror}": '
      'choose another --out.'
    ) from None


def convert_pretraining(source: pathlib.Path, out: pathlib.Path) -> Record:
  """Writes OUT/pretraining, a file for each book; returns the counts."""
  books = sorted((source / BOOKS).glob('*.md'))
  if not books:
    raise errors.UserError(
      f'{source / BOOKS}: needed Markdown books (*.md), found none: '
      'check --source.'
    )
  counts: Record = {}
  plays = [('tinyshakespeare', source / SHAKESPEARE, play)]
  for name, path, cut in [('books', b, book) for b in books] + plays:
    texts = [row['text'] for row in _rows(path)]
    records, found = collect(texts, cut)
    found['characters'] = sum(len(record['text']) for record in records)
    _write(out / 'pretraining' / f'{path.stem}.jsonl', records)
    total = counts.setdefault(name, collections.Counter())
    total.update({k: v for k, v in found.items() if k != 'dropped'})
  return {name: dict(total, dropped={}) for name, total in counts.items()}


def convert(
  source: pathlib.Path, out: pathlib.Path, *, dolly_prompts: bool = False
) -> Record:
  """Converts all sources; returns what counts.json holds.

  Raises:
    UserError: a file is missing or cannot be read.
  """
  counts: Record = {'pretraining': convert_pretraining(source, out)}
  demonstrations, found = collect(
    _rows(source / DOLLY_SHORT), without_repeats(dolly_short, 'prompt', {})
  )
  counts['demonstrations'] = {'dolly_short': found}
  _write(out / 'demonstrations.jsonl', demonstrations)

  comparisons, counts['comparisons'] = [], {}
  files = {'hh': (HH, hh), 'oasst': (OASST_TREES, oasst)}
  files['qa_feedback'] = (QA_FEEDBACK, qa_feedback)
  for name, (file, converter) in files.items():
    records, found = collect(_rows(source / file), converter)
    counts['comparisons'][name] = found | summarise(records)
    comparisons += records
  counts['comparisons']['all'] = summarise(comparisons)
  _write(out / 'comparisons.jsonl', comparisons)

  # RL is to meet prompts whose answers the policy has not been told.
  seen = {row['prompt']: 'is a demonstration' for row in demonstrations}
  files = {'oasst': (OASST_PROMPTS, oasst_prompt), 'vicuna': (VICUNA, vicuna)}
  if dolly_prompts:
    files['dolly'] = (DOLLY_OPEN_QA, dolly_open_qa)
  prompts, counts['prompts'] = [], {}
  for name, (file, converter) in files.items():
    records, counts['prompts'][name] = collect(
      _rows(source / file), without_repeats(converter, 'text', seen)
    )
    prompts += [
      {'prompt_id': f'{name}-{i}'} | record
      for i, record in enumerate(records, 1)
    ]
  _write(out / 'prompts.jsonl', prompts)
  text = json.dumps(counts, indent=2) + '\n'
  (out / 'counts.json').write_text(text, encoding='utf-8')
  return counts


def command(argv: Sequence[str]) -> int:
  """Reads the flags, converts, and prints the counts."""
  parser = argparse.ArgumentParser(
    description='Converts public datasets to record files.'
  )
  parser.add_argument('--source', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument(
    '--dolly-prompts',
    action='store_true',
    help="add Dolly's open questions to the prompts",
  )
  args = parser.parse_args(argv)
  counts = convert(args.source, args.out, dolly_prompts=args.dolly_prompts)
  print(json.dumps(counts, indent=2))
  return 0


if __name__ == '__main__':
  sys.exit(cli.run(command, sys.argv[1:]))
