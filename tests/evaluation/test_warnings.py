"""Each early warning speaks once, falls silent and can speak again."""

from __future__ import annotations

import math

import pytest

from instructjax.evaluation import warnings

CALM = {
  'objective/kl': 2.0,
  'objective/entropy': 3.0,
  'rollout/response_length': 20.0,
  'objective/scores': 0.5,
}
RANGE = (-2.0, 4.0)


def _watch(**options):
  watch = warnings.Watch(RANGE, **options)
  assert watch.check(CALM) == []
  return watch


@pytest.mark.parametrize(
  ('name', 'just_calm', 'alarming', 'told'),
  [
    ('objective/kl', 30.0, 30.5, 'running away'),
    ('objective/kl', 30.0, math.nan, 'KL to the reference is nan'),
    ('objective/kl', -1.0, -1.1, 'negative'),
    ('objective/entropy', 0.91, 0.89, 'entropy fell to 0.89'),
    ('rollout/response_length', 6.1, 5.9, 'shrank from 20 to 6'),
    ('rollout/response_length', 50.0, 50.5, 'grew from 20 to 50'),
    ('objective/scores', 4.0, 4.01, 'mean score 4.01 lies outside'),
    ('objective/scores', -2.0, -2.01, r'(-2.00 to 4.00)'),
    ('objective/scores', 0.0, math.nan, 'mean score nan'),
  ],
)
def test_each_rule_fires_once_and_resets(name, just_calm, alarming, told):
  watch = _watch()
  assert watch.check(CALM | {name: just_calm}) == []
  (text,) = watch.check(CALM | {name: alarming})
  assert told in text and '\n' not in text
  assert watch.check(CALM | {name: alarming}) == []  # it has been said
  assert watch.check(CALM) == []
  assert watch.check(CALM | {name: alarming}) == [text]


def test_rules_do_not_silence_one_another():
  watch = _watch()
  far = CALM | {'objective/kl': 99.0}
  assert len(watch.check(far)) == 1
  (text,) = watch.check(far | {'objective/scores': 99.0})
  assert 'mean score' in text
  assert len(watch.check(CALM | {'objective/scores': 99.0})) == 0
  assert len(watch.check(far | {'objective/scores': 99.0})) == 1


def test_first_numbers_stay_the_measure():
  """A slow collapse is one, though no step of it is large."""
  watch, told = _watch(), []
  for _ in range(20):
    entropy = 3.0 * 0.9 ** len(told)
    told.append(watch.check(CALM | {'objective/entropy': entropy}))
  assert [bool(texts) for texts in told].index(True) == 12


def test_thresholds_can_be_set():
  limits = warnings.Thresholds(kl=1.0, score_margin=0.5)
  watch = warnings.Watch(RANGE, limits)
  assert len(watch.check(CALM)) == 1
  calm = CALM | {'objective/kl': 0.0}
  assert watch.check(calm | {'objective/scores': 6.9}) == []
  assert len(watch.check(calm | {'objective/scores': 7.1})) == 1


def test_without_a_range_scores_are_free():
  watch = warnings.Watch()
  assert watch.check(CALM | {'objective/scores': 1e9}) == []


def test_numbers_of_other_stages_say_nothing():
  watch = _watch()
  assert watch.check({'loss/language': 3.0}) == []
  assert warnings.Watch().check({}) == []
