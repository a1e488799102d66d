"""A model that compiles in a second, and a batch of every kind.

Sizes are shared, so that tests that compile the same thing compile it once.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from instructjax import optim
from instructjax import trainer
from instructjax.models import config as model_config
from instructjax.models import transformer

PAD, BOS, EOS, EOP = 0, 1, 2, 3
V, D = 32, 32
P, R, T, K = 5, 6, 8, 4
LEARNING_RATE = 3e-3
CONFIG = model_config.ModelConfig(
  vocab_size=V,
  num_layers=2,
  d_model=D,
  num_heads=4,
  head_dim=8,
  d_ff=64,
  max_length=P + R,
)


@functools.cache
def _drawn(seed):
  """Parameters far from their start, where predictions differ and so does all
  that could go wrong."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(
    functools.partial(transformer.init, CONFIG), jax.random.key(0)
  )

  def draw(path, leaf):
    mean = 1.0 if path[-1].key == 'scale' else 0.0
    return rng.normal(mean, 0.1, leaf.shape).astype(np.float32)

  params = jax.tree_util.tree_map_with_path(draw, shapes)
  # Makes end-of-text 5 times as likely, so that half of the responses end.
  bias = params['final_norm']['bias']
  params['embedding']['tokens'][EOS] += np.log(5) * bias / np.dot(bias, bias)
  return params


def policy(seed=0):
  """Parameters of a transformer, fresh arrays at every call."""
  return jax.tree.map(jnp.array, _drawn(seed))


def reward_model(seed=1):
  """Parameters of a reward model, fresh arrays at every call."""
  kernel = np.random.default_rng(seed).normal(0, D**-0.5, D)
  head = {'kernel': jnp.float32(kernel), 'bias': jnp.float32(0)}
  return {'transformer': policy(seed), 'head': head}


def _tokens(rng, *shape):
  return rng.integers(4, V, shape).astype(np.int32)


def _right_padded(rng, *shape):
  """A mask of rows that keep 1 to all of their tokens, the first one all."""
  lengths = rng.integers(1, shape[-1] + 1, shape[:-1])
  lengths.flat[0] = shape[-1]
  return np.arange(shape[-1]) < lengths[..., None]


def language_rows(n, seed=0):
  """Rows of text, right-padded; the first tokens are no targets."""
  rng = np.random.default_rng(seed)
  mask = _right_padded(rng, n, T)
  loss_mask = mask & (np.arange(T) >= rng.integers(0, 4, (n, 1)))
  tokens = np.where(mask, _tokens(rng, n, T), PAD)
  return {'tokens': tokens, 'mask': mask, 'loss_mask': loss_mask}


def prompt_rows(n, seed=0):
  """Left-padded prompts."""
  rng = np.random.default_rng(seed)
  mask = _right_padded(rng, n, P)[:, ::-1]
  tokens = np.where(mask, _tokens(rng, n, P), PAD)
  return {'prompts': tokens, 'prompt_mask': mask}


def comparison_rows(n, seed=0, count=K):
  """Prompts with 2 to `count` ranked responses, some of them tied."""
  rng = np.random.default_rng(seed)
  mask = np.arange(count) < rng.integers(2, count + 1, (n, 1))
  response_mask = _right_padded(rng, n, count, R) & mask[:, :, None]
  responses = np.where(response_mask, _tokens(rng, n, count, R), PAD)
  ranks = rng.integers(1, count, (n, count)).astype(np.int32)
  return prompt_rows(n, seed) | {
    'responses': responses,
    'response_mask': response_mask,
    'ranks': ranks,
    'mask': mask,
    'labeler': rng.integers(-1, 2, n).astype(np.int32),
  }


def ppo_rows(n, ratio=2, seed=0):
  """A raw batch of PPO-ptx: prompts, and `ratio` times as much text."""
  ptx = language_rows(n * ratio, seed + 1)
  return {'prompts': prompt_rows(n, seed), 'ptx': ptx}


def optimizer(learning_rate=LEARNING_RATE):
  """One Adam per network at a constant rate; its state is a pair whose first
  part is the last gradient."""
  rate = optim.schedule('constant', learning_rate, total_steps=1)
  networks = ('policy', 'value', 'reward_model')
  record = optax.GradientTransformation(
    lambda params: jax.tree.map(jnp.zeros_like, params),
    lambda grads, state, params=None: (grads, grads),
  )
  return optax.chain(
    record, optim.per_network({name: optim.adam(rate) for name in networks})
  )


@functools.cache
def train_step(task, num_microbatches=1):
  """The step of a task, compiled once however many tests take it."""
  return trainer.make_train_step(
    task.loss,
    optimizer(),
    normalize=task.normalize,
    num_microbatches=num_microbatches,
    ema_decay=0.9,
  )


def state(task, params, frozen=None):
  """The state before the first `train_step`; a policy has an EMA."""
  return trainer.init_state(
    params,
    frozen or {},
    optimizer(),
    extras=task.extras(),
    ema_networks=[name for name in params if name == 'policy'],
  )


def gradients(task, params, batch, *, frozen=None, num_microbatches=1, seed=0):
  """Gradients and metrics of one train step."""
  step = train_step(task, num_microbatches)
  after, metrics = step(
    state(task, params, frozen), batch, jax.random.key(seed)
  )
  return after.opt_state[0], metrics


def assert_trees_close(actual, expected, tolerance=1e-6):
  """Asserts that two trees differ by `tolerance` at most, on each leaf's scale
  (1 at least)."""
  assert jax.tree.structure(actual) == jax.tree.structure(expected)

  def check(path, a, e):
    a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
    scale = max(1.0, np.abs(e).max(initial=0.0))
    np.testing.assert_allclose(
      a, e, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path)
    )

  jax.tree_util.tree_map_with_path(check, actual, expected)
