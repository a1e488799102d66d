"""The rules on prompts, against slow twins and by their properties."""

from __future__ import annotations

import collections
import dataclasses
import math
import random

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from instructjax.curation import rows
from instructjax.curation import rules
from tests.reference import curation as reference


def _prompt(text='x', **fields):
  return rows.parse({'text': text, **fields}, 'f:1')[0]


class TestComparisonKey:
  @pytest.mark.parametrize(
    'text, key',
    [
      ('  Say\t\n\u00a0hello ', 'say hello'),
      ('Cafe\u0301', 'café'),
      ('ﬁne ＡＢＣ １２', 'fine abc 12'),
      ('STRASSE straße', 'strasse strasse'),
      ('İstanbul ΣΊΣΥΦΟΣ', 'i\u0307stanbul σίσυφοσ'),
      ('Ⅷ ㎏ …', 'viii kg ...'),
      ('你好\u3000世界', '你好 世界'),
    ],
  )
  def test_forms_of_the_same_text(self, text, key):
    assert rules.comparison_key(text) == key

  @hypothesis.given(st.text())
  def test_a_key_is_its_own_key(self, text):
    key = rules.comparison_key(text)
    assert rules.comparison_key(key) == key
    assert rules.comparison_key(f' {text}\n') == key


class TestTwins:
  @hypothesis.given(
    st.lists(st.text('ab', min_size=1, max_size=8), max_size=12),
    st.integers(1, 5),
    st.sampled_from((0.2, 0.5, 0.7, 0.8, 1.0)),
    st.randoms(use_true_random=False),
  )
  @hypothesis.settings(max_examples=1000)
  def test_agree_with_all_pairs(self, keys, min_chars, min_share, draw):
    ranks = _ranks(keys, draw)
    limits = {'min_chars': min_chars, 'min_share': min_share}
    found = rules.twins(keys, ranks, **limits).tolist()
    assert found == reference.twins(keys, ranks, min_chars, min_share)
    stays = [key for key, of in zip(keys, found, strict=True) if of < 0]
    for i, a in enumerate(stays):
      for b in stays[:i]:
        assert not reference.shares_prefix(a, b, min_chars, min_share)

  @hypothesis.given(
    st.lists(st.text('ab', min_size=1, max_size=6), max_size=10, unique=True),
    st.randoms(use_true_random=False),
  )
  def test_the_order_of_the_input_changes_nothing(self, keys, draw):
    limits = {'min_chars': 2, 'min_share': 0.5}
    ranks = _ranks(keys, draw)
    found = rules.twins(keys, ranks, **limits)
    mixed = draw.sample(range(len(keys)), len(keys))
    again = rules.twins(
      [keys[i] for i in mixed], [ranks[i] for i in mixed], **limits
    )
    for place, i in enumerate(mixed):
      of = again[place]
      assert found[i] == (mixed[of] if of >= 0 else -1)

  def test_whole_groups_or_one_by_one(self):
    """A group never needs what lies outside of it."""
    draw = random.Random(1)
    keys = [
      ''.join(draw.choices('ab', k=draw.randint(1, 12))) for _ in range(400)
    ]
    limits = {'min_chars': 3, 'min_share': 0.6}
    ranks = _ranks(keys, draw)
    whole = rules.twins(keys, ranks, **limits)
    groups = collections.defaultdict(list)
    for i, key in enumerate(keys):
      groups[rules.group(key, 3)].append(i)
    assert len(groups) == len({key[:3] for key in keys})
    for members in groups.values():
      own = np.argsort(np.argsort([ranks[i] for i in members]))
      found = rules.twins([keys[i] for i in members], own, **limits)
      for i, of in zip(members, found, strict=True):
        assert whole[i] == (members[of] if of >= 0 else -1)

  @pytest.mark.parametrize('system', [(), (('system', 'Be brief.'),)])
  def test_the_fullest_version_of_a_conversation_stays(self, system):
    said = 'Tell me of Rome.', 'Which one?', 'The old.', 'Well.', 'Go on.'
    turns = [*zip(('user', 'assistant') * 3, said, strict=False)]
    prompts = []
    for count in 1, 5, 3:
      told = [*system, *turns[:count]]
      messages = [{'role': role, 'content': text} for role, text in told]
      prompts += rows.parse({'messages': messages}, f'f:{count}')
    keys = [rules.comparison_key(prompt.text) for prompt in prompts]
    found = rules.twins(keys, [2, 0, 1], min_chars=10, min_share=0.8)
    assert found.tolist() == [1, -1, 1]

  def test_lengths_absolute_and_relative(self):
    a, b = 'x' * 79 + 'a' * 21, 'x' * 80 + 'b' * 19

    def find(**limits):
      return rules.twins([a, b], [0, 1], **limits).tolist()

    assert find(min_chars=1, min_share=0.79) == [-1, 0]  # ceil(78.21) = 79
    assert find(min_chars=1, min_share=0.8) == [-1, -1]  # ceil(79.2) = 80
    assert find(min_chars=79, min_share=0.1) == [-1, 0]
    assert find(min_chars=80, min_share=0.1) == [-1, -1]

  def test_equal_ones_need_no_length(self):
    found = rules.twins(['a', 'b', 'a'], [1, 2, 0], min_chars=9, min_share=1.0)
    assert found.tolist() == [2, -1, -1]
    assert rules.twins([], [], min_chars=9, min_share=1.0).tolist() == []

  def test_work_grows_as_n_log_n_though_all_begin_alike(self):
    """Counted, not timed: prefixes compared while looking for stretches."""

    class Counting(str):
      compared = 0

      def __lt__(self, other):
        Counting.compared += 1
        return str.__lt__(self, other)

    def work(n):
      keys = [Counting('x' * 30 + f'{i:05}' * 2) for i in range(n)]
      Counting.compared = 0
      found = rules.twins(keys, range(n), min_chars=10, min_share=0.5)
      assert (found[1:] == 0).all() and found[0] == -1
      return Counting.compared / n

    assert work(2048) < work(256) + 3 * math.log2(2048 / 256) + 1


def _ranks(keys, draw):
  order = sorted(range(len(keys)), key=lambda i: (-len(keys[i]), draw.random()))
  ranks = [0] * len(keys)
  for rank, i in enumerate(order):
    ranks[i] = rank
  return ranks


def test_order_prefers_long_then_early_then_canonical():
  long = _prompt('a long one')
  early = _prompt('short', time=5)
  late = _prompt('short', time='1970-01-01T00:00:09Z')
  never = _prompt('short')
  elsewhere = dataclasses.replace(never, location='f:0')
  prompts = [long, early, late, elsewhere, never]
  keyed = [rules.order(p.text, p) for p in prompts]
  assert keyed == sorted(keyed)


class TestOwner:
  def test_falls_back_to_the_other_and_then_to_itself(self):
    both = _prompt(user_id='u', organization_id='o')
    user, organization = _prompt(user_id='u'), _prompt(organization_id='o')

    def own(prompt, by):
      return rules.owner(prompt, 'key', by)

    assert own(both, 'user_id') == own(user, 'organization_id')
    assert own(both, 'organization_id') == own(organization, 'user_id')
    assert own(user, 'user_id') != own(organization, 'user_id')
    nobody = {rules.owner(_prompt(), key, 'user_id') for key in 'ab'}
    assert len(nobody) == 2


class TestUnderCap:
  @hypothesis.given(
    st.lists(st.integers(0, 3), max_size=30),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
  )
  def test_agrees_with_counting(self, owners, most, draw):
    digests = draw.sample(range(10**6), len(owners))
    stays = rules.under_cap(
      np.array(owners, np.uint64), np.array(digests, np.uint64), most
    )
    assert stays.tolist() == reference.under_cap(owners, digests, most)

  def test_digests_above_half_of_the_range(self):
    digests = np.array([2**64 - 1, 2**63, 1], np.uint64)
    stays = rules.under_cap(np.zeros(3, np.uint64), digests, 2)
    assert stays.tolist() == [False, True, True]


def test_smallest():
  digests = np.array([2**64 - 1, 5, 7, 2**63], np.uint64)
  assert rules.smallest(digests, 2).tolist() == [False, True, True, False]
  assert rules.smallest(digests, 0).all() and rules.smallest(digests, 4).all()


class TestDraws:
  SHARES = {'test': 0.1, 'train': 0.6, 'valid': 0.3}

  def test_shares_are_met(self):
    users = [f'user_id {i}' for i in range(4000)]
    drawn = collections.Counter(
      rules.split('s', user, self.SHARES) for user in users
    )
    for name, share in self.SHARES.items():
      assert abs(drawn[name] / 4000 - share) < 0.03

  def test_salts_and_uses_are_independent(self):
    keys = [f'k{i}' for i in range(2000)]
    halves = {'sft': 0.5, 'rm': 0.5}
    split_halves = {'train': 0.5, 'valid': 0.5}
    first = [rules.dataset('a', key, halves) == 'sft' for key in keys]
    other = [rules.dataset('b', key, halves) == 'sft' for key in keys]
    split = [rules.split('a', key, split_halves) == 'train' for key in keys]
    for one in other, split:
      assert abs(np.mean(np.equal(first, one)) - 0.5) < 0.05

  def test_what_is_written_down_stays(self):
    """A user must not change sides when the code does."""
    # printf 'salt\0use\0ä\0b' | b2sum -l 64
    assert rules.digest('salt', 'use', 'ä', 'b') == 0x70E7BA571A8C1D9F
    drawn = [rules.split('', f'user_id {i}', self.SHARES)[1] for i in range(9)]
    assert ''.join(drawn) == 'rrrarraer'  # of train, valid, test

  def test_what_has_no_share_gets_nothing(self):
    shares = {'sft': 0.0, 'rm': 1.0}
    drawn = {rules.dataset('', str(i), shares) for i in range(200)}
    assert drawn == {'rm'}
