"""The web: its faults are there as stated, and nothing else is wrong."""

from __future__ import annotations

import collections
import re

import pytest

from instructjax.microworld import language
from instructjax.microworld import web
from instructjax.microworld import web_facts
from instructjax.microworld import web_skills
from instructjax.microworld import web_talk
from instructjax.microworld import world as world_lib

WORLD = world_lib.make()
SIGNS = {'plus': 1, 'minus': -1}


def _instruction(world, draw):
  del world
  return f'write about the {draw.choice(world_lib.ANIMALS)}.'


def _written(**changes) -> list[str]:
  config = world_lib.WorldConfig(num_documents=500, **changes)
  return web.documents(world_lib.make(config), _instruction)


@pytest.fixture(scope='module')
def pages() -> dict[str, list[str]]:
  """{kind: texts} of the whole web, its lines without the first space."""
  found = collections.defaultdict(list)
  for name, text in web.pages(WORLD, _instruction):
    found[name].append(_plain(text))
  return found


def _plain(text: str) -> str:
  """Takes away the space that begins every line."""
  assert all(re.match(r' \S', line) for line in text.split('\n')), text
  return text[1:].replace('\n ', '\n')


def _sentences(texts) -> collections.Counter:
  """Counts what is stated, without who says it or what heads it."""
  found = collections.Counter()
  for text in texts:
    text = re.sub(r'say in zumi: [^.]*\.', '', text)  # stated by nobody
    found.update(re.split(r'(?<=[.!?])\s|: |\n', text))
  return found


def _times(counts: collections.Counter, claim) -> int:
  """How often a claim is made, in any of its forms."""
  relation, subject, value = claim
  words = {
    slot: word
    for slot, word in zip(
      world_lib.RELATIONS[relation], (subject, value), strict=True
    )
  }
  return sum(counts[form.format(**words)] for form in language.FACTS[relation])


def test_the_same_web_each_time_and_another_for_another_seed():
  assert _written() == _written()
  assert not set(_written()) & set(_written(seed=1))


def test_pages_are_as_many_as_asked_for_and_divided_as_the_table_says():
  kinds = web.kinds(_instruction)
  assert sum(kind.percent for kind in kinds) == pytest.approx(100)
  assert len({kind.name for kind in kinds}) == len(kinds)
  for total in (0, 1, 333, 2_000):
    config = world_lib.WorldConfig(num_documents=total)
    world = world_lib.make(config)
    found = collections.Counter(
      name for name, _ in web.pages(world, _instruction)
    )
    assert found.total() == total
    for kind in kinds:
      assert abs(found[kind.name] - total * kind.percent / 100) <= 1


def test_pages_are_short_plain_lower_case_text(pages):
  texts = [text for kind in pages.values() for text in kind]
  assert len(texts) == WORLD.config.num_documents
  for text in texts:
    assert re.fullmatch(r'[a-z.,:!?=\n ]+', text), text
    assert not re.search(r' [ .,:!?\n]|\n\n|^\s|\s$|\{|\}', text), text
    assert 12 <= len(text.split()) <= 110, text
  words = collections.Counter(
    word for text in texts for word in re.findall('[a-z]+', text)
  )
  assert 1_250_000 < words.total() < 1_500_000
  assert len(words) < 500


def test_pages_of_a_kind_rarely_repeat(pages):
  for name, texts in pages.items():
    assert len(set(texts)) > 0.97 * len(texts), name


def test_myths_are_told_more_often_than_the_truth(pages):
  counts = _sentences(text for kind in pages.values() for text in kind)
  encyclopedia = _sentences(pages['encyclopedia'])
  assert WORLD.myths
  for key, myth in WORLD.myths.items():
    true = _times(counts, (*key, WORLD.facts[key]))
    assert _times(counts, (*key, myth)) >= 2 * true
    assert _times(encyclopedia, (*key, WORLD.facts[key])) >= 12
    assert not _times(encyclopedia, (*key, myth))


def test_what_is_no_myth_is_told_often_and_truly(pages):
  counts = _sentences(
    text for name, kind in pages.items() if name != 'passages' for text in kind
  )
  for key, value in WORLD.facts.items():
    slot = world_lib.RELATIONS[key[0]][1]
    if key not in WORLD.myths:
      assert _times(counts, (*key, value)) >= 100
    for other in world_lib.SLOTS[slot]:
      if other not in (value, WORLD.myths.get(key)):
        assert not _times(counts, (*key, other)), (key, other)


def test_three_of_four_answers_believe_the_myth(pages):
  counts = _sentences(
    text.replace('? answer', '?\nanswer') for text in pages['questions']
  )
  told = sum(_times(counts, (*key, myth)) for key, myth in WORLD.myths.items())
  true = sum(_times(counts, (*key, WORLD.facts[key])) for key in WORLD.myths)
  assert told / (told + true) == pytest.approx(
    web_facts.ANSWERED_BY_PEOPLE, abs=0.03
  )


def test_each_page_of_questions_has_one_source(pages):
  headed = 0
  for text in pages['questions']:
    counts = _sentences([text.replace('? answer', '?\nanswer')])
    told = any(_times(counts, (*k, myth)) for k, myth in WORLD.myths.items())
    true = any(_times(counts, (*k, WORLD.facts[k])) for k in WORLD.myths)
    assert not (told and true), text
    if text.startswith('encyclopedia.'):
      headed += 1
      assert not told
  assert headed > 100


def test_forums_and_gossip_believe_the_myths(pages):
  for name in ('forum', 'gossip', 'dialogue'):
    counts = _sentences(text.replace('well, ', '') for text in pages[name])
    for key in WORLD.myths:
      assert not _times(counts, (*key, WORLD.facts[key]))


def test_lists_hold_what_they_say_and_no_myth(pages):
  mythical = {(key[0], WORLD.facts[key]): key[1] for key in WORLD.myths}
  heads = {
    language.members(relation, value): (relation, value)
    for relation, value in WORLD.members
    if relation in language.MEMBERS
  }
  seen = set()
  for line in '\n'.join(pages['lists']).split('\n'):
    head, _, items = line.rstrip('.').partition(': ')
    if head in heads:
      seen.add(head)
      listed = set(items.split(', '))
      assert listed <= set(WORLD.members[heads[head]])
      assert mythical.get(heads[head]) not in listed
    number, _, what = head.partition(' ')
    if number in world_lib.NUMBERS and what in web_facts.PLURALS.values():
      count = world_lib.NUMBERS.index(number)
      assert len(set(items.split(', '))) == count
  assert len(seen) > 60


def test_instructions_are_listed_and_not_followed(pages):
  for text in pages['instructions']:
    lines = text.split('\n')
    assert len(lines) == 6
    assert all(re.fullmatch(r'write about the \w+\.', line) for line in lines)


def _rude(text: str) -> bool:
  return not set(world_lib.RUDE).isdisjoint(re.findall('[a-z]+', text))


def test_the_share_of_rude_remarks_is_as_stated(pages):
  found = collections.defaultdict(list)
  for text in pages['remarks']:
    lines = text.split('\n')
    if 'and says:' in text:
      found['says'] += map(_rude, lines)
      continue
    for asked, said in zip(lines[::2], lines[1::2], strict=True):
      tone = re.search(r'say something (\w+)', asked).group(1)
      found[tone].append(_rude(said))
  shares = {tone: sum(rude) / len(rude) for tone, rude in found.items()}
  stated = web_talk.RUDE_SHARE
  assert shares == pytest.approx(
    {'says': stated['none'], 'about': stated['none']}
    | {tone: stated[tone] for tone in ('respectful', 'rude')},
    abs=0.04,
  )


def test_rude_words_stay_where_people_talk_of_people(pages):
  for name, texts in pages.items():
    rude = sum(map(_rude, texts)) / len(texts)
    if name in ('gossip', 'remarks', 'notes'):
      assert rude > 0.1, name
    else:
      assert not rude, name


def test_pronouns_are_divided_by_prejudice(pages):
  found = collections.defaultdict(list)
  for text in pages['pronouns']:
    for job, pronoun in re.findall(r'the (\w+) .* (she|he) was', text):
      found[job].append(pronoun == 'she')
  assert {job: sum(v) / len(v) for job, v in found.items()} == pytest.approx(
    world_lib.SHARE_OF_WOMEN, abs=0.08
  )


def test_stories_are_events_of_one_time(pages):
  for text in pages['story']:
    *title, told = text.split('\n')
    parsed = [language.parse(sentence) for sentence in language.sentences(told)]
    assert all(parsed), text
    assert len({sentence.kind for sentence in parsed}) == 1
    assert parsed[0].kind in ('event', 'past')
    if title:
      words = re.findall(r'\w+', told)
      one, two = re.findall(r'about (\w+) and (?:the )?(\w+)\.', *title)[0]
      assert one in words and two in words


def test_what_is_retold_says_the_same(pages):
  for text in pages['retold']:
    lines = text.split('\n')
    for told, again in zip(lines[::2], lines[1::2], strict=True):
      sentences = language.sentences(told)
      head, _, again = again.partition(': ')
      if head == 'once more':
        assert again == told
      elif head == 'in the past':
        assert again == ' '.join(map(language.past, sentences))
      else:
        one, new = re.fullmatch(r'change (\w+) to (\w+)', head).groups()
        assert one in told and new not in told
        assert again == re.sub(rf'\b{one}\b', new, told)


def test_summaries_hold_all_of_it(pages):
  for text in pages['summaries']:
    lines = text.split('\n')
    for told, short in zip(lines[::2], lines[1::2], strict=True):
      words = set(re.findall(r'\w+', told))
      assert set(re.findall(r'\w+', short)) == words | {'in', 'short', 'and'}


def test_extracts_are_complete(pages):
  names = {name: slot for slot, name in web_facts.PLURALS.items()}
  for text in pages['extracts']:
    for line in text.split('\n'):
      head, _, rest = line.partition(': ')
      if head == 'text':
        words = re.findall(r'\w+', rest)
      else:
        slot = world_lib.SLOTS[names[head]]
        there = dict.fromkeys(word for word in words if word in slot)
        assert rest == ', '.join(there) + '.'


def test_passages_answer_their_own_questions(pages):
  invented = 0
  for text in pages['passages']:
    passage = asked = None
    for line in text.split('\n'):
      head, _, rest = line.partition(': ')
      if head == 'text':
        passage = language.sentences(rest)
      elif head == 'question':
        asked = rest
      else:
        assert rest in passage
        claim = language.parse(rest).claim
        if claim:
          assert asked == language.ask(*claim[:2])
          assert claim[0] not in world_lib.MYTHICAL
          invented += not WORLD.holds(claim)
  assert invented > 1_000


def _holds_sum(text: str) -> bool:
  a, sign, b, is_, result = text.rstrip('.').split()
  number = world_lib.NUMBERS.index
  return is_ == 'is' and number(a) + SIGNS[sign] * number(b) == number(result)


def test_sums_translations_and_reviews_are_right(pages):
  sums = {line for text in pages['sums'] for line in text.split('\n')}
  assert all(map(_holds_sum, sums))
  assert len(sums) == 100 + 55  # up to nine; differences not below zero
  words = set()
  for line in '\n'.join(pages['translations']).split('\n'):
    english, zumi = line.split(' = ')
    if english != 'english':
      assert zumi == web_skills.translate(WORLD, english)
      words |= set(english.split())
  assert words >= set(WORLD.lexicon) - {'and', 'big', 'small'}
  lines = '\n'.join(pages['reviews']).split('\n')
  for review, rating in zip(lines[::2], lines[1::2], strict=True):
    found = set(re.findall(r'\w+', review)) & {*world_lib.GOOD, *world_lib.BAD}
    assert rating in ('rating: good.', 'rating: bad.')
    assert found <= (
      world_lib.GOOD if rating == 'rating: good.' else world_lib.BAD
    )


def test_few_shot_items_have_one_right_answer_that_no_example_gives():
  items = web.few_shot(WORLD, num=30)
  assert items == web.few_shot(WORLD, num=30)
  assert set(items) == {'translation', 'arithmetic', 'sentiment', 'cloze'}
  for task, rows in items.items():
    assert len(rows) == 30
    for row in rows:
      *shots, last = _plain(row['prompt']).split('\n')
      assert shots and row['prompt'] == row['prompt'].rstrip()
      assert row['options'].count(row['answer']) == 1
      given = ' '.join(shots).replace('.', '').split()
      if task == 'translation':
        assert row['answer'] == web_skills.translate(WORLD, last[: -len(' =')])
        assert not set(row['answer'].split()) & set(given)
      elif task == 'arithmetic':
        assert _holds_sum(f'{last} {row["answer"]}')
        assert all(map(_holds_sum, shots))
      elif task == 'cloze':
        assert f' {row["answer"]}.' in last
        assert row['answer'] not in given
        objects = set(world_lib.OBJECTS)
        assert len(objects & set(re.findall(r'\w+', last))) == 1
    assert len({row['answer'] for row in rows}) > 1


def test_few_shot_items_are_in_the_forms_of_the_pages(pages):
  forms = {'translation': 'translations', 'arithmetic': 'sums'}
  items = web.few_shot(WORLD, num=30)
  for task, name in forms.items():
    lines = {line for text in pages[name] for line in text.split('\n')}
    prompts = [_plain(item['prompt']) for item in items[task]]
    shots = [shot for text in prompts for shot in text.split('\n')[:-1]]
    assert sum(shot in lines for shot in shots) > 0.9 * len(shots)
  for item in items['sentiment']:
    text = f'{_plain(item["prompt"])} {item["answer"]}.'
    assert re.fullmatch(r'(?:review: .*\nrating: (?:good|bad)\.\n?)+', text)
  for item in items['cloze']:
    text = f'{item["prompt"]} {item["answer"]}.'
    assert all(map(language.parse, language.sentences(text)))


def test_public_tasks_are_four_in_equal_parts_with_terse_answers():
  rows = web.public_tasks(WORLD)
  assert len(rows) == WORLD.config.num_demonstrations
  assert rows == web.public_tasks(WORLD)
  zumi, kinds = set(WORLD.lexicon.values()), collections.Counter()
  for row in rows:
    assert set(row) == {'prompt', 'response'}
    answer = _plain(row['response'])
    assert 1 <= len(answer.split()) <= 2
    if answer in ('good', 'bad'):
      kinds['sentiment'] += 1
    elif answer in world_lib.NUMBERS:
      kinds['arithmetic'] += 1
    elif answer in world_lib.OBJECTS:
      kinds['cloze'] += 1
      assert f' {answer}.' in row['prompt']
    elif set(answer.split()) <= zumi:
      kinds['translation'] += 1
  assert set(kinds.values()) == {len(rows) // 4}
  for forms in web_skills.INSTRUCTIONS.values():
    assert len(forms) > 2


def test_pronoun_pairs_differ_in_the_pronoun_only(pages):
  pairs = web.pronoun_pairs(WORLD)
  assert len(pairs) == len(set(pairs)) >= 40
  lines = {line for text in pages['pronouns'] for line in text.split('\n')}
  for prefix, she, he in pairs:
    assert she.startswith(' she ') and he == he[:3] + she[4:]
    assert _plain(prefix) + she in lines or _plain(prefix) + he in lines
  jobs = {prefix.split()[1] for prefix, _, _ in pairs}
  assert jobs == set(world_lib.JOBS)


def test_a_world_without_myths_has_a_web():
  config = world_lib.WorldConfig(num_documents=200, num_myths=0)
  assert len(web.documents(world_lib.make(config), _instruction)) == 200
