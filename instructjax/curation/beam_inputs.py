"""Input where only Beam's file systems reach, such as gs:// and hdfs://.

Such a file is read whole by one worker, from a copy that it makes for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import dataclasses
import hashlib
import os
import shutil
import tempfile

from apache_beam.io import filesystem
from apache_beam.io import filesystems

from instructjax import errors
from instructjax.curation import parts as parts_lib
from instructjax.curation import pipeline
from instructjax.curation import rows
from instructjax.curation import settings as settings_lib
from instructjax.curation import spool
from instructjax.curation import stages
from instructjax.data import records
from instructjax.data import sources

FileSystems = filesystems.FileSystems


def is_remote(path: str) -> bool:
  """Tells whether a path is for Beam's file systems to understand."""
  return '://' in path


def find(spec: str) -> list[str]:
  """Returns the files that a spec of prompts names, here and elsewhere.

  Args:
    spec: paths, folders or globs, separated by commas; elsewhere paths and
      globs only.

  Raises:
    UserError: nothing matches, or a file has an unknown ending.
  """
  if not is_remote(spec):
    return records.paths('prompts', spec)
  found = []
  for part in spec.split(','):
    if not is_remote(part):
      found += records.paths('prompts', part)
      continue
    try:
      (matched,) = FileSystems.match([part])
    except (filesystem.BeamIOError, ValueError) as error:
      raise errors.UserError(
        f'{part}: needed files that Beam can list, got "{error}": check the'
        ' path, or install what its file system needs.'
      ) from None
    paths = sorted(file.path for file in matched.metadata_list)
    found += [path for path in paths if path.endswith(sources.ROW_SUFFIXES)]
    if not found:
      raise errors.UserError(
        f'{part}: needed a path or glob of {" ".join(sources.ROW_SUFFIXES)}'
        f' files, it matches {paths[0] if paths else "none"}: check it.'
      )
  return list(dict.fromkeys(found))


def scan(paths: Sequence[str]) -> list[parts_lib.Scanned]:
  """Cuts files into parts, those elsewhere into one each."""
  here = [path for path in paths if not is_remote(path)]
  scanned = dict(zip(here, pipeline.scan(here), strict=True))
  return [scanned.get(path) or _scan(path) for path in paths]


def _scan(path: str) -> parts_lib.Scanned:
  (found,) = FileSystems.match([path])
  (file,) = found.metadata_list
  told = f'{FileSystems.checksum(path)} {file.size_in_bytes}'
  digest = hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
  part = parts_lib.Part(path, 0, None, 1)
  unpacked = parts_lib.unpacked_bytes(path, file.size_in_bytes)
  return parts_lib.Scanned([part], digest, unpacked)


def prompts(
  part: parts_lib.Part, settings: settings_lib.Settings, told: stages.Read
) -> Iterator[tuple[rows.RawPrompt, spool.Entry]]:
  """Yields what `stages.prompts` does, of a file here or elsewhere."""
  if not is_remote(part.path):
    yield from stages.prompts(part, settings, told)
    return
  with tempfile.TemporaryDirectory() as folder:
    copy = os.path.join(folder, part.path.rpartition('/')[2])
    whole = filesystem.CompressionTypes.UNCOMPRESSED  # as it is
    with (
      FileSystems.open(part.path, compression_type=whole) as source,
      open(copy, 'wb') as target,
    ):
      shutil.copyfileobj(source, target)

    def named(location: str) -> str:
      return location.replace(copy, part.path)

    try:
      of_copy = part._replace(path=copy)
      for prompt, entry in stages.prompts(of_copy, settings, told):
        location = named(prompt.location)
        yield (
          dataclasses.replace(prompt, location=location),
          entry._replace(location=location),
        )
    except errors.UserError as error:
      raise errors.UserError(named(str(error))) from None
    told.why = named(told.why)
    told.dropped = [
      dropped._replace(location=named(dropped.location))
      for dropped in told.dropped
    ]
