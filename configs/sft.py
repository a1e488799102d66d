"""Supervised fine-tuning on demonstrations (paper, appendix C.1).

  python -m instructjax.main --config=configs/sft.py --workdir=RUN
  python -m instructjax.main --config=configs/sft.py:tiny,data=DIR --workdir=RUN

Reads `demonstrations` (prompt, response). Starts from RUN/pretrain, which is
run first if it is not there, or from any model folder
(--config.init_from.policy=FOLDER). Trains 16 epochs (4 in the microworld),
keeps each epoch's model in RUN/sft/epochs and the best as RUN/sft/model.
Validation loss overfits after an epoch or so, as in the paper; more epochs
still raise the reward model's score, by which later stages choose once there is
a reward model. In the microworld validation loss alone chooses.
"""

import ml_collections

from instructjax import config as config_lib

# Peak learning rate and batch size (PAPER.md, table 1b). The paper gives
# 1.3B, 6B and 175B; the sizes in between take the nearest.
PAPER = {
  'tiny': (1e-3, 32),
  'gpt2': (5e-5, 32),
  '175B': (5.03e-6, 8),
}


def get_config(arg='tiny'):
  size, words = config_lib.parse_arg(arg)
  micro = words['data'] == config_lib.MICROWORLD
  tiny = micro or size == 'tiny'  # the run, whatever the model
  half = config_lib.context(size) // 2
  stages = {'pretrain': size} | ({'microworld': size} if micro else {})
  learning_rate, batch_size = PAPER.get(size, (9.65e-6, 32))
  if micro:
    batch_size = 8  # rows of about four demonstrations
    learning_rate = 4e-3 if size == 'tiny' else learning_rate
  return ml_collections.ConfigDict(
    {
      'stage': 'sft',
      'task': 'sft',
      'train_on': 'demonstrations',
      'init_from': {'policy': 'pretrain'},
      'needs': 'microworld' if micro else '',
      # Of GPT-3's context of 2k: prompts over 1k tokens are dropped, responses
      # cut at 1k.
      'max_prompt_length': 48 if micro else 96 if tiny else half,
      'max_response_length': 24 if micro else 64 if tiny else half,
      # Tokens of a row that holds several demonstrations; 0: one a row.
      'pack_to': 96 if micro else 0,
      # What the assistant said, also in earlier turns; or 'response': in the
      # last one; or 'sequence': the prompt's tokens as well.
      'loss_on': 'assistant',
      # Share of pretraining text among the rows (rl_init.py uses it).
      'pretraining_fraction': 0.0,
      'batch_size': batch_size,
      'num_microbatches': 1,
      'num_epochs': 4.0 if micro else 16.0,
      'num_iterations': 0,  # 0: as many as num_epochs makes
      'learning_rate': {'policy': learning_rate},
      'schedule': {
        'kind': 'cosine',
        'warmup_iterations': 0,
        'warmup_start': 0.0,
        'decay_share': 1.0,
        'final_fraction': 0.1,
      },
      # Beta from the paper; the rest it does not print: epsilon and clipping
      # are GPT-3's, and fine-tuning runs without weight decay.
      'optimizer': 'adam',  # or 'muon', see pretrain.py
      'adam': {
        'b1': 0.9,
        'b2': 0.95,
        'eps': 1e-8,
        'weight_decay': 0.0,
        'max_grad_norm': 1.0,
      },
      # Residual. A microworld's model has too few numbers to lose some.
      'dropout': 0.0 if micro else 0.2,
      'save_epochs': True,
      # 'reward_model': the epoch with the best mean reward on validation
      # prompts, once RUN has a reward model; until then, and with
      # 'validation_loss' always, the one with the lowest validation loss.
      'select_by': 'validation_loss' if micro else 'reward_model',
      'log_every_iterations': 10,
      'eval_every_iterations': 100,
      'max_eval_rows': 256,
      'checkpoint_every_iterations': 100,
      'keep_checkpoints': 2,
      'sample_every_iterations': 200,
      'num_samples': 8,
      'stages': config_lib.stage_configs(__file__, stages, words),
      **config_lib.common(size, words),
    }
  )
