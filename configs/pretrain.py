"""Pretraining: a language model of your own text, the base of everything.

  python -m instructjax.main --config=configs/pretrain.py --workdir=RUN
  python -m instructjax.main --config=configs/pretrain.py:tiny,data=DIR \
      --workdir=RUN

Reads `pretraining` (JSONL with "text", or .txt), or the microworld's web where
no data is named. Writes RUN/pretrain/model.
`tiny` (1M parameters) trains on 18,000 tokens a second on two free CPU cores;
experiments/real_text shows where its loss ends on English books. The others
follow GPT-3 (arXiv:2005.14165, table 2.1 and appendix B) without its batch-size
ramp: 300B tokens, which few will rent.
"""

import ml_collections

from instructjax import config as config_lib
from instructjax.models import config as model_config

# Sequences per batch and peak learning rate of GPT-3's table 2.1, whose batches
# of 0.5M, 1M, 2M and 3.2M tokens are 2**19, 2**20, 2**21 and 1600 x 2048 here.
GPT3 = {
  'tiny': (32, 2e-3),
  'gpt2': (512, 6.0e-4),
  '350M': (256, 3.0e-4),
  '760M': (256, 2.5e-4),
  '1.3B': (512, 2.0e-4),
  '2.7B': (512, 1.6e-4),
  '6B': (1024, 1.2e-4),
  '13B': (1024, 1.0e-4),
  '175B': (1600, 0.6e-4),
}


def get_config(arg='tiny'):
  size, words = config_lib.parse_arg(arg)
  micro = words['data'] == config_lib.MICROWORLD
  tiny = micro or size == 'tiny'  # the run, whatever the model
  model = model_config.PRESETS[size].to_dict()
  # The tokenizer and the sections below decide these.
  for key in ('vocab_size', 'dtype', 'remat', 'dropout'):
    del model[key]
  batch_size, learning_rate = GPT3[size]
  if micro:
    # Room for two examples before a prompt, or a prompt of 48 tokens and a
    # response.
    model['max_length'] = 96
    # With these a small model copies from its prompt after half the tokens.
    model['positions'] = 'rotary'
    model['qk_norm'] = True
    batch_size = 16
    learning_rate = 8e-3 if size == 'tiny' else learning_rate
  length = model['max_length']
  num_iterations = 0 if tiny else round(300e9 / (batch_size * length))
  return ml_collections.ConfigDict(
    {
      'stage': 'pretrain',
      'task': 'sft',
      'train_on': 'pretraining',
      'model': model,
      'init_from': {'policy': ''},  # empty: drawn at random
      # Further stages that must be finished first, separated by commas.
      'needs': 'microworld' if micro else '',
      'sequence_length': length,
      'batch_size': batch_size,
      'num_microbatches': 1,
      'num_epochs': 1.2 if micro else 1.0,
      'num_iterations': num_iterations,  # 0: as many as num_epochs makes
      'learning_rate': {'policy': learning_rate},
      'schedule': {
        'kind': 'cosine',
        # GPT-3: over the first 375M tokens.
        'warmup_iterations': 100
        if micro
        else 20
        if tiny
        else round(375e6 / batch_size / length),
        'warmup_start': 0.0,
        # GPT-3: the decay ends at 260B of 300B tokens.
        'decay_share': 1.0 if tiny else 260e9 / 300e9,
        'final_fraction': 0.1,
      },
      # Or 'muon', which has the numbers below for what is no matrix. GPT-3 was
      # trained by Adam.
      'optimizer': 'muon' if micro and size == 'tiny' else 'adam',
      'adam': {
        'b1': 0.9,
        'b2': 0.95,
        'eps': 1e-8,
        'weight_decay': 0.1,
        'max_grad_norm': 1.0,
      },
      'dropout': 0.0,
      'save_epochs': False,
      'select_by': 'validation_loss',
      'log_every_iterations': 50 if micro else 10,
      'eval_every_iterations': 500 if micro else 100 if tiny else 1000,
      'max_eval_rows': 256,
      'checkpoint_every_iterations': 500 if micro else 100 if tiny else 500,
      'keep_checkpoints': 2,
      'sample_every_iterations': 200 if tiny else 1000,
      'num_samples': 4,
      'stages': config_lib.stage_configs(
        __file__, {'microworld': size} if micro else {}, words
      ),
      **config_lib.common(size, words),
    }
  )
