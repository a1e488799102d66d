"""What happens to a unique prompt: each rule by itself, then all in order."""

from __future__ import annotations

import re

import hypothesis
from hypothesis import strategies as st
import pytest

from instructjax.curation import files
from instructjax.curation import finish
from instructjax.curation import pii
from instructjax.curation import rows
from instructjax.curation import rules
from instructjax.curation import settings as settings_lib
from instructjax.data import tokenizer as tokenizer_lib
from tests.curation import raw

KINDS = ('email', 'phone')
MAIL = 'Write a short letter to jo@example.com about the garden, please.'


def _prompt(text=MAIL, **fields):
  return rows.parse({'text': text, **fields}, 'f:1')[0]


def _finish(prompt, split='train', **values):
  key = rules.comparison_key(prompt.text)
  return finish.finish(prompt, key, split, raw.settings(**values))


class TestWithoutPii:
  def test_text_response_and_messages_are_searched(self):
    prompt, kinds = finish.without_pii(_prompt(response='a@b.org'), KINDS)
    assert kinds == ('email',)
    assert prompt.text == MAIL.replace('jo@example.com', '[EMAIL]')
    assert prompt.response == '[EMAIL]'
    asked = [
      {'role': 'user', 'content': 'I am jo@example.com.'},
      {'role': 'assistant', 'content': 'Hello.'},
      {'role': 'user', 'content': 'Who am I?'},
    ]
    talk = rows.parse({'messages': asked}, 'f:1')[0]
    prompt, _ = finish.without_pii(talk, KINDS)
    assert prompt.conversation[0] == ('user', 'I am [EMAIL].')
    assert prompt.text.startswith('Human: I am [EMAIL].\n\nAssistant: Hello.')

  def test_what_has_none_is_the_same_object(self):
    prompt = _prompt('nothing to see', response='here')
    assert finish.without_pii(prompt, KINDS) == (prompt, ())
    assert finish.without_pii(_prompt(), ()) == (_prompt(), ())


class TestTokens:
  @hypothesis.given(st.text(st.characters(max_codepoint=0x17F)) | st.text())
  @hypothesis.settings(max_examples=500)
  def test_words_and_marks(self, text):
    expected = len(re.findall(r'\w+|[^\w\s]', text))
    assert finish.words_and_marks(text) == expected

  def test_by_hand(self):
    count = finish.token_counter('')
    assert count("It's 5 o'clock: go_on!") == 10
    assert count('Où est-il ?') == 5 and count(' \n') == 0

  def test_of_a_tokenizer(self, tmp_path):
    path = tmp_path / 'tokenizer.model'
    text = 'the harbour master kept a list of every boat that came in\n' * 9
    tokenizer = tokenizer_lib.Tokenizer.train([text] * 4, 300, str(path))
    count = finish.token_counter(str(path))
    assert count('the harbour list') == len(
      tokenizer.encode('the harbour list')
    )


class TestFinish:
  def test_personal_information_only_in_training(self):
    found = _finish(_prompt())
    assert (found.rule, found.pii_kinds, found.file) == ('pii', ('email',), '')
    for split in 'valid', 'test':
      found = _finish(_prompt(), split)
      assert found.rule == '' and found.row['text'] == MAIL

  def test_redacted(self):
    found = _finish(_prompt(), pii='redact')
    assert found.rule == '' and found.pii_kinds == ('email',)
    assert found.row['text'] == MAIL.replace('jo@example.com', '[EMAIL]')

  @pytest.mark.parametrize(
    'text', ['2a00:1450::1bob@x.com', '-2a00:1450::1. 078-05-1120']
  )
  def test_what_a_replacement_leaves_is_searched_again(self, text):
    once = pii.redact(text, pii.find(text, pii.KINDS))
    assert pii.find(once, pii.KINDS)
    found = _finish(_prompt(text), pii='redact')
    assert not pii.find(found.row['text'], pii.KINDS)

  def test_only_of_the_kinds_that_are_asked_for(self):
    assert _finish(_prompt(), pii_kinds='phone').rule == ''
    assert _finish(_prompt(), pii_kinds='').rule == ''

  def test_lengths(self):
    prompt = _prompt('one two three.', response='four five')
    found = _finish(prompt, max_length=4)
    assert (found.rule, found.num_tokens) == ('', 4)
    assert found.num_response_tokens == 2
    assert _finish(prompt, max_length=3).rule == 'max_length'

  def test_languages(self):
    text = 'Écris une histoire au sujet du jardin et de la rivière en hiver.'
    assert _finish(_prompt(text)).row['language'] == 'fr'
    assert _finish(_prompt(text), languages='en, de').rule == 'language'
    assert _finish(_prompt(text), languages='en, fr').rule == ''

  def test_the_first_rule_counts(self):
    long = _prompt(MAIL + ' word' * 99)
    assert _finish(long, max_length=5, languages='fr').rule == 'pii'
    assert _finish(long, 'valid', max_length=5, languages='fr').rule == (
      'max_length'
    )
    assert _finish(long, 'valid', languages='fr').rule == 'language'

  @pytest.mark.parametrize('source', ['labeler', 'customer'])
  def test_files(self, source):
    texts = [f'tell me about number {i} of the list' for i in range(200)]
    found = {
      split: {
        _finish(_prompt(text, source=source), split).file for text in texts
      }
      for split in settings_lib.SPLITS
    }
    datasets = settings_lib.DATASETS[: 2 if source == 'labeler' else 3]
    assert found['train'] == {f'{name}_train' for name in datasets}
    assert found['valid'] == {f'{name}_valid' for name in datasets}
    assert found['test'] == {'test'}


class TestRow:
  def test_has_what_there_is(self):
    prompt = _prompt(
      'Hi.', prompt_id='p', user_id='u', organization_id='o', time=3,
      kind='plain', use_case='chat', source='labeler', response='Hello.',
    )  # fmt: skip
    assert files.output_row(prompt, 'en') == {
      'prompt_id': 'p',
      'text': 'Hi.',
      'user_id': 'u',
      'organization_id': 'o',
      'source': 'labeler',
      'kind': 'plain',
      'use_case': 'chat',
      'response': 'Hello.',
      'language': 'en',
    }
    bare = files.output_row(_prompt('Hi.'), 'und')
    assert set(bare) == {'prompt_id', 'text', 'source', 'language'}

  def test_lines(self):
    row = {'text': 'naïve\n\u2028"x"', 'n': None}
    line = files.encode(row)
    assert line == '{"text": "naïve\\n\u2028\\"x\\"", "n": null}\n'.encode()


class TestLedger:
  def test_adds_up(self):
    dropped = {('valid_row', ''): 1, ('pii', 'train'): 2, ('size', 'test'): 3}
    extras = {'few_shot': {'added': 4}}
    told = files.ledger(10, dropped, extras, {'test': 8})
    assert [r['rule'] for r in told['rules']] == list(files.RULES)
    assert [r['dropped'] for r in told['rules']] == [1, *[0] * 5, 2, 0, 0, 3]
    assert told['rules'][-1]['by_split'] == {'train': 0, 'valid': 0, 'test': 3}
    output = told['output']
    assert output['test.jsonl'] == 8 and output['ppo_train.jsonl'] == 0

  def test_one_that_does_not_is_a_defect(self):
    with pytest.raises(AssertionError):
      files.ledger(10, {}, {}, {'test': 9})
