"""A small tokenizer, trained once for all tests of this folder."""

import pytest

from instructjax.data import tokenizer as tokenizer_lib

TEXT = """\
The harbour master kept a list of every boat that came in before the storm.
A list is a fine thing, she used to say, when the water is not on it.
  - Indented lines, tabs\tand  double spaces belong to text as well.
On the second day the wind turned, the boats turned with it, and nobody slept.
Should the lamp go out, light it again; should it go out twice, ring the bell.
"What did you write down?" asked the boy. "Names," she said, "and the hours."
"""


@pytest.fixture(scope='session')
def tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp('tokenizer') / 'tokenizer.model'
  return tokenizer_lib.Tokenizer.train([TEXT] * 4, 400, str(path))
