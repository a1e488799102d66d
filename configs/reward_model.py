"""The reward model on ranked responses (paper, appendix C.2).

  python -m instructjax.main --config=configs/reward_model.py --workdir=RUN
  python -m instructjax.main --config=configs/reward_model.py:tiny,data=DIR \
      --workdir=RUN

Reads `comparisons` (prompt, K = 2..9 responses, their ranks) and, to put the
reward's zero at the labelers' own answers, `demonstrations`; in the microworld,
configs/collect.py makes the comparisons first. Starts from
RUN/sft with a new scalar head; --config.init_from.policy=pretrain takes the
base model instead, as the microworld does, where that orders more pairs
rightly. One epoch (two in the microworld): more overfit, as the paper found.
The paper's reward model has 6B parameters whatever the policy's size.
"""

import ml_collections

from instructjax import config as config_lib


def get_config(arg='tiny'):
  size, words = config_lib.parse_arg(arg)
  micro = words['data'] == config_lib.MICROWORLD
  tiny = micro or size == 'tiny'  # the run, whatever the model
  tiny_world = micro and size == 'tiny'
  own = size if size in ('tiny', 'gpt2', '350M', '760M') else '6B'
  half = config_lib.context(own) // 2
  # The stages it grows from are the run's own if they have its size.
  suffix = '' if own == size else f'_{own}'
  sizes = {f'pretrain{suffix}': own, f'sft{suffix}': own}
  if micro:
    sizes |= {'microworld': size, 'collect': size}
  config = ml_collections.ConfigDict(
    {
      'stage': 'reward_model',
      'task': 'reward_model',
      'train_on': 'comparisons',
      'init_from': {'policy': 'pretrain' if micro else f'sft{suffix}'},
      'needs': 'collect' if micro else '',
      'max_prompt_length': 48 if micro else 96 if tiny else half,
      'max_response_length': 24 if micro else 64 if tiny else half,
      'max_responses': 9,  # K_max: rows are padded to it
      # Tokens of a row that holds several prompts, each with all its responses;
      # 0: one prompt a row, padded.
      'pack_to': 264 if micro else 0,
      # Every pair a row of its own (configs/reward_model_pairs.py).
      'shuffle_pairs': False,
      'batch_size': 8 if micro else 16 if tiny else 64,  # rows
      'num_microbatches': 1,
      'num_epochs': 2.0 if micro else 1.0,
      'num_iterations': 0,  # 0: as many as num_epochs makes
      'learning_rate': {
        'reward_model': 3e-3
        if tiny_world
        else {'tiny': 1e-3, 'gpt2': 2e-5}.get(size, 9e-6)
      },
      'schedule': {
        'kind': 'cosine',
        'warmup_iterations': 0,
        'warmup_start': 0.0,
        'decay_share': 1.0,
        'final_fraction': 0.1,
      },
      'optimizer': 'muon' if tiny_world else 'adam',  # see pretrain.py
      'adam': {
        'b1': 0.9,
        'b2': 0.95,
        'eps': 1e-8,
        'weight_decay': 0.0,
        'max_grad_norm': 1.0,
      },
      'log_every_iterations': 20 if micro else 5,
      'eval_every_iterations': 100 if micro else 20 if tiny else 100,
      'max_eval_rows': 1024,
      'checkpoint_every_iterations': 100 if micro else 20 if tiny else 100,
      'keep_checkpoints': 2,
      'sample_every_iterations': 100 if micro else 20 if tiny else 100,
      'num_samples': 8,
      'stages': {},
      **config_lib.common(size, words),
    }
  )
  stages = config_lib.stage_configs(__file__, sizes, words)
  if suffix:
    stages[f'sft{suffix}'].init_from.policy = f'pretrain{suffix}'
  config.stages = stages
  return config
