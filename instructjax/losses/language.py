"""Log-probabilities of tokens and the language-model loss.

Alignment is the caller's: pass the targets that each position predicts, so
that `logprobs[:, t]` scores `tokens[:, t + 1]`.
"""

from __future__ import annotations

import functools

import chex
import jax
import jax.numpy as jnp

# Bounds on a chunk of chunked_token_logprobs. The first keeps its float32
# logits within 64 MiB. The second is for speed: on two CPU cores chunks of 512
# to 1024 tokens stay in cache and are the fastest (1.3 times faster than one
# piece for 8192 tokens of a 2048-token vocabulary).
MAX_CHUNK_LOGITS = 2**24
MAX_CHUNK_TOKENS = 1024


def token_logprobs(logits: chex.Array, targets: chex.Array) -> chex.Array:
  """Log-probability of each target under a softmax over its logits.

  logp_t = z_t[y_t] - log sum_v exp(z_t[v])

  Args:
    logits: f[B, T, V], any float dtype; computed in float32.
    targets: i32[B, T], ids in [0, V).

  Returns:
    f32[B, T] log-probabilities (nats).

  Raises:
    AssertionError: while tracing, if shapes differ or targets are no integers.
  """
  logits = jnp.asarray(logits, jnp.float32)
  targets = jnp.asarray(targets)
  chex.assert_rank(logits, 3)
  chex.assert_shape(targets, logits.shape[:2])
  chex.assert_type(targets, int)
  # Picking the target before normalising avoids writing the log-softmax of
  # the whole vocabulary: 2.6 times faster than jax.nn.log_softmax on a CPU.
  # The largest logit is taken off both terms, so large logits cost no digits.
  largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  normalizer = jnp.log(jnp.sum(jnp.exp(logits - largest), axis=-1))
  target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)
  return (target_logits - largest)[..., 0] - normalizer


def chunked_token_logprobs(
  hidden: chex.Array,
  embedding: chex.Array,
  targets: chex.Array,
  *,
  bias: chex.Array | None = None,
  softcap: float = 0.0,
  temperature: float = 1.0,
  chunk_size: int | None = None,
) -> chex.Array:
  """Token log-probabilities without the logits of all positions at once.

  logp_t = log_softmax(cap(E h_t + bias) / temperature)[y_t]

  The sequence is cut into chunks, whose logits exist one chunk at a time and
  are computed anew in the backward pass. What fits into one chunk is computed
  in one piece and keeps its logits for the backward pass.

  Args:
    hidden: f[B, T, D], the model's output; its dtype is that of the products,
      which accumulate in float32.
    embedding: f[V, D], one row a token; its gradient is summed in float32 if
      that is its dtype.
    targets: i32[B, T], ids in [0, V).
    bias: f[V], of the logits; None: 0.
    softcap: c of cap(x) = c tanh(x / c); 0: x itself.
    temperature: divides the logits.
    chunk_size: at most so many positions a chunk, each with all B rows. None
      keeps B * chunk_size within MAX_CHUNK_TOKENS and B * chunk_size * V
      within MAX_CHUNK_LOGITS (one position a chunk at least). B is the batch
      of one device where sampling.logprobs calls it for each.

  Returns:
    f32[B, T] log-probabilities (nats).

  Raises:
    AssertionError: while tracing, if shapes differ, targets are no integers,
      hidden or embedding no floats, or chunk_size < 1.
  """
  hidden, embedding = jnp.asarray(hidden), jnp.asarray(embedding)
  targets = jnp.asarray(targets)
  chex.assert_rank([hidden, embedding], [3, 2])
  chex.assert_type([hidden, embedding], float)
  chex.assert_shape(embedding, (None, hidden.shape[2]))
  chex.assert_shape(targets, hidden.shape[:2])
  if bias is not None:
    chex.assert_shape(bias, (embedding.shape[0],))
  batch, length, _ = hidden.shape

  if chunk_size is None:
    tokens = min(MAX_CHUNK_TOKENS, MAX_CHUNK_LOGITS // embedding.shape[0])
    chunk_size = max(1, tokens // max(1, batch))
  assert chunk_size >= 1, f'chunk_size={chunk_size} must be at least 1'

  def chunk_logprobs(hidden, targets):
    logits = _logits(hidden, embedding)
    if bias is not None:
      logits += bias
    if softcap:
      logits = softcap * jnp.tanh(logits / softcap)
    return token_logprobs(logits / temperature, targets)

  if length <= chunk_size:
    return chunk_logprobs(hidden, targets)

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def step(carry, chunk):
    return carry, chunk_logprobs(*chunk)

  num_chunks = -(-length // chunk_size)
  chunks = _split(hidden, num_chunks), _split(targets, num_chunks)
  _, logprobs = jax.lax.scan(step, (), chunks)  # f32[chunks, B, chunk]
  return jnp.moveaxis(logprobs, 0, 1).reshape(batch, -1)[:, :length]


def _split(x: chex.Array, num_chunks: int) -> chex.Array:
  """Cuts [B, T, ...] into [num_chunks, B, chunk, ...], zero-padding the end."""
  chunk_size = -(-x.shape[1] // num_chunks)
  padding = [(0, 0)] * x.ndim
  padding[1] = (0, num_chunks * chunk_size - x.shape[1])
  x = jnp.pad(x, padding)
  x = x.reshape(x.shape[:1] + (num_chunks, chunk_size) + x.shape[2:])
  return jnp.moveaxis(x, 1, 0)


@jax.custom_vjp
def _logits(hidden: chex.Array, embedding: chex.Array) -> chex.Array:
  """Inner products with every embedding, accumulated in float32."""
  return jnp.einsum(
    'btd,vd->btv',
    hidden,
    embedding.astype(hidden.dtype),
    preferred_element_type=jnp.float32,
  )


def _logits_forward(hidden, embedding):
  return _logits(hidden, embedding), (hidden, embedding)


def _logits_backward(residuals, cotangent):
  # JAX's own rule would multiply the float32 cotangent in float32. Rounding it
  # to hidden's dtype keeps both products in that dtype, which is what makes
  # bfloat16 fast (1.6 times on a CPU); with float32 the two are the same.
  hidden, embedding = residuals
  cotangent = cotangent.astype(hidden.dtype)
  hidden_gradient = jnp.einsum(
    'btv,vd->btd',
    cotangent,
    embedding.astype(hidden.dtype),
    preferred_element_type=jnp.float32,
  )
  embedding_gradient = jnp.einsum(
    'btv,btd->vd', cotangent, hidden, preferred_element_type=jnp.float32
  )
  return (
    hidden_gradient.astype(hidden.dtype),
    embedding_gradient.astype(embedding.dtype),
  )


_logits.defvjp(_logits_forward, _logits_backward)


def language_model_loss(
  logprobs: chex.Array, weights: chex.Array
) -> tuple[chex.Array, dict[str, chex.Array]]:
  """Weighted negative log-likelihood of the target tokens.

  loss = -sum_t w_t logp_t

  Args:
    logprobs: f32[B, T], of the target tokens; anything where the weight is 0.
    weights: f32[B, T], >= 0, sum to 1 over the global minibatch; 0 on padding.

  Returns:
    f32[] loss (nats a token), and {'loss/language': f32[]}.

  Raises:
    AssertionError: while tracing, if shapes differ.
  """
  logprobs = jnp.asarray(logprobs, jnp.float32)
  weights = jnp.asarray(weights, jnp.float32)
  chex.assert_equal_shape([logprobs, weights])
  loss = -jnp.sum(weights * jnp.where(weights != 0, logprobs, 0.0))
  return loss, {'loss/language': loss}


def normalized_weights(mask: chex.Array) -> chex.Array:
  """Equal weights on the kept entries, that sum to 1.

  w = m / max(sum m, 1)

  Args:
    mask: bool or f32, any shape; 1 = keep.

  Returns:
    f32, the same shape; all 0 if nothing is kept.
  """
  kept = (jnp.asarray(mask) != 0).astype(jnp.float32)
  return kept / jnp.maximum(jnp.sum(kept), 1.0)
