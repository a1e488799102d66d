"""Our own tokenizer as transformers reads one: tokenizer.json and a template.

There a text is encoded as a prompt (begin, text, end of prompt), a pair as a
prompt with its response and end of text, as the reward model reads them, and
the chat template writes messages as `layouts.render` does.
"""

from __future__ import annotations

from collections.abc import Mapping
import json
import pathlib

from tokenizers import processors

from instructjax import errors
from instructjax.data import sentencepiece_model

# What `layouts.render` does, the last answer of the assistant behind it.
_CHAT_TEMPLATE = """\
{%- set end_of_prompt = END -%}
{{- bos_token -}}
{%- for m in messages if m['role'] == 'system' -%}
{{- m['content'] + '\\n\\n' -}}
{%- endfor -%}
{%- set turns = messages | rejectattr('role', 'equalto', 'system') | list -%}
{%- set answered = turns and turns[-1]['role'] == 'assistant' -%}
{%- set asked = turns[:-1] if answered else turns -%}
{%- if asked | length == 1 -%}
{{- asked[0]['content'] -}}
{%- else -%}
{%- for m in asked -%}
{{- ('Human: ' if m['role'] == 'user' else 'Assistant: ') + m['content'] -}}
{{- '\\n\\n' -}}
{%- endfor -%}
{{- 'Assistant:' -}}
{%- endif -%}
{{- end_of_prompt -}}
{%- if answered -%}
{{- turns[-1]['content'] + eos_token -}}
{%- endif -%}
"""


def write(folder: str, model: bytes, ids: Mapping[str, int]) -> None:
  """Writes tokenizer.json and tokenizer_config.json.

  Args:
    folder: which is there.
    model: content of a tokenizer.model of ours.
    ids: of 'bos', 'eos', 'pad' and 'eop', end of prompt.

  Raises:
    UserError: if the folder cannot be written to.
  """
  encoder = sentencepiece_model.encoder(
    model, prefix=None, legacy=False, path='tokenizer.model'
  )
  bos, eos, pad, end = (
    encoder.id_to_token(ids[name]) for name in ('bos', 'eos', 'pad', 'eop')
  )
  encoder.post_processor = processors.TemplateProcessing(
    single=f'{bos} $A {end}',
    pair=f'{bos} $A {end} $B:0 {eos}:0',
    special_tokens=[(t, encoder.token_to_id(t)) for t in (bos, eos, end)],
  )
  settings = {
    'bos_token': bos,
    'eos_token': eos,
    'pad_token': pad,
    'tokenizer_class': 'PreTrainedTokenizerFast',
    'additional_special_tokens': [end],
    'chat_template': _CHAT_TEMPLATE.replace('END', repr(end)),
    'clean_up_tokenization_spaces': False,
  }
  target = pathlib.Path(folder)
  try:
    encoder.save(str(target / 'tokenizer.json'))
    text = json.dumps(settings, indent=2) + '\n'
    (target / 'tokenizer_config.json').write_text(text)
  except Exception as error:  # The library raises plain exceptions.
    raise errors.UserError(
      f'{folder}: needed a writable place for the tokenizer, got "{error}":'
      ' choose another folder.'
    ) from None
