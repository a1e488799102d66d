"""Who validates: by person or prompt, stable, never on both sides."""

import hypothesis
from hypothesis import strategies
import pytest

from instructjax import errors
from instructjax.data import records
from instructjax.data import splits

NAMES = strategies.sampled_from([None, 'u', 'v', 'w', 'x', 'y'])
PROMPTS = strategies.lists(
  strategies.builds(
    records.Prompt,
    text=strategies.sampled_from('abcdefgh'),
    user_id=NAMES,
    prompt_id=strategies.integers(0, 10**6).map(str),
  ),
  max_size=30,
)


@hypothesis.given(
  found=PROMPTS,
  fraction=strategies.floats(0, 0.9),
  seed=strategies.integers(0, 9),
)
def test_sides_share_no_prompt(found, fraction, seed):
  train, valid, counts = splits.split(found, fraction, seed)
  assert not {p.text for p in train} & {p.text for p in valid}
  lost = len(found) - len(train) - len(valid)
  assert counts == {
    'train': len(train),
    'validation': len(valid),
    'dropped_prompt_in_validation': lost,
  }
  assert [p for p in found if p in train] == train
  if fraction == 0:
    assert train == found
  elif len({p.text for p in found}) > 1:
    assert train and valid
  else:
    assert train == found and not valid


def _prompts(count, users=0):
  return [
    records.Prompt(
      f'prompt {i}', user_id=f'user {i % users}' if users else None
    )
    for i in range(count)
  ]


def test_users_stand_on_one_side():
  train, valid, counts = splits.split(_prompts(1000, users=50), 0.2, seed=1)
  assert not {p.user_id for p in train} & {p.user_id for p in valid}
  assert 100 < len(valid) < 300
  assert counts['dropped_prompt_in_validation'] == 0


def test_prompt_of_a_held_out_user_leaves_training():
  found = _prompts(1000, users=50)
  _, valid, _ = splits.split(found, 0.2, seed=1)
  users = {p.user_id for p in valid}
  other = next(p.user_id for p in found if p.user_id not in users)
  copy = records.Prompt(valid[0].text, user_id=other)
  train, again, counts = splits.split([*found, copy], 0.2, seed=1)
  assert again == valid and copy not in train
  assert counts['dropped_prompt_in_validation'] == 1


def test_more_data_moves_nothing():
  for users in (0, 50):
    some, more = _prompts(500, users), _prompts(1500, users)
    _, valid, _ = splits.split(some, 0.1, seed=3)
    _, later, _ = splits.split(list(reversed(more)), 0.1, seed=3)
    assert set(valid) <= set(later)
    assert not set(some) - set(valid) & set(later)


def test_prompt_falls_on_one_side_in_every_kind():
  texts = [f'prompt {i}' for i in range(300)]
  kinds = [
    [records.Prompt(t) for t in texts],
    [records.Demonstration(t, 'response') for t in reversed(texts)],
    [records.Comparison(t, ('a', 'b'), (1, 2), 'alone') for t in texts[:200]],
  ]
  sides = [
    {records.prompt_of(r) for r in splits.split(found, 0.1, 5)[1]}
    for found in kinds
  ]
  assert sides[0] == sides[1]
  assert sides[2] == sides[0] & set(texts[:200])
  assert 10 < len(sides[0]) < 60


def test_seed_changes_the_sides():
  found = _prompts(200)
  sides = [splits.split(found, 0.2, seed)[1] for seed in (0, 1)]
  assert sides[0] != sides[1]


def test_labelers_who_rank_the_same_prompts_are_split_by_prompt():
  found = [
    records.Comparison(f'prompt {i}', ('a', 'b'), (1, 2), labeler)
    for i in range(40)
    for labeler in 'uvw'
  ]
  train, valid, counts = splits.split(found, 0.2, seed=0)
  assert train and valid
  assert len(train) + len(valid) == 120
  assert counts['dropped_prompt_in_validation'] == 0


def test_who_gave_most_of_the_data_trains():
  found = [
    records.Comparison(f'prompt {i}', ('a', 'b'), (1, 2), 'v' if i % 9 else 'u')
    for i in range(90)
  ]
  for seed in range(4):
    _, valid, _ = splits.split(found, 0.3, seed)
    assert {c.labeler_id for c in valid} == {'u'}


def test_one_prompt_trains():
  found = [records.Demonstration('a', 'b')] * 3
  assert splits.split(found, 0.5, 0)[:2] == (found, [])
  assert splits.split([], 0.5, 0)[:2] == ([], [])


def test_many_documents_go_by_text():
  found = [records.Document(f'document {i}') for i in range(400)]
  train, valid, _ = splits.split(found + found[:50], 0.1, seed=2)
  assert not {d.text for d in train} & {d.text for d in valid}
  assert 20 < len(valid) < 80


def test_few_documents_give_their_ends():
  text = ''.join(f'line {i} of the book\n' for i in range(1000))
  found = [records.Document(text, 'book:1'), records.Document('x' * 200, 'x:1')]
  train, valid, _ = splits.split(found, 0.1, seed=2)
  joined = [a.text + b.text for a, b in zip(train, valid, strict=True)]
  assert joined == [d.text for d in found]
  assert train[0].text.endswith('\n') and valid[0].location == 'book:1'
  assert len(valid[0].text) == pytest.approx(len(text) / 10, rel=0.02)
  assert splits.split(found, 0, 2)[:2] == (found, [])


def test_fraction_out_of_range():
  with pytest.raises(errors.UserError, match=r'in \[0, 1\), got 1.0'):
    splits.split([], 1.0, 0)
