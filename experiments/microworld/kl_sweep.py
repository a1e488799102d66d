"""PPO at other KL coefficients, and with more or less of the pretraining mix.

  python -m instructjax.main --config=experiments/microworld/kl_sweep.py \
      --workdir=RUN

The paper's figures 33 and 34: does raising beta undo the alignment tax as the
pretraining mix does? RUN holds the stages of a finished default run, or runs
those it lacks; run.py gives it a copy, so that the default run's own report
stays as it is. Every stage has the prompts, their order and the keys of
configs/ppo.py, and is evaluated beside the models that RUN has.

Source: Ouyang et al. 2022, appendix E.8.
"""

import pathlib

from instructjax import config as config_lib

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'
# The defaults, beta = 0.1 with gamma = 0 or 4, are the run's own.
KL_COEFS = (0.5, 2.0, 8.0)  # with gamma = 0
PTX_COEFS = (0.5, 10.0, 50.0)  # with the default's beta


def settings() -> dict[str, dict[str, float]]:
  """Returns {stage: what it has in place of configs/ppo.py's `hyper`}."""
  found = {_name('ppo_kl', x): {'kl_coef': x} for x in KL_COEFS}
  return found | {_name('ppo_ptx', x): {'ptx_coef': x} for x in PTX_COEFS}


def _name(kind: str, value: float) -> str:
  """A stage's name; a config's keys take no dots."""
  return f'{kind}_{value:g}'.replace('.', '_')


def get_config(arg='tiny'):
  config = config_lib.sibling(str(CONFIGS / 'ppo.py'), 'ppo', arg)
  models = config.evaluate.models.to_dict()
  for name, hyper in settings().items():
    stage = config_lib.as_stage(config)
    stage.stage = name
    stage.hyper.update(hyper)
    config.stages[name] = stage
    models[name] = {'model': f'{name}/model_ema', 'manner': 'instruct'}
  first, *others = settings()
  config.update(config.stages[first])
  del config.stages[first]
  config.also = ','.join(others)
  config.evaluate.models = models
  return config
