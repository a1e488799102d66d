"""Raw logs of any size for the scale experiment, the same for a seed.

Rows look like the paper's as far as cost goes: lengths with its median and
mean (Tables 9 and 10), users with a heavy tail, nearly all English, a few
percent near duplicates, some personal information, some labelers. They mean
nothing: words of a language in random order.
"""

from __future__ import annotations

from collections.abc import Iterator
import json
import pathlib

import numpy as np

BLOCK = 10_000  # rows drawn together; a log of 30k begins with the one of 10k
WORDS = {
  'en': (
    'the of and a to in is you that it he was for on are as with his they at be'
    ' this have from or one had by word but not what all were we when your can'
    ' said there use an each which she do how their if will up other about out'
    ' many then them these so some her would make like him into time has look'
    ' two more write go see number no way could people my than first water been'
    ' call who oil its now find long down day did get come made may part story'
    ' Please, summary. poem. list explain question? answer: company product'
  ),
  'fr': (
    'le la les un une des et à de du que qui dans pour pas vous nous je il elle'
    ' est sont avec sur plus ce cette mais comme très été être écrire expliquer'
    ' réponse question histoire toujours où déjà même après français poème.'
  ),
  'de': (
    'der die das und ist nicht ein eine zu den mit von auf für sie wir ihr ich'
    ' werden über schreiben erklären Geschichte Antwort Frage können müssen'
    ' während größer schön Straße heißt Gedicht. warum weil deshalb'
  ),
  'es': (
    'el la los las un una y de que en por con para no se su es son más pero'
    ' como cómo está también escribir explicar historia respuesta pregunta'
    ' mañana niño después según porque poema.'
  ),
  'ru': (
    'и в не на я что он с как это по но они мы вы за из от так его для был'
    ' написать объяснить рассказ вопрос ответ почему потому когда стихотворение'
  ),
}
SHARES = {'en': 0.95, 'fr': 0.015, 'de': 0.012, 'es': 0.015, 'ru': 0.008}
NEAR_DUPLICATES = 0.03
LABELERS = 0.15
NUMBERS, PERSONAL = 0.15, 0.02
USE_CASES = (
  *('generation', 'open_qa', 'brainstorming', 'chat', 'rewrite'),
  *('summarization', 'classification', 'other', 'closed_qa', 'extract'),
)
COURTESIES = ' Thank you!', ' Please be quick.', ' In two sentences, please.'


def rows(count: int, seed: int) -> Iterator[dict[str, object]]:
  """Yields rows."""
  texts = {name: _text(name, seed) for name in SHARES}
  for block in range(-(-count // BLOCK)):
    draw = np.random.default_rng((seed, block))
    yield from _block(draw, block, min(BLOCK, count - block * BLOCK), texts)


def write(path: pathlib.Path, count: int, seed: int) -> int:
  """Writes a log; returns its size in bytes."""
  part = path.with_suffix('.part')
  with open(part, 'w', encoding='utf-8') as file:
    for row in rows(count, seed):
      file.write(json.dumps(row, ensure_ascii=False) + '\n')
  part.rename(path)
  return path.stat().st_size


def _text(language: str, seed: int) -> list[str]:
  """Returns a long text's words, common ones often."""
  words = WORDS[language].split()
  weights = 1 / np.arange(3, 3 + len(words))
  draw = np.random.default_rng((seed, len(words)))
  chosen = draw.choice(len(words), 200_000, p=weights / weights.sum())
  return [words[i] for i in chosen]


def _block(
  draw: np.random.Generator, block: int, count: int, texts: dict
) -> Iterator[dict[str, object]]:
  """Yields the rows of a block, whatever `count` leaves of it."""
  # Words with a median of 54 and a mean near 150: 62 and 170 tokens.
  lengths = (
    np.exp(draw.normal(np.log(54), 1.52, BLOCK)).clip(3, 1700).astype(int)
  )
  languages = draw.choice(list(SHARES), BLOCK, p=list(SHARES.values()))
  starts = draw.integers(0, 198_000, (BLOCK, 3))
  # A user's rank is heavy-tailed: the number of prompts falls as rank^-0.7.
  ranks = (draw.random(BLOCK) ** (1 / 0.3) * 200_000).astype(int)
  kinds = draw.random((BLOCK, 5))
  numbers = draw.integers(1000, 10_000, (BLOCK, 4))
  written: list[str] = []
  for i in range(count):
    near, labeler, number, personal, which = kinds[i]
    if near < NEAR_DUPLICATES and written:
      text = written[int(which * len(written))] + COURTESIES[i % 3]
    else:
      text = _prompt(texts[languages[i]], starts[i], lengths[i])
      if personal < PERSONAL:
        text += _personal(i, numbers[i])
      elif number < NUMBERS:
        a, b, *_ = numbers[i]
        text += f' Order {a}-{b % 100} of 2021-03-{b % 28 + 1:02}.'
    written.append(text)
    yield {
      'prompt_id': f'p{block * BLOCK + i}',
      'text': text,
      'user_id': f'u{ranks[i]}',
      'organization_id': f'o{ranks[i] // 7}',
      'time': 1_600_000_000 + block * BLOCK + i,
      'source': 'labeler' if labeler < LABELERS else 'customer',
      'use_case': USE_CASES[i % 10],
    }


def _prompt(words: list[str], starts: np.ndarray, length: int) -> str:
  """Returns a text that begins like no other: two short pieces, a long one."""
  a, b, c = starts
  return ' '.join(
    [*words[a : a + 3], *words[b : b + 3], *words[c : c + length]]
  )


def _personal(i: int, numbers: np.ndarray) -> str:
  a, b, c, d = numbers
  return (
    f' Write to someone{a}@example.com.',
    f' My number is (555) 234-{b}.',
    f' Call +44 20 79{a % 100:02} {b}.',
    f' The server is 10.{a % 200}.{b % 200}.{c % 200}.',
    f' Card {a} {b} {c} {d}.',
  )[i % 5]
