"""What every test shares: a CPU, a compile cache, quiet subprocesses.

Nothing here imports JAX, so tests that need only text or records start at once.
The environment is set before any test module is imported, and subprocesses
inherit it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import importlib.metadata
import os
import pathlib
import subprocess
import sys

import hypothesis
import pytest

from tests import warned

ROOT = pathlib.Path(__file__).resolve().parents[1]

# A machine may hold an accelerator that is busy or too slow to start for tests.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Compilation is most of the suite's time, and a second run can spare it.
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(ROOT / '.cache/jax'))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '-1')
# These programs run for milliseconds and compile for seconds. The compiler's
# last rounds are left out, a program is one module of machine code instead of
# up to 32, and fused loops are written by XLA's older emitters, which JAX 0.12
# no longer has: a train step compiles in a quarter of the time.
_QUICK = [
  '--xla_backend_optimization_level=0',
  '--xla_cpu_parallel_codegen_split_count=1',
]
if importlib.metadata.version('jaxlib').startswith('0.10.'):
  _QUICK.append('--xla_cpu_use_fusion_emitters=false')
_GIVEN = os.environ.get('XLA_FLAGS', '')
os.environ['XLA_FLAGS'] = ' '.join(
  [_GIVEN, *(flag for flag in _QUICK if flag.partition('=')[0] not in _GIVEN)]
)
# Many processes import the package, and need not compile it each for itself.
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)
os.environ.setdefault('MPLBACKEND', 'Agg')

# No deadline: an example that compiles is slow once. Derandomised, so that a
# failure on one machine is a failure on all.
hypothesis.settings.register_profile(
  'instructjax', deadline=None, derandomize=True
)
hypothesis.settings.load_profile('instructjax')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Whole runs first: a long test that begins last leaves a worker idle."""
  items.sort(key=lambda item: item.path.parent != ROOT / 'tests')


@pytest.fixture(scope='module', autouse=True)
def _forget_compiled_programs():
  """A worker that keeps all it compiled grows by gigabytes, and slows down."""
  yield
  if 'jax' in sys.modules:
    sys.modules['jax'].clear_caches()


RunPython = Callable[..., subprocess.CompletedProcess]


def _environment(devices: int, extra: dict[str, str] | None) -> dict[str, str]:
  """The parent's environment with `devices` virtual CPU devices, plus extra."""
  flag = '--xla_force_host_platform_device_count'
  kept = [f for f in os.environ.get('XLA_FLAGS', '').split() if flag not in f]
  paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
  return {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': ' '.join([*kept, f'{flag}={devices}']),
    'PYTHONPATH': os.pathsep.join(filter(None, paths)),
    **(extra or {}),
  }


@pytest.fixture(scope='session')
def run_python() -> RunPython:
  """Returns a function that runs Python in a process of its own.

  run_python(code_or_args, devices=8, env=None, cwd=None, check=True, timeout)

  `code_or_args` is source text, or a list of arguments such as
  ['-m', 'instructjax.main', '--help']. The process sees `devices` virtual CPU
  devices, starts in the repository's root unless `cwd` says otherwise, and
  treats warnings as errors. With `check`, a status other than 0 fails the test
  and shows both streams; without, the caller reads `.returncode`, `.stdout` and
  `.stderr` itself.
  """

  def run(
    code_or_args: str | Sequence[str],
    *,
    devices: int = 8,
    env: dict[str, str] | None = None,
    cwd: str | os.PathLike | None = None,
    check: bool = True,
    timeout: float = 300,
  ) -> subprocess.CompletedProcess:
    is_code = isinstance(code_or_args, str)
    args = ['-c', code_or_args] if is_code else [str(a) for a in code_or_args]
    result = subprocess.run(
      [sys.executable, '-W', 'error', *warned.HARMLESS, *args],
      env=_environment(devices, env),
      cwd=cwd or ROOT,
      capture_output=True,
      text=True,
      timeout=timeout,
    )
    if check and result.returncode:
      pytest.fail(
        f'status {result.returncode}\n--- stdout\n{result.stdout}'
        f'\n--- stderr\n{result.stderr}'
      )
    return result

  return run
