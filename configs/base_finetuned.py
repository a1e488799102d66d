"""The base model fine-tuned on public NLP tasks: the FLAN and T0 baselines.

  python -m instructjax.main --config=configs/base_finetuned.py --workdir=RUN
  python -m instructjax.main --config=configs/base_finetuned.py:6B,data=DIR \
      --workdir=RUN

Reads `public_tasks` (prompt, response), where instructions are phrased as in
collections of NLP tasks instead of as users write them. Supervised fine-tuning
as in configs/sft.py; the last epoch is handed on. configs/ppo_ptx.py runs it
on the microworld, to be compared with.

Source: Ouyang et al. 2022, sections 3.5 and 4.1, appendix C.5.
"""

from instructjax import config as config_lib


def get_config(arg='tiny'):
  config = config_lib.sibling(__file__, 'sft', arg)
  config.stage = 'base_finetuned'
  config.train_on = 'public_tasks'
  config.num_epochs = 1.0
  config.select_by = 'last'
  config.save_epochs = False
  return config
