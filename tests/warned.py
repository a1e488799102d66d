"""Warnings of other libraries that processes of tests leave alone.

The same as in pyproject.toml, where it says why.
"""

HARMLESS = (
  '-Wignore:Error reading persistent compilation cache entry',
  '-Wignore:label() is deprecated',
)
