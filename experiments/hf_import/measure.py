"""Measures one import of a Hugging Face folder, in a process of its own.

  python experiments/hf_import/measure.py make FOLDER --shard_bytes=N
  python experiments/hf_import/measure.py ours FOLDER
  python experiments/hf_import/measure.py theirs FOLDER

Prints one JSON object; run.py calls it.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import resource
import sys
import threading
import time
from typing import Any

# About a billion parameters in the shape of Llama 3.2 1B, untied.
_SHAPE = {
  'architectures': ['LlamaForCausalLM'],
  'model_type': 'llama',
  'vocab_size': 32_000,
  'hidden_size': 2048,
  'intermediate_size': 8192,
  'num_hidden_layers': 16,
  'num_attention_heads': 32,
  'num_key_value_heads': 8,
  'max_position_embeddings': 2048,
  'rms_norm_eps': 1e-5,
  'tie_word_embeddings': False,
  'torch_dtype': 'bfloat16',
}


def make(folder: pathlib.Path, shard_bytes: int) -> dict[str, Any]:
  """Writes a checkpoint of random numbers, shard by shard."""
  import numpy as np

  from instructjax.checkpoints import hf
  from instructjax.checkpoints import hf_config
  from instructjax.checkpoints import tensors
  from instructjax.models import transformer

  folder.mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(_SHAPE))
  found = hf_config.describe(folder)
  shapes = hf.tensor_shapes(found)
  sizes = {name: 2 * math.prod(shape) for name, shape in shapes.items()}
  random = np.random.default_rng(0)
  files = tensors.shards(sizes, shard_bytes)
  for file, names in files:
    arrays = {name: _numbers(random, shapes[name]) for name in names}
    tensors.write_shard(folder / file, arrays)
  if len(files) > 1:
    tensors.write_index(folder, files, sizes)
  return {
    'parameters': transformer.num_parameters(found.config),
    'files': len(files),
    'largest_file': max(p.stat().st_size for p in folder.glob('*.safetensors')),
    'bytes': sum(p.stat().st_size for p in folder.glob('*.safetensors')),
  }


def _numbers(random, shape):
  """bfloat16 of random signs and digits, from 1/128 to 1/64: quickly made."""
  import ml_dtypes
  import numpy as np

  bits = np.frombuffer(random.bytes(2 * math.prod(shape)), np.uint16)
  return ((bits & 0x807F) | 0x3C00).view(ml_dtypes.bfloat16).reshape(shape)


def _resident(field: str) -> int:
  """VmRSS and the like of this process, bytes."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(f'{field}:'):
      return 1024 * int(line.split()[1])
  raise KeyError(field)


class _Peak:
  """The most memory that is resident while it is open, over that before."""

  def __enter__(self):
    self.before = _resident('VmRSS')
    self.most = self.before
    self._done = threading.Event()
    self._thread = threading.Thread(target=self._watch)
    self._thread.start()
    return self

  def _watch(self) -> None:
    while not self._done.wait(0.005):
      self.most = max(self.most, _resident('VmRSS'))

  def __exit__(self, *unused):
    self._done.set()
    self._thread.join()
    self.grown = max(self.most, _resident('VmRSS')) - self.before


def ours(folder: pathlib.Path) -> dict[str, Any]:
  """Reads it with load_pretrained, as it is stored."""
  import jax

  from instructjax.checkpoints import hf

  jax.block_until_ready(jax.numpy.zeros(8) + 1)
  with _Peak() as peak:
    start = time.perf_counter()
    _, params = hf.load_pretrained(folder)
    jax.block_until_ready(params)
    seconds = time.perf_counter() - start
  held = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  return {'seconds': seconds, 'grown': peak.grown, 'parameters_bytes': held}


def theirs(folder: pathlib.Path) -> dict[str, Any]:
  """Reads it with transformers, as it is stored, and touches every number."""
  import torch
  import transformers

  torch.zeros(8) + 1
  with _Peak() as peak:
    start = time.perf_counter()
    model = transformers.AutoModelForCausalLM.from_pretrained(
      folder, dtype='auto'
    )
    # Its tensors may still lie in the file: one number of every page is read.
    for parameter in model.parameters():
      parameter.detach().flatten()[::1024].sum().item()
    seconds = time.perf_counter() - start
  size = sum(p.numel() * p.element_size() for p in model.parameters())
  return {'seconds': seconds, 'grown': peak.grown, 'parameters_bytes': size}


def main() -> int:
  """Runs one of the three."""
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument('what', choices=['make', 'ours', 'theirs'])
  flags.add_argument('folder', type=pathlib.Path)
  flags.add_argument('--shard_bytes', type=int, default=10**12)
  options = flags.parse_args()
  if options.what == 'make':
    found = make(options.folder, options.shard_bytes)
  else:
    found = {'ours': ours, 'theirs': theirs}[options.what](options.folder)
  found['peak'] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  print(json.dumps(found))
  return 0


if __name__ == '__main__':
  sys.exit(main())
