"""The training algorithms by name; a new one is a file and a line here."""

from instructjax.tasks import ppo
from instructjax.tasks import reward_model
from instructjax.tasks import sft

TASKS = {
  'sft': sft.SFT,
  'reward_model': reward_model.RewardModel,
  'ppo': ppo.PPO,
}
