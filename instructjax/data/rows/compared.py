"""Comparisons: two answers and which is better, or several with their scores.

Read as they are:
  [prompt,] chosen, rejected         HH's dialogues, texts, or messages
  question, answer_0, answer_1, score_0, score_1       WebGPT
  history, human_ref_A, human_ref_B, labels            Stanford (SHP)
  instruction|prompt, completions [{response|text, score}]      UltraFeedback
  question, passages, prediction 1 to 4, preference    QA-Feedback
  prompt {text, role, replies}       a tree of messages, see trees.py
Ranks begin at 1; equal scores are ties, and so are equal texts of a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
import itertools
import math
import re

from instructjax.data import layouts
from instructjax.data.rows import trees

Row = layouts.Row

_TURN = re.compile(r'(?:^|\n\n)(Human|Assistant):')
_ROLES = {'Human': 'user', 'Assistant': 'assistant'}
# A completion's score: the first of these that one of its row has.
_SCORES = ('overall_score', 'score', 'rating', 'fine-grained_score')
_PREDICTIONS = tuple(f'prediction {i}' for i in range(1, 5))


def comparisons(row: Row) -> list[Row | str] | None:
  """Reads which answers a row ranks."""
  if 'responses' in row or 'ranks' in row:
    if not {'prompt', 'responses', 'ranks'} <= set(row):
      return None
    if isinstance(row['prompt'], str) and 'conversation' not in row:
      return [row]  # ours
    return [{**row, **layouts.read_prompt(row['prompt'])}]
  if 'chosen' in row and 'rejected' in row:
    return [{**row, **pair(row)}]
  if 'completions' in row and ('instruction' in row or 'prompt' in row):
    return _completions(row)
  if 'prompt' in row and trees.is_tree(row['prompt']):
    return trees.comparisons(row)
  if {'question', 'answer_0', 'answer_1'} <= set(row):
    names = 'score_0', 'score_1'
    scores = [_number(row.get(name), name) for name in names]
    texts = [row['answer_0'], row['answer_1']]
    return [{**row, **_scored(question(row), texts, scores)}]
  if {'history', 'human_ref_A', 'human_ref_B'} <= set(row):
    return [{**row, **_preferred(row)}]
  if {'question', 'preference', *_PREDICTIONS} <= set(row):
    texts = [row[name] for name in _PREDICTIONS]
    scores = _wins(row['preference'], len(texts))
    return [{**row, **_scored(question(row), texts, scores)}]
  return None


def question(row: Row) -> str:
  """Returns a row's question, what it is to be answered from below it."""
  asked = row['question']
  if isinstance(asked, dict):
    asked = layouts.read_text(asked.get('full_text'), 'question.full_text')
  asked = layouts.read_text(asked, 'question')
  if 'passages' in row:
    return '\n\n'.join([asked, *_passages(row['passages'])])
  return layouts.within(asked, row.get('context'), 'context')


def _passages(passages: object) -> list[str]:
  """Returns each passage, [title, sentence, ...], as one text."""
  found = []
  for passage in passages if isinstance(passages, list) else [passages]:
    parts = passage if isinstance(passage, list) and passage else [None]
    title, *sentences = (layouts.read_text(p, 'passages') for p in parts)
    text = ' '.join(sentences)
    found.append(text if text.startswith(title) else f'{title}\n\n{text}')
  return found


def _scored(
  prompt: object, texts: Sequence[object], scores: Sequence[float]
) -> Row:
  """Returns a comparison of texts by their scores, the highest best."""
  order = sorted(set(scores), reverse=True)
  ranks = [order.index(score) + 1 for score in scores]
  if all(text == texts[0] for text in texts):
    ranks = [1] * len(ranks)
  told = {'responses': list(texts), 'ranks': ranks, 'ratings': None}
  return {**layouts.read_prompt(prompt), **told}


def _number(value: object, name: str) -> float:
  """Returns a score, which may be written as text; not NaN."""
  try:
    number = math.nan if isinstance(value, bool) else float(value)
  except (TypeError, ValueError, OverflowError):
    number = math.nan
  if not math.isfinite(number):
    raise ValueError(
      f"needed '{name}' as a number, got {layouts.short(value)}: mend or "
      'remove the row.'
    )
  return number


def _preferred(row: Row) -> Row:
  """Compares two answers by a label, 1 where A is better, else by scores."""
  texts = [row['human_ref_A'], row['human_ref_B']]
  prompt = layouts.read_text(row['history'], 'history')
  scores = [row.get(name) for name in ('score_A', 'score_B')]
  label = row.get('labels')
  if label is None:
    names = 'score_A', 'score_B'
    scores = [_number(v, n) for v, n in zip(scores, names, strict=True)]
    return _scored(prompt, texts, scores)
  if type(label) is not int or label not in (0, 1):
    raise ValueError(
      f"needed 'labels' of 1 (A is better) or 0, got {layouts.short(label)}: "
      'mend or remove the row.'
    )
  return _scored(prompt, texts, [label, 1 - label])


def _completions(row: Row) -> list[Row | str]:
  """Ranks the completions that have a score; says how many have none."""
  found = row['completions']
  if not isinstance(found, list) or not all(isinstance(c, dict) for c in found):
    raise ValueError(
      "needed 'completions' as a list of objects, got "
      f'{layouts.short(found)}: write [{{"response": ..., "score": ...}}].'
    )
  prompt = row['prompt'] if 'prompt' in row else row['instruction']
  name = next(
    (n for n in _SCORES if any(c.get(n) is not None for c in found)), None
  )
  texts, scores = [], []
  for one in found:
    score = _aspects(one) if name is None else one.get(name)
    if score is not None:
      texts.append(one['response'] if 'response' in one else one.get('text'))
      scores.append(_number(score, f'completions.{name}'))
  left = ['a completion without a score'] * (len(found) - len(texts))
  if found and not texts:
    raise ValueError(
      f"needed a score in 'completions' ({', '.join(_SCORES)} or annotations "
      f'with ratings), got {", ".join(map(repr, found[0])) or "no keys"}: '
      'rename the key.'
    )
  if len(texts) < 2:
    return [*left, 'fewer than two completions']
  return [{**row, **_scored(prompt, texts, scores), 'ratings': scores}, *left]


def _aspects(completion: Row) -> float | None:
  """Returns the mean of a completion's ratings by aspect; None without."""
  aspects = completion.get('annotations')
  ratings = []
  for aspect in aspects.values() if isinstance(aspects, dict) else ():
    value = aspect.get('Rating') if isinstance(aspect, dict) else aspect
    if value not in (None, 'N/A'):
      ratings.append(_number(value, 'completions.annotations'))
  return math.fsum(ratings) / len(ratings) if ratings else None


def _wins(labels: object, count: int) -> list[int]:
  """Returns how many pairs each answer wins, less those that it loses.

  Labels that describe an order, with or without ties, give that order. Where
  they contradict each other no order can keep them all; those of a circle
  cancel out, so its answers tie.

  Args:
    labels: of the pairs (1,2), (1,3), (1,4), (2,3), ...: 1 where the first is
      better, 2 where the second is, 0 where neither.
    count: of answers.
  """
  pairs = list(itertools.combinations(range(count), 2))
  good = isinstance(labels, list) and len(labels) == len(pairs)
  if not good or any(type(x) is not int or x not in (0, 1, 2) for x in labels):
    raise ValueError(
      f"needed 'preference' as {len(pairs)} labels of 0, 1 or 2, got "
      f'{layouts.short(labels)}: mend or remove the row.'
    )
  wins = [0] * count
  for (i, j), label in zip(pairs, labels, strict=True):
    won = {0: 0, 1: 1, 2: -1}[label]
    wins[i] += won
    wins[j] -= won
  return wins


def pair(row: Row) -> Row:
  """Returns prompt, two responses and ranks of a chosen/rejected row."""
  answers = row['chosen'], row['rejected']
  kinds = {type(answer) for answer in answers}
  if kinds not in ({str}, {list}):
    given = ' and '.join(type(answer).__name__ for answer in answers)
    raise ValueError(
      "needed 'chosen' and 'rejected' both as text or both as messages, got "
      f'{given}: mend or remove the row.'
    )
  prompt = row.get('prompt')
  if prompt is None and all(isinstance(a, str) for a in answers):
    return _diverging(*(_dialogue(a) for a in answers))
  if prompt is None or _opens_conversation(answers[0]):
    found = _diverging(
      layouts.read_messages(answers[0], 'chosen'),
      layouts.read_messages(answers[1], 'rejected'),
    )
    given = (
      found['prompt']
      if prompt is None
      else layouts.read_prompt(prompt)['prompt']
    )
    if isinstance(given, str) and given not in found['prompt']:
      raise ValueError(
        "needed 'chosen' and 'rejected' to open with 'prompt', got another "
        f'opening {layouts.short(found["prompt"])}: mend or drop one of them.'
      )
    return found
  texts = [
    layouts.read_answer(a, n)
    for a, n in zip(answers, ('chosen', 'rejected'), strict=True)
  ]
  return _ranked(layouts.read_prompt(prompt), *texts)


def _opens_conversation(answer: object) -> bool:
  first = answer[0] if isinstance(answer, list) and answer else None
  if not isinstance(first, dict):
    return False
  return first.get('role', first.get('from')) not in ('assistant', 'gpt')


def _dialogue(text: str) -> layouts.Messages:
  """Returns the turns of a '\\n\\nHuman: ...\\n\\nAssistant: ...' string."""
  pieces = _TURN.split(text)
  if len(pieces) < 3 or pieces[0].strip():
    raise ValueError(
      "needed 'prompt' beside chosen/rejected, or dialogues that begin with "
      f"'\\n\\nHuman:', got {layouts.short(text)}: add the prompt."
    )
  roles = [_ROLES[name] for name in pieces[1::2]]
  return list(zip(roles, (p.strip() for p in pieces[2::2]), strict=True))


def _diverging(chosen: layouts.Messages, rejected: layouts.Messages) -> Row:
  """Splits two conversations into the prompt they share and what follows.

  The prompt ends with the last user message before they part, so each response
  begins with an assistant's turn; turns that follow it stay in the response.
  """
  shared = 0
  limit = min(len(chosen), len(rejected)) - 1
  while shared < limit and chosen[shared] == rejected[shared]:
    shared += 1
  while shared and chosen[shared - 1][0] != 'user':
    shared -= 1
  rest = chosen[shared:], rejected[shared:]
  if not shared or any(r[0][0] != 'assistant' for r in rest):
    raise ValueError(
      "needed 'chosen' and 'rejected' to share a user's message that an "
      'assistant answers, got none: mend or remove the row.'
    )
  texts = [layouts.transcript(r).removeprefix('Assistant: ') for r in rest]
  return _ranked(layouts.rendered(chosen[:shared]), *texts)


def _ranked(prompt: Row, chosen: object, rejected: object) -> Row:
  # Equal texts carry no preference: a tie, which makes no pair.
  ranks = [1, 1 if chosen == rejected else 2]
  return {**prompt, 'responses': [chosen, rejected], 'ranks': ranks}
