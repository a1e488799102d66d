"""Telephone numbers in text: the shape, the numbering plan, the words around.

A run of 7 to 17 digits with a telephone's separators is a candidate. It is a
number if it begins with a country's code and the plan of that country has it;
if the words around it speak of a telephone; or if it stands written out as
some plan's national format. Words that speak of an order, a version or a sum,
and shapes of dates and of counts, say that it is none.

Source: the numbering plans are those of Google's libphonenumber, as
https://github.com/daviddrysdale/python-phonenumbers has them.
"""

from __future__ import annotations

from collections.abc import Iterator
import functools
import re
import unicodedata

# A letter or digit of a script that puts spaces between words. A number right
# after one is part of a word; after a Thai, Chinese, Japanese or Korean letter
# it is not.
WORD = r'[^\W\u0e00-\u0eff\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af]'
# What stands between two digits of one number, at most three of them.
GAP = r'[ \u00a0\u202f.\-\u2010\u2011\u2013/()]{0,3}'


def first(characters: str, *before: str) -> str:
  """Returns a pattern of one of these characters, behind none of `before`.

  What may not stand before it is looked at after it: a pattern that begins with
  a set of characters skips to the first of them several times as fast.

  Args:
    characters: a set, as [a-z] or \\d.
    before: patterns of a fixed width.
  """
  behind = (f'(?<!{pattern}{characters})' for pattern in before)
  return characters + ''.join(behind)


_FIRST = first(
  r'[+\uff0b(\d]',
  *(WORD, r'[@#$\u20ac\u00a3\u00a5=*^/\u2013-]', r'\d[ \u00a0.,:]'),
)
_CANDIDATE = re.compile(
  rf'{_FIRST}(?:(?<=\d)|(?<!\d)[+\uff0b(]?\d)(?:{GAP}\d){{6,16}}'
  r'(?:,? ?(?:x|ext\.?|extension|poste|durchwahl) ?\d{1,5})?'
  rf'(?!{WORD})(?![@%=\u20ac]|[.,:/+*^-]\d| ?[*^=])',
  re.IGNORECASE,
)
_EXTENSION = re.compile(r',? ?[a-z]+\.? ?\d+$', re.IGNORECASE)

# Shapes that are something else unless a word calls them a telephone.
_OTHER = re.compile(
  r'(?:1\d|20)\d\d[-./ ]+\d{1,2}[-./ ]+\d{1,2}(?:\D.*)?'  # 2024-01-31
  r'|\d{1,2}[-./ ]+\d{1,2}[-./ ]+(?:1[6-9]|20)?\d\d(?:\D.*)?'  # 31.01.2024
  r'|\d{1,3}(?:[ .\u00a0\u202f]\d{3})+'  # 12 345 678
  r'|\d{1,2}(?:[ .\-/]\d{1,2}){3,}'  # 12 34 56 78, unless it begins with 0
  r'|97[89][- ].*'  # ISBN
)
_YEAR = r'(?:1[5-9]|20)\d\d'
_DAY = r'(?:0?[1-9]|[12]\d|3[01])'
_DATE = re.compile(
  r'[1-3]\d{3} ?[-\u2013] ?[1-3]\d{3}|'  # 3000-2350 BC
  rf'{_YEAR}(?P<a>[-./]){_DAY}(?P=a){_DAY}(?:\D.*)?'
  rf'|{_DAY}(?P<b>[-./] ?| ){_DAY}(?P=b){_YEAR}(?:\D.*)?'
)
_AMERICAN = re.compile(
  r'(?:1[-. ]?)?(?:\([2-9]\d\d\)[- ]?|[2-9]\d\d(?P<gap>[-./]))'
  r'[2-9]\d\d(?(gap)[-.]|[-. ])\d{4}'
)

# Of the words before a number, matched against small letters, which is quicker
# than to ignore case. These three would not become i and s, the first not one.
_TO_SMALL = str.maketrans('\u0130\u0131\u017f', 'iis')
_STRONG = re.compile(
  r'\b(?:(?:tele)?phone|tel|telefo\w*|t\u00e9l\w*|tel\u00e9fono|mobiele?|mobile'
  r'|mobil\w*|m\u00f3vil|cell|cellphone|cel|celular|cellulare|portable|handy'
  r'|whats ?app|sms|fax|hotline|extension|voicemail|landline'
  r'|call(?:s|ing)?(?: me| us| him| her| them)?(?: at| on| back)?|ring'
  r'|dial|text (?:me|us|him|her|them)|phoning'
  r'|rufnummer|anruf\w*|ruf\w*|appele\w*|ll\u00e1m\w*|llama\w*|chiama\w*'
  r'|ligue|ligar|bel|zadzwo\w+|dzwo\w+|numer telefonu'
  r'|\u0442\u0435\u043b\w*|\u043f\u043e\u0437\u0432\u043e\u043d\w*'
  r'|\u0437\u0432\u043e\u043d\w*|\u0434\u0437\u0432\u043e\u043d\w*)\b'
  r'|\u96fb\u8a71|\u643a\u5e2f|\u7535\u8bdd|\u624b\u673a|\uc804\ud654'
  r'|\ud734\ub300\ud3f0|\u092b\u093c?\u094b\u0928|\u092b\u094b\u0928'
  r'|\u0647\u0627\u062a\u0641|\u062c\u0648\u0627\u0644|\u0627\u062a\u0635\u0644'
  r'|\u05d8\u05dc\u05e4\u05d5\u05df|\u05e0\u05d9\u05d9\u05d3|\u0e42\u0e17\u0e23'
)
_WEAK = re.compile(
  r'\b(?:(?:my|his|her|our|their|your) (?:\w+ )?(?:number|no|line|digits)'
  r'|number is|contact\w*|reach\w*|kontakt\w*|contacte\w*'
  r'|(?:meine|seine|ihre|unsere) nummer|(?:mon|son|notre) num\u00e9ro'
  r'|(?:mi|su|nuestro) n\u00famero|(?:mio|suo|nostro) numero'
  r'|(?:meu|seu|nosso) n\u00famero|m\u00f3j numer|mijn nummer|mitt nummer'
  r'|(?:\u043c\u043e\u0439|\u043d\u0430\u0448) \u043d\u043e\u043c\u0435\u0440'
  r')\b|\u8054\u7cfb|\u9023\u7d61|\uc5f0\ub77d|\u756a\u53f7|\u53f7\u7801'
)
_NEGATIVE = re.compile(
  r'\b(?:orders?|invoices?|tickets?|track\w*|serial|parts?|sku|items?|isbn'
  r'|issn|ean|upc|doi|pmid|arxiv|version|v|ver|release|build|models?|cases?'
  r'|ids?|ref\w*|accounts?|konto\w*|bestell\w*|rechnung\w*|auftrag\w*'
  r'|commandes?|facture|pedido|factura|ordine|fattura|encomenda|zam\u00f3w\w+'
  r'|bestelling|population|years?|pages?|pp|batch|lot|codes?|zip|plz|patent'
  r'|rfc|issue|bug|pr|commit|mod|equals|sum|total|price|costs?|usd|eur|latitude'
  r'|longitude|coordinates|scores?|products?|customs|tariff|license|licence'
  r'|policy|iban|card|member\w*|student|employee|barcode|catalog\w*|article'
  r'|artikel\w*|kunden\w*|client|policen\w*|job|confirmation|reservation|flight'
  r'|session|transaction|parcel|shipment|sendung\w*|colis|timestamp|epoch|unix'
  r'|date[ds]?|born|sequence|digits of|pi|prime|factor\w*|divide'
  r'|multiply|subtract|compute|calculate|solve'
  r'|\u0437\u0430\u043a\u0430\u0437\w*|\u0441\u0447[\u0435\u0451]\u0442\w*)\b'
  r'|\u8ba2\u5355|\u6ce8\u6587|\u8a3b\u6587|\uc8fc\ubb38'
)
_AFTER = re.compile(
  r'[\s,]*(?:is|ist|est|es|\u00e8|\u00e9) (?:my|meine|mon|mi|il mio|o meu)\b'
  r'|\s*\(?(?:cell|mobile|phone|home|office|whatsapp|handy|mobil)\b',
  re.IGNORECASE,
)
_BEFORE_CHARS = 48
_NEAR = re.compile(r'(?:\.?[-:#]|\b(?:no|nr|num|art|id)\.|[^.!?;]){0,20}')

# Where the national format is looked for when no word tells: with a leading
# zero, and without one where the way of writing it is distinctive.
_TRUNK = (
  'FR GB DE IT NL BE CH AT SE AU JP KR ZA TR IE FI UA RO IL CN TW EG AR NZ IN'
).split()
_PLAIN = 'US ES BR RU CN'.split()
# Written without these brackets they look like any row of numbers.
_IN_BRACKETS = {'AU', 'NZ', 'BR', 'RU'}


def find(text: str) -> list[tuple[int, int]]:
  """Returns (start, end) of the telephone numbers, in order."""
  return [
    (start, end)
    for start, end in candidates(text)
    if _is_phone(text, start, end)
  ]


def candidates(text: str) -> Iterator[tuple[int, int]]:
  """Yields (start, end) of what has the shape of a telephone number."""
  for match in _CANDIDATE.finditer(text):
    start, end = match.span()
    found = match[0]
    if '(' in found and ')' not in found:
      start += found.startswith('(')
    yield start, end


def plain(number: str) -> str:
  """Writes the digits of every script as 0 to 9, and hyphens as '-'."""
  if number.isascii():
    return number
  return ''.join(
    '-' if c in '\u2010\u2011\u2012\u2013' else str(unicodedata.decimal(c, c))
    for c in unicodedata.normalize('NFKC', number)
  )


def _is_phone(text: str, start: int, end: int) -> bool:
  number = _EXTENSION.sub('', plain(text[start:end]))
  about = _about(text, start, end)
  if _DATE.fullmatch(number):
    return False
  if number.startswith('+') or (
    number.startswith(('00', '011')) and about >= 0
  ):
    if _is_international(number):
      return True
  if about:
    return about > 0 and sum(map(str.isdigit, number)) <= 15
  if _AMERICAN.fullmatch(number):
    return True
  if number.isdigit() or (number[0] != '0' and _OTHER.fullmatch(number)):
    return False
  return _is_national(number)


def _about(text: str, start: int, end: int) -> int:
  """What the words say: 1 of a telephone, -1 of another number, 0 nothing."""
  before = text[max(0, start - _BEFORE_CHARS) : start].rpartition('\n')[2]
  small = before.translate(_TO_SMALL).lower()
  other = _last(_NEGATIVE, small)
  # A word far away, or of the sentence before, says nothing about this number.
  if other and not _NEAR.fullmatch(before, other.end()):
    other = None
  told = _last(_STRONG, small)
  if _AFTER.match(text, end):
    return 1
  if told and not (other and told.start() < other.start()):
    return 1
  return -1 if other else int(_WEAK.search(small) is not None)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
  """The last match, or None."""
  return functools.reduce(lambda _, m: m, pattern.finditer(text), None)


def _is_international(number: str) -> bool:
  """Whether the plan of the country in the number has it."""
  digits = re.sub(r'^(?:00|011)', '+', number)
  plans = _plans()
  try:
    return plans.is_valid_number(plans.parse(digits, None))
  except plans.NumberParseException:
    return False


def _is_national(number: str) -> bool:
  """Whether some country writes one of its numbers with just these groups."""
  plans = _plans()
  groups = re.findall(r'\d+', number)
  if len(groups) < 2:
    return False
  for region in _TRUNK if groups[0][0] == '0' else _PLAIN:
    if region in _IN_BRACKETS and '(' not in number:
      continue
    try:
      parsed = plans.parse(number, region)
    except plans.NumberParseException:
      continue
    if not plans.is_valid_number_for_region(parsed, region):
      continue
    style = plans.PhoneNumberFormat.NATIONAL
    written = re.findall(r'\d+', plans.format_number(parsed, style))
    if groups == written:
      return True
    # Germans and others group the rest as they like, but not the area code.
    if groups[0][0] == '0' and groups[0] == written[0]:
      return True
  return False


@functools.cache
def _plans():
  """The numbering plans, which take 0.1 s to import."""
  import phonenumbers

  return phonenumbers
