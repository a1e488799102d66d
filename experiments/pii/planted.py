"""Personal information to be found, written by format and country by hand.

Every format is from knowledge of how people write, not from any recogniser.
The formats, countries and sentences of the part 'held_out' are others than
those of 'tune', which is the only one that was looked at while patterns were
written.
"""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import random

Draw = random.Random
Maker = Callable[[Draw], str]


@dataclasses.dataclass(frozen=True)
class Row:
  """A text; what is planted in it, or None; and the format's name.

  `optional` rows are for the kinds that are off by default.
  """

  text: str
  kind: str | None
  value: str
  family: str
  optional: bool = False


def digits(draw: Draw, count: int) -> str:
  return ''.join(draw.choice('0123456789') for _ in range(count))


def pattern(draw: Draw, shape: str) -> str:
  """'#' is a digit, '~' one of 2 to 9, '`' a hex digit, '|' a capital."""
  choices = {'#': '0123456789', '~': '23456789', '`': '0123456789abcdef'}
  choices['|'] = 'ABCDEFGHJKLMNPQRSTUVWXYZ'
  return ''.join(draw.choice(choices.get(c, c)) for c in shape)


# --- e-mail ---------------------------------------------------------------

_FIRST = 'anna ben carla dmitri elif farid greta hugo ines jun kofi lena'.split()
_LAST = 'adler brown costa dupont eriksen ferrari garcia huang ivanov'.split()
_HOSTS = 'mail.com gmail.com example.org firma.de posteo.net wanadoo.fr'.split()


def _name(draw: Draw) -> tuple[str, str]:
  return draw.choice(_FIRST), draw.choice(_LAST)


def _email(shape: str) -> Maker:
  def make(draw: Draw) -> str:
    first, last = _name(draw)
    return shape.format(
      f=first, l=last, i=first[0], n=draw.randint(1, 99),
      host=draw.choice(_HOSTS), q=digits(draw, 9), F=first.title(),
      U=f'{first}.{last}@{draw.choice(_HOSTS)}'.upper(),
    )  # fmt: skip

  return make


EMAIL = {
  'tune': {
    'dotted': _email('{f}.{l}@{host}'),
    'numbered': _email('{f}{n}@mail.com'),
    'tagged': _email('{f}_{l}+lists@{host}'),
    'subdomain': _email('{i}{l}@cs.uni-{l}.ac.uk'),
    'angle': _email('{F} <{f}@{host}>'),
    'mailto': _email('mailto:{f}.{l}@{host}'),
    'bracketed_at': _email('{f}.{l} (at) {l}.com'),
  },
  'held_out': {
    'hyphen': _email('{f}-{l}@{l}-{f}.org'),
    'upper': _email('{U}'),
    'digits_only': _email('{q}@qq.com'),
    'umlaut': _email('{f}@m\u00fcller-{l}.de'),
    'accent_local': _email('ren\u00e9.{l}@{host}'),
    'apostrophe': _email("{i}o'{l}@mail.ie"),
    'punycode': _email('{f}@xn--bcher-kva.de'),
    'long_tld': _email('{f}@{l}.photography'),
    'json': _email('{{"user": "{F}", "email":"{f}.{l}@{l}.io"}}'),
    'one_letter': _email('{i}@{l}.me'),
    'slash_list': _email('{f}@{l}.net/{l}'),
    'square_at': _email('{f}[at]{l}[dot]org'),
    'in_words': _email('{f} at {l} dot com'),
  },
}

# --- telephone ------------------------------------------------------------

_AREAS = '212 415 312 617 206 713 305 404 503 718 202 303'.split()


def _phone(*shapes: str) -> Maker:
  def make(draw: Draw) -> str:
    shape = draw.choice(shapes)
    return pattern(draw, shape.replace('(AREA)', draw.choice(_AREAS)))

  return make


PHONE = {
  'tune': {
    'us_dashes': _phone('(AREA)-~#~-####'),
    'us_brackets': _phone('((AREA)) ~#~-####'),
    'us_dots': _phone('(AREA).~#~.####'),
    'us_plus': _phone('+1 (AREA) ~#~ ####', '+1-(AREA)-~#~-####'),
    'us_local': _phone('555-####'),
    'gb': _phone('020 79## ####', '077## ######', '0161 49# ####'),
    'gb_plus': _phone('+44 20 79## ####', '+44 (0)161 49# ####'),
    'fr': _phone('06 1# ## ## ##', '01 42 ## ## ##', '06.2#.##.##.##'),
    'fr_plus': _phone('+33 6 1# ## ## ##', '+33142######'),
    'de': _phone('030 2######', '0171/2######', '089 / 5######'),
    'de_plus': _phone('+49 30 2######', '+49 171 2######', '0049 30 2######'),
    'es': _phone('612 34 ## ##', '91 52# ## ##'),
    'jp': _phone('090-3###-####', '03-35##-####'),
  },
  'held_out': {
    'us_slash': _phone('(AREA)/~#~-####'),
    'us_one': _phone('1-(AREA)-~#~-####', '1 ((AREA)) ~#~-####'),
    'us_bare': _phone('(AREA)~#~####'),
    'us_extension': _phone('(AREA)-~#~-#### x12#', '((AREA)) ~#~-#### ext. 4#'),
    'us_tight': _phone('((AREA))~#~-####'),
    'au': _phone('0412 3## ###', '(02) 92## ####', '+61 412 3## ###'),
    'it': _phone('347 12# ####', '06 6982 ####', '+39 347 12#####'),
    'nl': _phone('06-12######', '020 62# ## ##', '+31 6 12######'),
    'br': _phone('(11) 9712#-####', '+55 11 9712#-####'),
    'in': _phone('98765 4####', '+91 98765 4####', '+91-987654####'),
    'se': _phone('070-17# ## ##', '+46 70 17# ## ##'),
    'ch': _phone('079 21# ## ##', '044 66# ## ##', '+41 79 21# ## ##'),
    'pl': _phone('512 34# ###', '+48 512 34# ###', '22 62# ## ##'),
    'kr': _phone('010-2###-####', '+82 10-2###-####'),
    'cn': _phone('138 1234 ####', '+86 138 1234 ####', '1381234####'),
    'ru': _phone('8 (912) 34#-##-##', '+7 912 34#-##-##'),
    'fullwidth': _phone('\uff10\uff19\uff10-3###-####'),
    'double_zero': _phone('00 44 20 79## ####', '0041792######'),
    'at': _phone('0664 12#####', '+43 1 512####'),
    'grouped_pairs': _phone('0612######', '07 81 ## ## ##'),
  },
}

# --- cards ----------------------------------------------------------------


def luhn(body: str) -> str:
  """Appends the digit that makes the sum of doubled digits end in zero."""
  total = 0
  for i, c in enumerate(reversed(body)):
    d = int(c) * (2 if i % 2 == 0 else 1)
    total += d - 9 if d > 9 else d
  return body + str(-total % 10)


def groups(number: str, sizes: tuple[int, ...], gap: str) -> str:
  found, at = [], 0
  for size in sizes:
    found.append(number[at : at + size])
    at += size
  return gap.join(found)


def _card(prefix: str, length: int, gap: str, sizes=(4, 4, 4, 4)) -> Maker:
  def make(draw: Draw) -> str:
    number = luhn(prefix + digits(draw, length - len(prefix) - 1))
    return groups(number, sizes, gap) if gap else number

  return make


CARD = {
  'tune': {
    'visa_spaces': _card('4', 16, ' '),
    'visa_bare': _card('4', 16, ''),
    'visa_dashes': _card('4', 16, '-'),
    'mastercard': _card('53', 16, ' '),
    'amex': _card('37', 15, ' ', (4, 6, 5)),
    'amex_bare': _card('34', 15, ''),
  },
  'held_out': {
    'mastercard_2': _card('2405', 16, '-'),
    'discover': _card('6011', 16, ' '),
    'diners': _card('36', 14, ' ', (4, 6, 4)),
    'jcb': _card('3530', 16, ''),
    'unionpay': _card('62', 16, ' '),
    'unionpay_19': _card('62', 19, ' ', (6, 13)),
    'maestro_bare': _card('6759', 16, ''),
    'visa_dots': _card('4', 16, '.'),
    'visa_thin': _card('4', 16, '\u00a0'),
    'visa_19': _card('4', 19, ' ', (4, 4, 4, 4, 3)),
    'visa_pairs': _card('4', 16, ' ', (8, 8)),
  },
}

# --- accounts -------------------------------------------------------------


def iban(draw: Draw, country: str, shape: str) -> str:
  """An account number with the country's shape and right check digits."""
  account = pattern(draw, shape)
  value = ''.join(str(int(c, 36)) for c in account + country + '00')
  return f'{country}{98 - int(value) % 97:02}{account}'


def fours(number: str, gap: str = ' ') -> str:
  return gap.join(number[i : i + 4] for i in range(0, len(number), 4))


def _iban(country: str, shape: str, style: str = '') -> Maker:
  def make(draw: Draw) -> str:
    number = iban(draw, country, shape)
    style_ = style or draw.choice(['bare', 'spaced'])
    if style_ == 'lower':
      return number.lower()
    return {
      'bare': number, 'spaced': fours(number), 'dashed': fours(number, '-'),
    }[style_]  # fmt: skip

  return make


IBAN = {
  'tune': {
    'de': _iban('DE', '#' * 18),
    'gb': _iban('GB', '||||' + '#' * 14),
    'fr': _iban('FR', '#' * 23),
    'es': _iban('ES', '#' * 20),
    'nl': _iban('NL', '||||' + '#' * 10),
  },
  'held_out': {
    'it': _iban('IT', '|' + '#' * 22),
    'ch': _iban('CH', '#' * 17),
    'be': _iban('BE', '#' * 12),
    'pl': _iban('PL', '#' * 24),
    'no': _iban('NO', '#' * 11),
    'mt': _iban('MT', '||||' + '#' * 5 + '|0#|#' + '#' * 13),
    'tr': _iban('TR', '#####0' + '#' * 16),
    'fi_lower': _iban('FI', '#' * 14, 'lower'),
    'at_dashed': _iban('AT', '#' * 16, 'dashed'),
    'fr_letters': _iban('FR', '#' * 10 + '|#|#|######' + '##'),
  },
}

# --- social security ------------------------------------------------------


def _ssn(gap: str, lead: str = '') -> Maker:
  def make(draw: Draw) -> str:
    area = draw.choice([*range(100, 660), *range(700, 772)])
    group, serial = draw.randint(1, 99), draw.randint(1, 9999)
    return f'{lead}{area}{gap}{group:02}{gap}{serial:04}'

  return make


def _nir(spaced: bool) -> Maker:
  def make(draw: Draw) -> str:
    # Sex, year, month, department, commune, order; 97 minus the rest.
    body = draw.choice('12') + f'{draw.randint(40, 99)}'
    body += f'{draw.randint(1, 12):02}{draw.randint(1, 89):02}'
    body += f'{draw.randint(1, 600):03}{draw.randint(1, 999):03}'
    number = f'{body}{97 - int(body) % 97:02}'
    return groups(number, (1, 2, 2, 2, 3, 3, 2), ' ') if spaced else number

  return make


def _cpf(draw: Draw) -> str:
  body = digits(draw, 9)
  for _ in range(2):
    weights = range(len(body) + 1, 1, -1)
    rest = sum(int(d) * w for d, w in zip(body, weights, strict=True)) * 10 % 11
    body += str(rest % 10)
  return f'{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}'


def _sin(draw: Draw) -> str:
  number = luhn(draw.choice('12345') + digits(draw, 7))
  return 'SIN ' + groups(number, (3, 3, 3), draw.choice(' -'))


SSN = {
  'tune': {
    'us_dashes': _ssn('-'),
    'us_spaces': _ssn(' '),
    'us_bare': _ssn('', 'SSN '),
  },
  'held_out': {
    'us_hash': _ssn('', 'social security #'),
    'us_colon': _ssn('-', 'SSN:'),
    'us_hyphen': _ssn('\u2011'),
    'us_dots': _ssn('.', 'SSN '),
    'fr_spaced': _nir(True),
    'fr_bare': _nir(False),
    'br': _cpf,
    'ca': _sin,
  },
}

# --- network --------------------------------------------------------------


def _octets(draw: Draw) -> str:
  first = draw.choice([10, 23, 51, 62, 78, 91, 104, 142, 172, 185, 192, 203])
  return '.'.join(map(str, [first, *(draw.randint(1, 254) for _ in range(3))]))


def _ip(shape: str) -> Maker:
  return lambda draw: pattern(draw, shape.replace('IP', _octets(draw)))


IP = {
  'tune': {
    'v4': _ip('IP'),
    'v4_port': _ip('IP:8080'),
    'v4_url': _ip('http://IP/index.html'),
    'v6': _ip('2a02:8```::```:``'),
  },
  'held_out': {
    'v4_cidr': _ip('IP/24'),
    'v4_brackets': _ip('[IP]'),
    'v4_log': _ip('IP - - [29/Nov/2026:10:00:01 +0000] "GET /"'),
    'v6_full': _ip('2001:0db8:85a3:````:````:8a2e:0370:7```'),
    'v6_link': _ip('fe80::```:````:1```%eth0'),
    'v6_upper': _ip('2A00:1450:4009:81`::200E'),
    'v6_port': _ip('[2001:db8::```]:443'),
    'v4_ssh': _ip('root@IP'),
  },
}

# --- optional kinds -------------------------------------------------------


def _one_of(*values: str) -> Maker:
  return lambda draw: pattern(draw, draw.choice(values))


STREET = {
  'tune': {
    'us': _one_of('1## Maple Street', '4## W 42nd St', '9# Ocean Blvd'),
    'gb': _one_of('221B Baker Street', '1# Downing Street', '5 Mill Lane'),
    'de': _one_of('Hauptstra\u00dfe 1#', 'Gartenweg 4', 'Lange Stra\u00dfe 2#'),
    'fr': _one_of('12 rue de la Paix', '4# avenue Foch', '8 bis, rue Monge'),
  },
  'held_out': {
    'us': _one_of('77## Cedar Grove Drive, Apt 5', 'P.O. Box 14##', '1# Elm Ct'),
    'es': _one_of('Calle de Alcal\u00e1 4#', 'Avenida Libertad, 2#'),
    'it': _one_of('Via Garibaldi 1#', 'Piazza San Marco, 5'),
    'nl': _one_of('Kerkstraat 1##', 'Herengracht 4##'),
    'no_word': _one_of('4# Broadway', '7 Fir Grove', 'The Old Mill, Ashby'),
  },
}
PERSON = {
  'tune': {
    'introduced': _one_of('My name is Greta Adler', "my name's Ben Costa"),
    'titled': _one_of('Dr. Ivanov', 'Mrs. Anna Brown', 'Prof. Huang'),
    'dear': _one_of('Dear Carla Ferrari,', 'Dear Mr. Dupont,'),
  },
  'held_out': {
    'foreign': _one_of('Ich hei\u00dfe Lena Adler', "Je m'appelle Hugo Dupont"),
    'lower_case': _one_of('my name is greta adler', 'i am called ben costa'),
    'signed': _one_of('Best regards,\nInes Garcia', 'Cheers,\nKofi Brown'),
    'in_passing': _one_of('Farid Ivanov was there', 'ask Elif Huang'),
  },
}
_OPTIONAL_VALUES = (
  *('greta adler', 'ben costa', 'lena adler', 'hugo dupont', 'ines garcia'),
  *('kofi brown', 'farid ivanov', 'elif huang', 'carla ferrari', 'dupont'),
  *('anna brown', 'ivanov', 'huang'),
)

# --- sentences ------------------------------------------------------------

# With words that say what it is, and without any.
TOLD = {
  'tune': {
    'email': ('my e-mail is {}.', 'Write to {} please', 'Kontakt: {}', '{}'),
    'phone': (
      'my number is {}.',
      'Call me at {} after six.',
      'Meine Telefonnummer ist {}, danke!',
      'Mon t\u00e9l\u00e9phone : {}',
    ),
    'credit_card': ('Charge my card {} today.', 'Meine Karte: {}'),
    'iban': ('Please transfer it to {} BIC', 'IBAN: {}.', '{} ist mein Konto'),
    'ssn': ('He gave {} as his number.', 'on file ({}) since May'),
    'ip_address': ('It came from {} at night.', 'Server {} antwortet nicht.'),
    'street_address': ('I live at {}.', 'Send it to {} by Friday'),
    'person': ('{} and I need a letter.', 'Hello! {}'),
  },
  'held_out': {
    'email': (
      'Puedes escribirme a {}, gracias.',
      '\u6211\u7684\u90ae\u7bb1\u662f{}\u3002',
      'Rewrite this: "Reach us ({}) any time!"',
      '\u041c\u043e\u044f \u043f\u043e\u0447\u0442\u0430 {}; \u0436\u0434\u0443.',
    ),
    'phone': (
      'You can reach me on {}',
      'Ll\u00e1mame al {} por favor.',
      'Text me: {}!',
      'Il mio cellulare: {}',
      '\u96fb\u8a71\u756a\u53f7\u306f{}\u3067\u3059\u3002',
      '\u041c\u043e\u0439 \u0442\u0435\u043b\u0435\u0444\u043e\u043d {}.',
      'Fix the grammar: she say her phone number are {} now',
    ),
    'credit_card': (
      'Mi tarjeta es {}, vence en mayo',
      'Is {} a valid number?',
      'card no. {}\nexp 09/28',
    ),
    'iban': (
      'Il mio conto: {}',
      'Pay {} EUR 300 now',
      'Rachunek {}, dzi\u0119kuj\u0119.',
    ),
    'ssn': ('Translate: "mein Ausweis, {}, liegt hier"', 'It says {} there.'),
    'ip_address': ('Pourquoi {} est bloqu\u00e9 ?', 'ping {}', 'Ban {}, now'),
    'street_address': ('We moved to {} in May', 'Rendez-vous: {}'),
    'person': ('{}. Please write a poem.', 'Text: {}'),
  },
}
UNTOLD_PHONE = {
  'tune': (
    'Try {} in the evening.',
    'Kannst du den Brief verbessern? Gru\u00df, Tim, {}',
    'Anna, {}, Berlin',
  ),
  'held_out': (
    'Greta Adler | {} | Oslo',
    'Write an ad for my bakery. Open daily, {}.',
    'Merci, Hugo\n{}',
  ),
}
# Formats that nobody could tell from other numbers without a word.
_NEEDS_A_WORD = {
  *('us_local', 'us_bare', 'pl', 'it', 'es', 'cn', 'grouped_pairs'),
}
KINDS = {
  'email': EMAIL,
  'phone': PHONE,
  'credit_card': CARD,
  'iban': IBAN,
  'ssn': SSN,
  'ip_address': IP,
  'street_address': STREET,
  'person': PERSON,
}
OPTIONAL = ('street_address', 'person')


def rows(part: str, seed: int = 0, per_format: int = 9) -> list[Row]:
  """Returns the positives of a part, `per_format` of each format."""
  draw = random.Random(f'{part}/{seed}')
  found = []
  for kind, formats in KINDS.items():
    for family, make in formats[part].items():
      for i in range(per_format):
        frames = TOLD[part][kind]
        untold = kind == 'phone' and family not in _NEEDS_A_WORD and i % 3 == 2
        if untold:
          frames = UNTOLD_PHONE[part]
        value = make(draw)
        text = frames[(i + len(found)) % len(frames)].format(value)
        name = f'{kind}/{family}' + ('/untold' if untold else '')
        core = _core(kind, family, value)
        found.append(Row(text, kind, core, name, kind in OPTIONAL))
  return found


def _core(kind: str, family: str, value: str) -> str:
  """The part of a planted value that must not remain."""
  if kind == 'email':
    value = value.removeprefix('mailto:').partition('/')[0]
    if family == 'angle':
      value = value.partition('<')[2].rstrip('>')
    if family == 'json':
      value = value.split('"')[-2]
  elif kind == 'ssn':
    value = value[next(i for i, c in enumerate(value) if c.isdigit()) :]
  elif kind == 'ip_address':
    for before in ('http://', 'root@', '['):
      value = value.removeprefix(before)
    ends = ('/', ' ', ']', '%') if ':' in value[:5] else ('/', ' ', ']', ':')
    for end in ends:
      value = value.partition(end)[0]
  elif kind == 'person':
    low = value.lower()
    known = next(v for v in _OPTIONAL_VALUES if v in low)
    value = value[low.index(known) :][: len(known)]
  elif kind == 'phone':
    value = value.partition(' x')[0].partition(' ext')[0]
  return value
