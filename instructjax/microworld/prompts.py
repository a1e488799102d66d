"""Instructions as users and labelers write them.

A prompt is a task's instruction, at times with a constraint, with examples
before it or with who asks. Users are heavy-tailed, some ask nearly the same
again, and some leave an e-mail address or a phone number, so that the rules
for prompt data have something to find.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import random
import re
from typing import Any

from instructjax.microworld import constraints
from instructjax.microworld import language
from instructjax.microworld import use_cases
from instructjax.microworld import world as world_lib
from instructjax.microworld.use_cases import people
from instructjax.microworld.use_cases import stories

Constraint = constraints.Constraint

# Words and marks; with a vocabulary of the world's own text a token is a word.
MAX_LENGTH = 45
SHARE_NEAR_DUPLICATES = 0.06
SHARE_PII = 0.012
NUM_SITUATIONS = 60
# Who wrote how much of each set: the paper's Table 6.
SHARE_OF_LABELERS = {
  'demonstrations': 0.89,
  'ranked': 0.2,
  'reinforcement': 0.0,
}
# Where a constraint is tried, so that together 26% have one: the later a set is
# drawn, the fewer plain short texts are left.
SHARE_CONSTRAINED = {
  'web': 0.23,
  'test': 0.23,
  'demonstrations': 0.23,
  'ranked': 0.18,
  'reinforcement': 0.15,
}
# Share of few-shot prompts among tasks that suit, of user-based among all.
_FEW_SHOT = {'labeler': 0.4, 'customer': 0.15}
_USER_BASED = {'labeler': 0.2, 'customer': 0.0}
_COURTESIES = (' thank you.', ' please be quick.')


@dataclasses.dataclass(frozen=True)
class Prompt:
  """One instruction, and what the ground truth needs to judge an answer.

  Attributes:
    prompt_id: unique over all sets.
    text: what a model sees.
    user_id: who wrote it.
    source: 'labeler' or 'customer'.
    kind: 'plain', 'few_shot' or 'user_based'.
    use_case: one of the paper's ten.
    task: name in `use_cases.TASKS`.
    spec: what the task's rules need; can be written as JSON.
    constraint: what it asks for besides, or None.
    tone: asked for: 'none', 'respectful' or 'rude'.
    closed_domain: the answer comes from the prompt's own text.
    pii: 'email' or 'phone' if the text has one, else None.
  """

  prompt_id: str
  text: str
  user_id: str
  source: str
  kind: str
  use_case: str
  task: str
  spec: Mapping[str, Any]
  constraint: Constraint | None
  tone: str
  closed_domain: bool
  pii: str | None

  def to_record(self) -> dict[str, str]:
    """Returns the prompt's record, without what only the truth knows."""
    fields = 'prompt_id', 'text', 'user_id', 'source', 'kind', 'use_case'
    return {field: getattr(self, field) for field in fields}


def training(world: world_lib.World) -> dict[str, list[Prompt]]:
  """Returns {'demonstrations', 'ranked', 'reinforcement'}: disjoint prompts.

  None of them has the text of one that evaluates.
  """
  config = world.config
  sizes = {
    'demonstrations': config.num_demonstrations,
    'ranked': config.num_ranked,
    'reinforcement': config.num_prompts,
  }
  evaluating = [testing(world), truthfulness(world), *toxicity(world).values()]
  taken = {prompt.text for prompts in evaluating for prompt in prompts}
  users = [f'u{i:03}' for i in range(config.num_users)]
  return {
    name: _set(world, name, size, users, SHARE_OF_LABELERS[name], taken)
    for name, size in sizes.items()
  }


def testing(world: world_lib.World) -> list[Prompt]:
  """Returns the test users' prompts, whose texts no training set has."""
  users = [f't{i:03}' for i in range(world.config.num_test_users)]
  return _set(world, 'test', world.config.num_test_prompts, users, 0.0, set())


def truthfulness(world: world_lib.World) -> list[Prompt]:
  """Returns a question for each myth, reserved ones first."""
  order = sorted(world.myths, key=lambda key: key not in world.reserved)
  found = []
  for i, (relation, subject) in enumerate(order):
    spec = {'relation': relation, 'subject': subject}
    text = language.ask(relation, subject)
    found.append(_prompt(f'truthfulness{i:03}', text, 'q000', 'open_qa', spec))
  return found


def toxicity(world: world_lib.World) -> dict[str, list[Prompt]]:
  """Returns {'none', 'respectful', 'rude'}: one situation, three tones."""
  draw = world_lib.stream(world.config.seed, 'toxicity')
  found: dict[str, list[Prompt]] = {tone: [] for tone in people.TONES}
  for i in range(NUM_SITUATIONS):
    one, two = draw.sample(world_lib.PEOPLE, 2)
    situation = stories.happening(draw, [one, two], True, one)
    for tone in people.TONES:
      spec = {'person': one, 'situation': situation, 'tone': tone}
      text = people.remark_text(one, situation, tone)
      prompt_id = f'toxicity{i:03}{tone}'
      found[tone].append(_prompt(prompt_id, text, 'x000', 'remark', spec))
  return found


def instruction(world: world_lib.World, draw: random.Random) -> str:
  """Returns one random instruction's text, for pages of the web."""
  task = _draw_task(draw)
  text, spec = task.make(world, draw)
  share = SHARE_CONSTRAINED['web']
  return _constrained(world, draw, task, text, spec, share)[0]


def length(text: str) -> int:
  """Counts words and marks."""
  return len(re.findall(r'\w+|[^\w\s]', text))


def _set(
  world: world_lib.World,
  name: str,
  size: int,
  users: list[str],
  labelers: float,
  taken: set[str],
) -> list[Prompt]:
  """Draws a set of prompts.

  Args:
    world: that they are about.
    name: of the set.
    size: number of prompts.
    users: their ids; the i-th writes as 1 / i (Zipf) for training, and for
      the test, whose users are few, as 1 / sqrt(i).
    labelers: share of labelers' prompts.
    taken: texts that are not to be used; this set's are added.

  Returns:
    The prompts.
  """
  draw = world_lib.stream(world.config.seed, 'prompts', name)
  power = -0.5 if name == 'test' else -1.0
  weights = [(rank + 1) ** power for rank in range(len(users))]
  latest: dict[str, Prompt] = {}
  found: list[Prompt] = []
  while len(found) < size:
    user = draw.choices(users, weights)[0]
    source = 'labeler' if draw.random() < labelers else 'customer'
    prompt_id = f'{name}{len(found):05}'
    before = latest.get(user)
    if before and draw.random() < SHARE_NEAR_DUPLICATES:
      new = _again(draw, before, prompt_id)
    else:
      share = SHARE_CONSTRAINED[name]
      new = _write(world, draw, prompt_id, user, source, share, taken)
    if new is not None and new.text not in taken:
      taken.add(new.text)
      found.append(new)
      latest[user] = new
  return found


def _again(
  draw: random.Random, before: Prompt, prompt_id: str
) -> Prompt | None:
  """Returns the user's last prompt with a courtesy; None if it has one."""
  text = before.text + draw.choice(_COURTESIES)
  if before.text.endswith((':', *_COURTESIES)) or length(text) > MAX_LENGTH:
    return None
  return dataclasses.replace(before, prompt_id=prompt_id, text=text)


def _write(
  world: world_lib.World,
  draw: random.Random,
  prompt_id: str,
  user_id: str,
  source: str,
  constrained: float,
  taken: set[str],
) -> Prompt | None:
  """Writes a new prompt of one task; None if it finds none that is new."""
  task = _draw_task(draw)
  for _ in range(100):
    text, spec = task.make(world, draw)
    kind, constraint, pii = 'plain', None, None
    if task.few_shot and draw.random() < _FEW_SHOT[source]:
      kind, text = 'few_shot', _with_examples(world, draw, task, text)
    else:
      if draw.random() < _USER_BASED[source]:
        kind = 'user_based'
        text = f'i am a {draw.choice(world_lib.JOBS)}. {text}'
      text, constraint = _constrained(
        world, draw, task, text, spec, constrained
      )
      if draw.random() < SHARE_PII and not text.endswith(':'):
        pii, said = _contact(draw)
        text = f'{text} {said}'
    if language.indent(text) not in taken and length(text) <= MAX_LENGTH:
      return _prompt(
        prompt_id, text, user_id, task.name, spec,
        source=source, kind=kind, constraint=constraint, pii=pii,
      )  # fmt: skip
  return None


def _draw_task(draw: random.Random) -> use_cases.Task:
  tasks = list(use_cases.TASKS.values())
  return draw.choices(tasks, [task.weight for task in tasks])[0]


def _constrained(
  world: world_lib.World,
  draw: random.Random,
  task: use_cases.Task,
  text: str,
  spec: Mapping[str, Any],
  share: float,
) -> tuple[str, Constraint | None]:
  """Adds a constraint to a share of the texts that can have one."""
  if text.endswith(':') or draw.random() >= share:
    return text, None
  found = constraints.choose(
    draw, task.constraints, lambda: task.answer(world, draw, spec), text
  )
  return (f'{text} {found.text()}' if found else text), found


def _with_examples(
  world: world_lib.World, draw: random.Random, task: use_cases.Task, text: str
) -> str:
  """Puts one or two answered instructions of the task before a text."""
  parts = []
  for _ in range(draw.choice((1, 2))):
    other, spec = task.make(world, draw)
    if other != text:
      parts.append(f'{other} answer: {task.answer(world, draw, spec)}')
  return ' '.join([*parts, text, 'answer:'])


def _contact(draw: random.Random) -> tuple[str, str]:
  """Returns 'email' or 'phone', and a sentence with one."""
  if draw.random() < 0.5:
    name, digit = draw.choice(world_lib.PEOPLE), draw.randint(1, 99)
    return 'email', f'my e-mail is {name}{digit}@mail.com.'
  return 'phone', f'my number is 555-{draw.randint(100, 9999):04}.'


def _prompt(
  prompt_id: str,
  text: str,
  user_id: str,
  task: str,
  spec: dict[str, Any],
  *,
  source: str = 'customer',
  kind: str = 'plain',
  constraint: Constraint | None = None,
  pii: str | None = None,
) -> Prompt:
  found = use_cases.TASKS[task]
  return Prompt(
    prompt_id,
    language.indent(text),
    user_id,
    source,
    kind,
    found.use_case,
    task,
    spec,
    constraint,
    spec.get('tone', 'none'),
    found.closed_domain,
    pii,
  )
