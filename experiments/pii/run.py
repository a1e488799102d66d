"""Measures what is found, what it costs, and what other libraries find.

    python -m experiments.pii.run --rivals=VENV/bin/python --data=../shared/data

Both options may be left out. Writes results.json and figures/ beside this file.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable
import json
import pathlib
import subprocess
import time
from typing import Any

from experiments.pii import draw
from experiments.pii import planted
from experiments.pii import real
from experiments.pii import rivals
from experiments.pii import scoring
from instructjax.curation import language
from instructjax.curation import pii
from instructjax.microworld import prompts
from instructjax.microworld import world as world_lib

FOLDER = pathlib.Path(__file__).resolve().parent
PII_RIVALS = 'presidio', 'presidio from 0.4', 'piigex', 'datafog'
LIMITS = 50, 100, 200, 400, 1000


def main() -> None:
  """Runs everything that the options allow."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--rivals', help='python of an environment with them')
  parser.add_argument('--data', type=pathlib.Path, help='folder of real text')
  options = parser.parse_args()
  texts = real.sets(options.data) if options.data else {}
  results = counts()
  results['seconds'] = _costs(texts)
  results['real'] = {name: _real(rows) for name, rows in texts.items()}
  results['languages'] |= _languages(texts)
  if options.rivals:
    results['rivals'] = {
      name: _pii_rival(options.rivals, name) for name in PII_RIVALS
    }
    results['language_rivals'] = {
      name: _language_rival(options.rivals, name, texts)
      for name in rivals.RIVALS
      if name not in PII_RIVALS
    }
  first = json.loads((FOLDER / 'first_look.json').read_text(encoding='utf-8'))
  text = json.dumps(results, indent=1, ensure_ascii=False)
  (FOLDER / 'results.json').write_text(text + '\n', encoding='utf-8')
  draw.draw(results, first, FOLDER / 'figures')
  print(text)


def counts() -> dict[str, Any]:
  """Returns what depends on nothing but the code: what is found of what."""
  found: dict[str, Any] = {'default': {}, 'optional': {}}
  for part in planted.PARTS:
    rows = planted.rows(part)
    for name, kinds, wanted in (
      ('default', pii.DEFAULT_KINDS, [r for r in rows if not r.optional]),
      ('optional', planted.OPTIONAL, [r for r in rows if r.optional]),
    ):
      found[name][part] = scoring.score(
        wanted, lambda row, kinds=kinds: pii.find(row.text, kinds)
      )
  sets = scoring.language_sets()
  found['languages'] = {
    name: scoring.accuracy([k for k, _ in rows], language.tags(_second(rows)))
    for name, rows in sets.items()
  }
  found['microworld'] = _microworld()
  return found


def _second(rows: list[tuple[str, str]]) -> list[str]:
  return [text for _, text in rows]


def _microworld() -> dict[str, Any]:
  """What is found of the addresses and numbers planted in its prompts."""
  world = world_lib.make()
  sets = [*prompts.training(world).values(), prompts.testing(world)]
  every = [prompt for one in sets for prompt in one]
  totals, found = collections.Counter(), collections.Counter()
  wrong = 0
  for prompt in every:
    kinds = [span.kind for span in pii.find(prompt.text)]
    if prompt.pii:
      totals[prompt.pii] += 1
      found[prompt.pii] += prompt.pii in kinds
    wrong += len([kind for kind in kinds if kind != prompt.pii])
  return {
    'prompts': len(every),
    'planted': dict(totals),
    'found': dict(found),
    'wrong': wrong,
  }


def _per_text(function: Callable, texts: list[str], repeats: int = 3) -> float:
  """Microseconds of CPU a text, the least of a few rounds."""
  function(texts[0])
  best = float('inf')
  for _ in range(repeats):
    start = time.process_time()
    for text in texts:
      function(text)
    best = min(best, time.process_time() - start)
  return round(best / len(texts) * 1e6, 2)


def _costs(texts: real.Sets) -> dict[str, float]:
  rows = [row.text for part in planted.PARTS for row in planted.rows(part)]
  costs = {
    'planted, find, us a text': _per_text(pii.find, rows),
    'planted, screen, us a text': _per_text(pii.screen, rows),
  }
  if texts:
    pieces = [text[:700] for _, text in texts['books']][:3000]
    costs |= {
      '700 characters, find, us a text': _per_text(pii.find, pieces),
      '700 characters, screen, us a text': _per_text(pii.screen, pieces),
      '700 characters, language, us a text': _per_text(language.tag, pieces),
    }
  return costs


def _real(rows: list[tuple[str, str]]) -> dict[str, Any]:
  """What is found in text that nothing was planted in; read by hand."""
  texts = _second(rows)
  found = collections.Counter(s.kind for t in texts for s in pii.find(t))
  return {
    'texts': len(texts),
    'characters': sum(map(len, texts)),
    'screened': sum(map(pii.screen, texts)),
    'found': dict(sorted(found.items())),
  }


def _tagged(texts: real.Sets) -> real.Sets:
  return {
    name: rows for name, rows in texts.items() if name in real.OF_ONE_LANGUAGE
  }


def _languages(texts: real.Sets) -> dict[str, Any]:
  """Accuracy on real text, and what looking at its beginning only costs."""
  found: dict[str, Any] = {}
  for name, rows in _tagged(texts).items():
    tags = language.tags(_second(rows))
    found[name] = scoring.accuracy([k for k, _ in rows], tags)
  if texts:
    rows = [(k, text[:700]) for k, text in texts['books']][:3000]
    found['beginnings of 700 characters'] = {
      limit: scoring.accuracy(
        [k for k, _ in rows], language.tags(t[:limit] for _, t in rows)
      )
      | {'us': _per_text(lambda t, n=limit: language.tag(t[:n]), _second(rows))}
      for limit in LIMITS
    }
  return found


def _ask(python: str, name: str, texts: list[str]) -> dict[str, Any]:
  done = subprocess.run(
    [python, str(FOLDER / 'rivals.py'), name],
    input=json.dumps(texts),
    capture_output=True,
    text=True,
    check=True,
  )
  return json.loads(done.stdout)


def _pii_rival(python: str, name: str) -> dict[str, Any]:
  found: dict[str, Any] = {}
  for part in planted.PARTS:
    rows = [row for row in planted.rows(part) if not row.optional]
    answer = _ask(python, name, [row.text for row in rows])
    spans = dict(zip(rows, answer['found'], strict=True))
    found[part] = scoring.score(rows, lambda row, s=spans: s[row])
    found[part]['us a text'] = round(answer['seconds'] / len(rows) * 1e6, 1)
  found['import seconds'] = round(answer['import_seconds'], 2)
  found['reached for'] = answer['reached']
  return found


def _language_rival(python: str, name: str, texts: real.Sets) -> dict[str, Any]:
  # One of them is a thousand times slower.
  most = 300 if 'lingua' in name else 3000
  found: dict[str, Any] = {}
  for key, rows in (scoring.language_sets() | _tagged(texts)).items():
    rows = [(k, text[:700]) for k, text in rows[:most]]
    answer = _ask(python, name, _second(rows))
    found[key] = scoring.accuracy([k for k, _ in rows], answer['found'])
    found[key]['us'] = round(answer['seconds'] / len(rows) * 1e6, 1)
  return found


if __name__ == '__main__':
  main()
