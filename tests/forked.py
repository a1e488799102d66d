"""Programs that begin at once: forked from a process that has imported JAX.

To import JAX, Flax and Orbax takes two seconds, half of what a whole run of
these tests takes. The fork server of multiprocessing imports them once for each
worker of pytest. What a program sees is otherwise as if it had been started by
itself, but for Python's hash seed, which a worker's programs share, and for the
JAX_* variables, which JAX reads as it is imported.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping, Sequence
import gc
import logging
import multiprocessing
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import warnings

from tests import warned

_SERVER = multiprocessing.get_context('forkserver')
_SERVER.set_forkserver_preload(
  [
    'tests.forked',
    'tests.interrupted',
    'instructjax.evaluation.report',
    'instructjax.stages.evaluate',
    'instructjax.stages.train',
    'matplotlib.pyplot',  # all of which a run imports when it needs them
  ]
)


def _become(
  words: Sequence[str], environment: Mapping[str, str], folder: pathlib.Path
) -> None:
  """Makes this process what `python -W error WORDS...` would be."""
  os.setsid()
  gc.freeze()
  for number, name in ((1, 'out'), (2, 'err')):
    os.dup2(os.open(folder / name, os.O_WRONLY), number)
  os.environ.clear()
  os.environ.update(environment)
  logging.root.handlers.clear()  # which importing has set
  warnings.resetwarnings()
  warnings.simplefilter('error')
  for flag in warned.HARMLESS:
    text = flag.removeprefix('-Wignore:')
    warnings.filterwarnings('ignore', re.escape(text))
  try:
    if words[0] == '-m':
      sys.argv = [*words[1:]]
      sys.modules.pop(words[1], None)  # runpy warns of what is there already
      runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
      sys.argv = [*words]
      runpy.run_path(words[0], run_name='__main__')
  finally:
    atexit._run_exitfuncs()  # multiprocessing leaves them out


class Process:
  """As much of subprocess.Popen as whole runs need, in a session of its own.

  Args:
    words: of Python's command line, from `-m MODULE` or a script's path on.
    environment: all of it.
  """

  def __init__(self, words: Sequence[str], environment: Mapping[str, str]):
    self.args = [*words]
    self._folder = pathlib.Path(tempfile.mkdtemp())
    for name in ('out', 'err'):
      (self._folder / name).touch()
    # Asked for large pages, a program would start itself anew.
    environment = {**environment, 'GLIBC_TUNABLES': ''}
    self._process = _SERVER.Process(
      target=_become, args=(self.args, environment, self._folder)
    )
    self._process.start()

  @property
  def pid(self) -> int:
    return self._process.pid

  @property
  def returncode(self) -> int | None:
    return self._process.exitcode

  def poll(self) -> int | None:
    return self.returncode

  def kill(self) -> None:
    self._process.kill()

  def communicate(self, timeout: float | None = None) -> tuple[str, str]:
    """Waits for the end; returns what it said on both streams."""
    self._process.join(timeout)
    if self.returncode is None:
      raise subprocess.TimeoutExpired(self.args, timeout)
    out, err = ((self._folder / name).read_text() for name in ('out', 'err'))
    shutil.rmtree(self._folder)
    return out, err
