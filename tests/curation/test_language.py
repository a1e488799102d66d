"""Languages: one tag a text, the same alone and among others."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies as st
import pytest

from experiments.pii import languages
from instructjax.curation import language

TEXTS = st.one_of(
  st.text(max_size=80),
  st.text('abc \ud800\udfff\u00e9\u4f60\x00', max_size=12),
  st.sampled_from(languages.PROMPTS['fr'] + languages.PROMPTS['ja']),
)


@pytest.mark.parametrize('name', languages.PROMPTS)
def test_sentences_of_each_language(name):
  assert language.tags(languages.PROMPTS[name]) == [name] * 6


@pytest.mark.parametrize(
  'text', [*languages.WITHOUT, 'x', 'ok', '...hi?', '\u3007', 50 * '\u3007']
)
def test_what_has_no_language(text):
  assert language.tag(text) == language.UNDETERMINED


@pytest.mark.parametrize(
  'text, found',
  [('\u4f60', 'zh'), ('\u304a', 'ja'), ('\ub124', 'ko'), ('yes', 'en')],
)
def test_short_texts_that_have_one(text, found):
  assert language.tag(text) == found


@hypothesis.given(TEXTS)
def test_any_text_has_a_tag(text):
  tag = language.tag(text)
  assert tag == language.UNDETERMINED or (len(tag) == 2 and tag.islower())
  if not any(c.isalpha() for c in text):
    assert tag == language.UNDETERMINED


@hypothesis.given(st.lists(TEXTS, max_size=6))
def test_many_at_once_are_as_one_by_one(texts):
  assert language.tags(texts) == [language.tag(text) for text in texts]


def test_the_beginning_decides():
  french = ' '.join(languages.PROMPTS['fr'])
  english = ' '.join(languages.PROMPTS['en'])
  assert len(french) < language.MAX_CHARS < 8 * len(french)
  assert language.tag(8 * french + 50 * english) == 'fr'
