"""Personal information in text: where it is, and the text without it.

A candidate has the shape of its kind, and is found if it also holds what the
kind promises: a card its brand's prefix and Luhn's checksum, an IBAN its
country's length and checksum, a social security number a number that was given
out, an address the syntax of its network, a telephone number a numbering plan
or words that speak of one. Shapes are ours, checks are python-stdnum's,
phonenumbers' and ipaddress's. Nothing is downloaded and there is no model, so
names and street addresses, which have no checksum, are found only where the
words around them say so, and only if asked for.

How much is found, and what is not: experiments/pii/README.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
import functools
import ipaddress
import re
import types
from typing import NamedTuple

from instructjax import errors
from instructjax.curation import names
from instructjax.curation import phones

DEFAULT_KINDS = 'email', 'phone', 'credit_card', 'iban', 'ssn', 'ip_address'
KINDS = (*DEFAULT_KINDS, 'street_address', 'person')
_DEFAULT = frozenset(DEFAULT_KINDS)

_WORD = phones.WORD


class Span(NamedTuple):
  """Where something of a kind stands: text[start:end]."""

  kind: str
  start: int
  end: int


def find(text: str, kinds: Collection[str] = DEFAULT_KINDS) -> list[Span]:
  """Finds personal information, in time that grows with the text's length.

  Args:
    text: any.
    kinds: some of `KINDS`. What is one of the default kinds is never taken for
      another, even if only the other is asked for: the digits of a card are no
      telephone number.

  Returns:
    The spans, sorted, none of which overlaps another.

  Raises:
    errors.UserError: if there is no such kind.
  """
  check_kinds(kinds)
  wanted = set(kinds)
  possible = wanted - _DEFAULT
  if possible != wanted and screen(text):
    possible |= _DEFAULT
  if not possible:
    return []
  found: list[Span] = []
  taken = bytearray(len(text))
  for kind, finder in _FINDERS.items():
    for start, end in finder(text) if kind in possible else ():
      if not any(taken[start:end]):
        found.append(Span(kind, start, end))
        taken[start:end] = b'\1' * (end - start)
  return sorted(
    (span for span in found if span.kind in wanted), key=lambda s: s.start
  )


def redact(text: str, spans: Iterable[Span]) -> str:
  """Returns the text with '[KIND]' in place of each span, as '[EMAIL]'."""
  parts, at = [], 0
  for kind, start, end in sorted(spans, key=lambda s: s.start):
    parts += text[at:start], f'[{kind.upper()}]'
    at = end
  return ''.join([*parts, text[at:]])


def screen(text: str) -> bool:
  """Tells quickly whether anything of the default kinds could be in a text.

  True for every text in which `find` finds something, and for a few others.
  """
  if '@' in text or _may_be_spelt(text):
    return True
  # One pass of memchr a digit is far quicker than a regular expression.
  if text.isascii() and not any(digit in text for digit in '0123456789'):
    return False
  return _NUMBERS.search(text) is not None or (
    _may_be_ipv6(text) and _IPV6.search(text) is not None
  )


def check_kinds(kinds: Collection[str]) -> None:
  """Refuses kinds that are not in `KINDS`."""
  if isinstance(kinds, str) or (unknown := sorted({*kinds} - {*KINDS})):
    given = kinds if isinstance(kinds, str) else ', '.join(unknown)
    raise errors.UserError(
      f'Kinds of personal information are some of {", ".join(KINDS)},'
      f' not {given!r}: correct the list.'
    )


# A local part is at most 64 characters, a label of a domain 63.
_LOCAL = re.compile(rf"(?:{_WORD}|[!#$%'*+^`{{|}}~.-]){{1,64}}\Z")
_TOP = (
  rf'(?:xn--[a-z0-9-]{{1,59}}|[a-z]{{2,24}}(?!-|{_WORD})'
  r'|[^\W\d_]{2,24}\b)'
)
_LABEL = r'[^\W_](?:[\w-]{0,61}[^\W_])?'
_DOMAIN = re.compile(rf'(?:{_LABEL}\.){{1,8}}{_TOP}', re.IGNORECASE)
# Spelled out, as 'ben [at] firma [dot] de' or 'ben at firma dot de'.
_AT = re.compile(r' ?[\[({<](?:at|AT)[\])}>] ?| at (?=[^ ]+ dot )')
_DOT = r'(?: ?[\[({<] ?dot ?[\])}>] ?| dot |\.)'
_SPELT = re.compile(
  rf'(?:{_LABEL}{_DOT}){{1,8}}?{_TOP}(?! dot )', re.IGNORECASE
)
# What follows a dot in a file's name or a package's version, and is no domain.
_NO_DOMAIN = re.compile(
  r'\.(?:png|jpe?g|gif|svg|webp|css|html?|json|ya?ml|txt|pdf|csv|xml|exe|dll'
  r'|tgz|gz|rc|alpha|beta|snapshot|final|release)\Z',
  re.IGNORECASE,
)


def _emails(text: str) -> Iterator[tuple[int, int]]:
  at = text.find('@')
  while at >= 0:
    spelt = ' dot ' in text[at : at + 64]
    yield from _email(text, at, at + 1, _SPELT if spelt else _DOMAIN)
    at = text.find('@', at + 1)
  if _may_be_spelt(text):
    for match in _AT.finditer(text):
      yield from _email(text, *match.span(), _SPELT)


def _may_be_spelt(text: str) -> bool:
  if ' dot ' in text:
    return True
  brackets = '(' in text or '[' in text or '{' in text or '<' in text
  return brackets and any(at in text for at in _BRACKETED)


_BRACKETED = '(at)', '[at]', '{at}', '<at>', '(AT)', '[AT]'


def _email(
  text: str, at: int, after: int, shape: re.Pattern[str]
) -> Iterator[tuple[int, int]]:
  """Yields the address around an at sign, if there is one."""
  local = _LOCAL.search(text, max(0, at - 64), at)
  domain = shape.match(text, after)
  if not local or not domain:
    return
  # A quotation mark or a bracket of markup before it is the sentence's.
  name = local[0].lstrip(".'`*{|!#$%~^-")
  start = at - len(name)
  handle = text[start - 1 : start] in ('@', '/') and start > 0
  remote = name == 'git' and text[domain.end() : domain.end() + 1] == ':'
  wrong = not name or name[-1] == '.' or '..' in name
  if not (handle or remote or wrong or _NO_DOMAIN.search(domain[0])):
    yield start, domain.end()


# The beginnings that brands of cards use, and their numbers of digits.
_BRANDS = (
  (re.compile(r'4'), {16, 19}),
  (re.compile(r'5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720'), {16}),
  (re.compile(r'3[47]'), {15}),
  (re.compile(r'6011|64[4-9]|65|62|60|81|82|508|220[0-4]'), {16, 17, 18, 19}),
  (re.compile(r'30[0-5]|309|36|3[89]'), {14, 16}),
  (re.compile(r'35[2-8]'), {16, 17, 18, 19}),
  (
    re.compile(
      r'5018|5020|5038|5893|6304|6759|676[1-3]|506[67]|509|636297|636368'
    ),
    set(range(12, 20)),
  ),
)
_CARD = re.compile(
  phones.first(r'\d', _WORD, '[.,-]', r'\d ') + r'(?:\d{11,18}'
  r'|\d+(?P<gap>[ \u00a0.\u2010\u2011-])\d{2,}(?:(?P=gap)\d{2,}){0,8})'
  rf'(?!{_WORD}|-|[.,]\d| \d{{2}})'
)


def _cards(text: str) -> Iterator[tuple[int, int]]:
  luhn = _checks().luhn
  for match in _CARD.finditer(text):
    digits = ''.join(c for c in phones.plain(match[0]) if c.isdigit())
    known = any(
      len(digits) in lengths and brand.match(digits)
      for brand, lengths in _BRANDS
    )
    if known and luhn.is_valid(digits) and len(set(digits)) > 1:
      yield match.span()


# Its first digit, behind two letters; the rest is looked at and not consumed,
# or what is none would swallow the beginning of one.
_IBAN = re.compile(
  r'\d(?<=[A-Za-z]{2}\d)(?<![A-Za-z0-9][A-Za-z]{2}\d)'
  r'(?=(\d(?:[ \u00a0.-]?[A-Za-z0-9]){11,30}))'
)


def _ibans(text: str) -> Iterator[tuple[int, int]]:
  iban = _checks().iban
  for match in _IBAN.finditer(text):
    start = match.start() - 2
    found = phones.plain(text[start : match.end(1)])
    # A country's numbers have one length; words may follow it.
    for end in range(len(found), 14, -1):
      cut = end < len(found) and found[end].isalnum()
      # The registry's structure and checksum; a bank's own checks are not ours.
      if not cut and iban.is_valid(found[:end], check_country=False):
        yield start, start + end
        break


# Each of them from its second digit on.
_SSN = re.compile(
  phones.first(r'\d', _WORD, '[.+/-]', r'\d ')
  + r'(?:(?P<us>\d\d(?P<gap>[- \u2010\u2011\u2013])\d\d(?P=gap)\d{4})'
  r'|(?P<cpf>\d\d\.\d{3}\.\d{3}-\d\d)'
  r'|(?P<nir>(?<=[12]) ?\d\d ?(?:0[1-9]|1[0-2]) ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d)'
  r'|(?P<bare>\d{8}|\d\d[ .-]\d{2,3}[ .-]\d{3,4}))'
  rf'(?!{_WORD}|-|[. ]\d)'
)
_SSN_WORDS = re.compile(
  r'\b(?:ssn|social(?: security)?(?: (?:number|no|#))?|sin'
  r'|social insurance(?: number)?)\b[^\w\n]{0,3}(?:number|no|is|of)?[\s:#.]*\Z',
  re.IGNORECASE,
)


def _ssns(text: str) -> Iterator[tuple[int, int]]:
  checks = _checks()
  for match in _SSN.finditer(text):
    number = phones.plain(match[0])
    kind = next(k for k in ('us', 'cpf', 'nir', 'bare') if match[k])
    if kind == 'bare':
      before = text[max(0, match.start() - 40) : match.start()]
      good = _SSN_WORDS.search(before) and (
        checks.ssn.is_valid(re.sub(r'\D', '', number))
        or checks.sin.is_valid(re.sub(r'\D', '', number))
      )
    else:
      check = {'us': checks.ssn, 'cpf': checks.cpf, 'nir': checks.nir}[kind]
      good = check.is_valid(number.replace(' ', '-' if kind == 'us' else ' '))
    if good:
      yield match.span()


_IPV4 = re.compile(
  phones.first(r'\d', _WORD, '[.+=]', '[A-Za-z]-') + r'\d{0,2}(?:\.\d{1,3}){3}'
  rf'(?:/\d\d?)?(?!{_WORD}|\.\d|\+\w|-(?!(?:\d{{1,3}}\.){{3}})\w)'
)
# Addresses of networks and single machines; ::1 and the like name nobody.
_IPV6 = re.compile(
  rf'(?<!{_WORD})(?<![:.])'
  r'(?:[23][0-9a-f]{3}|fe[89ab][0-9a-f]|f[cd][0-9a-f]{2})'
  rf'(?::[0-9a-f]{{0,4}}){{2,7}}(?!{_WORD}|:)',
  re.IGNORECASE,
)
_VERSION = re.compile(
  r'(?:\b(?:versions?|ver|v|releases?|rev|revision|build|firmware|driver'
  r'|upgrade[ds]?(?: \w+)? to|update[ds]?(?: \w+)? to|section|chapter|clause'
  r'|paragraph|\u00a7|article|figure|table|python|java|node|linux|windows|ios'
  r'|android|chrome|firefox|safari|opera|edge|oid|isbn|versi[o\u00f3]n'
  r'|versione|vers\u00e3o|versie|wersj[aiy]|\u0432\u0435\u0440\u0441\w+'
  r'|\u7248\u672c|\u30d0\u30fc\u30b8\u30e7\u30f3)|[=~<>]=|\u00a7)[ \t:v./]*\Z',
  re.IGNORECASE,
)


def _may_be_ipv6(text: str) -> bool:
  return '::' in text or text.count(':') > 6


def _addresses(text: str) -> Iterator[tuple[int, int]]:
  for pattern in (_IPV4, _IPV6) if _may_be_ipv6(text) else (_IPV4,):
    for match in pattern.finditer(text):
      written, start = match[0], match.start()
      if pattern is _IPV6:
        written = written.rstrip(':') if written[-2:] != '::' else written
      try:
        address = ipaddress.ip_address(phones.plain(written).partition('/')[0])
      except ValueError:
        continue
      nobody = (
        not any(map(str.isdigit, written))
        or address.is_loopback
        or address.is_unspecified
        or address.is_multicast
        or written.startswith(('255.', '0.'))
      )
      before = text[max(0, start - 32) : start]
      if not nobody and not _VERSION.search(before):
        yield start, start + len(written)


# Every alternative begins with a digit, which the search skips to quickly.
_NUMBERS = re.compile(
  rf'\d(?:(?:{phones.GAP}\d){{6}}|\d{{0,2}}\.\d{{1,3}}\.\d{{1,3}}\.\d'
  r'|(?<=[A-Za-z]{2}\d)\d(?:[ \u00a0.-]?[A-Za-z0-9]){11})'
)


class _Checks(NamedTuple):
  luhn: types.ModuleType
  iban: types.ModuleType
  ssn: types.ModuleType
  cpf: types.ModuleType
  nir: types.ModuleType
  sin: types.ModuleType


@functools.cache
def _checks() -> _Checks:
  """The modules that check, which take 0.2 s to import."""
  from stdnum import iban
  from stdnum import luhn
  from stdnum.br import cpf
  from stdnum.ca import sin
  from stdnum.fr import nir
  from stdnum.us import ssn

  return _Checks(luhn, iban, ssn, cpf, nir, sin)


# Where two overlap, the one whose kind stands first here is kept.
_FINDERS = {
  'email': _emails,
  'iban': _ibans,
  'credit_card': _cards,
  'ssn': _ssns,
  'ip_address': _addresses,
  'phone': phones.find,
  'street_address': names.street_addresses,
  'person': names.persons,
}
