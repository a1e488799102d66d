"""The microworld's part of report.md: numbers, figures, answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from instructjax.microworld import figures

# (what is said, (section, key or None), unit); the rows of the table.
_ROWS = (
  ('preferred to SFT ↑', ('win_rate_vs_sft', None), '%'),
  (
    'the same by held-out labelers ↑',
    ('win_rate_heldout_labelers', None),
    '%',
  ),
  ('Likert, 1 to 7 ↑', ('likert', None), ''),
  ('attempts the right task ↑', ('metadata', 'attempts'), '%'),
  ('keeps the constraint ↑', ('metadata', 'constraint'), '%'),
  ('hallucinates, closed domain ↓', ('metadata', 'hallucinates'), '%'),
  ('fit for an assistant ↑', ('metadata', 'appropriate'), '%'),
  ('true ↑', ('truthfulness', 'true'), '%'),
  ('true and informative ↑', ('truthfulness', 'true_informative'), '%'),
  ('tells the myth ↓', ('truthfulness', 'myth'), '%'),
  ('rude, no instruction ↓', ('toxicity', 'none'), '%'),
  ('rude, asked to be respectful ↓', ('toxicity', 'respectful'), '%'),
  ('rude, asked to be rude', ('toxicity', 'rude'), '%'),
  ('pronoun entropy, bits ↑', ('bias', 'none'), ''),
  ('the same, respectful ↑', ('bias', 'respectful'), ''),
  ('the same, rude ↑', ('bias', 'rude'), ''),
)


def markdown(report: Mapping[str, Any], drawn: Sequence[str] = ()) -> str:
  """Tells a person the outcome.

  Args:
    report: of evaluation.summarize.
    drawn: paths of the figures relative to the text.

  Returns:
    A section of Markdown: the table of headline numbers, the figures, and
    all models' answers to the same prompts.
  """
  parts = ['## The microworld', '', *_headline(report), '']
  parts += [*_table(report), '', *_around(report), '']
  for path in drawn:
    parts += [f'![{path}]({path})', '']
  parts += _samples(report)
  return '\n'.join(parts) + '\n'


def _headline(report: Mapping[str, Any]) -> list[str]:
  """The answers to what one asks first."""
  lines = []
  wins = report['win_rate_vs_sft']
  best = max(wins, key=lambda name: wins[name]['mean'])
  lines.append(
    f'Users’ prompts that no training saw: {figures.label(best)} is preferred'
    f' most, to SFT in {_percent(wins[best])} of them.'
  )
  large = report.get('win_rate_ppo_ptx_vs_base_large')
  if large:
    lines.append(
      f'PPO-ptx is preferred to the larger base model in {_percent(large)}.'
    )
  return lines


def _table(report: Mapping[str, Any]) -> list[str]:
  """One column a model; every cell is a mean with its 95% interval."""
  names = report['models']
  tasks = list(next(iter(report['public_tasks'].values()), {}))
  rows = [
    *_ROWS,
    *((f'few-shot {t} ↑', ('public_tasks', t), '%') for t in tasks),
  ]
  head = [figures.label(name) for name in names]
  lines = [
    '| ↑ higher, ↓ lower is better | ' + ' | '.join(head) + ' |',
    '|---|' + '---|' * len(names),
  ]
  for said, (section, key), unit in rows:
    found = [_found(report, section, key, name) for name in names]
    if any(found):
      cells = ' | '.join(_interval(value, unit) for value in found)
      lines.append(f'| {said} | {cells} |')
  for section, said in (
    ('kl', 'KL to the start, nats a response'),
    ('ptx_loss', 'pretraining loss, nats a token ↓'),
  ):
    if report[section]:
      found = [report[section].get(name) for name in names]
      cells = ' | '.join('' if v is None else f'{v:.2f}' for v in found)
      lines.append(f'| {said} | {cells} |')
  return lines


def _found(
  report: Mapping[str, Any], section: str, key: str | None, name: str
) -> Mapping[str, float] | None:
  """The mean and interval of one cell; None where there is none."""
  if key is None:
    return report[section].get(name)
  return report['intervals'][section].get(name, {}).get(key)


def _interval(found: Mapping[str, float] | None, unit: str) -> str:
  if found is None:
    return ''
  scale, digits = (100, 0) if unit == '%' else (1, 2)
  mean, low, high = (
    f'{scale * found[key]:.{digits}f}' for key in ('mean', 'low', 'high')
  )
  return f'**{mean}{unit}** <sub>{low} to {high}</sub>'


def _percent(found: Mapping[str, float]) -> str:
  return (
    f'{found["mean"]:.0%} (95% interval {found["low"]:.0%} to'
    f' {found["high"]:.0%})'
  )


def _around(report: Mapping[str, Any]) -> list[str]:
  """Labelers, the reward model, chance and time: one line each."""
  lines = []
  for said, section in (
    ('Labelers', report['labelers']),
    ('Reward model', report['reward_model']),
    ('Chance', report['chance']),
    ('Pronouns of the web', {'entropy in bits': report['bias_of_the_web']}),
    ('Seconds', report['wall_seconds']),
  ):
    found = [f'{key} {_number(value)}' for key, value in section.items()]
    if found:
      lines.append(f'* {said}: ' + '; '.join(found) + '.')
  return lines


def _number(value: Any) -> str:
  """A number, with its interval if it has one."""
  if isinstance(value, Mapping):
    interval = f' ({value["low"]:.3f} to {value["high"]:.3f})'
    return f'{value["mean"]:.3f}' + ('' if 'low' not in value else interval)
  return f'{value:.0f}' if abs(value) >= 10 else f'{value:.3f}'


def _samples(report: Mapping[str, Any]) -> list[str]:
  """The same prompts side by side; nobody picked them."""
  if not report['samples']:
    return []
  names = report['models']
  head = ' | '.join(figures.label(name) for name in names)
  lines = [
    '### The same prompts, answered by all',
    '',
    'The first plain prompt of a use case; in brackets what the ground truth'
    ' gives the answer, from 0 to 1.',
    '',
    f'| prompt | {head} |',
    '|---|' + '---|' * len(names),
  ]
  for sample in report['samples']:
    cells = [f'*{sample["use_case"]}*: {_cell(sample["prompt"])}']
    for name in names:
      response = sample['responses'][name]
      cells.append(f'{_cell(response["text"])} ({response["utility"]:.2f})')
    lines.append('| ' + ' | '.join(cells) + ' |')
  return lines


def _cell(text: str, width: int = 200) -> str:
  """A text as one table cell; ⏎ stands for a new line."""
  short = text if len(text) <= width else text[: width - 1] + '…'
  short = short.strip().replace('\n', ' ⏎ ')
  for mark in '|*_<`':
    short = short.replace(mark, '\\' + mark)
  return short or '(empty)'
