"""Plain PPO: configs/ppo_ptx.py with gamma = 0, the paper's ablation.

  python -m instructjax.main --config=configs/ppo.py --workdir=RUN
  python -m instructjax.main --config=configs/ppo.py:6B,data=DIR --workdir=RUN

Same prompts, same order, same keys as configs/ppo_ptx.py, so a RUN that holds
both shows what the pretraining mix does: without it, the loss on pretraining
text rises (the paper's alignment tax).
"""

from instructjax import config as config_lib


def get_config(arg='tiny'):
  config = config_lib.sibling(__file__, 'ppo_ptx', arg)
  config.stage = 'ppo'
  config.hyper.ptx_coef = 0.0
  config.also = ''
  for name in ('ppo', 'base_finetuned'):
    if name in config.stages:
      del config.stages[name]
  return config
