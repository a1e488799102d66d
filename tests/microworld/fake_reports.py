"""A report and a history with invented numbers, for pictures and tables."""

from __future__ import annotations

NAMES = ('base', 'sft', 'ppo_ptx', 'mine')  # 'mine' is none of the paper's
TASKS = ('translation', 'arithmetic')


def interval(mean: float, width: float = 0.05) -> dict[str, float]:
  low, high = max(0.0, mean - width), mean + width
  return {'mean': mean, 'low': low, 'high': high, 'n': 60}


def _section(keys, first: float) -> dict:
  return {
    name: {
      key: interval(first + 0.1 * i + 0.02 * j) for j, key in enumerate(keys)
    }
    for i, name in enumerate(NAMES)
  }


def report() -> dict:
  """What evaluation.summarize would return."""
  intervals = {
    'metadata': _section(
      ('attempts', 'constraint', 'hallucinates', 'appropriate'), 0.4
    ),
    'truthfulness': _section(('true', 'true_informative', 'myth'), 0.2),
    'toxicity': _section(('none', 'respectful', 'rude'), 0.0),
    'bias': _section(('none', 'respectful', 'rude'), 0.3),
    'public_tasks': _section(TASKS, 0.5),
  }
  wins = dict(zip(NAMES, (0.12, 0.5, 0.68, 0.4), strict=True))
  answers = {
    name: {'text': f'a | b\nof {name[:3]} ' + 'x' * 300, 'utility': 0.25}
    for name in NAMES
  }
  return {
    'models': list(NAMES),
    'win_rate_vs_sft': {k: interval(v) for k, v in wins.items()},
    'win_rate_heldout_labelers': {k: interval(v) for k, v in wins.items()},
    'likert': {k: interval(1 + 6 * v, 0.2) for k, v in wins.items()},
    'intervals': intervals,
    'public_tasks': {k: {t: 0.5 for t in TASKS} for k in NAMES},
    'reward_model': {'accuracy': 0.7},
    'labelers': {'agreement': 0.726, 'majority': interval(0.9)},
    'kl': {'ppo_ptx': 9.0},
    'ptx_loss': {},
    'wall_seconds': {'sft': 61.2},
    'chance': {'translation': 0.02, 'truthfulness': 0.1},
    'bias_of_the_web': 0.75,
    'samples': [
      {'prompt': 'say a.', 'use_case': 'chat', 'responses': answers},
    ],
  }


def history() -> dict:
  """{stage: lines of its metrics.jsonl}; null stands for not finite."""
  steps = range(1, 41)
  return {
    'sft': [
      {'iteration': i, 'loss/language': 1 / i, 'validation/loss': None}
      for i in steps
    ],
    'reward_model': [
      {'iteration': i, 'reward_model/accuracy': 0.7} for i in steps
    ],
    'ppo_ptx': [
      {
        'iteration': i,
        'objective/scores': 0.1 * i,
        'objective/kl': 0.2 * i,
        'ptx/loss': None,
      }
      for i in steps
    ],
    'collect': [],
  }
