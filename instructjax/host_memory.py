"""Two remedies against page faults, which slow training on a CPU down.

XLA's CPU backend takes a program's temporary arrays from malloc at every call,
and glibc hands blocks of that size back to the system when they are freed: each
training step begins with a page fault for every 4 KiB of them, a third of a
tiny model's time. Large pages make a few hundred faults of thirty thousand, but
can only be asked for as a process starts; a process that has started without
can at least keep what it frees. Neither does anything without glibc.
"""

from __future__ import annotations

from collections.abc import Callable
import ctypes
import os
import sys
import threading

_TUNABLES = 'GLIBC_TUNABLES'
_LARGE_PAGES = 'glibc.malloc.hugetlb=1'  # since glibc 2.35; others ignore it
_RESTARTED = 'restarted'
# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def restart_with_large_pages(entry: Callable) -> None:
  """Starts this program anew, in its own place, with memory in large pages.

  Does nothing in a program that is not `entry`'s own, such as a notebook or a
  script that calls it, or where GLIBC_TUNABLES is set, be it to nothing.

  Args:
    entry: the function that the program's main module calls.
  """
  program = sys.modules['__main__']
  own = getattr(program, entry.__name__, None) is entry
  is_file = os.path.isfile(getattr(program, '__file__', None) or '')
  if (
    sys.platform != 'linux'
    or not (own and is_file and sys.executable)
    or threading.active_count() > 1
    or _TUNABLES in os.environ
    or _RESTARTED in sys._xoptions
  ):
    return
  os.environ[_TUNABLES] = _LARGE_PAGES
  words = [sys.executable, '-X', _RESTARTED, *sys.orig_argv[1:]]
  try:
    os.execv(sys.executable, words)
  except OSError:  # then without
    del os.environ[_TUNABLES]


def keep_freed_memory() -> None:
  """Has glibc keep what is freed, unless it uses large pages."""
  if sys.platform != 'linux' or _LARGE_PAGES in os.environ.get(_TUNABLES, ''):
    return
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None:
    return
  mallopt(_M_MMAP_MAX, 0)
  mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
  mallopt(_M_ARENA_MAX, 1)
