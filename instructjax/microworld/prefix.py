"""A helpful page for a base model to continue: GPT-3 (prompted) of the paper.

A base model goes on with an instruction as the web does, often with the next
instruction. Set on a page on which instructions have been answered, it answers
this one too.

Source: Ouyang et al. 2022, section 3.5: "a few-shot prefix to prompt it into an
instruction-following mode".
"""

from __future__ import annotations

from instructjax.microworld import prompts
from instructjax.microworld import truth
from instructjax.microworld import world as world_lib

# One example each: with the prompt they must fit where positions are trained.
USE_CASES = ('open_qa', 'brainstorming')
_TURN = ' question:{text}\n answer:'


def form(world: world_lib.World) -> str:
  """Returns the page, with '{text}' where the prompt belongs.

  The form is that of the web's pages of questions. The examples are the
  shortest plain prompts that labelers were given, with right answers; the
  answer to the prompt ends with its line.
  """
  shown = prompts.training(world)['demonstrations']
  page = ''
  for use_case in USE_CASES:
    fitting = [
      prompt
      for prompt in shown
      if prompt.use_case == use_case
      and prompt.kind == 'plain'
      and prompt.constraint is None
      and '\n' not in prompt.text
    ]
    if fitting:
      prompt = min(fitting, key=lambda p: (len(p.text.split()), p.text))
      draw = world_lib.stream(world.config.seed, 'prefix', use_case)
      answer = ' '.join(truth.ideal(world, draw, prompt).split())
      page += f'{_TURN.format(text=prompt.text)} {answer}\n'
  return page + _TURN
