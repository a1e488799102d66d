"""A file system that only Beam knows: far://PATH, kept at PATH."""

from __future__ import annotations

from apache_beam.io import filesystem
from apache_beam.io import localfilesystem

_SCHEME = 'far://'


def _near(path: str) -> str:
  assert path.startswith(_SCHEME), path
  return path.removeprefix(_SCHEME)


class FarFileSystem(localfilesystem.LocalFileSystem):
  """Beam finds it by its scheme once this module is imported.

  Like a bucket it has no folders, only names that begin alike.
  """

  @classmethod
  def scheme(cls):
    return 'far'

  def has_dirs(self):
    return False

  def mkdirs(self, path):
    pass

  def join(self, basepath, *paths):
    return '/'.join([basepath.rstrip('/'), *paths])

  def split(self, path):
    return tuple(path.rsplit('/', 1))

  def _list(self, dir_or_prefix):
    folder = _near(dir_or_prefix).rpartition('/')[0]
    for found in super()._list(folder):
      if (_SCHEME + found.path).startswith(dir_or_prefix):
        yield filesystem.FileMetadata(
          _SCHEME + found.path, found.size_in_bytes, 0.0
        )

  def exists(self, path):
    if not path.startswith(_SCHEME):  # asked by what we inherit
      return super().exists(path)
    return (
      super().exists(_near(path))
      and not super().exists(f'{_near(path)}/.')  # a folder
    )

  def metadata(self, path):
    found = super().metadata(_near(path))
    return filesystem.FileMetadata(path, found.size_in_bytes, 0.0)

  def checksum(self, path):
    return super().checksum(_near(path))

  def create(self, path, *args, **kwargs):
    return super().create(_near(path), *args, **kwargs)

  def open(self, path, *args, **kwargs):
    return super().open(_near(path), *args, **kwargs)

  def copy(self, sources, targets):
    super().copy(list(map(_near, sources)), list(map(_near, targets)))

  def rename(self, sources, targets):
    super().rename(list(map(_near, sources)), list(map(_near, targets)))

  def delete(self, paths):
    local = localfilesystem.LocalFileSystem(None)
    for found in self.match(paths):
      local.delete([_near(file.path) for file in found.metadata_list])
