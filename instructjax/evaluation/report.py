"""The outcome of a run, for a machine, a person and the eye.

Reads what the stages left (metrics.jsonl, summary.json, samples.jsonl) and what
a microworld's models answered (measured.py); writes RUN/report.json,
RUN/report.md and RUN/figures/*.png. Nothing is computed here that is not on
disk, so a report can be made again at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
import functools
import json
import pathlib
import statistics
from typing import Any

from instructjax import metrics
from instructjax import plots
from instructjax.checkpoints import orbax_io
from instructjax.evaluation import measured
from instructjax.microworld import figures as world_figures
from instructjax.microworld import report as world_report

# One figure a stage kind: (title, metric names drawn together).
PANELS = {
  'sft': (
    ('loss, nats per token', ('loss/language', 'validation/loss')),
    ('tokens per second', ('perf/tokens_per_second',)),
  ),
  'reward_model': (
    ('ranking loss', ('loss/ranking',)),
    (
      'pairs ordered as the labelers did',
      ('reward_model/accuracy', 'validation/reward_model_accuracy'),
    ),
  ),
  'ppo': (
    ('reward', ('objective/scores', 'validation/scores')),
    ('KL to the reference, nats a response', ('objective/kl', 'validation/kl')),
    ('pretraining loss, nats per token', ('validation/pretraining_loss',)),
    ('response length, tokens', ('rollout/response_length',)),
  ),
}


def write(root: pathlib.Path) -> dict[str, Any]:
  """Writes the report of all finished stages of a run, and returns it."""
  stages = {}
  for path in sorted(root.glob('*/summary.json'), key=_started):
    config = json.loads((path.parent / 'config.json').read_text())
    stages[path.parent.name] = {
      'task': config['task'],
      'train_on': config.get('train_on', ''),  # some stages train nothing
      'init_from': config['init_from'],
      'seed': config['seed'],
      'summary': json.loads(path.read_text()),
      'data': _read_json(path.parent / 'data.json'),
      'wall_seconds': _wall_seconds(path.parent),
      'speed': _speed(path.parent),
    }
  found = measured.summarize(root, stages)
  report = {'stages': stages, **found}
  orbax_io.write_json(root / 'report.json', report)
  parts = ['# Report', '', *_table(stages), '']
  if found:
    parts.append(_of_the_world(root, report))
  parts += _pictures(draw(root, stages))
  for stage, told in stages.items():
    if told['task'] == 'ppo':
      parts += _samples(root, stage)
  (root / 'report.md').write_text('\n'.join(parts))
  return report


def _of_the_world(root: pathlib.Path, report: Mapping[str, Any]) -> str:
  """Draws the microworld's figures; returns its part of report.md."""
  history = {
    stage: metrics.read(root / stage / 'metrics.jsonl')
    for stage in report['stages']
  }
  drawn = world_figures.draw(report, root / 'figures', history)
  return world_report.markdown(report, [f'figures/{name}' for name in drawn])


def _started(path: pathlib.Path) -> float:
  return (path.parent / 'config.json').stat().st_mtime


def _read_json(path: pathlib.Path) -> Any:
  return json.loads(path.read_text()) if path.exists() else {}


def _wall_seconds(folder: pathlib.Path) -> float:
  lines = metrics.read(folder / 'metrics.jsonl')
  return lines[-1]['wall_seconds'] if lines else 0.0


def _speed(folder: pathlib.Path) -> dict[str, float]:
  """Medians over the lines, the first of which waits for the compiler."""
  found: dict[str, list[float]] = {}
  for line in metrics.read(folder / 'metrics.jsonl'):
    for name, value in line.items():
      if name.startswith(('perf/', 'time/')):
        found.setdefault(name, []).append(value)
  return {name: statistics.median(values) for name, values in found.items()}


def draw(root: pathlib.Path, stages: Mapping[str, Any]) -> list[str]:
  """Draws one figure per stage; returns their paths relative to the run."""
  makers = {
    f'{stage}.png': functools.partial(_curves, root / stage, told['task'])
    for stage, told in stages.items()
  }
  return [f'figures/{name}' for name in plots.save(root / 'figures', makers)]


def _curves(folder: pathlib.Path, task: str) -> Any:
  """A stage's metrics over its iterations; None if there is nothing to show."""
  lines, panels = metrics.read(folder / 'metrics.jsonl'), PANELS.get(task)
  if not lines or not panels:
    return None
  import matplotlib.pyplot as plt

  figure, axes = plt.subplots(
    1, len(panels), figsize=(4 * len(panels), 3), layout='constrained'
  )
  for axis, (title, names) in zip(axes, panels, strict=True):
    for name in names:
      points = [
        (line['iteration'], line[name])
        for line in lines
        if line.get(name) is not None
      ]
      if points:
        axis.plot(*zip(*points, strict=True), label=name, marker=_dot(points))
    axis.set_title(title, fontsize=10)
    axis.set_xlabel('iteration')
    if axis.lines:  # a run without the metric leaves its panel empty
      axis.legend(fontsize=8)
  figure.suptitle(folder.name)
  return figure


def _dot(points: list) -> str:
  return '.' if len(points) < 30 else ''


def _table(stages: Mapping[str, Any]) -> list[str]:
  parts = [
    '| stage | trained on | iterations | minutes | tokens/s | MFU | result |',
    '|---|---|---|---|---|---|---|',
  ]
  for stage, told in stages.items():
    summary = told['summary']
    minutes, speed = told['wall_seconds'] / 60, told['speed']
    tokens, mfu = (
      format(speed[name], form) if name in speed else ''
      for name, form in (
        ('perf/tokens_per_second', ',.0f'),
        ('perf/mfu', '.1%'),  # of known devices only
      )
    )
    parts.append(
      f'| {stage} | {told["train_on"]} | {summary.get("iterations", "")} |'
      f' {minutes:.1f} | {tokens} | {mfu} | {_headline(summary)} |'
    )
  return parts


def _pictures(figures: list[str]) -> list[str]:
  return [part for path in figures for part in (f'![{path}]({path})', '')]


def _headline(summary: Mapping[str, Any]) -> str:
  """The one number of a stage, with its interval where it has one."""
  if 'accuracy' in summary:
    found = summary['accuracy']
    return f'accuracy {_interval(found)} on {found["pairs"]} held-out pairs'
  if 'policy' in summary:
    said = _against_start(summary, 'policy')
    if 'policy_ema' in summary:
      averaged = _against_start(summary, 'policy_ema')
      return f'last weights: {said}<br>averaged: {averaged}'
    return said
  if summary.get('validation_loss') is not None:
    return f'validation loss {summary["validation_loss"]:.3f} nats per token'
  if 'iterations' not in summary:  # of a stage that makes records
    told = [f'{n:,} {name}'.replace('_', ' ') for name, n in summary.items()]
    return ', '.join(told)
  return ''


def _against_start(summary: Mapping[str, Any], name: str) -> str:
  """What reinforcement learning has won and lost with these weights."""
  policy, said = summary[name], []
  if 'scores_gain_over_reference' in policy:
    gain = _interval(policy['scores_gain_over_reference'])
    said.append(f'reward over its start {gain}, KL {_interval(policy["kl"])}')
  if 'pretraining_loss' in policy:
    before = summary['reference']['pretraining_loss']
    after = policy['pretraining_loss']
    said.append(f'pretraining loss {before:.3f} -> {after:.3f}')
  return '; '.join(said)


def _interval(found: Mapping[str, float]) -> str:
  return f'{found["mean"]:.3f} [{found["low"]:.3f}, {found["high"]:.3f}]'


def _samples(root: pathlib.Path, stage: str) -> list[str]:
  """The followed prompts, first answers beside last."""
  lines = metrics.read(root / stage / 'samples.jsonl')
  if not lines:
    return []
  first = min(line['iteration'] for line in lines)
  last = max(line['iteration'] for line in lines)
  before = {x['prompt']: x for x in lines if x['iteration'] == first}
  parts = [f'## Answers of {stage}', '']
  parts += [
    f'| prompt | iteration {first} | iteration {last} |',
    '|---|---|---|',
  ]
  for line in lines:
    if line['iteration'] == last and line['prompt'] in before:
      old = before[line['prompt']]
      cells = (line['prompt'], old['response'], line['response'])
      parts.append('| ' + ' | '.join(_cell(text) for text in cells) + ' |')
  return [*parts, '']


def _cell(text: str, width: int = 160) -> str:
  short = text if len(text) <= width else text[: width - 1] + '…'
  return short.replace('|', '\\|').replace('\n', ' ')
