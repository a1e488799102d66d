"""A Hugging Face folder's config.json: what it says of the model, both ways.

A key that changes what the model computes and is not understood is an error;
so is a model of ours that a family cannot express: what is written is read
back and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import json
import pathlib
from typing import Any

from instructjax import errors
from instructjax.checkpoints import families
from instructjax.checkpoints.families import base
from instructjax.models import config as config_lib

ModelConfig = config_lib.ModelConfig
# What a value of a wrong type makes of reading it.
_MISFITS = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)


@dataclasses.dataclass(frozen=True)
class Description:
  """What a Hugging Face folder holds, by its config.json.

  Attributes:
    folder: the folder.
    family: its family.
    config: its shape.
    kind: 'policy', or 'reward': a classifier with one label.
    fields: config.json's content.
  """

  folder: pathlib.Path
  family: base.Family
  config: ModelConfig
  kind: str
  fields: Mapping[str, Any]


def is_folder(folder: pathlib.Path) -> bool:
  """Whether a folder holds a transformers model."""
  try:
    return 'model_type' in (folder / 'config.json').read_text()
  except (OSError, ValueError):
    return False


def describe(folder: str | pathlib.Path) -> Description:
  """Reads a folder's config.json.

  Raises:
    UserError: if there is none; for a family that is not known, or a key of
      the config that is not understood.
  """
  folder = pathlib.Path(folder)
  path = folder / 'config.json'
  try:
    fields = json.loads(path.read_text())
    model_type = fields['model_type']
  except OSError as error:
    raise errors.UserError(
      f'{path} cannot be read ({error.strerror}): give the folder of a Hugging'
      ' Face model.'
    ) from None
  except (ValueError, KeyError, TypeError, RecursionError):
    raise errors.UserError(
      f"{path} is no transformers config with a 'model_type': get the file"
      ' again.'
    ) from None
  return _parse(folder, fields, model_type, str(path))


def _parse(
  folder: pathlib.Path, fields: dict[str, Any], model_type: str, where: str
) -> Description:
  known = families.FAMILIES
  if not isinstance(model_type, str) or model_type not in known:
    raise errors.UserError(
      f'{where}: model_type {model_type!r} is not supported, needed one of'
      f' {", ".join(known)}.{errors.nearest(str(model_type), known)}'
    )
  if fields.get('quantization_config'):
    raise errors.UserError(
      f"{where}: 'quantization_config' is there, and quantised models cannot"
      ' be read: get the model in float32, float16 or bfloat16.'
    )
  family = known[model_type]
  reader = base.Fields(fields, where)
  try:
    config = family.read(reader)
    kind = _kind(fields, family, where)
  except errors.UserError as error:
    said = str(error)
    said = said if said.startswith(where) else f'{where}: {said}'
    raise errors.UserError(said) from None
  except _MISFITS as error:
    raise errors.UserError(
      f'{where} holds a value of a wrong type ({error}): get the file again.'
    ) from None
  reader.finish()
  return Description(folder, family, config, kind, fields)


def _kind(fields: Mapping[str, Any], family: base.Family, where: str) -> str:
  """Whether it is a policy or a reward model."""
  name = (fields.get('architectures') or [family.causal])[0]
  stem = family.causal.removesuffix('LMHeadModel').removesuffix('ForCausalLM')
  if name in (family.causal, f'{stem}Model', f'{stem}TextModel'):
    return 'policy'
  if name != family.classifier:
    raise errors.UserError(
      f'{where}: architecture {name!r} is not supported, needed'
      f' {family.causal} or {family.classifier}.'
    )
  labels = fields.get('num_labels', len(fields.get('id2label') or '12'))
  if labels != 1:
    raise errors.UserError(
      f'{where}: needed one label of a reward model, given {labels}:'
      ' classifiers with several are not supported.'
    )
  return 'reward'


def config_fields(
  config: ModelConfig, family: str, kind: str = 'policy'
) -> dict[str, Any]:
  """Returns what config.json says of a model.

  Raises:
    UserError: for an unknown family, or one that cannot express the config.
  """
  known = families.FAMILIES
  if family not in known:
    raise errors.UserError(
      f'family must be one of {", ".join(known)}, given {family!r}: choose'
      f' one.{errors.nearest(family, known)}'
    )
  found = known[family]
  fields = found.write(config) | {'model_type': family}
  # As another reader will understand it, or not at all.
  again = found.read(base.Fields(fields, 'config.json'))
  ours, theirs = (_canonical(c).to_dict() for c in (config, again))
  for name, value in ours.items():
    if theirs[name] != value:
      raise errors.UserError(
        f'family {family!r} cannot express model.{name}={value!r} (it has'
        f' {theirs[name]!r}): choose another family.'
      )
  if kind == 'policy':
    return fields | {'architectures': [found.causal]}
  return fields | {
    'architectures': [found.classifier],
    'id2label': {'0': 'LABEL_0'},
    'label2id': {'LABEL_0': 0},
  }


def fitting(config: ModelConfig) -> str:
  """Returns the first family that can express a config.

  Raises:
    UserError: if none can.
  """
  for name in families.FAMILIES:
    try:
      config_fields(config, name)
    except errors.UserError:
      continue
    return name
  raise errors.UserError(
    f'none of the families {", ".join(families.FAMILIES)} can express this'
    f' model ({config}): transformers has no such decoder.'
  )


def _canonical(config: ModelConfig) -> ModelConfig:
  """The same model, options that mean nothing in it at their defaults."""
  defaults = {
    field.name: field.default for field in dataclasses.fields(ModelConfig)
  }
  listed = tuple(n for n in range(config.num_layers) if config.is_banded(n))
  idle = {'dtype', 'remat', 'attention_kernel', 'dropout'}
  changes: dict[str, Any] = {
    'attention': 'listed' if listed else 'dense',
    'banded_layers': listed,
  }
  if not listed:
    idle |= {'band', 'local_rope_theta'}
  if config.local_rope_theta == config.rope_theta and (
    config.rope_scaling == defaults['rope_scaling']
  ):
    idle.add('local_rope_theta')
  if not config.qk_norm:
    idle.add('qk_norm_epsilon')
  if config.norm == 'layer':
    idle.add('norm_offset')
  if config.positions == 'learned':
    idle |= {'rope_theta', 'rope_scaling', 'rotary_dim', 'local_rope_theta'}
  else:
    idle.add('position_offset')
  if config.rotary_dim == config.head_dim:
    idle.add('rotary_dim')
  if config.num_kv_heads == config.num_heads:
    idle.add('num_kv_heads')
  if config.attention_scale == config.head_dim**-0.5:
    idle.add('attention_scale')
  scaling = config.rope_scaling
  if 'rope_scaling' not in idle and scaling.kind in ('llama3', 'yarn'):
    changes['rope_scaling'] = dataclasses.replace(scaling, high=scaling.fast)
  changes |= {name: defaults[name] for name in idle}
  return dataclasses.replace(config, **changes)
