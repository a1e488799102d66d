"""Telling good reviews from bad ones, and animals from objects."""

from __future__ import annotations

import random
import re
from typing import Any

from instructjax.microworld import language
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import base


def make_sentiment(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks whether a review is good or bad."""
  del world
  quality = draw.choice(world_lib.QUALITIES)
  review = language.fill(draw.choice(language.REVIEWS), draw, quality=quality)
  form = draw.choice(('is this review good or bad? {}', 'good or bad? {}'))
  label = 'good' if quality in world_lib.GOOD else 'bad'
  return form.format(review), {'label': label, 'labels': ['good', 'bad']}


def make_topic(
  world: world_lib.World, draw: random.Random
) -> tuple[str, dict[str, Any]]:
  """Asks which of three categories a word is of."""
  del world
  word = draw.choice(sorted(base.SLOT_OF))
  label = base.SLOT_OF[word]
  others = sorted(set(base.SLOT_OF.values()) - {label})
  labels = [label, *draw.sample(others, 2)]
  draw.shuffle(labels)
  form = draw.choice(('{}, {} or {}: {}?', 'is this a {}, {} or {}? {}.'))
  text = form.format(*labels, word)
  return text, {'label': label, 'labels': labels}


def answer_label(
  world: world_lib.World, draw: random.Random, spec: base.Spec
) -> str:
  """Says the class."""
  del world, draw
  return f'{spec["label"]}.'


def check_label(
  world: world_lib.World, spec: base.Spec, text: str
) -> base.Check:
  """Right if it gives that class and no other."""
  del world
  reading = base.read(text)
  given = [_label(s, spec['labels']) for s in reading.sentences]
  given = [label for label in given if label]
  right = sum(label == spec['label'] for label in given)
  return base.check(
    None,
    reading,
    bool(given),
    right / max(1, len(reading.sentences)),
    legal=lambda s: _label(s, spec['labels']) is not None,
    claims=len(given),
    false_claims=len(given) - right,
  )


def _label(sentence: str, labels: list[str]) -> str | None:
  text = re.sub(
    r'^(?:it is |the review is )?(?:an? )?', '', sentence.rstrip('.')
  )
  return text if text in labels else None


TASKS = (
  base.Task(
    'sentiment',
    'classification',
    2.0,
    make_sentiment,
    answer_label,
    check_label,
    closed_domain=True,
    max_words=4,
    few_shot=True,
  ),
  base.Task(
    'topic',
    'classification',
    1.5,
    make_topic,
    answer_label,
    check_label,
    closed_domain=True,
    max_words=4,
    few_shot=True,
  ),
)
