"""The decoder's forward pass as slow, obvious float64 NumPy.

Padding is not masked but left out: each row's kept tokens are run alone, and
every query attends in a loop over exactly the positions it may see.
"""

import math

import numpy as np


def hidden(config, params, tokens, mask=None):
  """Returns f64[B, T, D] after the final norm; NaN where not kept."""
  tokens = np.asarray(tokens)
  if mask is None:
    mask = np.ones(tokens.shape, bool)
  mask = np.asarray(mask)
  result = np.full((*tokens.shape, config.d_model), np.nan)
  for row in range(len(tokens)):
    result[row, mask[row]] = _row(config, params, tokens[row, mask[row]])
  return result


def logits(config, params, tokens, mask=None):
  """Returns f64[B, T, V]; NaN where not kept."""
  table = np.asarray(params['embedding']['tokens'], np.float64)
  return hidden(config, params, tokens, mask) @ table.T


def _row(config, params, tokens):
  tables = params['embedding']
  x = np.zeros((len(tokens), config.d_model))
  for t, token in enumerate(tokens):
    x[t] += np.asarray(tables['tokens'], np.float64)[token]
    if config.positions == 'learned':
      position = min(t, config.max_length - 1)
      x[t] += np.asarray(tables['positions'], np.float64)[position]
  for layer in range(config.num_layers):
    x = _block(config, _layer_params(params['layers'], layer), layer, x)
  return _layer_norm(params['final_norm'], x)


def _layer_params(stacked, layer):
  if isinstance(stacked, dict):
    return {name: _layer_params(leaf, layer) for name, leaf in stacked.items()}
  return np.asarray(stacked[layer], np.float64)


def _block(config, params, layer, x):
  y = _layer_norm(params['attention_norm'], x)
  kernel, bias = params['qkv']['kernel'], params['qkv']['bias']
  mixed = np.zeros((len(x), config.num_heads * config.head_dim))
  for head in range(config.num_heads):
    q, k, v = (y @ kernel[:, i, head] + bias[i, head] for i in range(3))
    if config.qk_norm:
      q, k = _rms_norm(params['q_norm'], q), _rms_norm(params['k_norm'], k)
    if config.positions == 'rotary':
      q, k = (_rotate(x, config.rope_theta) for x in (q, k))
    columns = slice(head * config.head_dim, (head + 1) * config.head_dim)
    for t in range(len(x)):
      first = 0
      if config.attention == 'alternating' and layer % 2 == 1:
        first = max(0, t - config.band + 1)
      scores = k[first : t + 1] @ q[t] / math.sqrt(config.head_dim)
      weights = np.exp(scores - scores.max())
      mixed[t, columns] = weights / weights.sum() @ v[first : t + 1]
  x = x + _linear(params['attention_output'], mixed)
  y = _layer_norm(params['mlp_norm'], x)
  y = _gelu(_linear(params['mlp_input'], y))
  return x + _linear(params['mlp_output'], y)


def _rotate(x, theta):
  """Multiplies each pair, as a complex number, by e^(i angle)."""
  half = x.shape[-1] // 2
  pairs = x[:, :half] + 1j * x[:, half:]
  for t in range(len(x)):
    for i in range(half):
      pairs[t, i] *= np.exp(1j * t / theta ** (i / half))
  return np.concatenate([pairs.real, pairs.imag], axis=-1)


def _rms_norm(params, x):
  scale = np.asarray(params['scale'], np.float64)
  return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * scale


def _linear(params, x):
  return x @ params['kernel'] + params['bias']


def _layer_norm(params, x):
  mean = x.mean(axis=-1, keepdims=True)
  variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
  scale = np.asarray(params['scale'], np.float64)
  bias = np.asarray(params['bias'], np.float64)
  return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias


def _gelu(x):
  inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  return 0.5 * x * (1 + np.tanh(inner))
