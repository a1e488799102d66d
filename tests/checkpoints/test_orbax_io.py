"""Checkpoints: what is written, what a broken one does, model folders."""

from __future__ import annotations

import functools
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from instructjax import errors
from instructjax.checkpoints import orbax_io


def _state(i):
  return {
    'matrix': jnp.full((64, 32), float(i)),
    'counts': {'many': jnp.arange(10) + i, 'one': jnp.asarray(i)},
    'nothing': {},
  }


def _assert_equal(found, wanted):
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _restore(folder):
  checkpointer = orbax_io.Checkpointer(folder)
  try:
    return checkpointer.restore(orbax_io.abstract(_state(0)))
  finally:
    checkpointer.close()


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """A folder with checkpoints 2 and 4; a test copies it."""
  folder = tmp_path_factory.mktemp('saved') / 'checkpoints'
  checkpointer = orbax_io.Checkpointer(folder)
  for i in (1, 2, 4):
    checkpointer.save(i, _state(i))
  checkpointer.close()
  return folder


def test_the_newest_is_restored_and_the_oldest_deleted(saved):
  assert {path.name for path in saved.iterdir()} == {'2', '4'}
  _assert_equal(_restore(saved), _state(4))


def test_nothing_saved_is_none(tmp_path):
  assert _restore(tmp_path / 'empty') is None


def test_what_is_saved_is_the_state_of_that_moment(tmp_path):
  """The step donates its state, and goes on while the writing has begun."""

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state):
    return jax.tree.map(lambda x: x + 1, state)

  state = {'big': jnp.zeros((256, 4096)), 'small': jnp.zeros(3)}
  state['many'] = [jnp.zeros((64, 512)) for _ in range(16)]
  checkpointer = orbax_io.Checkpointer(tmp_path / 'run', keep=9)
  for i in range(1, 60):
    state = step(state)
    if i in (5, 25, 50):
      checkpointer.save(i, state)
  checkpointer.close()
  for i in (50, 25, 5):
    checkpointer = orbax_io.Checkpointer(tmp_path / 'run', keep=9)
    found = checkpointer.restore(orbax_io.abstract(state))
    checkpointer.close()
    for leaf in jax.tree.leaves(found):
      assert leaf.min() == leaf.max() == i
    shutil.rmtree(tmp_path / 'run' / str(i))


@pytest.mark.parametrize('how', ['half', 'empty', 'gone'])
def test_whatever_file_is_damaged(saved, tmp_path, capfd, caplog, how):
  """Either it is not needed, or the checkpoint before is taken, and it is
  said; and nothing but that line is printed."""
  fell_back = 0
  for path in sorted((saved / '4').rglob('*')):
    if not path.is_file():
      continue
    caplog.clear()
    folder = tmp_path / 'copy'
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved, folder)
    file = folder / path.relative_to(saved)
    if how == 'gone':
      file.unlink()
    else:
      size = file.stat().st_size // 2 if how == 'half' else 0
      os.truncate(file, size)
    found = _restore(folder)
    iteration = int(found['counts']['one'])
    _assert_equal(found, _state(iteration))
    said = [r for r in caplog.records if r.name == 'instructjax']
    if iteration == 4:
      assert not said
      continue
    fell_back += 1
    assert iteration == 2 and len(said) == 1
    assert 'copy/4 cannot be read' in said[0].getMessage()
    assert 'going back to 2' in said[0].getMessage()
    assert {p.name for p in folder.iterdir()} == {'2', '4.broken'}
  assert fell_back >= 2
  assert 'Traceback' not in ''.join(capfd.readouterr())


def test_a_broken_iteration_is_written_again(saved, tmp_path):
  folder = shutil.copytree(saved, tmp_path / 'copy')
  (folder / '4' / 'default' / 'manifest.ocdbt').unlink()
  for _ in range(2):  # a second one finds the first's remains
    checkpointer = orbax_io.Checkpointer(folder)
    _assert_equal(checkpointer.restore(orbax_io.abstract(_state(0))), _state(2))
    checkpointer.save(4, _state(44))
    checkpointer.close()
    _assert_equal(_restore(folder), _state(44))
    os.truncate(folder / '4' / 'default' / '_METADATA', 9)


def test_if_none_can_be_read_none_is_touched(saved, tmp_path):
  folder = shutil.copytree(saved, tmp_path / 'copy')
  for step in '24':
    (folder / step / 'default' / 'manifest.ocdbt').unlink()
  for _ in range(2):
    with pytest.raises(errors.UserError) as error:
      _restore(folder)
    assert str(error.value).startswith(f'none of the checkpoints in {folder}')
    assert f'remove {folder.parent} to start' in str(error.value)
    assert {path.name for path in folder.iterdir()} == {'2', '4'}


def test_a_state_of_other_shapes_is_not_restored(saved, tmp_path):
  folder = shutil.copytree(saved, tmp_path / 'copy')
  checkpointer = orbax_io.Checkpointer(folder)
  other = dict(_state(0), matrix=jnp.zeros((32, 64)))
  with pytest.raises(errors.UserError):
    checkpointer.restore(orbax_io.abstract(other))
  checkpointer.close()


# Model folders.


@pytest.fixture
def model(tmp_path):
  """A model folder."""
  (tmp_path / 'tokenizer').write_bytes(b'tokenizer')
  folder = tmp_path / 'model'
  orbax_io.save_model(
    folder,
    {'w': jnp.arange(3.0)},
    {'config': {}, 'kind': 'policy'},
    tokenizer=tmp_path / 'tokenizer',
  )
  return folder


def _load(folder, size=3):
  orbax_io.describe_model(folder)
  return orbax_io.load_params(folder, orbax_io.abstract({'w': jnp.zeros(size)}))


def test_a_model_folder_is_written_over_another(model, tmp_path):
  _assert_equal(_load(model), {'w': jnp.arange(3.0)})
  part = model.with_name('.model.part')
  shutil.copytree(model, part)  # of a run that was killed
  orbax_io.save_model(
    model,
    {'w': jnp.ones(4)},
    {'config': {'a': 1}, 'kind': 'reward'},
    tokenizer=tmp_path / 'tokenizer',
  )
  assert not part.exists()
  assert orbax_io.describe_model(model)['kind'] == 'reward'
  _assert_equal(_load(model, 4), {'w': jnp.ones(4)})


@pytest.mark.parametrize(
  'file, content, said',
  [
    ('model.json', None, 'is not a model folder'),
    ('model.json', '{"config": {', 'model.json is damaged (JSONDecodeError'),
    ('model.json', '', 'model.json is damaged'),
    ('model.json', '[]', 'model.json is damaged'),
    (
      'model.json',
      '{"kind": "policy"}',
      "damaged (KeyError: 'config')",
    ),
    ('params/manifest.ocdbt', None, 'params cannot be read'),
    ('params/manifest.ocdbt', 'x', 'params cannot be read'),
    ('params/_METADATA', '{', 'params cannot be read'),
  ],
)
def test_a_damaged_model_folder(model, capfd, file, content, said):
  path = model / file
  path.unlink()
  if content is not None:
    path.write_text(content)
  with pytest.raises(errors.UserError) as error:
    _load(model)
  assert said in str(error.value) and '\n' not in str(error.value)
  assert capfd.readouterr() == ('', '')


def test_parameters_that_do_not_fit(model):
  with pytest.raises(errors.UserError, match='does not fit'):
    _load(model, 4)


def test_folders_that_are_no_models(tmp_path):
  with pytest.raises(errors.UserError, match='it has no model.json'):
    orbax_io.describe_model(tmp_path)


def test_a_tree_is_written_once(tmp_path):
  folder = tmp_path / 'frozen'
  tree = {'a': jnp.arange(3)}
  orbax_io.save_tree(folder, tree)
  orbax_io.save_tree(folder, {'a': jnp.ones(3)})
  _assert_equal(orbax_io.load_tree(folder, orbax_io.abstract(tree)), tree)
  (folder / 'manifest.ocdbt').unlink()
  with pytest.raises(errors.UserError) as error:
    orbax_io.load_tree(folder, orbax_io.abstract(tree))
  assert f'{folder} cannot be read' in str(error.value)


def test_json_is_replaced_whole(tmp_path):
  path = tmp_path / 'a.json'
  orbax_io.write_json(path, {'b': 1, 'a': [2.5, None]})
  assert json.loads(path.read_text()) == {'a': [2.5, None], 'b': 1}
  with pytest.raises(TypeError):
    orbax_io.write_json(path, {'a': object()})
  assert json.loads(path.read_text()) == {'a': [2.5, None], 'b': 1}
  assert os.listdir(tmp_path) == ['a.json']
