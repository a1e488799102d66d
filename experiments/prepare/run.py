"""instructjax.prepare on the microworld's raw logs and on a messy real sample.

  python experiments/prepare/run.py --workdir=DIR --data=../shared/data

Writes both logs to DIR, runs the command on each, compares what was dropped
with what was planted, and tries other lengths of a common prefix. Writes
results.json, and both logs' tables and figures, beside this file. The folder
of --data holds public data sets that are no part of this project; without it
only the microworld is run.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Mapping, Sequence
import json
import pathlib
import shutil
import sys

_HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE.parents[1]), str(_HERE)]

import real_sample  # noqa: E402

from instructjax import cli  # noqa: E402
from instructjax import prepare  # noqa: E402
from instructjax.curation import pii  # noqa: E402
from instructjax.curation import rows  # noqa: E402
from instructjax.curation import rules  # noqa: E402
from instructjax.curation import settings  # noqa: E402
from instructjax.microworld import files as world_files  # noqa: E402
from instructjax.microworld import prompts as world_prompts  # noqa: E402
from instructjax.microworld import world as world_lib  # noqa: E402

MIN_CHARS = (24, 32, 48, 64, 100, 200)
MIN_SHARES = (0.7, 0.8, 0.9, 1.0)
Planted = Mapping[str, Mapping]  # by 'FILE:LINE'


def command(log: pathlib.Path, out: pathlib.Path, *more: str) -> dict:
  """Runs the command; returns its ledger and its time."""
  shutil.rmtree(out, ignore_errors=True)
  status = cli.run(prepare.command, [f'--prompts={log}', f'--out={out}', *more])
  if status:
    raise SystemExit(status)
  return json.loads((out / 'ledger.json').read_text())


def lines(path: pathlib.Path) -> list[dict]:
  """Reads JSON lines."""
  return [json.loads(line) for line in path.read_bytes().splitlines()]


def dropped(out: pathlib.Path) -> dict[str, dict[str, str | None]]:
  """Returns {rule: {row: the row it repeats}}."""
  found: dict[str, dict] = collections.defaultdict(dict)
  for row in lines(out / 'dropped.jsonl'):
    found[row['rule']][row['row']] = row['duplicate_of']
  return found


def check(out: pathlib.Path, min_chars=64, min_share=0.8) -> dict[str, int]:
  """Counts what must not be: users in two splits, twins, PII in training."""
  users, keys, personal = collections.defaultdict(set), [], 0
  for name in settings.FILES:
    for row in lines(out / f'{name}.jsonl'):
      split = name.rpartition('_')[2]
      if 'user_id' in row:
        users[row['user_id']].add(split)
      keys.append(rules.comparison_key(row['text']))
      personal += split == 'train' and bool(pii.find(row['text']))
  twins = find_twins(keys, min_chars, min_share)
  return {
    'prompts': len(keys),
    'users': len(users),
    'users_in_two_splits': sum(len(splits) > 1 for splits in users.values()),
    'twins': int((twins >= 0).sum()),
    'personal_in_training': personal,
  }


def find_twins(keys: Sequence[str], min_chars: int, min_share: float):
  """Returns which key each one repeats, or -1."""
  order = sorted(range(len(keys)), key=lambda i: (-len(keys[i]), keys[i], i))
  ranks = [0] * len(keys)
  for rank, i in enumerate(order):
    ranks[i] = rank
  return rules.twins(keys, ranks, min_chars=min_chars, min_share=min_share)


def sweep(texts: Mapping[str, Sequence[str]]) -> list[dict]:
  """Counts prompts of each source that other lengths of a prefix would drop,
  beyond those with an equal key."""
  found = []
  for source, given in texts.items():
    keys = sorted({rules.comparison_key(text) for text in given})
    for min_chars in MIN_CHARS:
      for min_share in MIN_SHARES:
        count = int((find_twins(keys, min_chars, min_share) >= 0).sum())
        limits = {'min_chars': min_chars, 'min_share': min_share}
        found.append(
          {'source': source, 'keys': len(keys), **limits} | {'dropped': count}
        )
  return found


def microworld(workdir: pathlib.Path) -> dict:
  """The default world's raw logs, by the defaults and by shorter prefixes."""
  folder = workdir / 'microworld'
  folder.mkdir(parents=True, exist_ok=True)
  world = world_lib.make(world_lib.WorldConfig())
  planted, texts = {}, {}
  for name, found in world_prompts.training(world).items():
    path = folder / f'{name}.jsonl'
    world_files.write_rows(path, [prompt.to_record() for prompt in found])
    for i, prompt in enumerate(found, 1):
      planted[f'{path}:{i}'] = prompt
      texts[prompt.text] = f'{path}:{i}'
  again = {
    texts[text.removesuffix(courtesy)]
    for text in texts
    for courtesy in (' thank you.', ' please be quick.')
    if text.endswith(courtesy) and text.removesuffix(courtesy) in texts
  }
  personal = {place for place, prompt in planted.items() if prompt.pii}
  told = {
    'near_duplicates_planted': len(again),
    'personal_planted': len(personal),
  }
  limits = {'default': (64, 0.8), 'whole_prompt_of_24': (24, 1.0)}
  for name, (chars, share) in limits.items():
    out = workdir / f'microworld_{name}'
    more = f'--config.min_chars={chars}', f'--config.min_share={share}'
    ledger = command(folder, out, *more)
    gone = dropped(out)
    twins = set(gone['common_prefix'])
    told[name] = {
      'ledger': ledger,
      'checks': check(out, chars, share),
      'near_duplicates_dropped': len(again & twins),
      'others_dropped_as_twins': len(twins - again),
      'personal_dropped': len(personal & set(gone['pii'])),
      'not_personal_dropped': len(set(gone['pii']) - personal),
      'personal_left_in_training': left_in_training(out, personal, planted),
    }
  told['sweep'] = sweep({'microworld': [p.text for p in planted.values()]})
  return told


def left_in_training(out: pathlib.Path, personal: set[str], planted) -> int:
  """Counts prompts with planted personal information in training files."""
  texts = {planted[place].text for place in personal}
  return sum(
    row['text'] in texts
    for name in settings.FILES
    if name.endswith('train')
    for row in lines(out / f'{name}.jsonl')
  )


def real(workdir: pathlib.Path, data: pathlib.Path) -> dict:
  """The messy sample."""
  log, out = workdir / 'real' / 'raw.jsonl', workdir / 'real_out'
  log.parent.mkdir(parents=True, exist_ok=True)
  found, told = real_sample.log(data, seed=0)
  real_sample.write(log, found)
  planted = {f'{log}:{i}': entry for i, entry in enumerate(told, 1)}
  ledger = command(log, out, '--config.on_bad_row=skip')
  gone = dropped(out)
  fate = {place: rule for rule, places in gone.items() for place in places}
  by_source = collections.defaultdict(collections.Counter)
  for place, entry in planted.items():
    by_source[entry['source']]['rows'] += 1
    by_source[entry['source']][fate.get(place, 'written')] += 1
  texts = {
    name: [p.text for row in given for p in rows.parse(row, f'{name}:1')]
    for name, given in real_sample.prompts(data).items()
  }
  return {
    'ledger': ledger,
    'checks': check(out),
    'again': repeated(log, told, fate),
    'personal': numbers(told, out, 'personal'),
    'harmless': numbers(told, out, 'harmless'),
    'by_source': by_source,
    'sweep': sweep(texts),
  }


def repeated(log: pathlib.Path, told: Sequence[Mapping], fate: Mapping) -> dict:
  """Counts pairs of a prompt and the same in another form, by form: of how
  many one was dropped as the other's twin, and how many both stayed because
  the shorter has less than 64 characters, or for no such reason."""
  texts = log.read_text('utf-8').split('\n')
  found = collections.defaultdict(collections.Counter)
  for i, entry in enumerate(told, 1):
    if 'again' not in entry:
      continue
    pair = i, entry['of']
    if any(fate.get(f'{log}:{n}') == 'common_prefix' for n in pair):
      found[entry['again']]['dropped'] += 1
      continue
    keys = [
      rules.comparison_key(rows.parse(json.loads(texts[n - 1]), 'x:1')[0].text)
      for n in pair
    ]
    short = min(map(len, keys)) < 64
    found[entry['again']]['short' if short else 'missed'] += 1
  return found


def numbers(told: Sequence[Mapping], out: pathlib.Path, kind: str) -> dict:
  """Counts what was planted and stands in training and other files."""
  texts = {
    name: '\n'.join(row['text'] for row in lines(out / f'{name}.jsonl'))
    for name in settings.FILES
  }
  found = collections.defaultdict(collections.Counter)
  for entry in told:
    if kind in entry:
      counts = found[str(entry[kind])]
      counts['planted'] += 1
      for name, text in texts.items():
        if entry['said'] in text:
          training = name.endswith('_train')
          counts['in training' if training else 'in other files'] += 1
  return found


def main() -> int:
  """Runs both, writes results.json and the figures."""
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument('--workdir', type=pathlib.Path, required=True)
  flags.add_argument('--data', type=pathlib.Path)
  options = flags.parse_args()
  options.workdir.mkdir(parents=True, exist_ok=True)
  path = _HERE / 'results.json'
  results = json.loads(path.read_text()) if path.exists() else {}
  results['microworld'] = microworld(options.workdir)
  shown = {'microworld': options.workdir / 'microworld_default'}
  if options.data:
    results['real'] = real(options.workdir, options.data)
    shown['real'] = options.workdir / 'real_out'
  path.write_text(json.dumps(results, indent=1) + '\n')
  for name, out in shown.items():
    figures = _HERE / name / 'figures'
    shutil.copytree(out / 'figures', figures, dirs_exist_ok=True)
    shutil.copy(out / 'stats.md', _HERE / name / 'stats.md')
  return 0


if __name__ == '__main__':
  sys.exit(main())
