"""How personal information, and what only looks like it, is written.

Each function returns a maker, which draws one value. Formats and checksums are
from knowledge of the standards and of how people write; nothing here is taken
from a recogniser.
"""

from __future__ import annotations

from collections.abc import Callable
import random

Draw = random.Random
Maker = Callable[[Draw], str]

FIRST = (
  'anna ben carla dmitri elif farid greta hugo ines jun kofi lena'
).split()
LAST = 'adler brown costa dupont eriksen ferrari garcia huang ivanov'.split()
HOSTS = 'mail.com gmail.com example.org firma.de posteo.net wanadoo.fr'.split()
AREAS = '212 415 312 617 206 713 305 404 503 718 202 303'.split()


def mark(value: str) -> str:
  """Marks what is personal in a longer text, with \u2039 and \u203a."""
  return f'\u2039{value}\u203a'


def digits(draw: Draw, count: int) -> str:
  """Draws that many digits."""
  return ''.join(draw.choice('0123456789') for _ in range(count))


def pattern(draw: Draw, shape: str) -> str:
  """'#' is a digit, '~' one of 2 to 9, '`' a hex digit, '|' a capital."""
  choices = {'#': '0123456789', '~': '23456789', '`': '0123456789abcdef'}
  choices['|'] = 'ABCDEFGHJKLMNPQRSTUVWXYZ'
  return ''.join(draw.choice(choices.get(c, c)) for c in shape)


def shape(*shapes: str) -> Maker:
  """One of the shapes, as `pattern` reads them."""
  return lambda draw: pattern(draw, draw.choice(shapes))


def one_of(*values: str) -> Maker:
  """One of the values, with '#' a digit."""
  return shape(*values)


def email(template: str) -> Maker:
  """{f}irst and {l}ast names, {i}nitial, {n}umber, {host}, {q}q digits."""

  def make(draw: Draw) -> str:
    first, last = draw.choice(FIRST), draw.choice(LAST)
    host = draw.choice(HOSTS)
    return template.format(
      f=first, l=last, i=first[0], n=draw.randint(1, 99), host=host,
      q=digits(draw, 9), F=first.title(), U=f'{first}.{last}@{host}'.upper(),
    )  # fmt: skip

  return make


def phone(*shapes: str) -> Maker:
  """One of the shapes; (AREA) is an area code of the United States."""

  def make(draw: Draw) -> str:
    found = draw.choice(shapes)
    return pattern(draw, found.replace('(AREA)', draw.choice(AREAS)))

  return make


def luhn(body: str) -> str:
  """Appends the digit that makes the sum of doubled digits end in zero."""
  total = 0
  for i, c in enumerate(reversed(body)):
    d = int(c) * (2 if i % 2 == 0 else 1)
    total += d - 9 if d > 9 else d
  return body + str(-total % 10)


def groups(number: str, sizes: tuple[int, ...], gap: str) -> str:
  """The number in groups of those sizes."""
  found, at = [], 0
  for size in sizes:
    found.append(number[at : at + size])
    at += size
  return gap.join(found)


def card(prefix: str, length: int, gap: str, sizes=(4, 4, 4, 4)) -> Maker:
  """A card number with a right check digit."""

  def make(draw: Draw) -> str:
    number = luhn(prefix + digits(draw, length - len(prefix) - 1))
    return groups(number, sizes, gap) if gap else number

  return make


def bad_luhn(*sizes: int, gap: str = ' ', first: str = '4') -> Maker:
  """A card number with a wrong check digit."""

  def make(draw: Draw) -> str:
    good = luhn(first + digits(draw, sum(sizes) - len(first) - 1))
    last = str((int(good[-1]) + draw.randint(1, 9)) % 10)
    return groups(good[:-1] + last, sizes, gap)

  return make


def fours(number: str, gap: str = ' ') -> str:
  """The number in groups of four."""
  return gap.join(number[i : i + 4] for i in range(0, len(number), 4))


def account(draw: Draw, country: str, shape: str) -> str:
  """An IBAN with the country's shape and right check digits."""
  number = pattern(draw, shape)
  value = ''.join(str(int(c, 36)) for c in number + country + '00')
  return f'{country}{98 - int(value) % 97:02}{number}'


def iban(country: str, shape: str, style: str = '') -> Maker:
  """An IBAN, bare or spaced, or in the style 'lower' or 'dashed'."""

  def make(draw: Draw) -> str:
    number = account(draw, country, shape)
    written = {
      'bare': number,
      'spaced': fours(number),
      'lower': number.lower(),
      'dashed': fours(number, '-'),
    }
    return written[style or draw.choice(['bare', 'spaced'])]

  return make


def bad_iban(country: str, shape: str, spaced: bool) -> Maker:
  """An IBAN with wrong check digits."""

  def make(draw: Draw) -> str:
    good = account(draw, country, shape)
    wrong = 2 + (int(good[2:4]) - 2 + draw.randint(1, 90)) % 95
    bad = f'{country}{wrong:02}{good[4:]}'
    # 97 apart is the same remainder, which 2 to 98 hold only once.
    return fours(bad) if spaced else bad

  return make


def ssn(gap: str, lead: str = '') -> Maker:
  """A number of the United States that may have been given out."""

  def make(draw: Draw) -> str:
    area = draw.choice([*range(100, 660), *range(700, 772)])
    group, serial = draw.randint(1, 99), draw.randint(1, 9999)
    return lead + mark(f'{area}{gap}{group:02}{gap}{serial:04}')

  return make


def nir(spaced: bool) -> Maker:
  """A French number: sex, year, month, place, order, and 97 minus all."""

  def make(draw: Draw) -> str:
    body = draw.choice('12') + f'{draw.randint(40, 99)}'
    body += f'{draw.randint(1, 12):02}{draw.randint(1, 89):02}'
    body += f'{draw.randint(1, 600):03}{draw.randint(1, 999):03}'
    number = f'{body}{97 - int(body) % 97:02}'
    return groups(number, (1, 2, 2, 2, 3, 3, 2), ' ') if spaced else number

  return make


def cpf(draw: Draw) -> str:
  """A Brazilian number with its two check digits."""
  body = digits(draw, 9)
  for _ in range(2):
    weights = range(len(body) + 1, 1, -1)
    rest = sum(int(d) * w for d, w in zip(body, weights, strict=True)) * 10
    body += str(rest % 11 % 10)
  return f'{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}'


def sin(draw: Draw) -> str:
  """A Canadian number, which Luhn's sum checks, with its name before it."""
  number = luhn(draw.choice('12345') + digits(draw, 7))
  return 'SIN ' + mark(groups(number, (3, 3, 3), draw.choice(' -')))


def ip(template: str) -> Maker:
  """IP is an address of version 4 in one of a few networks."""

  def make(draw: Draw) -> str:
    first = draw.choice([10, 23, 51, 62, 78, 91, 104, 142, 172, 185, 192, 203])
    rest = (draw.randint(1, 254) for _ in range(3))
    return pattern(
      draw, template.replace('IP', '.'.join(map(str, [first, *rest])))
    )

  return make


def number(*shapes: str) -> Maker:
  """'{a}', '{b}', '{c}' are numbers below 1000, '{x}' and '{y}' decimals."""

  def make(draw: Draw) -> str:
    a, b, c = (draw.randint(2, 999) for _ in range(3))
    x, y = (round(draw.uniform(-90, 90), 6) for _ in range(2))
    text = draw.choice(shapes)
    for name, value in zip('abcxy', (a, b, c, x, y), strict=True):
      text = text.replace('{' + name + '}', str(value))
    return text

  return make


def date(*shapes: str) -> Maker:
  """{y}ear, {m}onth, {d}ay, {h}our, mi{n}ute, and {z}, seven years later."""

  def make(draw: Draw) -> str:
    y, m, d = draw.randint(1850, 2029), draw.randint(1, 12), draw.randint(1, 28)
    h, n = draw.randint(0, 23), draw.randint(0, 59)
    return draw.choice(shapes).format(
      y=y, m=f'{m:02}', d=f'{d:02}', h=f'{h:02}', n=f'{n:02}', z=y + 7
    )

  return make


def isbn(gap: str) -> Maker:
  """A number of a book of 13 digits."""

  def make(draw: Draw) -> str:
    body = '978' + digits(draw, 9)
    total = sum(int(d) * (1, 3)[i % 2] for i, d in enumerate(body))
    return groups(body + str(-total % 10), (3, 1, 4, 4, 1), gap)

  return make
