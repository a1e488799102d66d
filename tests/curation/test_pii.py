"""Personal information: what is found, what is not, and the quick test."""

from __future__ import annotations

import random

import hypothesis
from hypothesis import strategies as st
import pytest

from experiments.pii import formats
from experiments.pii import planted
from instructjax import errors
from instructjax.curation import phones
from instructjax.curation import pii
from instructjax.microworld import prompts
from instructjax.microworld import world as world_lib

ALL_ROWS = [row for part in planted.PARTS for row in planted.rows(part)]
# Pieces of all kinds, to be put together in any order.
PIECES = [row.text for row in ALL_ROWS[::7]] + [
  *'0123456789@.:-+()/ \n,x',
  *('\uff11', '\u0663', '\u096b', '\u4f60', '\u00b2', '\ud800', 'AB', 'fe80::'),
]
NOISE = st.lists(st.sampled_from(PIECES), max_size=8).map(''.join)
DIGITS = st.text('0123456789 .-+()/:@AFxa\u00a0\uff15\u0665', max_size=40)
TEXTS = st.one_of(NOISE, DIGITS, st.text(max_size=60))


def _found(text: str, kinds=pii.DEFAULT_KINDS) -> list[tuple[str, str]]:
  return [(s.kind, text[s.start : s.end]) for s in pii.find(text, kinds)]


@pytest.mark.parametrize(
  'text, found',
  [
    ('my e-mail is tom12@mail.com.', [('email', 'tom12@mail.com')]),
    ('Ben <b.c+x@firma.co.uk>, hi', [('email', 'b.c+x@firma.co.uk')]),
    ('ben [at] firma [dot] de', [('email', 'ben [at] firma [dot] de')]),
    ('mail ben at firma dot de now', [('email', 'ben at firma dot de')]),
    ('\u90ae\u7bb1\u662fa@b.com\u3002', [('email', 'a@b.com')]),
    ('my number is 555-0123.', [('phone', '555-0123')]),
    ('call (212) 555-2368 x12!', [('phone', '(212) 555-2368 x12')]),
    ('from +44 20 7946 0958', [('phone', '+44 20 7946 0958')]),
    ('Anna, 06 12 34 56 78', [('phone', '06 12 34 56 78')]),
    ('\u96fb\u8a71090-3123-4567', [('phone', '090-3123-4567')]),
    ('\u00ab06 12 34 56 78\u00bb', [('phone', '06 12 34 56 78')]),
    ('tel:+4930202123', [('phone', '+4930202123')]),
    ('[b](mailto:b@c.dev)', [('email', 'b@c.dev')]),
    ('b.c@firma dot de', [('email', 'b.c@firma dot de')]),
    (
      '91.2.3.4-91.2.3.9',
      [('ip_address', '91.2.3.4'), ('ip_address', '91.2.3.9')],
    ),
    ('My order is late. Call 555-0123', [('phone', '555-0123')]),
    ('it was 4111 1111 1111 1111', [('credit_card', '4111 1111 1111 1111')]),
    ('DE89370400440532013000 BIC', [('iban', 'DE89370400440532013000')]),
    ('GB82 WEST 1234 5698 7654 32', [('iban', 'GB82 WEST 1234 5698 7654 32')]),
    ('he gave 219-09-9998', [('ssn', '219-09-9998')]),
    ('cpf 529.982.247-25', [('ssn', '529.982.247-25')]),
    ('2 69 05 49 588 157 80', [('ssn', '2 69 05 49 588 157 80')]),
    ('ping 8.8.4.4:53', [('ip_address', '8.8.4.4')]),
    ('fe80::1ff:fe23:4567:890a', [('ip_address', 'fe80::1ff:fe23:4567:890a')]),
    ('a@b.de, 8.8.4.4', [('email', 'a@b.de'), ('ip_address', '8.8.4.4')]),
    ('\u0130\u0130 CALL 555-0123', [('phone', '555-0123')]),
    ('MY Number: 555-0123', [('phone', '555-0123')]),
    ('r\u0131ng 555-0123', [('phone', '555-0123')]),
    ('\u017fms 555-0123', [('phone', '555-0123')]),
    ('XY12 DE89370400440532013000', [('iban', 'DE89370400440532013000')]),
    (
      f'AB12{28 * "a"} XY12 DE89370400440532013000',
      [('iban', 'DE89370400440532013000')],
    ),
    ('call 7+20 7946 0958', [('phone', '20 7946 0958')]),
    ('((+44 20 7946 0958', [('phone', '+44 20 7946 0958')]),
  ],
)
def test_what_is_found(text, found):
  assert _found(text) == found
  assert pii.screen(text)


@pytest.mark.parametrize(
  'text',
  [
    'order 555-0123',
    'part no. 407-555-1234',
    '4111 1111 1111 1112',
    'DE88370400440532013000',
    '000-12-3456, 666-12-3456, 900-12-3456',
    'version 1.2.3.4 and 127.0.0.1',
    '2024-01-31 12:30:45',
    '31.01.2024, 1998-2003',
    '978-3-16-148410-0',
    '3f2504e0-4f89-11d3-9a0c-0305e82c3301',
    'icon@2x.png, lodash@4.17.21, @ben@mastodon.social',
    'git@github.com:org/repo.git',
    'std::vector<int> a::b 10:20:30',
    '1 234 567 people, $1,234,567',
    '123456789 * 9876543',
    'ORDER 555-0123',
    'a 1 06 12 34 56 78',
    'call 12:06 12 34 56 78',
    '1GB82 WEST 1234 5698 7654 32',
    'A-91.2.3.4, =91.2.3.4',
  ],
)
def test_what_is_not_found(text):
  assert not _found(text)


@hypothesis.given(TEXTS)
@hypothesis.settings(max_examples=600)
def test_the_screen_passes_all_that_can_be_found(text):
  unscreened = [
    kind for kind in pii.DEFAULT_KINDS if [*pii._FINDERS[kind](text)]
  ]
  assert pii.screen(text) or not unscreened


def test_an_account_of_letters_passes_the_screen():
  number = formats.account(random.Random(0), 'LC', '|' * 28)
  assert _found(f'pay {number} now') == [('iban', number)]
  spaced = formats.fours(number)
  assert _found(f'pay {spaced}.') == [('iban', spaced)]


@pytest.mark.parametrize('part', planted.PARTS)
def test_the_screen_passes_all_that_is_planted(part):
  for row in planted.rows(part, seed=3):
    for kind in pii.DEFAULT_KINDS:
      assert pii.screen(row.text) or not [*pii._FINDERS[kind](row.text)], row


@hypothesis.given(TEXTS, st.sets(st.sampled_from(pii.KINDS)))
@hypothesis.settings(max_examples=300)
def test_spans_are_sorted_apart_and_of_the_kinds_asked_for(text, kinds):
  spans = pii.find(text, kinds)
  assert {span.kind for span in spans} <= kinds
  ends = [0, *(span.end for span in spans)]
  assert all(
    end <= span.start < span.end for end, span in zip(ends, spans, strict=False)
  )
  assert all(span.end <= len(text) for span in spans)


@hypothesis.given(TEXTS)
def test_a_kind_is_found_alike_alone_and_with_the_others(text):
  together = pii.find(text, pii.DEFAULT_KINDS)
  alone = [s for kind in pii.DEFAULT_KINDS for s in pii.find(text, [kind])]
  assert sorted(alone, key=lambda s: s.start) == together


@hypothesis.given(TEXTS)
def test_redaction_replaces_the_spans_and_nothing_else(text):
  spans = pii.find(text, pii.KINDS)
  rest = pii.redact(text, spans)
  at = 0
  for span in spans:
    mark = f'[{span.kind.upper()}]'
    kept = text[at : span.start]
    assert rest.startswith(kept + mark)
    rest, at = rest[len(kept + mark) :], span.end
  assert rest == text[at:]


def test_redaction_of_two():
  text = 'a@b.de or +44 20 7946 0958?'
  assert pii.redact(text, pii.find(text)) == '[EMAIL] or [PHONE]?'


def test_the_digits_of_a_card_are_no_telephone():
  text = 'call me: 4111 1111 1111 1111'
  assert pii.find(text, ['phone']) == []
  assert len(pii.find(text, ['credit_card'])) == 1


@pytest.mark.parametrize('part', planted.PARTS)
def test_redaction_leaves_nothing_of_what_was_found(part):
  for row in planted.rows(part, seed=1, count=2):
    spans = pii.find(row.text, pii.KINDS)
    if any(span.kind == row.kind for span in spans):
      assert row.value not in pii.redact(row.text, spans), row


def test_everything_planted_in_the_microworld_is_found():
  world = world_lib.make()
  sets = [*prompts.training(world).values(), prompts.testing(world)]
  kinds = {'email': 0, 'phone': 0, None: 0}
  for prompt in (prompt for prompts_ in sets for prompt in prompts_):
    found = [span.kind for span in pii.find(prompt.text)]
    assert found == [prompt.pii] * (prompt.pii is not None), prompt.text
    kinds[prompt.pii] += 1
  assert all(kinds.values())


def test_kinds_that_are_not_there():
  with pytest.raises(errors.UserError, match='passport'):
    pii.find('x', ['email', 'passport'])
  with pytest.raises(errors.UserError, match='correct the list'):
    pii.find('x', 'email')


def test_a_long_line_takes_time_in_proportion():
  """Steps are counted, not seconds: a candidate is as long as a number is."""
  text = (
    '1 ' * 20_000 + 'a.' * 20_000 + '@' * 2_000 + '1' * 20_000 + 'Aa-' * 9_000
  )
  spans = [*phones.candidates(text)]
  assert len(spans) <= len(text) // 7
  assert pii.find(text, pii.KINDS) == []


@pytest.mark.parametrize(
  'text, found',
  [
    ('My name is Greta Adler.', [('person', 'Greta Adler')]),
    ('my name is greta, hi', [('person', 'greta')]),
    ('Dr. Ivanov is in', [('person', 'Ivanov')]),
    ('I live at 221B Baker Street.', [('street_address', '221B Baker Street')]),
    ('Hauptstra\u00dfe 12, Bonn', [('street_address', 'Hauptstra\u00dfe 12')]),
    ('My name is not important. Dear Sir, good street.', []),
  ],
)
def test_names_and_streets_only_if_asked_for(text, found):
  assert _found(text, ('street_address', 'person')) == found
  assert _found(text) == []
