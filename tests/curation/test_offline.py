"""Nothing of the curation reaches for the network, when imported or used."""

from __future__ import annotations

from instructjax.curation import pii

CODE = """
import socket

def refuse(*args, **kwargs):
  raise AssertionError(f'the network: {args}')

class Refused(socket.socket):
  def __init__(self, *args, **kwargs):
    refuse(*args)

socket.socket = Refused
for name in 'create_connection', 'getaddrinfo', 'gethostbyname':
  setattr(socket, name, refuse)
try:
  socket.socket()
except AssertionError:
  pass
else:
  raise SystemExit('sockets are not refused')

from instructjax.curation import language, pii

text = '''Call +44 20 7946 0958 or (0)30 123456, a@b.de, ben at firma dot de,
4111 1111 1111 1111, DE89370400440532013000, 219-09-9998, 529.982.247-25,
2 69 05 49 588 157 80, 8.8.4.4, 2001:db8::1, 06 12 34 56 78, SIN 046 454 286.
My name is Greta Adler of 221B Baker Street.'''
print(sorted({span.kind for span in pii.find(text, pii.KINDS)}))
print(language.tags([text, 'Bonjour tout le monde']))
"""


def test_all_kinds_and_languages_without_a_socket(run_python):
  kinds, tags = run_python(CODE).stdout.splitlines()
  assert kinds == str(sorted(pii.KINDS))
  assert tags == "['en', 'fr']"
