"""Responses of SFT and of the base model, ranked by the microworld's labelers.

  python -m instructjax.main --config=configs/collect.py --workdir=RUN

Samples K = 4 to 9 responses to each prompt that RUN/microworld/to_rank.jsonl
lists, but for the longest, and has one labeler rate them and rank them with
ties (paper, section 3.4): the reward model's comparisons.jsonl. The prompts are
drawn again from world.json, as labelers judge by more than a text. Responses to
the test users' prompts are ranked as well, by labelers who train and by
labelers who never do: labelers_test.jsonl and labelers_heldout.jsonl. A
minute and a half on two CPU cores.
"""

import ml_collections

from instructjax import config as config_lib


def get_config(arg='tiny'):
  size, words = config_lib.parse_arg(arg)
  return ml_collections.ConfigDict(
    {
      'stage': 'collect',
      'task': 'collect',
      'init_from': {'policy': 'sft', 'base': 'pretrain'},
      # Share of the responses that the base model gives, behind its page.
      'base_share': 0.25,
      'needs': 'microworld',
      'min_responses': 4,
      'max_responses': 9,
      # The longest 3% of the prompts would double what all of them cost.
      'max_prompt_length': 32,
      'max_response_length': 24,
      'temperature': 1.0,
      'batch_size': 256,  # responses sampled at a time
      'stages': config_lib.stage_configs(
        __file__,
        {'microworld': size, 'pretrain': size, 'sft': size},
        words,
      ),
      **config_lib.common(size, words),
    }
  )
