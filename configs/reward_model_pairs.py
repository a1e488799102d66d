"""The reward model on shuffled pairs, which the paper found to overfit.

  python -m instructjax.main --config=configs/reward_model_pairs.py \
      --workdir=RUN
  python -m instructjax.main \
      --config=configs/reward_model_pairs.py:6B,data=DIR --workdir=RUN

configs/reward_model.py with every pair of responses a row of its own, all rows
shuffled; as many epochs over the pairs, and about as many pairs a batch. Where
the K-wise batch passes each response once through the model, this one does so
K - 1 times, and takes as much longer: some minutes at `tiny`. Validation and
the numbers of the summary are those of the K-wise model.

Source: Ouyang et al. 2022, section 3.5.
"""

from instructjax import config as config_lib


def get_config(arg='tiny'):
  config = config_lib.sibling(__file__, 'reward_model', arg)
  config.stage = 'reward_model_pairs'
  config.shuffle_pairs = True
  # K = 4 to 9 responses make 6 to 36 pairs, 18 on average. A packed row holds
  # about twice as many pairs as it held prompts.
  config.batch_size *= 8 if config.pack_to else 16
  return config
