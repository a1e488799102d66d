"""A model's own chat template: messages to the text that it was tuned on.

The template is a Jinja program that comes with a tokenizer, so it is untrusted:
it runs in Jinja's immutable sandbox and sees nothing but plain strings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import datetime
import json

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import jinja2.utils

from instructjax import errors

Message = tuple[str, str]

_ROLES = ('system', 'user', 'assistant')
_MAX_ITEMS = 100_000  # Per rendering; a conversation has far fewer messages.
_MARKER = 'zqxjkvw'  # No template writes it; trimming leaves it alone.


class ChatTemplate:
  """Messages rendered the way a model was taught to read them."""

  def __init__(self, source: str, variables: Mapping[str, str]):
    """Compiles a template.

    Args:
      source: the Jinja text.
      variables: special tokens by name ('bos_token': '<s>'), which templates
        write.

    Raises:
      UserError: the template's syntax is wrong.
    """
    self._variables = dict(variables)
    self._last: tuple[str, str] | None = None
    self._sandbox = _Sandbox()
    try:
      self._template = self._sandbox.from_string(source)
    except (
      Exception
    ) as error:  # Also what Python's compiler says of the result.
      raise errors.UserError(
        f'chat template: needed a Jinja template, got "{_line(error)}": mend '
        'chat_template of the tokenizer.'
      ) from None

  def render(self, messages: Sequence[Message], *, open_turn: bool) -> str:
    """Returns the text of a conversation.

    Args:
      messages: (role, content) with roles system, user, assistant.
      open_turn: whether the text ends with the header of an assistant's turn
        to come (Hugging Face's add_generation_prompt).

    Raises:
      UserError: a role that is none of the three; the template refuses these
        messages, fails on them or tries to leave its sandbox.
    """
    roles = [role for role, _ in messages]
    if set(roles) - set(_ROLES):
      raise errors.UserError(
        f'chat template: needed roles {", ".join(_ROLES)}, got {roles}: mend '
        'the messages.'
      )
    self._sandbox.allowance = _MAX_ITEMS
    try:
      return self._template.render(
        messages=[{'role': role, 'content': text} for role, text in messages],
        tools=None,
        documents=None,
        add_generation_prompt=open_turn,
        **self._variables,
      )
    except Exception as error:  # Whatever the untrusted program runs into.
      raise errors.UserError(
        f'chat template: needed messages it accepts, got "{_line(error)}" for '
        f'roles {roles}: mend the messages or the template.'
      ) from None

  def turns(
    self, messages: Sequence[Message]
  ) -> tuple[str, list[tuple[int, int]]]:
    """Returns the prompt and where the assistant's earlier turns lie in it.

    A turn is what the model would have written: content and end-of-turn mark,
    without the white space behind that.

    Args:
      messages: (role, content), the last one the user's.

    Returns:
      The rendering with an open turn, and [start, end) in characters for each
      of the assistant's messages, in order.

    Raises:
      UserError: as for `render`; the last message is not the user's; the
        template alters what an earlier turn said (some drop old reasoning), so
        no span of the prompt is that turn.
    """
    if not messages or messages[-1][0] != 'user':
      raise errors.UserError(
        "chat template: needed messages that end with the user's, got roles "
        f'{[role for role, _ in messages]}: mend the messages.'
      )
    text = self.render(messages, open_turn=True)
    # What stands around the assistant's contents, by others in their place.
    marks = [f'{_MARKER}{i}{_MARKER}' for i in range(len(messages))]
    answers = [
      (i, content)
      for i, (role, content) in enumerate(messages)
      if role == 'assistant'
    ]
    marked = list(messages)
    for i, _ in answers:
      marked[i] = ('assistant', marks[i])
    rest, at, spans = self.render(marked, open_turn=True), 0, []
    mark = self.end_of_turn().rstrip()
    for i, content in answers:
      before, _, rest = rest.partition(marks[i])
      start = at + len(before)
      kept = content if text.startswith(content, start) else content.strip()
      if text[at : start + len(kept)] != before + kept:
        raise _rewritten(i)
      at = start + len(kept)
      spans.append((start, at + len(mark) * rest.startswith(mark)))
    if text[at:] != rest:
      raise _rewritten(len(messages) - 1)
    return text, spans

  def end_of_turn(self) -> str:
    """Returns what the template writes behind an assistant's last content.

    Raises:
      UserError: as for `render`; the template does not write the content.
    """
    return self._around()[1]

  def opening(self) -> str:
    """Returns what the template writes in front of an assistant's content.

    Raises:
      UserError: as for `end_of_turn`.
    """
    return self._around()[0]

  def _around(self) -> tuple[str, str]:
    if self._last is None:
      messages = [('user', 'x'), ('assistant', _MARKER)]
      whole = self.render(messages, open_turn=False)
      before, found, behind = whole.rpartition(_MARKER)
      if not found:
        raise errors.UserError(
          "chat template: needed one that writes the assistant's content, got "
          'a text without it: mend the template.'
        )
      self._last = before, behind
    return self._last


def _rewritten(index: int) -> errors.UserError:
  return errors.UserError(
    'chat template: needed one that keeps what the assistant said in earlier'
    f' turns, got another text for message {index}: the loss can then only be'
    " on the last turn (loss_on='response')."
  )


def find(
  files: Mapping[str, bytes], config: Mapping[str, object]
) -> str | None:
  """Returns a tokenizer folder's template: its Jinja text, or None.

  Args:
    files: content of the folder's files by name. chat_template.jinja comes
      first, then `config`, then chat_template.json, as in transformers.
    config: content of tokenizer_config.json.

  Raises:
    UserError: several templates of which none is the default; one that is no
      text.
  """
  try:
    if 'chat_template.jinja' in files:
      return files['chat_template.jinja'].decode()
    name, found = 'tokenizer_config.json', config.get('chat_template')
    if found is None and 'chat_template.json' in files:
      name, content = 'chat_template.json', files['chat_template.json']
      found = json.loads(content)['chat_template']
    if isinstance(found, list):
      found = {entry['name']: entry['template'] for entry in found}
    if isinstance(found, dict):
      found = found['default']
  except (ValueError, KeyError, TypeError) as error:
    raise errors.UserError(
      'chat template: needed UTF-8 text, or {name, template} of which one is '
      f"'default', got {type(error).__name__} ({_line(error)}): mend "
      "the tokenizer's chat_template."
    ) from None
  if found is not None and not isinstance(found, str):
    raise errors.UserError(
      f'{name}: needed chat_template as text, got {type(found).__name__}: '
      'write the Jinja text.'
    )
  return found


class _Generation(jinja2.ext.Extension):
  """`{% generation %}` marks the assistant's text; here it changes nothing."""

  tags = {'generation'}

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
    return jinja2.nodes.Scope(body, lineno=line)


class _Namespace(jinja2.utils.Namespace):
  """Jinja's namespace without names that Python itself gives a meaning."""

  def __init__(*args, **kwargs):
    self, *rest = args
    names = dict(*rest, **kwargs)
    for name in names:
      _public(name)
    jinja2.utils.Namespace.__init__(self, names)

  def __setitem__(self, name, value):
    _public(name)
    super().__setitem__(name, value)


def _public(name: object) -> None:
  if isinstance(name, str) and name.startswith('_'):
    raise jinja2.exceptions.SecurityError(
      f'a namespace may not hold {name!r}, names with _ in front are private'
    )


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
  """The sandbox with what templates of transformers count on.

  Attributes:
    allowance: how many more items and characters `range`, `*` and `**` may
      make; loops in loops and long products would otherwise never end.
  """

  intercepted_binops = frozenset({'*', '**'})

  def __init__(self):
    super().__init__(
      trim_blocks=True,
      lstrip_blocks=True,
      extensions=[_Generation, jinja2.ext.loopcontrols],
    )
    self.allowance = _MAX_ITEMS
    started = datetime.datetime.now()  # One day for the whole of a run.
    self.filters['tojson'] = _to_json
    self.globals.update(
      raise_exception=_refuse,
      strftime_now=started.strftime,
      namespace=_Namespace,
      # The types themselves would lend their methods and attributes.
      dict=lambda *args, **kwargs: dict(*args, **kwargs),
      range=self._range,
    )

  def call_binop(self, context, operator, left, right):
    size = 0
    for value, times in ((left, right), (right, left)):
      if isinstance(times, int):
        # Of a number, how many digits the power may have.
        many = len(value) if hasattr(value, '__len__') else operator == '**'
        size = max(size, many * times)
    self._spend(size)
    return super().call_binop(context, operator, left, right)

  def _range(self, *args: int) -> range:
    self._spend(len(range(*args)))
    return range(*args)

  def _spend(self, size: int) -> None:
    self.allowance -= size
    if self.allowance < 0:
      raise jinja2.exceptions.SecurityError(
        f'a loop or product of more than {_MAX_ITEMS} items'
      )


def _refuse(message: object) -> None:
  raise jinja2.exceptions.TemplateError(str(message))


def _to_json(
  value, ensure_ascii=False, indent=None, separators=None, sort_keys=False
) -> str:
  """JSON as it is; Jinja's own filter would escape it for HTML."""
  return json.dumps(
    value,
    ensure_ascii=ensure_ascii,
    indent=indent,
    separators=separators,
    sort_keys=sort_keys,
  )


def _line(error: object) -> str:
  lines = str(error).strip().splitlines()
  return lines[0][:200] if lines else type(error).__name__
