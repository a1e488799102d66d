"""What the patterns were written with in view."""

from __future__ import annotations

from experiments.pii import formats

POSITIVES = {
  'email': {
    'dotted': formats.email('{f}.{l}@{host}'),
    'numbered': formats.email('{f}{n}@mail.com'),
    'tagged': formats.email('{f}_{l}+lists@{host}'),
    'subdomain': formats.email('{i}{l}@cs.uni-{l}.ac.uk'),
    'angle': formats.email('{F} <\u2039{f}@{host}\u203a>'),
    'mailto': formats.email('mailto:\u2039{f}.{l}@{host}\u203a'),
    'bracketed_at': formats.email('{f}.{l} (at) {l}.com'),
  },
  'phone': {
    'us_dashes': formats.phone('(AREA)-~#~-####'),
    'us_brackets': formats.phone('((AREA)) ~#~-####'),
    'us_dots': formats.phone('(AREA).~#~.####'),
    'us_plus': formats.phone('+1 (AREA) ~#~ ####', '+1-(AREA)-~#~-####'),
    'us_local': formats.phone('555-####'),
    'gb': formats.phone('020 79## ####', '077## ######', '0161 49# ####'),
    'gb_plus': formats.phone('+44 20 79## ####', '+44 (0)161 49# ####'),
    'fr': formats.phone('06 1# ## ## ##', '01 42 ## ## ##', '06.2#.##.##.##'),
    'fr_plus': formats.phone('+33 6 1# ## ## ##', '+33142######'),
    'de': formats.phone('030 2######', '0171/2######', '089 / 5######'),
    'de_plus': formats.phone(
      '+49 30 2######', '+49 171 2######', '0049 30 2######'
    ),
    'es': formats.phone('612 34 ## ##', '91 52# ## ##'),
    'jp': formats.phone('090-3###-####', '03-35##-####'),
  },
  'credit_card': {
    'visa_spaces': formats.card('4', 16, ' '),
    'visa_bare': formats.card('4', 16, ''),
    'visa_dashes': formats.card('4', 16, '-'),
    'mastercard': formats.card('53', 16, ' '),
    'amex': formats.card('37', 15, ' ', (4, 6, 5)),
    'amex_bare': formats.card('34', 15, ''),
  },
  'iban': {
    'de': formats.iban('DE', '#' * 18),
    'gb': formats.iban('GB', '||||' + '#' * 14),
    'fr': formats.iban('FR', '#' * 23),
    'es': formats.iban('ES', '#' * 20),
    'nl': formats.iban('NL', '||||' + '#' * 10),
  },
  'ssn': {
    'us_dashes': formats.ssn('-'),
    'us_spaces': formats.ssn(' '),
    'us_bare': formats.ssn('', 'SSN '),
  },
  'ip_address': {
    'v4': formats.ip('IP'),
    'v4_port': formats.ip('\u2039IP\u203a:8080'),
    'v4_url': formats.ip('http://\u2039IP\u203a/index.html'),
    'v6': formats.ip('2a02:8```::```:``'),
  },
  'street_address': {
    'us': formats.one_of('1## Maple Street', '4## W 42nd St', '9# Ocean Blvd'),
    'gb': formats.one_of(
      '221B Baker Street', '1# Downing Street', '5 Mill Lane'
    ),
    'de': formats.one_of(
      'Hauptstra\u00dfe 1#', 'Gartenweg 4', 'Lange Stra\u00dfe 2#'
    ),
    'fr': formats.one_of(
      '12 rue de la Paix', '4# avenue Foch', '8 bis, rue Monge'
    ),
  },
  'person': {
    'introduced': formats.one_of(
      'My name is \u2039Greta Adler\u203a', "my name's \u2039Ben Costa\u203a"
    ),
    'titled': formats.one_of(
      'Dr. \u2039Ivanov\u203a',
      'Mrs. \u2039Anna Brown\u203a',
      'Prof. \u2039Huang\u203a',
    ),
    'dear': formats.one_of(
      'Dear \u2039Carla Ferrari\u203a,', 'Dear Mr. \u2039Dupont\u203a,'
    ),
  },
}
# Sentences around them.
SENTENCES = {
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
}
# Of these some have no word that says it is a telephone.
UNTOLD_PHONES = (
  'Try {} in the evening.',
  'Kannst du den Brief verbessern? Gru\u00df, Tim, {}',
  'Anna, {}, Berlin',
)
NEGATIVES = {
  'order': formats.shape(
    'order 555-####', 'Order no. ########', 'order #10#####'
  ),
  'invoice': formats.shape('Invoice 2024-00###', 'Rechnung Nr. 3######-##'),
  'date': formats.date(
    '{d}/{m}/{y}', '{y}-{m}-{d}', '{d}.{m}.{y}', '{m}-{d}-{y}'
  ),
  'datetime': formats.date('{y}-{m}-{d}T{h}:{n}:00Z', '{y}-{m}-{d} {h}:{n}:59'),
  'years': formats.date('{y}-{z}', '({y} - {z})', 'from {y} to {z}'),
  'version': formats.shape('version 1.#.##', 'v2.##.#-rc1', 'Python 3.1#.#'),
  'version_ip': formats.shape(
    'version 1.2.3.#', 'v10.#.2.1##', 'release 4.0.30319.#'
  ),
  'isbn': formats.isbn('-'),
  'uuid': formats.shape('````````-````-4```-a```-````````````'),
  'hash': formats.shape('`' * 40, '`' * 32, 'sha256:' + '`' * 64),
  'science': formats.shape(
    '6.022140#e23', '1.38064852 x 10^-23', '3.0#E+08 m/s'
  ),
  'price': formats.shape(
    '$1,2##,###.99', 'EUR 1.2##.###,50', '\u20ac12 3##.00'
  ),
  'coordinates': formats.number('{x}, {y}', '({x}; {y})', 'lat {x} lon {y}'),
  'time': formats.shape('10:4#:32', '1#:30-12:45', '23:59:59.99####'),
  'product': formats.shape('WH-1000XM#', 'item 4##-##-####-A', 'SKU 88##-####'),
  'url_handle': formats.shape(
    'https://medium.com/@greta.adler/post-1', 'youtube.com/@channel##'
  ),
  'handle': formats.shape(
    '@greta_adler', 'cc @ben@mastodon.social', 'ping @u##'
  ),
  'decimals': formats.number('{a}.5, {b}.25, {c}.125', '[0.{a}, 0.{b}, 0.{c}]'),
  'card': formats.bad_luhn(4, 4, 4, 4),
  'iban': formats.bad_iban('DE', '#' * 18, True),
  'iban_bare': formats.bad_iban('GB', '||||' + '#' * 14, False),
  'ssn': formats.shape(
    '000-12-####', '666-4#-####', '9##-1#-####', '123-00-####'
  ),
  'part_555': formats.shape('part 555-01##', 'model 555-0###', 'Teil 555-01##'),
  'math': formats.number(
    '{a} + {b} * {c} = ?', '({a} - {b}) / {c}', '{a}*{b}*{c}'
  ),
  'code': formats.shape(
    '@decorator(x=1)\ndef f(a: int): return a[1:10]',
    'std::vector<int> v{1, 2, 3};',
    'for (int i = 0; i < 1000000; i++) a[i] = i * 1234567;',
  ),
  'population': formats.shape('population 12 3## ###', '8 9## ### inhabitants'),
  'mac': formats.shape('``:``:``:``:``:``'),
  'package': formats.shape('lodash@4.17.##', 'icon@2x.png', 'react@18.2.0'),
  'netmask': formats.shape('255.255.255.0', '127.0.0.1', '0.0.0.0'),
}
OPTIONAL_NEGATIVES = (
  'Take the second street on the left.',
  'It is a long way to go.',
  'Dear Sir or Madam,',
  'Main Street is closed.',
  'My name is not important.',
  'I have 5 Way Point markers and 3 Square tiles left over.',
)
QUESTIONS = (
  'What is {}?',
  'Please explain {} to me.',
  '{}',
  'Was bedeutet {} hier?',
  'Summarize: {} was mentioned twice.',
  'Voici {} dans le texte.',
)
