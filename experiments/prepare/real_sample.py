"""A messy raw log made of real prompts, with what was planted in it.

Prompts of several public sources get users, times and sources as a log would
have them, and some of them come again: with a courtesy, in other letters, as a
conversation that grew. Some have personal information, some only numbers that
look like it. What was planted is told apart from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import gzip
import json
import pathlib
import random
from typing import Any
import unicodedata

Row = dict[str, Any]

# Where a row has what it asks, in one layout or the other; in some of these the
# answer follows. Sources that are copied in other forms have none.
_ASKED = 'text', 'instruction', 'prompt'
_ANSWER = ' ### Assistant:'
_PLAIN = 'oasst', 'dolly', 't0', 'tatoeba'
_SHARE_AGAIN, _SHARE_PERSONAL, _SHARE_HARMLESS = 0.06, 0.04, 0.04
_AGAIN: dict[str, Callable[[str], str]] = {
  'the same': lambda text: text,
  'decomposed': lambda text: unicodedata.normalize('NFD', text),
  'full width': lambda text: ''.join(
    chr(ord(c) + 0xFEE0) if '!' <= c <= '~' else c for c in text
  ),
  'no-break spaces': lambda text: text.replace(' ', '\u00a0') + '\u2028',
  'capitals': str.upper,
  'courtesy': lambda text: f'{text} Thank you very much!',
  'cut short': lambda text: text[: len(text) * 9 // 10],
}
_PERSONAL: dict[str, Callable[[random.Random], str]] = {
  'email': lambda draw: (
    f'Mail it to {_name(draw)}{draw.randint(1, 99)}@mail.com.'
  ),
  'phone': lambda draw: f'Call me at (212) 555-0{draw.randint(100, 199)}.',
  'credit_card': lambda draw: f'My card is {_card(draw)}.',
  'iban': lambda draw: f'Pay to {_iban(draw)}.',
  'ssn': lambda draw: f'My SSN is 219-09-{draw.randint(1000, 9999)}.',
  'ip_address': lambda draw: (
    f'My server is 84.{draw.randint(1, 254)}.{draw.randint(1, 254)}.17.'
  ),
}
_HARMLESS: tuple[Callable[[random.Random], str], ...] = (
  lambda draw: f'Order number {draw.randint(10**9, 10**10)}.',
  lambda draw: f'It was on 2021-0{draw.randint(1, 9)}-1{draw.randint(0, 9)}.',
  lambda draw: f'I use version {draw.randint(1, 9)}.{draw.randint(0, 20)}.3.1.',
  lambda draw: f'It costs ${draw.randint(1000, 9999)}.99, @noon.',
  lambda draw: f'See page {draw.randint(100, 999)}-{draw.randint(1000, 9999)}.',
)


def prompts(data: pathlib.Path) -> dict[str, list[Row]]:
  """Returns {source: rows}, in the layouts in which the sources have them."""
  demonstrations = data / 'demonstrations'
  dolly = _rows(demonstrations / 'dolly_short_derived_part1.jsonl')
  asked = _rows(demonstrations / 'dolly_open_qa_part1.jsonl')
  t0 = [
    {'prompt': row['prompt'], 'source': 'labeler'}
    for path in sorted((demonstrations / 't0_p3').glob('*.jsonl'))
    for row in _rows(path)
  ]
  french = (data / 'eval/nlp/tatoeba.fra-eng.part1.fra').read_text('utf-8')
  vicuna = _rows(data / 'prompts/vicuna_bench_question.jsonl')
  oasst = _rows(data / 'prompts/oasst_prompt_lottery_en_250_text.jsonl')
  return {
    'oasst': [{'text': text} for text in oasst],
    'vicuna': [{'turns': row['turns']} for row in vicuna],
    'dolly': [{'instruction': row['instruction']} for row in dolly],
    'dolly_open_qa': [{'text': row['text']} for row in asked],
    'hh': list(_conversations(data)),
    't0': t0,
    'tatoeba': [{'text': line} for line in french.splitlines() if line],
    'few_shot': list(_few_shot(data)),
    'long': [
      {'text': '\n\n'.join(row['prompt'] for row in t0[i::400])}
      for i in range(5)
    ],
  }


def log(data: pathlib.Path, seed: int) -> tuple[list[Row | str], list[Row]]:
  """Returns the lines of a raw log, and for each of them what was planted.

  Returns:
    Rows, and some lines that are none; for each {"source"}, with "again" (in
    which form) and "of" (which line) for what is there already, "personal"
    (kind) and "said" for personal information, "harmless" for numbers.
  """
  draw = random.Random(seed)
  found: list[tuple[Row | str, Row]] = []
  users = [f'u{i}' for i in range(1500)]
  weights = [1 / (i + 1) for i in range(len(users))]

  def add(row: Row, told: Row) -> None:
    user = draw.choices(users, weights)[0]
    found.append(({**_log_fields(draw, user), **row}, told))

  for source, rows in prompts(data).items():
    for row in rows:
      told: Row = {'source': source}
      (name,) = [k for k in _ASKED if k in row and isinstance(row[k], str)] or [
        ''
      ]
      if name and source != 'few_shot':
        row = {**row, name: _with_numbers(draw, row[name], told)}
      add(row, told)
      if source in _PLAIN and draw.random() < _SHARE_AGAIN:
        how = draw.choice(list(_AGAIN))
        text = _AGAIN[how](row[name])
        add({**row, name: text}, {'source': source, 'again': how, 'of': told})
  found += [
    (line, {'source': 'broken'})
    for line in ('{"text": "half a', '{"txt": "no prompt"}', '["no", "row"]')
  ]
  draw.shuffle(found)
  numbers = {id(told): number for number, (_, told) in enumerate(found, 1)}
  for _, told in found:
    if 'of' in told:
      told['of'] = numbers[id(told['of'])]
  return [row for row, _ in found], [told for _, told in found]


def write(path: pathlib.Path, lines: list[Row | str]) -> None:
  """Writes a log as JSON lines."""
  with open(path, 'w', encoding='utf-8') as file:
    for line in lines:
      text = line if isinstance(line, str) else json.dumps(line)
      file.write(f'{text}\n')


def _log_fields(draw: random.Random, user: str) -> Row:
  fields: Row = {'time': draw.randint(1_600_000_000, 1_640_000_000)}
  if draw.random() < 0.97:
    fields['user_id'] = user
  if draw.random() < 0.6:
    fields['organization_id'] = f'o{int(user[1:]) // 5}'
  return fields


def _with_numbers(draw: random.Random, text: str, told: Row) -> str:
  """Returns a text with something behind its question, most often nothing."""
  chance = draw.random()
  if chance >= _SHARE_PERSONAL + _SHARE_HARMLESS:
    return text
  if chance < _SHARE_PERSONAL:
    told['personal'] = draw.choice(list(_PERSONAL))
    said = _PERSONAL[told['personal']](draw)
  else:
    said = draw.choice(_HARMLESS)(draw)
    told['harmless'] = True
  told['said'] = said
  question, mark, answer = text.partition(_ANSWER)
  return f'{question} {said}{mark}{answer}'


def _rows(path: pathlib.Path) -> list[Any]:
  return [json.loads(line) for line in path.read_text('utf-8').splitlines()]


def _conversations(data: pathlib.Path) -> Iterator[Row]:
  """Yields the prompts of HH, of some every turn as it was logged."""
  path = data / 'comparisons/hh_harmless_base_test_part1.jsonl.gz'
  with gzip.open(path, 'rt', encoding='utf-8') as file:
    for number, line in enumerate(file):
      row = json.loads(line)
      if number % 4:
        yield row
        continue
      turns = row['chosen'].split('\n\nHuman: ')[1:]
      messages: list[Row] = []
      for turn in turns:
        asked, _, answer = turn.partition('\n\nAssistant:')
        messages.append({'role': 'user', 'content': asked})
        yield {'messages': list(messages)}
        messages.append({'role': 'assistant', 'content': answer.strip()})


def _few_shot(data: pathlib.Path) -> Iterator[Row]:
  """Yields labelers' few-shot rows of five pairs of sentences each."""
  folder = data / 'eval/nlp'
  sides = [
    (folder / f'tatoeba.fra-eng.part1.{side}').read_text('utf-8').splitlines()
    for side in ('eng', 'fra')
  ]
  pairs = list(zip(*sides, strict=True))[-200:]
  for i in range(0, len(pairs), 5):
    examples = [{'input': a, 'output': b} for a, b in pairs[i : i + 5]]
    yield {
      'kind': 'few_shot',
      'source': 'labeler',
      'use_case': 'rewrite',
      'text': 'Translate the sentence into French.',
      'examples': examples,
    }


def _name(draw: random.Random) -> str:
  return draw.choice(('ann', 'jo.lee', 'm_weber', 'sofia-r'))


def _card(draw: random.Random) -> str:
  digits = [4, *(draw.randint(0, 9) for _ in range(14))]
  doubled = sum(
    d if i % 2 else (2 * d - 9 if d > 4 else 2 * d)
    for i, d in enumerate(digits)
  )
  text = ''.join(map(str, [*digits, -doubled % 10]))
  return ' '.join(text[i : i + 4] for i in range(0, 16, 4))


def _iban(draw: random.Random) -> str:
  account = ''.join(str(draw.randint(0, 9)) for _ in range(18))
  check = 98 - int(f'{account}131400') % 97  # D, E are 13, 14
  return f'DE{check:02}{account}'
