"""The microworld: all the text and prompts of a run that brings no data.

  python -m instructjax.main --config=configs/microworld.py --workdir=RUN

Writes RUN/microworld: a small world's web, instructions by its users,
demonstrations by its labelers, in the record formats; some seconds. Every
other config runs this first where it is not told data=FOLDER. The world is
another one for another --config.seed.
"""

import dataclasses

import ml_collections

from instructjax import config as config_lib
from instructjax.microworld import world


def get_config(arg='tiny'):
  size, words = config_lib.parse_arg(arg)
  sizes = dataclasses.asdict(world.WorldConfig())
  del sizes['seed']  # the run's
  return ml_collections.ConfigDict(
    {
      'stage': 'microworld',
      'task': 'microworld',
      'init_from': {},
      'needs': '',
      'world': sizes,
      'stages': {},
      **config_lib.common(size, words),
    }
  )
