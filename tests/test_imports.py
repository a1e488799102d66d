"""The layering: who may import whom, and what importing the package costs."""

from __future__ import annotations

import ast
import collections
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = 'instructjax'

# Imports point down only, or sideways within a layer as long as no cycle comes
# of it. A new module or folder has to be given its place here.
LAYERS = (
  (
    'leaves',
    {
      'clock',
      'distributed',
      'errors',
      'devices',
      'host_memory',
      'sharding',
      'optim',
      'metrics',
      'plots',
      'watch',
    },
  ),
  ('arrays', {'models', 'losses', 'data', 'microworld', 'checkpoints'}),
  ('behaviour', {'rewards', 'sampling', 'curation'}),
  (
    'runs',
    {'config', 'stages', 'trainer', 'tasks', 'evaluation', 'planning'},
  ),
  ('entry points', {'main', 'cli', 'generate', 'plan', 'convert', 'prepare'}),
)
LEVEL = {name: i for i, (_, names) in enumerate(LAYERS) for name in names}

# Within a layer, what would tie together things that must stay apart.
FORBIDDEN = {
  'trainer': {'config', 'tasks', 'stages', 'evaluation'},
  'tasks': {'config', 'trainer', 'stages'},
  'evaluation': {'config', 'trainer', 'stages'},
  'stages': {'planning'},
  'models': {'losses', 'data', 'microworld', 'checkpoints'},
  'losses': {'models', 'data', 'microworld', 'checkpoints'},
  'data': {'models', 'losses', 'checkpoints'},
  'checkpoints': {'losses', 'data', 'microworld'},
  'curation': {
    *('microworld', 'models', 'losses', 'checkpoints', 'rewards', 'sampling'),
  },
}
# Only these see a config; everything else takes plain arguments.
CONFIG_READERS = LAYERS[-1][1] | {'config', 'stages', 'planning'}
OUTSIDE = {'tests', 'experiments', 'examples', 'configs', 'notebooks'}
MAX_LINES = 450


def _modules() -> dict[str, pathlib.Path]:
  """Maps every module of the package to its file."""
  modules = {}
  for path in sorted((ROOT / PACKAGE).rglob('*.py')):
    parts = path.relative_to(ROOT).with_suffix('').parts
    name = '.'.join(p for p in parts if p != '__init__')
    modules[name] = path
  return modules


MODULES = _modules()


def _tree(module: str) -> ast.Module:
  return ast.parse(MODULES[module].read_text(encoding='utf-8'))


def _targets(module: str) -> list[str]:
  """Lists what a module imports anywhere in its file, absolute dotted names.

  Imports inside functions count: a lazy import hides a cost, not a dependency.
  """
  found = []
  for node in ast.walk(_tree(module)):
    if isinstance(node, ast.Import):
      found += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{module}:{node.lineno}: a relative import'
      found += [f'{node.module}.{alias.name}' for alias in node.names]
  return found


def _owner(name: str) -> str:
  """The package's module that a dotted name lies in."""
  while name not in MODULES:
    name = name.rpartition('.')[0]
  return name


def _internal(module: str) -> list[str]:
  """The modules of the package that a module imports."""
  names = [t for t in _targets(module) if t.split('.')[0] == PACKAGE]
  return [_owner(name) for name in names]


def _external(module: str) -> set[str]:
  """The top-level names from outside the package that a module imports."""
  return {t.split('.')[0] for t in _targets(module)} - {PACKAGE}


def _unit(module: str) -> str:
  """The file or folder directly under the package; '' for the package."""
  return module.split('.')[1] if '.' in module else ''


UNITS = sorted({_unit(module) for module in MODULES} - {''})


def test_every_module_has_a_layer():
  unplaced = [unit for unit in UNITS if unit not in LEVEL]
  assert not unplaced, f'not in LAYERS of {__file__}: {unplaced}'


@pytest.mark.parametrize('unit', UNITS)
def test_imports_point_down(unit):
  for module in MODULES:
    if _unit(module) != unit:
      continue
    for target in map(_unit, _internal(module)):
      if target in ('', unit):
        continue
      assert LEVEL[target] <= LEVEL[unit], f'{module} imports {target} above it'
      forbidden = FORBIDDEN.get(unit, ())
      assert target not in forbidden, f'{module} must not know {target}'


def test_no_cycles():
  graph = {module: set(_internal(module)) - {module} for module in MODULES}
  # Leaves first: what cannot be removed in this way is on a cycle or above one.
  while free := [m for m, targets in graph.items() if not targets & set(graph)]:
    for module in free:
      del graph[module]
  assert not graph, f'import cycle among {sorted(graph)}'


def test_the_package_imports_modules_not_names():
  wrong = [
    f'{module}: {target}'
    for module in MODULES
    for target in _targets(module)
    if target.startswith(f'{PACKAGE}.') and target not in MODULES
    if target != f'{PACKAGE}.__version__'
  ]
  assert not wrong


@pytest.mark.parametrize(
  'unit, allowed',
  [
    ('losses', {'jax', 'optax', 'chex'}),
    (
      'data',
      {
        *('absl', 'grain', 'jinja2', 'numpy', 'pyarrow', 'sentencepiece'),
        *('array_record', 'tensorflow_datasets', 'tokenizers', 'tqdm'),
      },
    ),
    ('errors', set()),
  ],
)
def test_units_that_stay_free_of_other_libraries(unit, allowed):
  for module in MODULES:
    if _unit(module) == unit:
      surplus = _external(module) - allowed - set(sys.stdlib_module_names)
      assert not surplus, f'{module} imports {surplus}'


@pytest.mark.parametrize('unit', ['microworld', 'curation'])
def test_what_reaches_no_jax(unit):
  reached = {module for module in MODULES if _unit(module) == unit}
  while more := {t for m in reached for t in _internal(m)} - reached:
    reached |= more
  for module in reached:
    found = _external(module) & {'jax', 'jaxlib', 'flax', 'optax', 'orbax'}
    assert not found, f'{module} imports {found}'


def test_models_know_no_optimiser_or_loss_library():
  for module in MODULES:
    if _unit(module) == 'models':
      assert not _external(module) & {'optax', 'rlax'}, module


def test_only_the_top_sees_a_config():
  seen = {m for m in MODULES if 'ml_collections' in _external(m)}
  assert {_unit(m) for m in seen} <= CONFIG_READERS, seen


def test_nothing_imports_what_lies_outside_the_package():
  for module in MODULES:
    assert not _external(module) & OUTSIDE, module


def test_no_tensorflow():
  for module in MODULES:
    assert 'tensorflow' not in _external(module), module
    named = 'tensorflow_datasets' in _external(module)
    assert not named or module == f'{PACKAGE}.data.tfds_source', module


def test_the_readers_of_datasets_come_when_they_are_called(run_python):
  code = """
import sys
from instructjax.data import feeds
slow = {'tensorflow_datasets', 'tensorflow'} & set(sys.modules)
assert not slow, slow
import tensorflow_datasets
assert 'tensorflow' not in sys.modules
"""
  run_python(code)


def test_public_things_have_docstrings():
  missing = []
  for module in MODULES:
    tree = _tree(module)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [n for n in tree.body if isinstance(n, kinds)]
    public = [n for n in public if not n.name.startswith('_')]
    missing += [
      f'{module}.{n.name}' for n in public if not ast.get_docstring(n)
    ]
    if not ast.get_docstring(tree):
      missing.append(module)
  assert not missing


def test_files_stay_short():
  long = collections.Counter()
  for folder in (PACKAGE, 'configs', 'examples', 'experiments'):
    for path in (ROOT / folder).rglob('*.py'):
      count = len(path.read_text(encoding='utf-8').splitlines())
      if count > MAX_LINES:
        long[str(path.relative_to(ROOT))] = count
  assert not long


def test_importing_the_package_is_free(run_python):
  code = """
import sys, time
start = time.perf_counter()
import instructjax
print(time.perf_counter() - start)
heavy = {'jax', 'jaxlib', 'flax', 'numpy', 'optax'} & set(sys.modules)
assert not heavy, heavy
"""
  # The best of three: another process may hold the machine for a moment.
  assert min(float(run_python(code).stdout) for _ in range(3)) < 0.1


def test_run_python_gives_devices_and_refuses_warnings(run_python):
  code = 'import jax; print(jax.device_count(), jax.default_backend())'
  assert run_python(code).stdout.split() == ['8', 'cpu']
  assert run_python(code, devices=3).stdout.split() == ['3', 'cpu']
  warned = run_python('import warnings; warnings.warn("x")', check=False)
  assert warned.returncode == 1 and 'UserWarning: x' in warned.stderr
