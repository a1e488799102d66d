"""A small dataset of TFDS, written as TFDS writes one, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import tensorflow_datasets as tfds


def write(
  folder: pathlib.Path,
  name: str,
  features: Any,
  splits: Mapping[str, Sequence[dict[str, Any]]],
  config: str | None = None,
) -> pathlib.Path:
  """Writes ArrayRecord shards, dataset_info.json and features.json.

  Args:
    folder: TFDS's data folder.
    name: of the dataset.
    features: its columns, a dict as tfds.features.FeaturesDict takes it.
    splits: rows of each split, whose order is kept.
    config: of the dataset, if it has any.

  Returns:
    The folder of its only version, 1.0.0.
  """

  class Written(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('1.0.0')
    BUILDER_CONFIGS = [
      tfds.core.BuilderConfig(name=each, version='1.0.0') for each in [config]
    ][: bool(config)]

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
      )

    def _split_generators(self, dl_manager):
      del dl_manager
      return {split: enumerate(rows) for split, rows in splits.items()}

    def _generate_examples(self):
      raise NotImplementedError

  Written.name = name
  builder = Written(data_dir=str(folder), file_format='array_record')
  builder.download_and_prepare()
  return pathlib.Path(builder.data_dir)
