"""Hugging Face folders: back and forth, sharded, and every clear error."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from instructjax import errors
from instructjax.checkpoints import families
from instructjax.checkpoints import hf
from instructjax.checkpoints import hf_config
from instructjax.checkpoints import tensors
from instructjax.models import config as config_lib
from instructjax.models import heads
from instructjax.models import transformer

_GPT2 = config_lib.ModelConfig(
  vocab_size=30,
  num_layers=2,
  d_model=16,
  num_heads=2,
  head_dim=8,
  d_ff=24,
  max_length=12,
)
_LLAMA = dataclasses.replace(
  _GPT2,
  positions='rotary',
  num_kv_heads=1,
  norm='rms',
  norm_epsilon=1e-6,
  activation='silu',
  gated=True,
  attention_bias='none',
  mlp_bias=False,
  tied=False,
)
_CONFIGS = {'gpt2': _GPT2, 'llama': _LLAMA}


def _params(config, seed=0):
  return jax.jit(transformer.init, static_argnums=0)(
    config, jax.random.key(seed)
  )


def _equal(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


@pytest.fixture(params=_CONFIGS)
def saved(request, tmp_path):
  """(family, folder) of a model."""
  config, folder = _CONFIGS[request.param], tmp_path / 'model'
  hf.save_pretrained(folder, config, _params(config), family=request.param)
  return request.param, folder


def test_a_mask_of_old_is_no_parameter(saved):
  family, folder = saved
  name = {
    'gpt2': 'transformer.h.0.attn.bias',
    'llama': 'model.layers.0.self_attn.rotary_emb.inv_freq',
  }[family]
  _edit(folder, lambda arrays: arrays.update({name: np.ones((2, 2), bool)}))
  hf.load_pretrained(folder)


def test_one_file_comes_before_shards(saved):
  # As in transformers; the shards may be of an older version.
  family, folder = saved
  config = _CONFIGS[family]
  other = folder.with_name('other')
  hf.save_pretrained(
    other, config, _params(config, 1), family=family, max_shard_bytes=3000
  )
  for path in other.glob('model*'):
    path.rename(folder / path.name)
  _equal(hf.load_pretrained(folder)[1], _params(config))


def test_types_that_differ_are_kept_exactly(saved):
  family, folder = saved
  last = {'gpt2': 'transformer.h.1.ln_1', 'llama': 'model.layers.1'}[family]

  def change(arrays):
    for name in [*arrays]:
      if not name.startswith(last):
        arrays[name] = arrays[name].astype(ml_dtypes.bfloat16)

  _edit(folder, change)
  _, params = hf.load_pretrained(folder)
  assert params['layers']['attention_norm']['scale'].dtype == jnp.float32
  assert params['embedding']['tokens'].dtype == jnp.dtype(jnp.bfloat16)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
  def refuse(*args, **options):
    raise safetensors.SafetensorError('no space left')

  monkeypatch.setattr(safetensors.numpy, 'save_file', refuse)
  with pytest.raises(errors.UserError, match='cannot be written'):
    hf.save_pretrained(tmp_path / 'm', _GPT2, _params(_GPT2), family='gpt2')
  assert not [*tmp_path.iterdir()]


def _edit(folder, change):
  """Rewrites the tensors of a folder of one file."""
  path = folder / tensors.SINGLE
  arrays = safetensors.numpy.load_file(path)
  change(arrays)
  safetensors.numpy.save_file(arrays, path)


def _configure(folder, **fields):
  path = folder / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_back_and_forth(saved):
  family, folder = saved
  config, params = hf.load_pretrained(folder)
  assert config == _CONFIGS[family]
  _equal(params, _params(config))


@pytest.mark.parametrize('limit', [1, 3000, 10**9])
def test_shards(tmp_path, limit):
  params = _params(_LLAMA)
  hf.save_pretrained(
    tmp_path / 'm', _LLAMA, params, family='llama', max_shard_bytes=limit
  )
  files = sorted((tmp_path / 'm').glob('*.safetensors'))
  _equal(hf.load_pretrained(tmp_path / 'm')[1], params)
  largest = 4 * 30 * 16 + 4096  # the embedding, and a header
  assert all(f.stat().st_size <= max(limit + 4096, largest) for f in files)
  index = tmp_path / 'm' / tensors.INDEX
  assert index.exists() == (len(files) > 1)
  if index.exists():
    listed = json.loads(index.read_text())
    assert set(listed['weight_map'].values()) == {f.name for f in files}
    count = transformer.num_parameters(_LLAMA)
    assert listed['metadata']['total_size'] == 4 * count


def test_dtypes(saved):
  family, folder = saved
  config, params = hf.load_pretrained(folder, dtype='bfloat16')
  assert config == dataclasses.replace(_CONFIGS[family], dtype='bfloat16')
  _equal(
    params, jax.tree.map(lambda x: x.astype(jnp.bfloat16), _params(config))
  )
  _edit(
    folder,
    lambda arrays: arrays.update(
      {k: v.astype(ml_dtypes.bfloat16) for k, v in arrays.items()}
    ),
  )
  stored, params = hf.load_pretrained(folder)
  assert stored == _CONFIGS[family]
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(jnp.bfloat16)}
  _, params = hf.load_pretrained(folder, dtype=jnp.float32)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
  with pytest.raises(errors.UserError, match='float32, bfloat16, given'):
    hf.load_pretrained(folder, dtype='int8')
  with pytest.raises(errors.UserError, match="given 'fp16'"):
    hf.load_pretrained(folder, dtype='fp16')


def test_half_precision_is_read(saved):
  _, folder = saved
  _edit(
    folder,
    lambda arrays: arrays.update(
      {k: v.astype(np.float16) for k, v in arrays.items()}
    ),
  )
  _, params = hf.load_pretrained(folder)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype(jnp.float16)}
  _, params = hf.load_pretrained(folder, dtype='float32')
  assert params['final_norm']['scale'].dtype == jnp.float32


def test_onto_a_mesh(run_python, tmp_path):
  hf.save_pretrained(tmp_path / 'm', _LLAMA, _params(_LLAMA), family='llama')
  run_python(f"""
import jax, numpy as np
from instructjax import sharding
from instructjax.checkpoints import hf
folder = {str(tmp_path / 'm')!r}
config, whole = hf.load_pretrained(folder)
mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
_, parts = hf.load_pretrained(folder, sharding=mesh)
wanted = sharding.shardings(whole, mesh)
split = 0
for leaf, part, place in zip(*map(jax.tree.leaves, (whole, parts, wanted))):
  assert part.sharding == place, (part.sharding, place)
  split += not place.is_fully_replicated
  np.testing.assert_array_equal(leaf, part)
assert split >= 6
every = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
_, copies = hf.load_pretrained(folder, sharding=every)
assert all(leaf.sharding == every for leaf in jax.tree.leaves(copies))
_, parts = hf.load_pretrained(folder, sharding=wanted)
assert jax.tree.map(lambda x: x.sharding, parts) == wanted
hf.save_pretrained(folder + '2', config, parts, family='llama')
_, again = hf.load_pretrained(folder + '2')
jax.tree.map(np.testing.assert_array_equal, whole, again)
""")


def test_reward_model(tmp_path):
  head = heads.init_scalar_head(jax.random.key(1), 16) | {
    'bias': jnp.asarray(-1.25)
  }
  params = heads.with_head(_params(_LLAMA), head)
  hf.save_pretrained(tmp_path / 'm', _LLAMA, params, family='llama')
  found = hf_config.describe(tmp_path / 'm')
  assert found.kind == 'reward'
  assert found.fields['architectures'] == ['LlamaForSequenceClassification']
  config, again = hf.load_pretrained(tmp_path / 'm')
  assert config == _LLAMA
  _equal(again, params)


def test_names_without_prefix_and_buffers(saved):
  # As files of the bare decoder have them, and those of before 2023.
  family, folder = saved
  prefix = families.FAMILIES[family].prefix
  buffer = {'gpt2': 'h.0.attn.bias', 'llama': 'layers.0.rotary_emb.inv_freq'}

  def change(arrays):
    for name in [*arrays]:
      arrays[name.removeprefix(prefix)] = arrays.pop(name)
    arrays[buffer[family]] = np.ones((1, 3), np.float32)

  _edit(folder, change)
  _equal(hf.load_pretrained(folder)[1], _params(_CONFIGS[family]))


def test_a_tied_output_may_be_there_if_it_is_the_same(tmp_path):
  folder = tmp_path / 'm'
  hf.save_pretrained(folder, _GPT2, _params(_GPT2), family='gpt2')
  tokens = 'transformer.wte.weight'
  _edit(folder, lambda a: a.update({'lm_head.weight': a[tokens].copy()}))
  _equal(hf.load_pretrained(folder)[1], _params(_GPT2))
  _edit(folder, lambda a: a.update({'lm_head.weight': a[tokens] + 1}))
  with pytest.raises(errors.UserError, match="'lm_head.weight' differs"):
    hf.load_pretrained(folder)


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (
      lambda a: a.pop('model.norm.weight'),
      "no tensor 'model.norm.weight', which a llama",
    ),
    (
      lambda a: a.update(odd=np.ones(3, np.float32)),
      "a tensor 'odd', which a llama of its config.json has not",
    ),
    (
      lambda a: a.update({'model.norm.weight': np.ones(17, np.float32)}),
      r"'model.norm.weight' has the shape \[17\], its config.json needs \[16\]",
    ),
    (
      lambda a: a.update({'model.norm.weight': np.ones(16, np.int8)}),
      "'model.norm.weight' is of type I8, needed one of F32, F16, BF16",
    ),
  ],
)
def test_wrong_tensors(tmp_path, change, said):
  folder = tmp_path / 'm'
  hf.save_pretrained(folder, _LLAMA, _params(_LLAMA), family='llama')
  _edit(folder, change)
  with pytest.raises(errors.UserError, match=said):
    hf.load_pretrained(folder)


@pytest.mark.parametrize('kept', [0, 5, 200, -3])
def test_cut_files(saved, kept):
  _, folder = saved
  path = folder / tensors.SINGLE
  path.write_bytes(path.read_bytes()[:kept])
  said = 'it ends within or before tensor' if kept < 0 else 'cannot be read'
  with pytest.raises(errors.UserError, match=said):
    hf.load_pretrained(folder)


def test_shards_that_are_not_there(tmp_path):
  folder = tmp_path / 'm'
  params = _params(_LLAMA)
  hf.save_pretrained(
    folder, _LLAMA, params, family='llama', max_shard_bytes=3000
  )
  first, second, *_ = sorted(folder.glob('*.safetensors'))
  content = first.read_bytes()
  first.write_bytes(second.read_bytes())
  with pytest.raises(errors.UserError, match='though model.safetensors.index'):
    hf.load_pretrained(folder)
  first.unlink()
  with pytest.raises(errors.UserError, match=f'{first.name} is missing'):
    hf.load_pretrained(folder)
  first.write_bytes(content)
  (folder / tensors.INDEX).write_text('{"weight_map": 3}')
  with pytest.raises(errors.UserError, match='is damaged'):
    hf.load_pretrained(folder)


@pytest.mark.parametrize(
  ('name', 'said'),
  [
    ('pytorch_model.bin', 'is a pickle, and reading it could run any code'),
    ('model.pt', 'is a pickle'),
    ('notes.txt', 'has neither model.safetensors nor'),
  ],
)
def test_no_safetensors(saved, name, said):
  _, folder = saved
  (folder / tensors.SINGLE).rename(folder / name)
  with pytest.raises(errors.UserError, match=said):
    hf.load_pretrained(folder)


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'model_type': 'lama'}, "'lama' is not supported.* Did you mean 'llama'"),
    ({'model_type': 7}, 'model_type 7 is not supported'),
    ({'logit_scale': 0.5}, "'logit_scale' = 0.5 is not understood"),
    ({'hidden_act': 'mish'}, '\'hidden_act\' must be .*given "mish"'),
    ({'hidden_size': None}, "no 'hidden_size'"),
    ({'hidden_size': 'wide'}, 'config.json'),
    ({'hidden_size': -16}, 'config.json: model.d_model must be'),
    ({'num_attention_heads': 0}, 'a value of a wrong type'),
    ({'rope_scaling': 'linear', 'rope_parameters': None}, 'wrong type'),
    (
      {
        'rope_parameters': {'rope_type': 'longrope', 'factor': 2},
        'rope_scaling': None,
      },
      'longrope',
    ),
    (
      {'rope_scaling': {'rope_type': 'linear', 'factor': 2}},
      "'rope_scaling' must be what 'rope_parameters' says",
    ),
    ({'rope_theta': 7}, "'rope_theta' must be what"),
    ({'partial_rotary_factor': 0.5}, "'partial_rotary_factor' must be 1.0"),
    ({'attention_bias': 'false'}, "'attention_bias' must be true or false"),
    ({'architectures': 7}, 'wrong type'),
    ({'architectures': {'a': 1}}, 'wrong type'),
    ({'model_type': ['llama']}, 'not supported'),
    (
      {'rope_parameters': {'rope_type': 'linear', 'factor': 2, 'odd': 1}},
      "key 'odd'",
    ),
    ({'rope_parameters': {'rope_type': 'linear'}}, 'factor'),
    ({'quantization_config': {'bits': 4}}, 'quantised'),
    ({'add_cross_attention': True}, "'add_cross_attention' must be false"),
    ({'architectures': ['LlamaForTokenClassification']}, 'LlamaForToken'),
    (
      {'architectures': ['LlamaForSequenceClassification'], 'num_labels': 3},
      'one label of a reward model, given 3',
    ),
  ],
)
def test_wrong_configs(tmp_path, fields, said):
  folder = tmp_path / 'm'
  hf.save_pretrained(folder, _LLAMA, _params(_LLAMA), family='llama')
  _configure(folder, **fields)
  with pytest.raises(errors.UserError, match=said) as caught:
    hf.load_pretrained(folder)
  assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
  ('family', 'changes', 'said'),
  [
    ('opt', {'do_layer_norm_before': False}, "'do_layer_norm_before' must be"),
    ('opt', {'word_embed_proj_dim': 8}, "'word_embed_proj_dim' must be 16"),
    ('gpt2', {'n_head': 3}, '3 heads must divide the width 16'),
    ('gpt2', {'scale_attn_by_inverse_layer_idx': True}, 'inverse_layer_idx'),
    ('qwen2', {'layer_types': ['odd', 'odd']}, "'layer_types' must be"),
    ('gemma2', {'use_bidirectional_attention': True}, 'bidirectional'),
  ],
)
def test_models_that_are_refused(tmp_path, family, changes, said):
  # OPT-350M among them, whose norms come after its branches.
  config = {
    'opt': dataclasses.replace(_GPT2, position_offset=2),
    'gpt2': _GPT2,
    'qwen2': dataclasses.replace(_LLAMA, attention_bias='qkv'),
    'gemma2': dataclasses.replace(
      _LLAMA,
      norm_offset=True,
      post_norms=True,
      embedding_scale=4.0,
      activation='gelu_tanh',
    ),
  }[family]
  fields = hf_config.config_fields(config, family)
  (tmp_path / 'config.json').write_text(json.dumps(fields))
  assert hf_config.describe(tmp_path).config.d_model == 16
  _configure(tmp_path, **changes)
  with pytest.raises(errors.UserError, match=said):
    hf_config.describe(tmp_path)


@pytest.mark.parametrize('content', ['', '{', '[]', '{"a": 1}'])
def test_damaged_config(tmp_path, content):
  (tmp_path / 'config.json').write_text(content)
  with pytest.raises(errors.UserError, match='no transformers config with a'):
    hf.load_pretrained(tmp_path)
  (tmp_path / 'config.json').unlink()
  with pytest.raises(errors.UserError, match='cannot be read'):
    hf.load_pretrained(tmp_path)


def test_what_a_family_cannot_express(tmp_path):
  with pytest.raises(errors.UserError, match="model.positions='rotary'"):
    hf.save_pretrained(tmp_path / 'm', _LLAMA, {}, family='gpt2')
  with pytest.raises(errors.UserError, match="Did you mean 'gpt2'"):
    hf.save_pretrained(tmp_path / 'm', _GPT2, {}, family='gpt-2')
  alternating = dataclasses.replace(_GPT2, attention='alternating')
  with pytest.raises(errors.UserError, match="attention='listed'"):
    hf.save_pretrained(tmp_path / 'm', alternating, {}, family='gpt2')
  assert not (tmp_path / 'm').exists()


def test_options_without_a_meaning_do_not_matter(tmp_path):
  idle = dataclasses.replace(_GPT2, band=3, rope_theta=7.0, dropout=0.1)
  hf.save_pretrained(tmp_path / 'm', idle, _params(idle), family='gpt2')
  assert hf.load_pretrained(tmp_path / 'm')[0] == _GPT2


def test_saving_overwrites_nothing(saved):
  family, folder = saved
  config = _CONFIGS[family]
  with pytest.raises(errors.UserError, match='new or empty folder'):
    hf.save_pretrained(folder, config, _params(config), family=family)
  (folder / 'empty').mkdir()
  hf.save_pretrained(folder / 'empty', config, _params(config), family=family)
  with pytest.raises(errors.UserError, match='cannot be written'):
    hf.save_pretrained(
      folder / 'config.json' / 'm', config, _params(config), family=family
    )


def test_what_is_left_of_a_killed_export_is_cleared(tmp_path):
  part = tmp_path / '.m.part'
  part.mkdir()
  (part / 'model.safetensors').write_text('half')
  hf.save_pretrained(tmp_path / 'm', _GPT2, _params(_GPT2), family='gpt2')
  assert not part.exists()
  hf.load_pretrained(tmp_path / 'm')


def test_default_place(saved):
  _, folder = saved
  _, params = hf.load_pretrained(folder)
  for leaf in jax.tree.leaves(params):
    assert leaf.devices() == {jax.local_devices()[0]}
