"""Texts with nothing personal that look as if: hard negatives, by family."""

from __future__ import annotations

from collections.abc import Callable
import random

from experiments.pii import planted

Draw = random.Random
Maker = Callable[[Draw], str]


def _shape(*shapes: str) -> Maker:
  return lambda draw: planted.pattern(draw, draw.choice(shapes))


def _number(*shapes: str) -> Maker:
  """'{a}', '{b}', '{c}' are numbers below 1000, '{x}' and '{y}' decimals."""

  def make(draw: Draw) -> str:
    a, b, c = (draw.randint(2, 999) for _ in range(3))
    x, y = (round(draw.uniform(-90, 90), 6) for _ in range(2))
    text = draw.choice(shapes)
    for name, value in zip('abcxy', (a, b, c, x, y), strict=True):
      text = text.replace('{' + name + '}', str(value))
    return text

  return make


def _date(*shapes: str) -> Maker:
  def make(draw: Draw) -> str:
    y, m, d = draw.randint(1850, 2029), draw.randint(1, 12), draw.randint(1, 28)
    h, n = draw.randint(0, 23), draw.randint(0, 59)
    return draw.choice(shapes).format(
      y=y, m=f'{m:02}', d=f'{d:02}', h=f'{h:02}', n=f'{n:02}', z=y + 7
    )

  return make


def _bad_luhn(*sizes: int, gap: str = ' ', first: str = '4') -> Maker:
  def make(draw: Draw) -> str:
    good = planted.luhn(first + planted.digits(draw, sum(sizes) - 2))
    last = str((int(good[-1]) + draw.randint(1, 9)) % 10)
    return planted.groups(good[:-1] + last, sizes, gap)

  return make


def _bad_iban(country: str, shape: str, spaced: bool) -> Maker:
  def make(draw: Draw) -> str:
    good = planted.iban(draw, country, shape)
    check = int(good[2:4])
    wrong = 2 + (check - 2 + draw.randint(1, 90)) % 95
    bad = f'{country}{wrong:02}{good[4:]}'
    return planted.fours(bad) if spaced else bad

  return make


def _isbn(gap: str) -> Maker:
  def make(draw: Draw) -> str:
    body = '978' + planted.digits(draw, 9)
    total = sum(int(d) * (1, 3)[i % 2] for i, d in enumerate(body))
    number = body + str(-total % 10)
    return planted.groups(number, (3, 1, 4, 4, 1), gap)

  return make


TUNE = {
  'order': _shape('order 555-####', 'Order no. ########', 'order #10#####'),
  'invoice': _shape('Invoice 2024-00###', 'Rechnung Nr. 3######-##'),
  'date': _date('{d}/{m}/{y}', '{y}-{m}-{d}', '{d}.{m}.{y}', '{m}-{d}-{y}'),
  'datetime': _date('{y}-{m}-{d}T{h}:{n}:00Z', '{y}-{m}-{d} {h}:{n}:59'),
  'years': _date('{y}-{z}', '({y} - {z})', 'from {y} to {z}'),
  'version': _shape('version 1.#.##', 'v2.##.#-rc1', 'Python 3.1#.#'),
  'version_ip': _shape('version 1.2.3.#', 'v10.#.2.1##', 'release 4.0.30319.#'),
  'isbn': _isbn('-'),
  'uuid': _shape('````````-````-4```-a```-````````````'),
  'hash': _shape('`' * 40, '`' * 32, 'sha256:' + '`' * 64),
  'science': _shape('6.022140#e23', '1.38064852 x 10^-23', '3.0#E+08 m/s'),
  'price': _shape('$1,2##,###.99', 'EUR 1.2##.###,50', '\u20ac12 3##.00'),
  'coordinates': _number('{x}, {y}', '({x}; {y})', 'lat {x} lon {y}'),
  'time': _shape('10:4#:32', '1#:30-12:45', '23:59:59.99####'),
  'product': _shape('WH-1000XM#', 'item 4##-##-####-A', 'SKU 88##-####'),
  'url_handle': _shape(
    'https://medium.com/@greta.adler/post-1', 'youtube.com/@channel##'
  ),
  'handle': _shape('@greta_adler', 'cc @ben@mastodon.social', 'ping @u##'),
  'decimals': _number('{a}.5, {b}.25, {c}.125', '[0.{a}, 0.{b}, 0.{c}]'),
  'card': _bad_luhn(4, 4, 4, 4),
  'iban': _bad_iban('DE', '#' * 18, True),
  'iban_bare': _bad_iban('GB', '||||' + '#' * 14, False),
  'ssn': _shape('000-12-####', '666-4#-####', '9##-1#-####', '123-00-####'),
  'part_555': _shape('part 555-01##', 'model 555-0###', 'Teil 555-01##'),
  'math': _number('{a} + {b} * {c} = ?', '({a} - {b}) / {c}', '{a}*{b}*{c}'),
  'code': _shape(
    '@decorator(x=1)\ndef f(a: int): return a[1:10]',
    'std::vector<int> v{1, 2, 3};',
    'for (int i = 0; i < 1000000; i++) a[i] = i * 1234567;',
  ),
  'population': _shape('population 12 3## ###', '8 9## ### inhabitants'),
  'mac': _shape('``:``:``:``:``:``'),
  'package': _shape('lodash@4.17.##', 'icon@2x.png', 'react@18.2.0'),
  'netmask': _shape('255.255.255.0', '127.0.0.1', '0.0.0.0'),
}
HELD_OUT = {
  'tracking': _shape('tracking 1Z999AA1012345####', 'parcel 00340434######'),
  'ticket': _shape('Ticket-ID 4512####', 'case no. 20-CV-0####', 'PR #1234###'),
  'ean': _shape('EAN 40063813339##', 'barcode 5901234123###'),
  'isbn_spaces': _isbn(' '),
  'isbn_10': _shape('ISBN 0-306-40###-2', 'ISBN 3 16 148### 0'),
  'doi': _shape('doi:10.1038/s41586-02#-0####-#', '10.1145/3###.3######'),
  'arxiv': _shape('arXiv:2203.0####', 'PMID: 3#######', 'RFC 79##'),
  'timestamp': _shape('1700######', 'ts=1690######.123', '1699######000 ms'),
  'date_range': _date('{d}.{m}.-{d}.{m}.{y}', '{y}/{m}/{d}-{y}/{m}/{d}'),
  'date_words': _date('{d} {m} {y} {h} {n}', 'am {d}. {m}. {y} um {h}:{n}'),
  'compact_date': _date('{y}{m}{d}', '{y}{m}{d}{h}{n}00', 'IMG_{y}{m}{d}_{h}{n}'),
  'build': _shape('build 10.0.19045.####', 'firmware 5.10.4.#', '>=1.2.3.4'),
  'chrome': _shape('Chrome/119.0.6045.1##', 'Driver Version: 31.0.101.2###'),
  'section': _shape('section 3.2.1.#', 'Chapter 1.2.3.4', '\u00a7 4.1.2.#'),
  'semver': _shape('1.2.3-beta.#', 'numpy==1.26.#', 'jdk-17.0.#+7'),
  'hex': _shape('0x````````', '#``````', 'commit ```````'),
  'base64': _shape('aGVsbG8gd29ybGQ0MTIzNDU2Nzg5#A==', 'MTIzNDU2Nzg5MDEyMzQ1Ng=='),
  'constants': _shape('3.14159265358979#', '2.718281828459', '1.61803398874989'),
  'sequence': _shape('1 2 3 4 5 6 7 8 9 1#', '1, 1, 2, 3, 5, 8, 13, 21, 34'),
  'squares': _shape('1 4 9 16 25 36 49 64 81 1##', '01 02 03 04 05 06 07 08'),
  'binary': _shape('10110110', '0110100101101###', '1010 1100 0011 0101'),
  'matrix': _number('[[{a}, {b}], [{c}, 12]]', '{a} {b} {c}\n{c} {a} {b}'),
  'long_math': _shape('123456789 * 98765####', '(1234567 - 7654###) mod 97'),
  'power': _shape('2^32 = 4294967296', '10**9+7 = 1000000007', '12! = 479001600'),
  'thousands': _shape('1 2## 3## 4##', '7.8##.###.###', '1,234,567,8##'),
  'money': _shape('1.2##.###,00 kr', 'R$ 12.###,90', '\u00a51,2##,###', '12###### USD'),
  'zip_plus_four': _shape('Springfield, IL 62704-1###', 'ZIP 90210-4###'),
  'score': _shape('6-4 7-5 6-##', '21-19, 18-21, 15-1#', '3-2-1-0-#-#-#'),
  'verse': _shape('Genesis 1:1-2:3', 'Psalm 119:105-1##', 'Sura 2:255-2##'),
  'gps': _shape('N 48\u00b051\'24" E 2\u00b021\'0#"', '48.8566\u00b0N 2.35##\u00b0E'),
  'card_dashes': _bad_luhn(4, 4, 4, 4, gap='-', first='53'),
  'card_bare': _bad_luhn(16, gap='', first='4'),
  'amex': _bad_luhn(4, 6, 5, first='37'),
  'iban_fr': _bad_iban('FR', '#' * 23, True),
  'iban_no': _bad_iban('NO', '#' * 11, False),
  'ssn_spaces': _shape('000 12 ####', '666 4# ####', '900 1# ####'),
  'imei': _shape('IMEI 49015420323751#', 'serial 8901410###########'),
  'vin': _shape('1HGCM82633A00####', 'VIN WVWZZZ1JZ3W38####'),
  'catalogue': _shape('NGC 224-####', 'part no. 407-555-1###', 'Art.-Nr. 555-0###'),
  'flight': _shape('BA 2490 12:45', 'confirmation 55501##', 'LH440 / 29NOV'),
  'at_code': _shape('@media (max-width: 600px)', 'A @ B.T', 'user@localhost'),
  'at_price': _shape('12 eggs @ 3.50', '5 @ $4.99', 'meet @8pm'),
  'handle_url': _shape('https://t.me/@ines##', 'tiktok.com/@kofi.brown'),
  'scoped': _shape('npm i @types/node@20.1.#', 'img@3x.webp', 'vue@3.4.0-beta.#'),
  'remote': _shape('git@github.com:org/repo.git'),
  'ipv6_like': _shape('12:34:56:78', 'Foo::Bar', 'ratio 2:3:5:7', 'a::b'),
  'table': _number('{a} | {b} | {c} | 4821', 'id,{a},{b},{c}\n1,2,3,4'),
  'chess': _shape('1. e4 e5 2. Nf3 Nc6 3. Bb5 a6', 'rnbqkbnr/8/8/1###'),
  'recipe': _shape('200 g, 150 ml, 1 1/2 tsp', '350-375 F, 20-25 min'),
}
OPTIONAL = {
  'tune': (
    'Take the second street on the left.', 'It is a long way to go.',
    'Dear Sir or Madam,', 'Main Street is closed.', 'My name is not important.',
    'I have 5 Way Point markers and 3 Square tiles left over.',
  ),
  'held_out': (
    'The 3 Road Warriors films are good.', 'Dear diary, today was fine.',
    'Wall Street fell by 12 points.', 'Dr Pepper is a soft drink.',
    'In 1990 Park Place was sold.', 'Der Weg 5 ist lang.',
    'My name is a secret.', 'The top 10 Best Drive In cinemas',
  ),
}  # fmt: skip
FRAMES = {
  'tune': (
    'What is {}?', 'Please explain {} to me.', '{}', 'Was bedeutet {} hier?',
    'Summarize: {} was mentioned twice.', 'Voici {} dans le texte.',
  ),
  'held_out': (
    'I saw {} in a file and do not know what it is.', 'Fix this: {}',
    '\u00bfQu\u00e9 significa {} en esta frase?', 'See {} (below).',
    '\u8fd9\u91cc\u7684 {} \u662f\u4ec0\u4e48\uff1f', 'Cos\u2019\u00e8 {} ?', 'Rewrite "{}" nicely',
  ),
}  # fmt: skip


def rows(
  part: str, seed: int = 0, per_family: int = 11
) -> list[planted.Row]:
  """Returns the negatives of a part, `per_family` of each family."""
  draw = random.Random(f'{part}/negatives/{seed}')
  families = {'tune': TUNE, 'held_out': HELD_OUT}[part]
  found = []
  for family, make in families.items():
    for i in range(per_family):
      frames = FRAMES[part]
      text = frames[(i + len(found)) % len(frames)].replace('{}', make(draw))
      found.append(planted.Row(text, None, '', family))
  found += [
    planted.Row(text, None, '', 'optional', True) for text in OPTIONAL[part]
  ]
  return found
