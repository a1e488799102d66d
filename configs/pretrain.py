"""Pretraining: a language model of your own text, the base of everything.

  python -m instructjax.main --config=configs/pretrain.py:tiny,data=DIR \
      --workdir=RUN

Reads `pretraining` (JSONL with "text", or .txt). Writes RUN/pretrain/model.
`tiny` (1M parameters) takes about 3 minutes for 3M tokens on two CPU cores;
its validation loss falls from ln(1024) = 6.9 to about 4 nats per token on
English books. The larger sizes follow GPT-3 (arXiv:2005.14165, table 2.1 and
appendix B) without its batch-size ramp: 300B tokens, which few will rent.
"""

import ml_collections

from instructjax import config as config_lib
from instructjax.models import config as model_config

# Tokens per batch and peak learning rate of GPT-3's table 2.1.
GPT3 = {
  'gpt2': (0.5e6, 6.0e-4),
  '350M': (0.5e6, 3.0e-4),
  '760M': (0.5e6, 2.5e-4),
  '1.3B': (1e6, 2.0e-4),
  '2.7B': (1e6, 1.6e-4),
  '6B': (2e6, 1.2e-4),
  '13B': (2e6, 1.0e-4),
  '175B': (3.2e6, 0.6e-4),
}


def get_config(arg='tiny'):
  size, words = config_lib.parse_arg(arg)
  tiny = size == 'tiny'
  model = model_config.PRESETS[size].to_dict()
  # The tokenizer and the sections below decide these.
  for key in ('vocab_size', 'dtype', 'remat', 'dropout'):
    del model[key]
  length = model['max_length']
  batch_tokens, learning_rate = GPT3.get(size, (8192, 2e-3))
  batch_size = round(batch_tokens / length)
  num_iterations = 0 if tiny else round(300e9 / (batch_size * length))
  return ml_collections.ConfigDict(
    {
      'stage': 'pretrain',
      'task': 'sft',
      'train_on': 'pretraining',
      'model': model,
      'init_from': {'policy': ''},  # empty: drawn at random
      'sequence_length': length,
      'batch_size': batch_size,
      'num_microbatches': 1,
      'num_epochs': 1.0,
      'num_iterations': num_iterations,  # 0: as many as num_epochs makes
      'learning_rate': {'policy': learning_rate},
      'schedule': {
        'kind': 'cosine',
        # GPT-3: over 375M of 300B tokens.
        'warmup_share': 0.05 if tiny else 375e6 / 300e9,
        'warmup_start': 0.0,
        # GPT-3: the decay ends at 260B of 300B tokens.
        'decay_share': 1.0 if tiny else 260e9 / 300e9,
        'final_fraction': 0.1,
      },
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
      'log_every_iterations': 10,
      'eval_every_iterations': 100 if tiny else 1000,
      'max_eval_rows': 256,
      'checkpoint_every_iterations': 100 if tiny else 500,
      'keep_checkpoints': 2,
      'sample_every_iterations': 200 if tiny else 1000,
      'num_samples': 4,
      'stages': {},
      **config_lib.common(size, words),
    }
  )
