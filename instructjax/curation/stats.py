"""What the prepared prompts are like: the paper's tables, for this data.

A `Tally` is counted while prompts are written, in whole numbers only, so that
any number of workers adds up to the same. `write` makes stats.md of it, with
the paper's number beside ours wherever it printed one.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import hashlib
import pathlib
from typing import Any

from instructjax.curation import lengths
from instructjax.curation import markdown
from instructjax.curation import paper
from instructjax.curation import settings

Counter = collections.Counter
Ledger = Mapping[str, Any]

SOURCES = ('labeler', 'customer')
MAX_LANGUAGES = 20  # told one by one, the rest together
_INITIALS = ('sft', 'rm', 'ppo', 'qa', 'pii')


def _counter() -> Any:
  return dataclasses.field(default_factory=Counter)


@dataclasses.dataclass
class Tally:
  """Counts of prompts, which add up in any order.

  Attributes:
    prompts: by (file, source, use case or None, tokens).
    users: {(file, source): {digest of a user: prompts}}.
    alone: by (file, source): of nobody known, each the only one of its user.
    languages: by tag.
    answered: those that came with a response, by (source, tokens).
    responses: the same, by (source, tokens of the response).
    annotated: those with annotations, by file.
    annotations: of these what is so, by (file, name).
  """

  prompts: Counter = _counter()
  users: dict[tuple[str, str], Counter] = dataclasses.field(
    default_factory=dict
  )
  alone: Counter = _counter()
  languages: Counter = _counter()
  answered: Counter = _counter()
  responses: Counter = _counter()
  annotated: Counter = _counter()
  annotations: Counter = _counter()

  def add(
    self,
    file: str,
    row: Mapping[str, Any],
    num_tokens: int,
    num_response_tokens: int | None = None,
  ) -> None:
    """Counts one prompt.

    Args:
      file: where it was written, one of `settings.FILES`.
      row: the prompt record as written; 'annotations' may be {name: bool}.
      num_tokens: of its text.
      num_response_tokens: of its response, None without one.
    """
    source = row['source']
    self.prompts[file, source, row.get('use_case'), num_tokens] += 1
    # An organisation and a user may have the same id.
    names = [n for n in ('user_id', 'organization_id') if row.get(n)]
    if names:
      user = f'{names[0]} {row[names[0]]}'
      digest = hashlib.blake2b(user.encode(), digest_size=8).digest()
      users = self.users.setdefault((file, source), Counter())
      users[int.from_bytes(digest)] += 1
    else:
      self.alone[file, source] += 1
    if 'language' in row:
      self.languages[row['language']] += 1
    if num_response_tokens is not None:
      self.answered[source, num_tokens] += 1
      self.responses[source, num_response_tokens] += 1
    if 'annotations' in row:
      self.annotated[file] += 1
      for name, so in row['annotations'].items():
        self.annotations[file, name] += bool(so)

  def merge(self, other: Tally) -> None:
    """Adds what another one counted."""
    for place, users in other.users.items():
      self.users.setdefault(place, Counter()).update(users)
    for field in dataclasses.fields(self):
      if field.name != 'users':
        getattr(self, field.name).update(getattr(other, field.name))

  def sizes(self) -> Counter:
    """Returns {(file, source): prompts}."""
    found = Counter()
    for (file, source, _, _), count in self.prompts.items():
      found[file, source] += count
    return found

  def by_file(self) -> dict[str, Counter]:
    """Returns {file: {tokens: prompts}}, in the order of the files."""
    found = {file: Counter() for file in settings.FILES}
    for (file, _, _, num_tokens), count in self.prompts.items():
      found[file][num_tokens] += count
    return found

  def by_use_case(self) -> dict[str, Counter]:
    """Returns {use case: {tokens: prompts}}, in the paper's order."""
    found = {name: Counter() for name in paper.USE_CASES}
    for (_, _, use_case, num_tokens), count in self.prompts.items():
      if use_case is not None:
        found[use_case][num_tokens] += count
    return found

  def per_user(self, source: str, files: Iterable[str]) -> Counter:
    """Returns {prompts: users who have so many} of a source in all `files`."""
    written, alone = Counter(), 0
    for file in files:
      written.update(self.users.get((file, source), {}))
      alone += self.alone[file, source]
    return Counter(written.values()) + Counter({1: alone})


def write(
  out: pathlib.Path,
  tally: Tally,
  counted_as: str,
  ledger: Ledger,
  drawn: Sequence[str] = (),
) -> None:
  """Writes OUT/stats.md.

  Args:
    out: the folder of the prepared data.
    tally: of all that was written.
    counted_as: what a token is, as the end of a sentence.
    ledger: as ledger.json, with its rules in order.
    drawn: names of figures in OUT/figures.
  """
  parts = [
    '# The prompts in the tables of the paper',
    f'Lengths are in tokens, counted as {counted_as}. The paper’s numbers stand'
    ' beside, in tokens of its own; – where we have none of it, or nothing to'
    ' count.',
    *_sizes(tally),
    *_use_cases(tally),
    *_annotations(tally),
    *_per_customer(tally),
    *_lengths_by_file(tally),
    *_lengths_by_use_case(tally),
    *_demonstrations(tally),
    *_languages(tally),
    *_rules(ledger),
  ]
  if drawn:
    parts.append('## Figures')
    parts += [f'![{name}](figures/{name})' for name in drawn]
  text = '\n\n'.join(parts) + '\n'
  (out / 'stats.md').write_text(text, encoding='utf-8')


def called(name: str) -> str:
  """Returns how a file, use case or rule is called before people."""
  word, _, rest = name.partition('_')
  word = word.upper() if word in _INITIALS else word
  return f'{word} {called(rest)}' if rest else word


def _sizes(tally: Tally) -> list[str]:
  counts, rows = tally.sizes(), []
  for split in settings.SPLITS[:2]:
    for source in SOURCES:
      cells = []
      for dataset in settings.DATASETS:
        place = f'{dataset}_{split}', source
        cells += [
          markdown.whole(counts[place]),
          markdown.whole(paper.SIZES.get(place)),
        ]
      rows.append([f'{split}, {source}', *cells])
  tests = ', '.join(f'{counts["test", s]:,} of {s}s' for s in SOURCES)
  head = ['prompts']
  for dataset in settings.DATASETS:
    head += [called(dataset), 'paper']
  return [
    '## Sizes (Table 6)',
    markdown.table(head, rows),
    f'test: {tests}; paper: {paper.LENGTHS["test"]["n"]:,} in all.',
  ]


def _use_cases(tally: Tally) -> list[str]:
  found = {name: n.total() for name, n in tally.by_use_case().items()}
  total, unknown = sum(found.values()), tally.prompts.total()
  unknown -= total
  rows = [
    [
      called(name),
      markdown.whole(found[name]),
      markdown.percent(found[name] / total if total else None),
      markdown.percent(share),
    ]
    for name, (share, _) in paper.USE_CASES.items()
  ]
  return [
    '## Use cases (Table 1)',
    markdown.table(['use case', 'prompts', 'share', 'paper'], rows),
    f'All files; the paper: API prompts of its RM data. {unknown:,} prompts'
    ' name no use case and have no part in the shares.',
  ]


def _annotations(tally: Tally) -> list[str]:
  title = '## Annotations (Table 7)'
  files = [file for file in settings.FILES if tally.annotated[file]]
  if not files:
    return [title, 'No row has "annotations", so there is nothing to tell.']
  named = {name for _, name in tally.annotations}
  names = [*paper.ANNOTATIONS, *sorted(named - set(paper.ANNOTATIONS))]
  rows = [
    [
      called(name),
      *(
        markdown.percent(tally.annotations[file, name] / tally.annotated[file])
        for file in files
      ),
      markdown.percent(paper.ANNOTATIONS.get(name)),
    ]
    for name in names
  ]
  count = [
    'annotated',
    *(markdown.whole(tally.annotated[f]) for f in files),
    markdown.OPEN,
  ]
  head = ['share', *map(called, files), 'paper, RM train']
  return [title, markdown.table(head, [*rows, count])]


def _per_customer(tally: Tally) -> list[str]:
  rows = []
  for file in settings.FILES:
    sizes = tally.per_user('customer', [file])
    users = sizes.total()
    prompts = sum(size * count for size, count in sizes.items())
    rows.append(
      [
        called(file),
        markdown.whole(users),
        markdown.whole(prompts),
        markdown.decimal(prompts / users if users else None),
        markdown.decimal(paper.PER_CUSTOMER[file]),
        markdown.whole(max(sizes, default=None)),
      ]
    )
  head = ['file', 'customers', 'prompts', 'mean', 'paper', 'max']
  return [
    '## Prompts per customer (Table 8)',
    markdown.table(head, rows),
    'A customer is a user id, else an organisation id; a prompt with neither'
    ' is a customer of its own. Labelers are not counted.',
  ]


_OF_LENGTHS = {
  'n': 'prompts',
  'mean': 'mean',
  'std': 'std',
  'min': 'min',
  'lower': '25%',
  'median': '50%',
  'upper': '75%',
  'max': 'max',
}


def _summary(counted: lengths.Lengths) -> list[str]:
  """Returns the cells of a row on lengths."""
  found = lengths.describe(counted)
  if found is None:
    return ['0', *[markdown.OPEN] * (len(_OF_LENGTHS) - 1)]
  return [markdown.number(getattr(found, name)) for name in _OF_LENGTHS]


def _paper_row(given: Mapping[str, float]) -> list[str]:
  return [
    '*paper*',
    *(markdown.number(given.get(name)) for name in _OF_LENGTHS),
  ]


def _lengths_by_file(tally: Tally) -> list[str]:
  rows = []
  for file, counted in tally.by_file().items():
    rows += [
      [called(file), *_summary(counted)],
      _paper_row(paper.LENGTHS[file]),
    ]
  head = ['file', *_OF_LENGTHS.values()]
  return ['## Lengths of prompts (Table 9)', markdown.table(head, rows)]


def _lengths_by_use_case(tally: Tally) -> list[str]:
  rows = [
    [called(name), *_summary(counted), markdown.whole(paper.USE_CASES[name][1])]
    for name, counted in tally.by_use_case().items()
  ]
  head = ['use case', *_OF_LENGTHS.values(), 'mean, paper']
  return ['## Lengths by use case (Table 10)', markdown.table(head, rows)]


def _demonstrations(tally: Tally) -> list[str]:
  title = '## Lengths of prompts and demonstrations (Table 11)'
  if not tally.answered:
    return [title, 'No row has a "response", so there is nothing to tell.']
  rows = []
  for source in SOURCES:
    for name, counts in (
      ('prompts', tally.answered),
      ('demonstrations', tally.responses),
    ):
      counted = {n: count for (s, n), count in counts.items() if s == source}
      rows.append([f'{source}, {name}', *_summary(counted)])
    rows.append(_paper_row(paper.DEMONSTRATIONS[source]))
  head = ['of prompts with a response', *_OF_LENGTHS.values()]
  return [title, markdown.table(head, rows)]


def _languages(tally: Tally) -> list[str]:
  total, found = tally.languages.total(), ranked(tally.languages)
  rows = [
    [tag, markdown.whole(count), f'{count / total:.2%}']
    for tag, count in found[:MAX_LANGUAGES]
  ]
  if rest := found[MAX_LANGUAGES:]:
    count = sum(count for _, count in rest)
    told = f'{len(rest)} others'
    rows.append([told, markdown.whole(count), f'{count / total:.2%}'])
  return [
    '## Languages',
    markdown.table(['language', 'prompts', 'share'], rows),
    f'The paper: {paper.ENGLISH:.0%} English by its tagger, 20 others or more.',
  ]


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
  """Returns counts from the largest, equal ones by name."""
  return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def remaining(ledger: Ledger) -> list[tuple[str, int, int]]:
  """Returns (rule, rows dropped, rows left after it), 'added' ones included."""
  left, found = ledger['input'], []
  for rule in ledger['rules']:
    left += rule.get('added', 0) - rule['dropped']
    found.append((rule['rule'], rule['dropped'], left))
  return found


def _rules(ledger: Ledger) -> list[str]:
  rows = [['input', '', '', '', '', markdown.whole(ledger['input']), '']]
  counts = zip(ledger['rules'], remaining(ledger), strict=True)
  for rule, (name, dropped, left) in counts:
    by_split = rule.get('by_split') or {}
    known = ('rule', 'dropped', 'by_split')
    extras = {key: value for key, value in rule.items() if key not in known}
    rows.append(
      [
        called(name),
        markdown.whole(dropped),
        *(markdown.whole(by_split.get(split)) for split in settings.SPLITS),
        markdown.whole(left),
        ', '.join(_told(key, value) for key, value in extras.items()),
      ]
    )
  head = ['rule', 'dropped', *settings.SPLITS, 'left', 'besides']
  return ['## What the rules dropped', markdown.table(head, rows)]


def _told(key: str, value: Any) -> str:
  if isinstance(value, Mapping):
    inner = ', '.join(_told(k, v) for k, v in value.items())
    return f'{called(key)}: {inner or "none"}'
  return f'{called(key)} {markdown.number(value)}'
