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
    kept = tokens[row, mask[row]]
    result[row, mask[row]] = _row(config, params, kept)
  return result


def logits(config, params, tokens, mask=None):
  """Returns f64[B, T, V]; NaN where not kept."""
  output = params.get('output', {})
  table = output.get('tokens', params['embedding']['tokens'])
  x = hidden(config, params, tokens, mask) @ np.asarray(table, np.float64).T
  return _cap(x + output.get('bias', 0.0), config.final_softcap)


def _row(config, params, tokens):
  tables = params['embedding']
  x = np.zeros((len(tokens), config.d_model))
  for t, token in enumerate(tokens):
    x[t] += np.asarray(tables['tokens'], np.float64)[token]
    x[t] *= config.embedding_scale
    if config.positions == 'learned':
      position = min(t, config.max_length - 1) + config.position_offset
      x[t] += np.asarray(tables['positions'], np.float64)[position]
  for layer in range(config.num_layers):
    layer_params = _layer_params(params['layers'], layer)
    x = _block(config, layer_params, layer, x)
  return _norm(config, params['final_norm'], x)


def _layer_params(stacked, layer):
  if isinstance(stacked, dict):
    return {name: _layer_params(leaf, layer) for name, leaf in stacked.items()}
  return np.asarray(stacked[layer], np.float64)


def _block(config, params, layer, x):
  read = _norm(config, params['attention_norm'], x)
  mixed = _attention(config, params, layer, read)
  added = _linear(params['attention_output'], mixed)
  if config.post_norms:
    added = _norm(config, params['attention_post_norm'], added)
  if config.branches == 'sequential':
    y = _norm(config, params['mlp_norm'], x + added)
  elif config.branches == 'parallel':
    y = read
  else:
    y = _norm(config, params['mlp_norm'], x)
  inner = _linear(params['mlp_input'], y)
  if config.gated:
    inner = inner * _activate(config, _linear(params['mlp_gate'], y))
  else:
    inner = _activate(config, inner)
  y = _linear(params['mlp_output'], inner)
  if config.post_norms:
    y = _norm(config, params['mlp_post_norm'], y)
  return x + added + y


def _attention(config, params, layer, y):
  mixed = np.zeros((len(y), config.num_heads * config.head_dim))
  banded = layer % 2 == 1 and config.attention == 'alternating'
  banded |= config.attention == 'listed' and layer in config.banded_layers
  scale = config.attention_scale or 1 / math.sqrt(config.head_dim)
  rates, factor = _rates(config, banded)
  for head in range(config.num_heads):
    q, k, v = _heads(config, params, head, y)
    if config.qk_norm:
      epsilon, offset = config.qk_norm_epsilon, config.norm_offset
      q = _rms_norm(params['q_norm'], q, epsilon, offset)
      k = _rms_norm(params['k_norm'], k, epsilon, offset)
    if config.positions == 'rotary':
      q, k = (_rotate(x, rates, factor) for x in (q, k))
    columns = slice(head * config.head_dim, (head + 1) * config.head_dim)
    for t in range(len(y)):
      first = max(0, t - config.band + 1) if banded else 0
      scores = _cap(k[first : t + 1] @ q[t] * scale, config.attention_softcap)
      weights = np.exp(scores - scores.max())
      mixed[t, columns] = weights / weights.sum() @ v[first : t + 1]
  return mixed


def _heads(config, params, head, y):
  if 'qkv' in params:
    places = [(params['qkv'], (i, head)) for i in range(3)]
  else:
    shared = head // (config.num_heads // config.num_kv_heads)
    places = [(params['q'], (head,))]
    places += [(params['kv'], (i, shared)) for i in range(2)]
  for linear, place in places:
    bias = linear['bias'][place] if 'bias' in linear else 0.0
    yield y @ linear['kernel'][(slice(None), *place)] + bias


def _rates(config, banded):
  """How far each pair turns a position, and what multiplies the turned."""
  width = config.rotary_dim or config.head_dim
  scaling, theta = config.rope_scaling, config.rope_theta
  if banded and config.local_rope_theta:
    scaling, theta = type(scaling)(), config.local_rope_theta
  if scaling.kind == 'none':
    return [theta ** (-2 * i / width) for i in range(width // 2)], 1.0
  length, s = scaling.original_length, scaling.factor
  rates = [theta ** (-2 * i / width) for i in range(width // 2)]
  if scaling.kind == 'linear':
    return [rate / s for rate in rates], 1.0
  if scaling.kind == 'llama3':
    found = []
    for rate in rates:
      wavelength = 2 * math.pi / rate
      if wavelength < length / scaling.fast:
        found.append(rate)
      elif wavelength > length / scaling.low:
        found.append(rate / s)
      else:
        smooth = length / wavelength - scaling.low
        smooth /= scaling.fast - scaling.low
        found.append((1 - smooth) * rate / s + smooth * rate)
    return found, 1.0

  def pair(turns):
    return (
      width * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))
    )

  low, high = pair(scaling.fast), pair(scaling.low)
  if scaling.truncate:
    low, high = math.floor(low), math.ceil(high)
  low, high = max(low, 0), min(high, width - 1)
  high += 0.001 if low == high else 0
  found = []
  for i, rate in enumerate(rates):
    shrunk = min(max((i - low) / (high - low), 0), 1)
    found.append(shrunk * rate / s + (1 - shrunk) * rate)
  return found, scaling.attention_factor or 0.1 * math.log(s) + 1


def _rotate(x, rates, factor):
  """Multiplies each pair, as a complex number, by e^(i angle)."""
  half = len(rates)
  pairs = x[:, :half] + 1j * x[:, half : 2 * half]
  for t in range(len(x)):
    for i in range(half):
      pairs[t, i] *= factor * np.exp(1j * t * rates[i])
  return np.concatenate([pairs.real, pairs.imag, x[:, 2 * half :]], axis=-1)


def _cap(x, cap):
  return cap * np.tanh(x / cap) if cap else x


def _norm(config, params, x):
  if config.norm == 'rms':
    return _rms_norm(params, x, config.norm_epsilon, config.norm_offset)
  mean = x.mean(axis=-1, keepdims=True)
  variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
  scale = np.asarray(params['scale'], np.float64)
  bias = np.asarray(params['bias'], np.float64)
  return (x - mean) / np.sqrt(variance + config.norm_epsilon) * scale + bias


def _rms_norm(params, x, epsilon, offset):
  scale = np.asarray(params['scale'], np.float64) + (1.0 if offset else 0.0)
  return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * scale


def _linear(params, x):
  return x @ params['kernel'] + params.get('bias', 0.0)


def _activate(config, x):
  if config.activation == 'relu':
    return np.maximum(x, 0)
  if config.activation == 'silu':
    return x / (1 + np.exp(-x))
  if config.activation == 'gelu':
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
  inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  return 0.5 * x * (1 + np.tanh(inner))
