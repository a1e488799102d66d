"""Where the paper's RL starts: few epochs with 10% pretraining text (C.3).

  python -m instructjax.main --config=configs/rl_init.py --workdir=RUN
  python -m instructjax.main --config=configs/rl_init.py:tiny,data=DIR \
      --workdir=RUN

Supervised fine-tuning once more from the base model, as configs/sft.py but
with its own learning rates, 2 epochs, and pretraining text for a tenth of the
rows; in the microworld as many epochs as SFT, for `tiny` at half its rate.
configs/ppo_ptx.py starts from RUN/rl_init when it is there, and from RUN/sft
otherwise.
"""

from instructjax import config as config_lib

# Peak learning rates of PAPER.md, table 1b; those in between take 6B's.
LEARNING_RATE = {'tiny': 1e-3, 'gpt2': 5e-5, '1.3B': 5e-6, '175B': 2.45e-6}


def get_config(arg='tiny'):
  size, words = config_lib.parse_arg(arg)
  config = config_lib.sibling(__file__, 'sft', arg)
  config.stage = 'rl_init'
  config.pretraining_fraction = 0.1
  if words['data'] != config_lib.MICROWORLD:
    config.num_epochs = 2.0
    config.learning_rate.policy = LEARNING_RATE.get(size, 1.04e-5)
  elif size == 'tiny':  # half of SFT's: answers as well, forgets less
    config.learning_rate.policy = 2e-3
  config.select_by = 'last'
  config.save_epochs = False
  return config
