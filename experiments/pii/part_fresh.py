"""What was written last and measured once, with nothing changed since."""

from __future__ import annotations

from experiments.pii import formats

POSITIVES = {
  'email': {
    'plus_date': formats.email('{f}+2026@{l}.co'),
    'three_parts': formats.email('{f}.{i}.{l}@mail.{l}.com.br'),
    'underscore_end': formats.email('{f}_@{host}'),
    'capital_domain': formats.email('{F}{n}@Hotmail.Com'),
    'quoted': formats.email('"\u2039{f}.{l}@{host}\u203a"'),
    'angle_only': formats.email('<\u2039{l}{n}@{host}\u203a>'),
    'markdown': formats.email('[{F}](mailto:\u2039{f}@{l}.dev\u203a)'),
    'starred': formats.email('**\u2039{f}@{l}.fr\u203a**'),
    'equals': formats.email('email=\u2039{f}@{l}.net\u203a&next=1'),
    'cyrillic': formats.email(
      '\u0430\u043d\u043d\u0430@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444'
    ),
    'curly_at': formats.email('{f}{{at}}{l}.org'),
    'dot_in_words': formats.email('{f}.{l}@{l} dot com'),
    'spaces': formats.email('{f} @ {l}.com'),
  },
  'phone': {
    'us_spaces': formats.phone('(AREA) ~#~ ####'),
    'us_dot_country': formats.phone('+1.(AREA).~#~.####', '1.(AREA).~#~.####'),
    'us_seven': formats.phone('~#~-####'),
    'hk': formats.phone('2### 1###', '+852 2### 1###'),
    'no': formats.phone('912 34 ###', '+47 912 34 ###'),
    'dk': formats.phone('31 2# ## ##', '+45 31 2# ## ##'),
    'fi': formats.phone('040 123 ####', '+358 40 123 ####'),
    'cz': formats.phone('601 12# ###', '+420 601 12# ###'),
    'ie': formats.phone('087 123 ####', '(01) 677 ####', '+353 87 123 ####'),
    'nz': formats.phone('021 123 ####', '+64 21 123 ####'),
    'za': formats.phone('082 123 ####', '+27 82 123 ####'),
    'il': formats.phone('052-312-####', '+972 52-312-####'),
    'tr': formats.phone('0532 123 ## ##', '+90 532 123 ## ##'),
    'ua': formats.phone('067 123 ## ##', '+380 67 123 ## ##'),
    'sg': formats.phone('9123 4###', '+65 9123 4###'),
    'mx': formats.phone('55 1234 ####', '+52 55 1234 ####'),
    'gr': formats.phone('694 123 ####', '+30 694 123 ####'),
    'ng': formats.phone('0803 123 ####', '+234 803 123 ####'),
    'uri': formats.phone(
      'tel:\u2039+4930202####\u203a', 'tel:\u2039+1-(AREA)-~#~-####\u203a'
    ),
    'bare': formats.phone('+447912######', '4479123#####'),
    'gb_brackets': formats.phone('(020) 7946 0###', '(0161) 496 0###'),
    'de_minus': formats.phone('040-328####', '(089) 552####'),
  },
  'credit_card': {
    'visa_electron': formats.card('4026', 16, ' '),
    'mastercard_bare': formats.card('55', 16, ''),
    'amex_dashes': formats.card('34', 15, '-', (4, 6, 5)),
    'discover_65': formats.card('65', 16, '-'),
    'diners_bare': formats.card('305', 14, ''),
    'jcb_spaced': formats.card('3569', 16, ' '),
    'mir': formats.card('2200', 16, ' '),
    'maestro_groups': formats.card('5018', 16, ' '),
    'elo': formats.card('6362', 16, ' '),
  },
  'iban': {
    'dk': formats.iban('DK', '#' * 14),
    'ie': formats.iban('IE', '||||' + '#' * 14),
    'pt': formats.iban('PT', '#' * 21),
    'se': formats.iban('SE', '#' * 20),
    'lu': formats.iban('LU', '###' + '#' * 9 + '||||'),
    'sa': formats.iban('SA', '#' * 20),
    'gr': formats.iban('GR', '#' * 23),
    'ae': formats.iban('AE', '#' * 19),
    'br': formats.iban('BR', '#' * 23 + '|1'),
    'ua': formats.iban('UA', '#' * 25),
  },
  'ssn': {
    'us_quoted': formats.ssn('-', '#'),
    'us_slash': formats.ssn('-', 'SSN/TIN '),
    'us_bare_is': formats.ssn('', 'my social security number is '),
    'us_en_dash': formats.ssn('\u2013'),
    'fr_dashless': formats.nir(True),
    'br_again': formats.cpf,
    'ca_again': formats.sin,
  },
  'ip_address': {
    'v4_comma': formats.ip('\u2039IP\u203a, port 80'),
    'v4_forwarded': formats.ip('X-Forwarded-For: \u2039IP\u203a'),
    'v4_range': formats.ip('\u2039IP-192.0.2.9\u203a'),
    'v4_path': formats.ip('\u2039IP\u203a/login?x=1'),
    'v6_short': formats.ip('2606:4700::6810:````'),
    'v6_private': formats.ip('fd12:3456:789a:1::`1'),
    'v6_cidr': formats.ip('\u20392001:4860:`1``::\u203a/32'),
    'v6_mapped': formats.ip('::ffff:\u2039192.0.2.1##\u203a'),
  },
  'street_address': {
    'us': formats.one_of('15## N. Lincoln Ave., Suite 2##', '2#3 Oak Parkway'),
    'gb': formats.one_of('Flat 3, 1# Rose Crescent', '4# Queens Terrace'),
    'de': formats.one_of('Kaiserplatz #', 'Unter den Linden 7#'),
    'fr': formats.one_of('7# boulevard Saint-Michel', '3 quai Voltaire'),
    'se': formats.one_of('Drottninggatan 4#', 'Kungsv\u00e4gen 1#'),
    'pl': formats.one_of('ul. Marsza\u0142kowska 1##', 'ulica D\u0142uga 7'),
    'jp': formats.one_of('1-2-# Ginza, Chuo-ku'),
  },
  'person': {
    'spanish': formats.one_of(
      'Me llamo \u2039Elena Torres\u203a', 'Sra. \u2039Torres\u203a'
    ),
    'form': formats.one_of(
      'Name: \u2039Oskar Lind\u203a', 'Patient: \u2039Mary O\u2019Neil\u203a'
    ),
    'letter': formats.one_of(
      'Sincerely,\n\u2039Amara Okafor\u203a', 'Dear \u2039Oskar\u203a,'
    ),
    'initials': formats.one_of(
      'Dr. \u2039J. R. Whitfield\u203a', 'Mr. \u2039van der Meer\u203a'
    ),
    'japanese': formats.one_of(
      '\u2039\u7530\u4e2d\u82b1\u5b50\u203a\u3067\u3059'
    ),
    'verb': formats.one_of(
      '\u2039Oskar Lind\u203a wrote this', 'I met \u2039Amara Okafor\u203a'
    ),
  },
}
SENTENCES = {
  'email': (
    'Ecris-moi : {}',
    'Forward this to {} and delete it.',
    'Make this polite: send it 2 {} asap',
    '\u30e1\u30fc\u30eb\u306f{}\u307e\u3067\u304a\u9858\u3044\u3057\u307e\u3059',
  ),
  'phone': (
    'For bookings phone {}, ask for Jun.',
    'Write a reminder: call the dentist ({}) tomorrow',
    'WhatsApp: {}',
    'Mein Handy ist {} und ich bin ab acht da.',
    'Mi tel\u00e9fono es el {}',
    '\u8bf7\u6253\u7535\u8bdd{}\u8054\u7cfb\u6211',
    'Ring me on {} before noon, order 4411 is late',
  ),
  'credit_card': (
    'I typed {} and it was refused.',
    'Carte : {} (expire 03/29)',
    '\u5361\u53f7\uff1a{}\uff0c\u8c22\u8c22',
  ),
  'iban': (
    'Send 40 euros to {}.',
    'Mi cuenta: {}, gracias',
    'account {}\nname Ines',
  ),
  'ssn': ('Form field 3: {}', 'Correct the spelling: he sayd {} twise'),
  'ip_address': (
    'Block {} please.',
    'Angriff von {} um drei',
    'Сервер {} не отвечает',
  ),
  'street_address': ('Pick me up at {} tonight', 'Deliver to: {}'),
  'person': ('{}. Make it formal.', 'Improve: {}'),
}
UNTOLD_PHONES = (
  'Pizza Napoli - {} - closed on Mondays',
  'Ines Garcia, {}, wants a refund. Draft a reply.',
  'Please summarize: "Landlord is Mr. Huang {}."',
)
NEGATIVES = {
  'order_words': formats.shape('my order number is 555####', 'PO 45000#####'),
  'sku_dashes': formats.shape('SKU 415-555-0###', 'model 312-20#-4###'),
  'hyphen_code': formats.shape('ABC-123-4567-#', 'X12-345-678#', '12-3456-78#'),
  'serial': formats.shape('S/N 2024##########', 'serial no. 0612######'),
  'room': formats.shape('rooms 101-105, 201-2##', 'seats 12-15, 22-2#'),
  'phone_model': formats.shape('iPhone 15 Pro 256', 'Nokia 3310, 332#'),
  'temperature': formats.shape(
    '-40.5 to +125.# C', '20\u00b0-25\u00b0, 3#\u00b0'
  ),
  'range_spaces': formats.shape('100 - 200 - 300 - 4##', '10 000 - 20 0##'),
  'signed_sum': formats.shape('+1200000#', '+49.50 and -12.##', '+100 000 0##'),
  'fraction': formats.shape('1/2 + 3/4 + 5/##', '22/7 = 3.142857142#'),
  'ratio': formats.shape('16:9, 4:3, 21:#', '1:100000##'),
  'percent': formats.shape('12.5%, 37.25%, 50.2##%', '0.000123#%'),
  'bits': formats.shape('0b1011010#', '1111 0000 1111 000#', '0o7550##'),
  'oid': formats.shape('OID 1.3.6.1.4.1.#', 'SNMP 1.3.6.1.2.1.1.#'),
  'kernel': formats.shape('linux 5.15.0.9#', 'firmware 192.168.1.#b'),
  'version_words': formats.shape('upgraded to 7.4.2.#', 'Version: 12.0.1.2##'),
  'time_stamps': formats.date('{h}:{n}:00 {y}-{m}-{d}', '{y}.{m}.{d}-{h}.{n}'),
  'us_date': formats.date('{m}/{d}/{y} {h}:{n}', '{m}.{d}.{y}, {h}.{n}'),
  'lifespan': formats.date('({d}.{m}.{y} - {d}.{m}.{z})', '{y}/{z}'),
  'quarter': formats.date('Q1 {y} - Q3 {z}', 'FY{y}/{z}'),
  'list_of_years': formats.date('{y}, {z}, 1999, 2001', '{y} {z} 1999 2001'),
  'lottery': formats.shape('4 8 15 16 23 42', '07 13 22 31 44 4#'),
  'digits_of_pi': formats.shape('3.1415926535897932384#', '141592653589793#'),
  'big_number': formats.shape('1000000000000', '987654321#', '40075017###'),
  'card_visa': formats.bad_luhn(4, 4, 4, 4, gap='.', first='4'),
  'card_mc_bare': formats.bad_luhn(16, gap='', first='51'),
  'card_amex': formats.bad_luhn(15, gap='', first='34'),
  'gift_code': formats.shape('gift code 9876 1234 5678 90##'),
  'iban_es': formats.bad_iban('ES', '#' * 20, True),
  'iban_it': formats.bad_iban('IT', '|' + '#' * 22, False),
  'vat': formats.shape('VAT DE1234567##', 'USt-ID ATU1234567#'),
  'bic': formats.shape('BIC DEUTDEFF5##', 'SWIFT CHASUS33###'),
  'ssn_zero': formats.shape('123-45-0000', '219-00-####', '9##-70-####'),
  'ssn_like': formats.shape('12-345-6789', '1234-56-789#', '123-4567-8#'),
  'guid_upper': formats.shape('{3F2504E0-4F89-11D3-9A0C-0305E82C33##}'),
  'git': formats.shape('a1b2c3d4e5f60718293a4b5c6d7e8f901234567#'),
  'isbn_dots': formats.isbn('.'),
  'issn': formats.shape('ISSN 0028-08##', 'ISSN 1476-46##'),
  'chemical': formats.shape('CAS 7732-18-#', 'EC 200-578-#', 'H2SO4 98.07#'),
  'patent': formats.shape('patent 10,123,4##', 'US 2019/01234## A1'),
  'bible_de': formats.shape('1. Mose 1,1-2,#', 'Joh 3,16-1#'),
  'poly': formats.shape('3x^2 + 12x - 4567890#', 'f(1234567, 8901##)'),
  'python': formats.shape('x[1:20:3], y[-10:]', 'range(0, 1000000, 250##)'),
  'at_words': formats.shape('meet at dot five', 'look at dot products at 3#'),
  'at_sign': formats.shape('a@b', 'np.array @ weights', '@Override void f()'),
  'handle_mail': formats.shape('@ines.garcia', 'IG: @kofi_##', '(@elif.h)'),
  'emoticon': formats.shape('@_@ 10:10 :-)', '8-) 555', '<3 x 100000#'),
  'npm': formats.shape('npx create-next-app@14.0.#', 'pip install x==1.2.3.#'),
  'asset': formats.shape('logo@2x.webp', 'hero@3x.jpeg', 'bg@1.5x.svg'),
  'mac_dots': formats.shape('00-1A-2B-3C-4D-##', '001A.2B3C.4D##'),
  'csv_row': formats.number('7,{a},{b},{c},2024', '{a};{b};{c};100'),
  'table_row': formats.number('| {a} | {b} | {c} |', '{a}\t{b}\t{c}\t1999'),
}
OPTIONAL_NEGATIVES = (
  'The 5 Lane Highway Project is late.',
  'My name is not on the list.',
  'Dear customer, thank you.',
  'He ran 100 Metres Way Too Fast',
  'In 2019 Street Fighter won.',
  'Mr. Right and Mrs. Wrong are jokes.',
)
QUESTIONS = (
  'Tell me about {} in detail.',
  'Convert {} for me',
  'Warum steht dort {}?',
  'Is "{}" right?',
  'O que significa {} aqui?',
  'Here: {}. Sort it.',
)
