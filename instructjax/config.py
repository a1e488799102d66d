"""Config files: loading one, its command-line overrides, its JSON form.

A config file is plain Python with `get_config(arg='tiny')` that returns an
ml_collections.ConfigDict. `FILE.py:ARG` passes ARG on; ARG is words separated
by commas, a model size among them and `key=value` pairs.

ml_collections' own flags load files through an interface that Python has
removed, hence the few lines here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
import importlib.machinery
import importlib.util
import pathlib
import sys
import traceback
from typing import Any

import ml_collections

from instructjax import errors
from instructjax.models import config as model_config

ConfigDict = ml_collections.ConfigDict
SIZES = (
  'tiny',
  'gpt2',
  '350M',
  '760M',
  '1.3B',
  '2.7B',
  '6B',
  '13B',
  '175B',
)
# A data folder of this name is the world that the run generates for itself.
MICROWORLD = 'microworld'
# Keys of config.data that say how to read it, not where it is.
HOW_TO_READ = (
  *('validation_fraction', 'on_bad_row', 'max_bad_share'),
  *('stream_above_bytes', 'tfds_dir'),
)
# Sections that a stage takes over from the run it is a part of.
SHARED = (
  'seed',
  'data',
  'tokenizer',
  'mesh',
  'dtype',
  'remat',
  'frozen',
  'optimizer_dtype',
  'attention_kernel',
  'profile_steps',
  'wandb_project',
)
# What a run does around its stages; no stage keeps it.
OF_THE_RUN = ('stages', 'also', 'evaluate')


def load(spec: str, overridden: Iterable[str] = ()) -> ConfigDict:
  """Returns the locked config of 'FILE.py' or 'FILE.py:ARG'.

  Args:
    spec: the file and its argument. The argument's word base=FOLDER is read
      here, for all config files alike: see `start_from`.
    overridden: keys that are going to be set. Who sets one of config.data has
      data of his own, and gets the config for that without saying data=.

  Raises:
    UserError: if there is no such file, or it has no get_config.
  """
  path, _, arg = spec.partition(':')
  get_config = _module(pathlib.Path(path)).get_config
  words = arg.split(',')
  bases = [word for word in words if word.startswith('base=')]
  arg = ','.join(word for word in words if word not in bases)
  config = get_config(*([arg] if arg else []))
  named = any(word.startswith('data=') for word in arg.split(','))
  own = {k for k in overridden if k.startswith('data.')} - {
    f'data.{key}' for key in HOW_TO_READ
  }
  if own and not named and config.data.folder == MICROWORLD:
    config = get_config(f'{arg},data=')
  if len(bases) > 1:
    raise errors.UserError(
      f'--config={spec}: needed one base=FOLDER, given {len(bases)}: choose'
      ' one.'
    )
  if bases:
    start_from(config, bases[0].removeprefix('base='))
  return config.lock()


def start_from(config: ConfigDict, base: str) -> None:
  """Puts a model folder in the place of the language model that a run trains.

  Every stage that would start from 'pretrain', or from 'pretrain_SIZE', starts
  from the folder; so does a run's own stage that would draw a model at random.

  Args:
    config: of a run, changed.
    base: a model folder of ours or of Hugging Face.

  Raises:
    UserError: if the run has no such stage, or the word no folder.
  """
  if not base:
    raise errors.UserError('base= needs a model folder: base=FOLDER.')
  # A path is told from a stage's name by its slash.
  folder = base if '/' in base else f'./{base}'
  count = 0
  for part in (config, *config.stages.values()):
    for role, value in part.init_from.items():
      if value.split('_')[0] == 'pretrain' or (part is config and not value):
        part.init_from[role] = folder
        count += 1
  if not count:
    raise errors.UserError(
      f'base={base}: no stage of this config starts from a language model:'
      ' leave the word out.'
    )


def _module(path: pathlib.Path) -> Any:
  if not path.is_file():
    known = [str(p) for p in path.parent.glob('*.py')]
    raise errors.UserError(
      f'--config={path}: there is no such file.'
      f'{errors.nearest(str(path), known)}'
    )
  name = f'config_{path.stem}'
  loader = importlib.machinery.SourceFileLoader(name, str(path))
  spec = importlib.util.spec_from_loader(name, loader)
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # where dataclasses look their types up
  try:
    loader.exec_module(module)
  except SyntaxError as error:
    raise errors.UserError(
      f'--config={path}: needed Python, got in line {error.lineno or 1}'
      f' "{error.msg}": mend that line.'
    ) from error
  except errors.UserError:
    raise
  except Exception as error:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f.lineno for f in frames if f.filename == str(path)]
    line = own[-1] if own else 1  # none has begun to run
    raise errors.UserError(
      f'--config={path}: needed Python that runs, got in line {line}'
      f' "{type(error).__name__}: {errors.first_line(error)}": mend that line.'
    ) from error
  if not hasattr(module, 'get_config'):
    raise errors.UserError(
      f'--config={path}: a config file must define get_config(arg).'
    )
  return module


def parse_arg(arg: str) -> tuple[str, dict[str, str]]:
  """Splits a config's ARG into a model size and its key=value words.

  Without data=FOLDER, `tiny` lives in the microworld; the other sizes want
  more text than it has.

  Returns:
    The size, and the words, 'data' always among them.

  Raises:
    UserError: for an unknown size or word.
  """
  size, words = 'tiny', {}
  for word in filter(None, arg.split(',')):
    key, equals, value = word.partition('=')
    if equals and key == 'data':
      words[key] = value
    elif not equals and word in SIZES:
      size = word
    else:
      raise errors.UserError(
        f'config argument {word!r} is neither a model size'
        f' ({", ".join(SIZES)}) nor data=FOLDER nor'
        f' base=FOLDER.{errors.nearest(word, SIZES)}'
      )
  words.setdefault('data', MICROWORLD if size == 'tiny' else '')
  return size, words


def context(size: str) -> int:
  """Returns how many tokens a model of this size sees at once."""
  return model_config.PRESETS[size].max_length


def common(size: str, words: Mapping[str, str]) -> dict[str, Any]:
  """Returns the sections that every stage of a run shares."""
  big = size in ('1.3B', '2.7B', '6B', '13B', '175B')
  micro = words['data'] == MICROWORLD
  vocab_size = 1280 if micro else 1024 if size == 'tiny' else 50257
  return {
    'seed': 0,
    # Records, each a path, glob, folder, tfds:NAME:SPLIT or comma-separated
    # list, or a mixture with weights, A=0.8,B=0.2 (docs/sources.md). What is
    # not given is looked for by name in `folder`. 'microworld' is no folder
    # of yours (that would be ./microworld) but the world the run generates.
    'data': {
      'folder': words['data'],
      'pretraining': '',
      'demonstrations': '',
      'comparisons': '',
      'prompts': '',
      'public_tasks': '',
      # Where datasets named as tfds:NAME:SPLIT lie; '': TFDS's own default.
      'tfds_dir': '',
      # Share of the users, labelers or prompts held out for validation.
      'validation_fraction': 0.1,
      # A row that is broken or no record: 'refuse' it, or 'skip' and list it.
      'on_bad_row': 'refuse',
      # Share of a kind's rows that may be skipped; more are refused.
      'max_bad_share': 0.01,
      # Pretraining text of more is read as training goes on, not loaded.
      'stream_above_bytes': 256 * 2**20,
    },
    # The vocabulary of a tokenizer trained on the run's own text.
    'tokenizer': {'vocab_size': vocab_size},
    # Devices per axis; -1 takes what is left. Billions of parameters and
    # their moments do not fit one device, so they are split by default.
    'mesh': {
      'data': 1 if big else -1,
      'fsdp': -1 if big else 1,
      # With 8, a minibatch of 64 episodes is a row for each of 512 chips.
      'tensor': 8 if size == '175B' else 1,
    },
    # 'auto' computes in bfloat16 where the device has it.
    'dtype': 'auto',
    # What the backward pass recomputes: 'none', 'dots' or 'full'.
    'remat': 'full' if big else 'none',
    # Models that are not trained: PPO's reference and reward model.
    'frozen': {
      # How their weights are kept; 'auto': as the device computes.
      'dtype': 'auto',
      # Axes of the mesh that split them where fsdp splits trained ones:
      # 'fsdp', 'data,fsdp', or '' to have them whole but for tensor.
      'over': 'fsdp',
      # Between uses they wait in the memory of the host.
      'offload': False,
    },
    # How the optimiser's moments are kept: 'float32' or 'bfloat16'.
    'optimizer_dtype': 'float32',
    # What computes attention, where it can: 'auto' is 'splash' on TPUs, 'cudnn'
    # on NVIDIA GPUs (Ampere and later), 'xla' elsewhere.
    'attention_kernel': 'auto',
    # Iterations of every stage that trains whose trace goes to
    # RUN/<stage>/profile, as '10:12'.
    'profile_steps': '',
    # Set it to log to Weights & Biases as well.
    'wandb_project': '',
    # Further stages to run when this one is done, separated by commas.
    'also': '',
    # What the finished models of a microworld are measured by, if they are
    # there.
    'evaluate': {
      'models': {},  # {name: {'model': folder in RUN, 'manner': how to ask}}
      'max_prompt_length': 64,
      'max_response_length': 24,
      'temperature': 1.0,
      'batch_size': 128,
      'sequence_length': 64,  # of the pretraining text held out
      'max_eval_rows': 512,
    },
  }


def stage_configs(
  file: str, sizes: Mapping[str, str], words: Mapping[str, str]
) -> ConfigDict:
  """Returns the configs of the stages a run may need first.

  Args:
    file: `__file__` of the config that asks; the others lie beside it.
    sizes: {stage name: model size}; 'sft_6B' is configs/sft.py at 6B.
    words: of the config that asks; the stages live on the same data.
  """
  stages = ConfigDict()
  for name, size in sizes.items():
    arg = ','.join([size, *(f'{k}={v}' for k, v in words.items())])
    config = sibling(file, name.removesuffix(f'_{size}'), arg)
    config.stage = name
    stages[name] = as_stage(config)
  return stages


def as_stage(config: ConfigDict) -> ConfigDict:
  """Returns a config's own keys, without what the run around it decides."""
  # A mixture of sources has their paths as keys.
  own = ConfigDict(config.to_dict(), allow_dotted_keys=True)
  for key in (*SHARED, *OF_THE_RUN):
    if key in own:
      del own[key]
  return own


def sibling(file: str, name: str, arg: str) -> ConfigDict:
  """Returns the config NAME.py, in the same folder as `file`, for ARG."""
  return _module(pathlib.Path(file).parent / f'{name}.py').get_config(arg)


def override(config: ConfigDict, key: str, text: str) -> None:
  """Sets config.KEY from a command line's VALUE, in the type it has.

  Raises:
    UserError: for an unknown key (with the nearest name) or a wrong type.
  """
  *sections, last = key.split('.')
  node, path = config, 'config'
  for name in (*sections, last):
    if not isinstance(node, ConfigDict) or name not in node:
      known = node.keys() if isinstance(node, ConfigDict) else ()
      raise errors.UserError(
        f'--config.{key}: {path} has no key {name!r}.'
        f'{errors.nearest(name, known)} It has: {", ".join(sorted(known))}.'
      )
    parent, node, path = node, node[name], f'{path}.{name}'
  if isinstance(node, ConfigDict) and sections == ['data']:
    with parent.ignore_type():  # A mixture gives way to another source.
      parent[last] = text
    return
  if isinstance(node, ConfigDict):
    raise errors.UserError(
      f'--config.{key} is a section: set one of its keys'
      f' ({", ".join(sorted(node))}).'
    )
  parent[last] = _parse(key, text, node)


def _parse(key: str, text: str, old: Any) -> Any:
  """Reads `text` as the type of `old`."""
  if isinstance(old, str):
    return text
  kind = type(old)
  try:
    value = ast.literal_eval(text.capitalize() if kind is bool else text)
    if kind is float and type(value) is int:
      value = float(value)
    if type(value) is not kind:
      raise ValueError
    return value
  except (ValueError, SyntaxError, TypeError):
    raise errors.UserError(
      f'--config.{key}={text}: needed {kind.__name__}, as in'
      f' --config.{key}={old}.'
    ) from None


def resolve_stage(config: ConfigDict, stage: str) -> dict[str, Any]:
  """Returns one stage's whole config as plain data, fit for JSON.

  Args:
    config: of the run.
    stage: its own name, or one of `config.stages`.

  Raises:
    UserError: if the run has no such stage.
  """
  plain = config.to_dict()
  stages = plain['stages']
  plain = {k: v for k, v in plain.items() if k not in OF_THE_RUN}
  if stage == plain['stage']:
    return plain
  if stage not in stages:
    known = ', '.join(stages) or 'none'
    raise errors.UserError(
      f'this config names {stage!r}, which is no stage of it'
      f' ({known}).{errors.nearest(stage, stages)} A folder is written with a'
      f' slash, as ./{stage}.'
    )
  return stages[stage] | {key: plain[key] for key in SHARED}


def first_difference(
  old: Mapping[str, Any], new: Mapping[str, Any], path: str = ''
) -> str | None:
  """Returns 'key: old -> new' for the first key that differs, or None."""
  for key in _ordered(old, new):
    name = f'{path}{key}'
    if key not in old or key not in new:
      return f'{name}: {old.get(key, "absent")} -> {new.get(key, "absent")}'
    a, b = old[key], new[key]
    if isinstance(a, Mapping) and isinstance(b, Mapping):
      found = first_difference(a, b, f'{name}.')
      if found:
        return found
    elif a != b:
      return f'{name}: {a!r} -> {b!r}'
  return None


def _ordered(old: Iterable[str], new: Iterable[str]) -> list[str]:
  return [*old, *(key for key in new if key not in old)]
