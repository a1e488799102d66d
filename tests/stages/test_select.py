"""Which epoch a stage hands on when it ends."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from instructjax.checkpoints import orbax_io
from instructjax.stages import select
from tests import runs


def _epochs(folder, losses):
  (folder / 'tokenizer').write_bytes(b'')
  for epoch, loss in enumerate(losses, 1):
    orbax_io.save_model(
      folder / 'epochs' / f'{epoch:03d}',
      {'epoch': jnp.asarray(epoch)},
      {'config': {}, 'kind': 'policy', 'validation_loss': loss},
      tokenizer=folder / 'tokenizer',
    )


@pytest.mark.parametrize(
  'losses, by, epoch, told',
  [
    ((3.0, 1.0, 2.0), 'validation_loss', 2, 'validation_loss'),
    ((3.0, 1.0, 2.0), 'reward_model', 2, 'validation_loss'),
    ((3.0, 1.0, 2.0), 'last', 3, 'last'),
    ((1.0, 1.0), 'validation_loss', 1, 'validation_loss'),
    ((None, None), 'validation_loss', 2, 'last'),
  ],
)
def test_the_epoch_handed_on(tmp_path, losses, by, epoch, told):
  _epochs(tmp_path, losses)
  found = select.hand_on_first(tmp_path, by)
  assert (found['by'], found['epoch']) == (told, epoch)
  assert found['validation_loss'] == dict(enumerate(losses, 1))
  (value,) = runs.tree(tmp_path / 'model' / 'params').values()
  assert value == epoch
