"""Real text to run on, read from a folder outside the project."""

from __future__ import annotations

import gzip
import json
import pathlib

# (language or '', text)
Sets = dict[str, list[tuple[str, str]]]
OF_ONE_LANGUAGE = (
  'Tatoeba, French',
  'Tatoeba, English',
  'OASST prompts',
  'Dolly',
  'books',
)


def sets(folder: pathlib.Path) -> Sets:
  """Returns texts by source, most of them known to be of one language."""

  def path(name: str) -> pathlib.Path:
    return next(folder.rglob(name))

  def lines(name: str) -> list[str]:
    opened = gzip.open if name.endswith('.gz') else open
    with opened(path(name), 'rt', encoding='utf-8') as file:
      return [line.rstrip('\n') for line in file if line.strip()]

  def field(name: str, *keys: str) -> list[str]:
    rows = map(json.loads, lines(name))
    return [' '.join(row[key] for key in keys) for row in rows]

  books = [
    text[at : at + 700]
    for book in sorted(folder.rglob('books/**/*.md'))
    for text in [book.read_text(encoding='utf-8')]
    # Past the title and the publisher's page.
    for at in range(2000, len(text) - 700, 700)
  ]
  found = {
    'Tatoeba, French': ('fr', lines('tatoeba.fra-eng.part1.fra')),
    'Tatoeba, English': ('en', lines('tatoeba.fra-eng.part1.eng')),
    'OASST prompts': (
      'en',
      list(map(json.loads, lines('oasst_prompt_lottery_en_250_text.jsonl'))),
    ),
    'Dolly': ('en', field('dolly_short_derived_part1.jsonl', 'instruction')),
    'books': ('en', books),
    'GSM8K': ('', field('gsm8k_train.jsonl', 'question')),
    'Dolly, open questions': ('', field('dolly_open_qa_part1.jsonl', 'text')),
    'T0 prompts': (
      '',
      [
        json.loads(line)['prompt']
        for file in sorted(folder.rglob('t0_p3/*'))
        for line in file.read_text(encoding='utf-8').splitlines()
      ],
    ),
    'HH harmless': (
      '',
      field('hh_harmless_base_test_part1.jsonl.gz', 'chosen'),
    ),
  }
  return {
    name: [(tag, text) for text in texts]
    for name, (tag, texts) in found.items()
  }
