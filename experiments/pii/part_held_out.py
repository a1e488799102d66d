"""What was looked at once, after the patterns were written."""

from __future__ import annotations

from experiments.pii import formats

POSITIVES = {
  'email': {
    'hyphen': formats.email('{f}-{l}@{l}-{f}.org'),
    'upper': formats.email('{U}'),
    'digits_only': formats.email('{q}@qq.com'),
    'umlaut': formats.email('{f}@m\u00fcller-{l}.de'),
    'accent_local': formats.email('ren\u00e9.{l}@{host}'),
    'apostrophe': formats.email("{i}o'{l}@mail.ie"),
    'punycode': formats.email('{f}@xn--bcher-kva.de'),
    'long_tld': formats.email('{f}@{l}.photography'),
    'json': formats.email(
      '{{"user": "{F}", "email":"\u2039{f}.{l}@{l}.io\u203a"}}'
    ),
    'one_letter': formats.email('{i}@{l}.me'),
    'slash_list': formats.email('\u2039{f}@{l}.net\u203a/{l}'),
    'square_at': formats.email('{f}[at]{l}[dot]org'),
    'in_words': formats.email('{f} at {l} dot com'),
  },
  'phone': {
    'us_slash': formats.phone('(AREA)/~#~-####'),
    'us_one': formats.phone('1-(AREA)-~#~-####', '1 ((AREA)) ~#~-####'),
    'us_bare': formats.phone('(AREA)~#~####'),
    'us_extension': formats.phone(
      '\u2039(AREA)-~#~-####\u203a x12#',
      '\u2039((AREA)) ~#~-####\u203a ext. 4#',
    ),
    'us_tight': formats.phone('((AREA))~#~-####'),
    'au': formats.phone('0412 3## ###', '(02) 92## ####', '+61 412 3## ###'),
    'it': formats.phone('347 12# ####', '06 6982 ####', '+39 347 12#####'),
    'nl': formats.phone('06-12######', '020 62# ## ##', '+31 6 12######'),
    'br': formats.phone('(11) 9712#-####', '+55 11 9712#-####'),
    'in': formats.phone('98765 4####', '+91 98765 4####', '+91-987654####'),
    'se': formats.phone('070-17# ## ##', '+46 70 17# ## ##'),
    'ch': formats.phone('079 21# ## ##', '044 66# ## ##', '+41 79 21# ## ##'),
    'pl': formats.phone('512 34# ###', '+48 512 34# ###', '22 62# ## ##'),
    'kr': formats.phone('010-2###-####', '+82 10-2###-####'),
    'cn': formats.phone('138 1234 ####', '+86 138 1234 ####', '1381234####'),
    'ru': formats.phone('8 (912) 34#-##-##', '+7 912 34#-##-##'),
    'fullwidth': formats.phone('\uff10\uff19\uff10-3###-####'),
    'double_zero': formats.phone('00 44 20 79## ####', '0041792######'),
    'at': formats.phone('0664 12#####', '+43 1 512####'),
    'grouped_pairs': formats.phone('0612######', '07 81 ## ## ##'),
  },
  'credit_card': {
    'mastercard_2': formats.card('2405', 16, '-'),
    'discover': formats.card('6011', 16, ' '),
    'diners': formats.card('36', 14, ' ', (4, 6, 4)),
    'jcb': formats.card('3530', 16, ''),
    'unionpay': formats.card('62', 16, ' '),
    'unionpay_19': formats.card('62', 19, ' ', (6, 13)),
    'maestro_bare': formats.card('6759', 16, ''),
    'visa_dots': formats.card('4', 16, '.'),
    'visa_thin': formats.card('4', 16, '\u00a0'),
    'visa_19': formats.card('4', 19, ' ', (4, 4, 4, 4, 3)),
    'visa_pairs': formats.card('4', 16, ' ', (8, 8)),
  },
  'iban': {
    'it': formats.iban('IT', '|' + '#' * 22),
    'ch': formats.iban('CH', '#' * 17),
    'be': formats.iban('BE', '#' * 12),
    'pl': formats.iban('PL', '#' * 24),
    'no': formats.iban('NO', '#' * 11),
    'mt': formats.iban('MT', '||||' + '#' * 5 + '|0#|#' + '#' * 13),
    'tr': formats.iban('TR', '#####0' + '#' * 16),
    'fi_lower': formats.iban('FI', '#' * 14, 'lower'),
    'at_dashed': formats.iban('AT', '#' * 16, 'dashed'),
    'fr_letters': formats.iban('FR', '#' * 10 + '|#|#|######' + '##'),
  },
  'ssn': {
    'us_hash': formats.ssn('', 'social security #'),
    'us_colon': formats.ssn('-', 'SSN:'),
    'us_hyphen': formats.ssn('\u2011'),
    'us_dots': formats.ssn('.', 'SSN '),
    'fr_spaced': formats.nir(True),
    'fr_bare': formats.nir(False),
    'br': formats.cpf,
    'ca': formats.sin,
  },
  'ip_address': {
    'v4_cidr': formats.ip('\u2039IP\u203a/24'),
    'v4_brackets': formats.ip('[\u2039IP\u203a]'),
    'v4_log': formats.ip(
      '\u2039IP\u203a - - [29/Nov/2026:10:00:01 +0000] "GET /"'
    ),
    'v6_full': formats.ip('2001:0db8:85a3:````:````:8a2e:0370:7```'),
    'v6_link': formats.ip('\u2039fe80::```:````:1```\u203a%eth0'),
    'v6_upper': formats.ip('2A00:1450:4009:81`::200E'),
    'v6_port': formats.ip('[\u20392001:db8::```\u203a]:443'),
    'v4_ssh': formats.ip('root@\u2039IP\u203a'),
  },
  'street_address': {
    'us': formats.one_of(
      '77## Cedar Grove Drive, Apt 5', 'P.O. Box 14##', '1# Elm Ct'
    ),
    'es': formats.one_of('Calle de Alcal\u00e1 4#', 'Avenida Libertad, 2#'),
    'it': formats.one_of('Via Garibaldi 1#', 'Piazza San Marco, 5'),
    'nl': formats.one_of('Kerkstraat 1##', 'Herengracht 4##'),
    'no_word': formats.one_of(
      '4# Broadway', '7 Fir Grove', 'The Old Mill, Ashby'
    ),
  },
  'person': {
    'foreign': formats.one_of(
      'Ich hei\u00dfe \u2039Lena Adler\u203a',
      "Je m'appelle \u2039Hugo Dupont\u203a",
    ),
    'lower_case': formats.one_of(
      'my name is \u2039greta adler\u203a', 'i am called \u2039ben costa\u203a'
    ),
    'signed': formats.one_of(
      'Best regards,\n\u2039Ines Garcia\u203a',
      'Cheers,\n\u2039Kofi Brown\u203a',
    ),
    'in_passing': formats.one_of(
      '\u2039Farid Ivanov\u203a was there', 'ask \u2039Elif Huang\u203a'
    ),
  },
}
# Sentences around them.
SENTENCES = {
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
}
# Of these some have no word that says it is a telephone.
UNTOLD_PHONES = (
  'Greta Adler | {} | Oslo',
  'Write an ad for my bakery. Open daily, {}.',
  'Merci, Hugo\n{}',
)
NEGATIVES = {
  'tracking': formats.shape(
    'tracking 1Z999AA1012345####', 'parcel 00340434######'
  ),
  'ticket': formats.shape(
    'Ticket-ID 4512####', 'case no. 20-CV-0####', 'PR #1234###'
  ),
  'ean': formats.shape('EAN 40063813339##', 'barcode 5901234123###'),
  'isbn_spaces': formats.isbn(' '),
  'isbn_10': formats.shape('ISBN 0-306-40###-2', 'ISBN 3 16 148### 0'),
  'doi': formats.shape(
    'doi:10.1038/s41586-02#-0####-#', '10.1145/3###.3######'
  ),
  'arxiv': formats.shape('arXiv:2203.0####', 'PMID: 3#######', 'RFC 79##'),
  'timestamp': formats.shape(
    '1700######', 'ts=1690######.123', '1699######000 ms'
  ),
  'date_range': formats.date('{d}.{m}.-{d}.{m}.{y}', '{y}/{m}/{d}-{y}/{m}/{d}'),
  'date_words': formats.date(
    '{d} {m} {y} {h} {n}', 'am {d}. {m}. {y} um {h}:{n}'
  ),
  'compact_date': formats.date(
    '{y}{m}{d}', '{y}{m}{d}{h}{n}00', 'IMG_{y}{m}{d}_{h}{n}'
  ),
  'build': formats.shape(
    'build 10.0.19045.####', 'firmware 5.10.4.#', '>=1.2.3.4'
  ),
  'chrome': formats.shape(
    'Chrome/119.0.6045.1##', 'Driver Version: 31.0.101.2###'
  ),
  'section': formats.shape(
    'section 3.2.1.#', 'Chapter 1.2.3.4', '\u00a7 4.1.2.#'
  ),
  'semver': formats.shape('1.2.3-beta.#', 'numpy==1.26.#', 'jdk-17.0.#+7'),
  'hex': formats.shape('0x````````', '#``````', 'commit ```````'),
  'base64': formats.shape(
    'aGVsbG8gd29ybGQ0MTIzNDU2Nzg5#A==', 'MTIzNDU2Nzg5MDEyMzQ1Ng=='
  ),
  'constants': formats.shape(
    '3.14159265358979#', '2.718281828459', '1.61803398874989'
  ),
  'sequence': formats.shape(
    '1 2 3 4 5 6 7 8 9 1#', '1, 1, 2, 3, 5, 8, 13, 21, 34'
  ),
  'squares': formats.shape(
    '1 4 9 16 25 36 49 64 81 1##', '01 02 03 04 05 06 07 08'
  ),
  'binary': formats.shape(
    '10110110', '0110100101101###', '1010 1100 0011 0101'
  ),
  'matrix': formats.number(
    '[[{a}, {b}], [{c}, 12]]', '{a} {b} {c}\n{c} {a} {b}'
  ),
  'long_math': formats.shape(
    '123456789 * 98765####', '(1234567 - 7654###) mod 97'
  ),
  'power': formats.shape(
    '2^32 = 4294967296', '10**9+7 = 1000000007', '12! = 479001600'
  ),
  'thousands': formats.shape('1 2## 3## 4##', '7.8##.###.###', '1,234,567,8##'),
  'money': formats.shape(
    '1.2##.###,00 kr', 'R$ 12.###,90', '\u00a51,2##,###', '12###### USD'
  ),
  'zip_plus_four': formats.shape(
    'Springfield, IL 62704-1###', 'ZIP 90210-4###'
  ),
  'score': formats.shape(
    '6-4 7-5 6-##', '21-19, 18-21, 15-1#', '3-2-1-0-#-#-#'
  ),
  'verse': formats.shape(
    'Genesis 1:1-2:3', 'Psalm 119:105-1##', 'Sura 2:255-2##'
  ),
  'gps': formats.shape(
    'N 48\u00b051\'24" E 2\u00b021\'0#"', '48.8566\u00b0N 2.35##\u00b0E'
  ),
  'card_dashes': formats.bad_luhn(4, 4, 4, 4, gap='-', first='53'),
  'card_bare': formats.bad_luhn(16, gap='', first='4'),
  'amex': formats.bad_luhn(4, 6, 5, first='37'),
  'iban_fr': formats.bad_iban('FR', '#' * 23, True),
  'iban_no': formats.bad_iban('NO', '#' * 11, False),
  'ssn_spaces': formats.shape('000 12 ####', '666 4# ####', '900 1# ####'),
  'imei': formats.shape('IMEI 49015420323751#', 'serial 8901410###########'),
  'vin': formats.shape('1HGCM82633A00####', 'VIN WVWZZZ1JZ3W38####'),
  'catalogue': formats.shape(
    'NGC 224-####', 'part no. 407-555-1###', 'Art.-Nr. 555-0###'
  ),
  'flight': formats.shape(
    'BA 2490 12:45', 'confirmation 55501##', 'LH440 / 29NOV'
  ),
  'at_code': formats.shape(
    '@media (max-width: 600px)', 'A @ B.T', 'user@localhost'
  ),
  'at_price': formats.shape('12 eggs @ 3.50', '5 @ $4.99', 'meet @8pm'),
  'handle_url': formats.shape('https://t.me/@ines##', 'tiktok.com/@kofi.brown'),
  'scoped': formats.shape(
    'npm i @types/node@20.1.#', 'img@3x.webp', 'vue@3.4.0-beta.#'
  ),
  'remote': formats.shape('git@github.com:org/repo.git'),
  'ipv6_like': formats.shape(
    '12:34:56:78', 'Foo::Bar', 'ratio 2:3:5:7', 'a::b'
  ),
  'table': formats.number('{a} | {b} | {c} | 4821', 'id,{a},{b},{c}\n1,2,3,4'),
  'chess': formats.shape('1. e4 e5 2. Nf3 Nc6 3. Bb5 a6', 'rnbqkbnr/8/8/1###'),
  'recipe': formats.shape('200 g, 150 ml, 1 1/2 tsp', '350-375 F, 20-25 min'),
}
OPTIONAL_NEGATIVES = (
  'The 3 Road Warriors films are good.',
  'Dear diary, today was fine.',
  'Wall Street fell by 12 points.',
  'Dr Pepper is a soft drink.',
  'In 1990 Park Place was sold.',
  'Der Weg 5 ist lang.',
  'My name is a secret.',
  'The top 10 Best Drive In cinemas',
)
QUESTIONS = (
  'I saw {} in a file and do not know what it is.',
  'Fix this: {}',
  '\u00bfQu\u00e9 significa {} en esta frase?',
  'See {} (below).',
  '\u8fd9\u91cc\u7684 {} \u662f\u4ec0\u4e48\uff1f',
  'Cos\u2019\u00e8 {} ?',
  'Rewrite "{}" nicely',
)
