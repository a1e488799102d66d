"""A base model of ten times the size, on the same text: the paper's 175B.

  python -m instructjax.main --config=configs/base_large.py --workdir=RUN
  python -m instructjax.main --config=configs/base_large.py:1.3B,data=DIR \
      --workdir=RUN

Pretraining as in configs/pretrain.py. In a microworld the model has 11.1M
parameters, over eleven times those of `tiny`, and takes longer than all of
configs/ppo_ptx.py, which does not run it but evaluates it beside the others
once it is there; half the text of `tiny` brings it to about the same loss. Of
the other sizes, every one is compared with 175B.
"""

from instructjax import config as config_lib

TEN_TIMES_TINY = {
  'num_layers': 6,
  'd_model': 384,
  'num_heads': 6,
  'head_dim': 64,
  'd_ff': 1536,
}


def get_config(arg='tiny'):
  size, words = config_lib.parse_arg(arg)
  if size == 'tiny':
    config = config_lib.sibling(__file__, 'pretrain', arg)
    config.model.update(TEN_TIMES_TINY)
    config.learning_rate.policy = 3e-3
    if words['data'] == config_lib.MICROWORLD:
      # 1.1M tokens: about the loss of tiny's after 2.2M.
      config.num_epochs = 0.6
      config.batch_size = 32
      config.schedule.warmup_iterations = 50
  else:
    own = f'175B,data={words["data"]}'
    config = config_lib.sibling(__file__, 'pretrain', own)
  config.stage = 'base_large'
  return config
