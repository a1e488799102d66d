"""Which iterations are traced."""

from __future__ import annotations

import jax
import pytest

from instructjax import errors
from instructjax.stages import profile


def test_steps_are_read():
  assert profile.parse('') == (0, 0)
  assert profile.parse('7') == (7, 7)
  assert profile.parse('10:12') == (10, 12)


@pytest.mark.parametrize('text', ['0', '3:2', '1:', ':4', 'a', '-1:2', '1:2:3'])
def test_other_steps_are_refused(text):
  with pytest.raises(errors.UserError, match='FIRST:LAST'):
    profile.parse(text)


@pytest.mark.parametrize(
  'steps, done, wanted',
  [
    ('', 0, []),
    ('1', 0, [1]),
    ('2:3', 0, [2, 3]),
    ('2:3', 2, [3]),  # a resumed run traces what is left
    ('2:3', 3, []),
    ('4:9', 0, [4, 5]),  # what has been traced when the run ends
  ],
)
def test_what_is_traced(monkeypatch, tmp_path, steps, done, wanted):
  is_on, folders, traced, told = [], [], [], []

  def begin(folder):
    assert not is_on
    is_on.append(True)
    folders.append(folder)

  monkeypatch.setattr(jax.profiler, 'start_trace', begin)
  monkeypatch.setattr(jax.profiler, 'stop_trace', is_on.clear)
  profiler = profile.Profile(tmp_path, steps, done, 5)
  hooks = profiler.around([lambda i, s, m: told.append((i, bool(is_on)))])
  for iteration in range(done + 1, 6):
    traced += [iteration] * bool(is_on)
    for hook in hooks:
      hook(iteration, {}, {})
  profiler.close()
  assert traced == wanted and not is_on
  assert folders == [tmp_path] * bool(wanted)
  last = profile.parse(steps)[1]  # whose hooks are left out
  assert [i for i, on in told if on] == [i for i in wanted if i != last]


def test_steps_beyond_the_end_are_warned_of(tmp_path, caplog):
  for steps in ('', '1:9', '5'):
    profile.Profile(tmp_path / 'sft' / 'profile', steps, 5, 5)
  assert not caplog.records
  profile.Profile(tmp_path / 'sft' / 'profile', '6:7', 0, 5)
  (record,) = caplog.records
  assert record.getMessage() == (
    'config.profile_steps=6:7: sft ends with iteration 5, so nothing of it is'
    ' traced.'
  )
