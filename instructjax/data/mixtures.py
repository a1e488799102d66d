"""Several sources of one kind with weights: what a spec says of them.

`A=0.6,B=0.4` is a mixture: every part, cut at commas, ends in =NUMBER, and no
part is a file, folder or glob that is there. Anything else is a plain spec, so
paths with commas and equals signs stay what they were. In a config file
{source: weight} says the same, and a source may hold commas there. Weights are
relative; they need not sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping
import glob
import math
import os
import re

from instructjax import errors

Spec = str | Mapping[str, float]

_WEIGHTED = re.compile(
  r'(?P<source>.+)=(?P<weight>(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)\s*'
)


def parse(spec: Spec) -> dict[str, float]:
  """Returns {source: weight} of a spec; {spec: 1.0} of a plain one.

  Raises:
    UserError: weights on some parts only, none above 0, the same source twice.
  """
  if isinstance(spec, Mapping):
    weighted = [(str(source), weight) for source, weight in spec.items()]
  else:
    parts = spec.split(',')
    found = [_WEIGHTED.fullmatch(part.strip()) for part in parts]
    named = [part for part, f in zip(parts, found, strict=True) if f]
    bare = [part for part, f in zip(parts, found, strict=True) if not f]
    if not named or _is_there(spec) or any(map(_is_there, named)):
      return {spec: 1.0}
    if bare:
      raise errors.UserError(
        f'{spec}: needed a weight behind every source or behind none, got'
        f' {bare[0]!r} without one: write {bare[0]}=NUMBER.'
      )
    weighted = [(f['source'], float(f['weight'])) for f in found]
  mixture = dict(weighted)
  if len(mixture) < len(weighted) or not mixture:
    raise errors.UserError(
      f'{spec}: needed one or more sources, each once, got'
      f' {[source for source, _ in weighted]}: give each one weight.'
    )
  for source, weight in mixture.items():
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not 0 < weight < math.inf:
      raise errors.UserError(
        f'{source}: needed a weight above 0, got {weight}: leave the source'
        ' out, or give it one.'
      )
  return mixture


def _is_there(part: str) -> bool:
  path = os.path.expanduser(part.strip())
  return os.path.exists(path) or (
    glob.has_magic(path) and bool(glob.glob(path, recursive=True))
  )
