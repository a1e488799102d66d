"""Validation loss: mean negative log-likelihood per target token."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from instructjax.models import config as config_lib
from instructjax.tasks import sft


def make_loss(config: config_lib.ModelConfig) -> Callable[..., float]:
  """Returns loss(params, batches) in nats per token, compiled once.

  `batches` are (language rows, row mask) pairs; see data.loader.eval_batches.
  """

  @jax.jit
  def sums(params, batch, row_mask):
    logprobs = sft.token_logprobs(
      config, params, batch['tokens'], batch['mask']
    )
    weights = batch['loss_mask'][:, 1:] & row_mask[:, None]
    return -(logprobs * weights).sum(), weights.sum()

  def loss(params: Any, batches: Iterable) -> float:
    found = [sums(params, *pair) for pair in batches]
    total, count = np.sum(np.asarray(found, np.float64), axis=0)
    return float(total / max(count, 1.0))

  return loss
