"""Names and street addresses, where the words around them say so.

Neither has a checksum, and without a model only a phrase tells: 'my name is',
a title, a greeting, a signature; a house number beside the word for a street.
So these find what is introduced, in the languages below, and nothing else: a
name in the middle of a story stays. They are off by default.
"""

from __future__ import annotations

from collections.abc import Iterator
import re

_UPPER = r'[A-Z\u00c0-\u00d6\u00d8-\u00de\u0141\u015a\u017b\u0160\u017d]'
# Hyphens without a limit would take cubic time.
_WORD = rf"{_UPPER}[\w'\u2019]*(?:-{_UPPER}[\w'\u2019]*){{0,3}}"
_INITIAL = rf'{_UPPER}\.'
_PARTICLE = r'(?:van|von|de|der|den|la|le|da|di|dos|del|bin|al|el|ten|zu)'
_NAME = (
  rf'(?:{_INITIAL}|{_WORD})(?: (?:{_PARTICLE} ){{0,2}}(?:{_INITIAL}|{_WORD}))'
  r'{0,3}'
)
_INTRODUCED = re.compile(
  r'(?:(?i:\bmy (?:full |first |last )?name is|\bmy name[\u2019\']s'
  r'|\bi am called|\bthis is|\bje m[\u2019\']appelle|\bmon nom est'
  r'|\bich hei(?:\u00df|ss)e|\bmein name ist|\bme llamo|\bmi nombre es'
  r'|\bmi chiamo|\bil mio nome \u00e8|\bmeu nome \u00e9|\bchamo-me'
  r'|\bmijn naam is|\bik heet|\bnazywam si\u0119|\bjag heter'
  r'|\bname:|\bpatient:|\bcontact:|\bsigned,?|\bsincerely,|\bregards,'
  r'|\byours truly,|\bcheers,|\bbest wishes,|\bdear|\bliebe[r]?'
  r'|\bch\u00e8re?|\bestimad[oa])\s{1,2}'
  rf'(?:(?:Mr|Mrs|Ms|Dr|Prof)\.? )?)(?P<name>{_NAME})'
)
_TITLED = re.compile(
  rf'\b(?:Mr|Mrs|Ms|Mx|Dr|Prof|Herr|Frau|Mme|M\.|Sr|Sra|Dra|Sig|Dott)\.? '
  rf'(?P<name>(?:{_PARTICLE} ){{0,2}}{_NAME})'
)
# Users often write without capitals; then the name has to end the clause.
_LOWER = re.compile(
  r"\b(?i:my name is|my name's|i am called|je m[\u2019']appelle"
  r'|ich hei(?:\u00df|ss)e|me llamo|mi chiamo) '
  r'(?!(?:not|no|a|an|the|in|on|too|so|very|my|just)\b)'
  r'(?P<name>[a-z]{2,}(?: [a-z]{2,})?)(?=[.,!?\n]| and | und | y | e | et |\Z)'
)
_NO_NAME = frozenset(
  'Sir Madam Team All Customer Santa Diary God Lord Friend Friends Hiring'
  ' Manager The A An I It Not Just What Why How In On At To'.split()
)


def persons(text: str) -> Iterator[tuple[int, int]]:
  """Yields (start, end) of names that are introduced, titled or signed."""
  for pattern in _INTRODUCED, _TITLED, _LOWER:
    for match in pattern.finditer(text):
      if match['name'].split()[0] not in _NO_NAME:
        yield match.span('name')


_STREETS = re.compile(
  # 221B Baker Street, 10 W 42nd St, Apt 5
  r'(?:\b(?:Flat|Apt\.?|Unit|Suite) \w{1,4}, )?\b\d{1,5}[A-Za-z]?,? '
  r'(?:(?:[NSEW]\.?|North|South|East|West) )?'
  rf'(?:(?:{_WORD}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,3}}'
  r'(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct'
  r'|Way|Place|Pl|Square|Sq|Terrace|Parkway|Pkwy|Highway|Hwy|Close|Crescent)'
  r'\b(?:\.(?=,))?(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|#)\.? ?\w{1,5})?'
  r'|\b(?i:p\. ?o\.|po) [Bb]ox \d{1,6}'
  # Hauptstraße 12, Am Alten Markt 3a; Kerkstraat 12
  rf'|\b(?:{_WORD}[ -]){{0,2}}(?i:\w*(?:stra\u00dfe|strasse|str\.|weg'
  r'|allee|platz|gasse|ufer|straat|laan|gracht|gatan|v\u00e4gen)) \d{1,4}'
  r'(?: ?[a-h]\b)?'
  # 12 bis, rue de la Paix
  r'|\b\d{1,4}(?: bis| ter)?,? (?:rue|avenue|boulevard|place|chemin|impasse'
  rf"|all\u00e9e|quai) (?:(?:de|du|des|la|le|l['\u2019]|d['\u2019]) ?){{0,2}}"
  rf'{_WORD}(?:[ -]{_WORD}){{0,2}}'
  # Calle Mayor 5, Via Roma, 12, ul. Długa 7
  r'|\b(?:Calle|C/|Avenida|Avda\.|Plaza|Paseo|Via|Viale|Piazza|Corso|Rua|Travessa'
  rf'|ul\.|ulica) (?:(?:de|del|della|la|das|dos|da|do) ){{0,2}}{_WORD}'
  rf'(?: {_WORD}){{0,2}},? (?:n\.?\u00ba ?)?\d{{1,4}}\b'
)


def street_addresses(text: str) -> Iterator[tuple[int, int]]:
  """Yields (start, end) of streets with a house number, and of P.O. boxes."""
  for match in _STREETS.finditer(text):
    yield match.span()
