"""The paper's own numbers on its prompt data, to stand beside ours.

Source: Ouyang et al. 2022 (arXiv:2203.02155), tables 1 and 6 to 11 and
appendix A. What is not here is left open in our tables.
"""

from __future__ import annotations

from collections.abc import Mapping

# use case: (share of the API prompts of the RM data, mean length in tokens).
USE_CASES: Mapping[str, tuple[float, int]] = {
  'generation': (0.456, 130),
  'open_qa': (0.124, 89),
  'brainstorming': (0.112, 83),
  'chat': (0.084, 386),
  'rewrite': (0.066, 183),
  'summarization': (0.042, 424),
  'classification': (0.035, 223),
  'other': (0.035, 180),
  'closed_qa': (0.026, 325),
  'extract': (0.019, 304),
}
# (file, source): prompts.
SIZES: Mapping[tuple[str, str], int] = {
  ('sft_train', 'labeler'): 11_295,
  ('sft_train', 'customer'): 1_430,
  ('sft_valid', 'labeler'): 1_550,
  ('sft_valid', 'customer'): 103,
  ('rm_train', 'labeler'): 6_623,
  ('rm_train', 'customer'): 26_584,
  ('rm_valid', 'labeler'): 3_488,
  ('rm_valid', 'customer'): 14_399,
  ('ppo_train', 'customer'): 31_144,
  ('ppo_valid', 'customer'): 16_185,
}
_COLUMNS = ('n', 'mean', 'std', 'median', 'upper', 'max')
# file: tokens of a prompt; 'upper' is the upper quartile.
LENGTHS: Mapping[str, Mapping[str, float]] = {
  file: dict(zip(_COLUMNS, row, strict=True))
  for file, row in {
    'sft_train': (12_725, 408, 433, 283, 632, 2048),
    'sft_valid': (1_653, 401, 433, 234, 631, 2048),
    'rm_train': (33_207, 199, 334, 64, 203, 2032),
    'rm_valid': (17_887, 209, 327, 77, 229, 2039),
    'ppo_train': (31_144, 166, 278, 62, 179, 2044),
    'ppo_valid': (16_185, 186, 292, 71, 213, 2039),
    'test': (3_196, 115, 194, 49, 127, 1836),
  }.items()
}
PER_CUSTOMER: Mapping[str, float] = {
  'sft_train': 1.65,
  'sft_valid': 1.87,
  'rm_train': 5.35,
  'rm_valid': 27.96,
  'ppo_train': 6.01,
  'ppo_valid': 31.55,
  'test': 1.81,
}
# source: tokens of a demonstration.
DEMONSTRATIONS: Mapping[str, Mapping[str, float]] = {
  'labeler': {'n': 12_845, 'mean': 38, 'median': 18},
  'customer': {'n': 1_533, 'mean': 88, 'median': 39},
}
# name: share of the RM data's training prompts.
ANNOTATIONS: Mapping[str, float] = {
  'ambiguous': 0.079,
  'sensitive': 0.069,
  'closed_domain': 0.194,
  'continuation': 0.155,
  'opinion': 0.077,
  'other_constraints': 0.263,
}
ENGLISH = 0.96
