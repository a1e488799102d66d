"""Templates render as their models expect, and none leaves its sandbox."""

import datetime
import json

import pytest

from instructjax import errors
from instructjax.data import chat
from tests import tokenizer_folders

TALK = [('user', 'Hi'), ('assistant', 'Hello.'), ('user', 'How are you?')]
TOKENS = {'bos_token': '<s>', 'eos_token': '</s>'}


def _render(source, messages=TALK, open_turn=True):
  return chat.ChatTemplate(source, TOKENS).render(messages, open_turn=open_turn)


def test_chatml():
  template = chat.ChatTemplate(tokenizer_folders.CHATML, {})
  closed = (
    '<|im_start|>user\nHi<|im_end|>\n'
    '<|im_start|>assistant\nHello.<|im_end|>\n'
    '<|im_start|>user\nHow are you?<|im_end|>\n'
  )
  assert template.render(TALK, open_turn=False) == closed
  opened = closed + '<|im_start|>assistant\n'
  assert template.render(TALK, open_turn=True) == opened
  assert template.end_of_turn() == '<|im_end|>\n'
  text, spans = template.turns(TALK)
  assert text == opened
  assert [text[a:b] for a, b in spans] == ['Hello.<|im_end|>']
  assert template.turns([('system', 's'), ('user', 'u')])[1] == []


@pytest.mark.parametrize(
  ('source', 'turns', 'end'),
  [
    (
      tokenizer_folders.LLAMA3,
      ['a<|eot_id|>', 'b\n\nc<|eot_id|>'],
      '<|eot_id|>',
    ),
    (
      tokenizer_folders.GEMMA,
      ['a<end_of_turn>', 'b\n\nc<end_of_turn>'],
      '<end_of_turn>\n',
    ),
    (tokenizer_folders.MISTRAL, ['a\n</s>', 'b\n\nc</s>'], '</s>'),
    # No mark at all: the white space behind the content is not the model's.
    (
      "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n\\n' }}"
      '{% endfor %}'
      "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}",
      ['a\n', 'b\n\nc'],
      '\n\n',
    ),
  ],
)
def test_turns(source, turns, end):
  messages = [('user', 'x'), ('assistant', 'a\n'), ('user', 'y')]
  messages += [('assistant', 'b\n\nc'), ('user', 'z')]
  template = chat.ChatTemplate(source, TOKENS)
  text, spans = template.turns(messages)
  assert text == template.render(messages, open_turn=True)
  assert [text[a:b] for a, b in spans] == turns
  assert template.end_of_turn() == end


@pytest.mark.parametrize(
  ('source', 'answer'),
  [
    (tokenizer_folders.THINKING, '<think>\nhm\n</think>\n\nHello.'),
    # Reasoning never appears, so the span would not be what was answered.
    (
      tokenizer_folders.THINKING.replace('loop.index0 < ns.last and', ''),
      '<think>\nhm\n</think>\n\nHello.',
    ),
  ],
)
def test_turns_of_a_template_that_rewrites_them(source, answer):
  template = chat.ChatTemplate(source, {})
  messages = [('user', 'Hi'), ('assistant', answer), ('user', 'And?')]
  assert template.render(messages, open_turn=True)
  with pytest.raises(errors.UserError, match=r"loss_on='response'"):
    template.turns(messages)


def test_turns_of_a_template_that_adds_to_the_last_one():
  # As Qwen 3's: an answer without reasoning gets an empty one while it is the
  # last, and loses it when the user goes on.
  source = tokenizer_folders.THINKING.replace(
    "{{ '<|im_start|>' + message['role'] + '\\n' + content",
    "{% set empty = '<think>\\n\\n</think>\\n\\n' if loop.last and"
    " message['role'] == 'assistant' else '' %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + empty + content",
  )
  template = chat.ChatTemplate(source, {})
  messages = [('user', 'Hi'), ('assistant', 'Hello.'), ('user', 'And?')]
  last = template.render(messages[:2], open_turn=False)
  assert '<think>\n\n</think>\n\nHello.<|im_end|>' in last
  text, [(start, end)] = template.turns(messages)
  assert text[start:end] == 'Hello.<|im_end|>'
  assert text[:start].endswith('<|im_start|>assistant\n')


def test_turns_need_the_users_message_last():
  template = chat.ChatTemplate(tokenizer_folders.CHATML, {})
  for messages in ([], TALK[:2]):
    with pytest.raises(errors.UserError, match="end with the user's"):
      template.turns(messages)


def test_a_template_that_does_not_write_the_content():
  with pytest.raises(errors.UserError, match="writes the assistant's content"):
    chat.ChatTemplate('{{ messages | length }}', {}).end_of_turn()


def test_what_templates_count_on():
  assert _render(
    '{{ bos_token }}{{ pad_token }}{{ tools }}|{{ documents }}'
  ) == ('<s>None|None')
  assert (
    _render("{{ {'b': '<é>', 'a': 1} | tojson }}") == '{"b": "<é>", "a": 1}'
  )
  assert _render("{{ {'b': 1} | tojson(indent=2) }}") == '{\n  "b": 1\n}'
  assert (
    _render(
      '{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}'
      "{{ m['content'] }}{% endfor %}"
    )
    == 'Hi'
  )
  # Lines that hold a block only leave nothing behind.
  assert (
    _render('{% if true %}\n  {% set x = 1 %}\na\n{% endif %}\nb') == 'a\nb'
  )
  assert (
    _render(
      '{% set ns = namespace(last="") %}{% for m in messages %}'
      "{% set ns.last = m['role'] %}{% endfor %}{{ ns.last }}"
      '{{ dict(a=1).a }}{{ range(3) | list }}'
    )
    == 'user1[0, 1, 2]'
  )
  day = _render("{{ strftime_now('%d %b %Y') }}")
  assert datetime.datetime.strptime(day, '%d %b %Y')


def test_generation_blocks_pass_through():
  source = (
    "{% for m in messages %}{% set x = m['content'] %}"
    '{% generation %}\n{{ x }}{% set x = 1 %}{% endgeneration %}|{{ x }};'
    '{% endfor %}'
  )
  assert _render(source, TALK[:1]) == 'Hi|Hi;'
  assert _render('{%- generation -%} a {%- endgeneration -%}') == 'a'


def test_refusals_of_the_template():
  with pytest.raises(errors.UserError, match='must alternate') as caught:
    _render(tokenizer_folders.GEMMA, [('user', 'a'), ('user', 'b')])
  assert "['user', 'user']" in str(caught.value)
  for source in (
    '{{ messages[0].nothing.more }}',
    '{{ 1 / 0 }}',
    '{{ 1 + "a" }}',
  ):
    with pytest.raises(errors.UserError, match='needed messages it accepts'):
      _render(source)
  with pytest.raises(errors.UserError, match='two lines') as caught:
    _render("{{ raise_exception('two lines\\nof text') }}")
  assert '\n' not in str(caught.value)
  with pytest.raises(errors.UserError, match=r"got \['tool'\]"):
    _render(tokenizer_folders.CHATML, [('tool', 'x')])


@pytest.mark.parametrize(
  'source', ['{% if %}', '{{ a', '{% nothing %}', '{{ a|b }}']
)
def test_syntax(source):
  with pytest.raises(errors.UserError, match='needed a Jinja template'):
    chat.ChatTemplate(source, {})


@pytest.mark.parametrize(
  'source',
  [
    "{{ ''.__class__.__mro__ }}",
    "{{ ''.__class__.__base__.__subclasses__() }}",
    '{{ cycler.__init__.__globals__.os }}',
    '{{ raise_exception.__globals__.json }}',
    '{{ strftime_now.__self__.year }}',
    '{{ dict.__call__.__self__ }}',
    "{{ ('{0.__class__.__base__}').format(1) + missing.x }}",
    '{{ messages.append(1) }}',
    "{{ messages[0].update({'role': 'x'}) }}",
    '{% set ns = namespace() %}{% set ns.__html__ = 1 %}',
    "{{ namespace(**{'__call__': 1}) }}",
    "{% include 'file' %}",
    '{{ range(1000000000) | list }}',
    '{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}'
    '{% endfor %}',
    "{{ 'a' * 10000000000 }}",
    '{{ [1] * 10000000000 }}',
    '{{ 10 ** 10 ** 10 }}',
  ],
)
def test_the_sandbox_holds(source):
  with pytest.raises(errors.UserError, match='needed messages it accepts'):
    _render(source)


def test_limits_are_per_rendering():
  template = chat.ChatTemplate("{{ range(60000) | length }}{{ '-' * 9 }}", {})
  for _ in range(3):
    assert template.render(TALK, open_turn=False) == '60000---------'


def test_find():
  both = {'chat_template': 'config'}
  found = json.dumps({'chat_template': 'json'}).encode()
  jinja = {'chat_template.jinja': 'ü'.encode(), 'chat_template.json': found}
  assert chat.find(jinja, both) == 'ü'
  assert chat.find({'chat_template.json': found}, both) == 'config'
  assert chat.find({'chat_template.json': found}, {}) == 'json'
  assert chat.find({}, {}) is None
  several = [
    {'name': 'tool_use', 'template': 'tools'},
    {'name': 'default', 'template': 'plain'},
  ]
  assert chat.find({}, {'chat_template': several}) == 'plain'
  for bad, said in [
    ({'chat_template': several[:1]}, "'default'"),
    ({'chat_template': [1]}, "'default'"),
    ({'chat_template': 3}, 'as text, got int'),
  ]:
    with pytest.raises(errors.UserError, match=said):
      chat.find({}, bad)
  for name, content in [
    ('chat_template.jinja', b'\xff'),
    ('chat_template.json', b'{'),
    ('chat_template.json', b'{}'),
  ]:
    with pytest.raises(errors.UserError, match='needed UTF-8 text'):
      chat.find({name: content}, {})
