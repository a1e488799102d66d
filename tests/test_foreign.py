"""The whole recipe from a Hugging Face folder, and out again."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from instructjax import cli
from instructjax import convert
from instructjax import generate
from instructjax import main
from instructjax.checkpoints import hf
from instructjax.checkpoints import hf_config
from instructjax.data import foreign_tokenizer
from instructjax.models import transformer
from tests import foreign
from tests import runs

_FAMILIES = ('gpt2', 'qwen3')


def _chat_records(folder):
  """The records of any run, some of them as messages of several turns."""
  runs.write_records(folder)
  path = folder / 'demonstrations.jsonl'
  rows = runs.lines(path)
  for row in rows[::2]:
    prompt, response = row.pop('prompt'), row.pop('response')
    row['messages'] = [
      {'role': 'user', 'content': 'Hay?'},
      {'role': 'assistant', 'content': 'No'},
      {'role': 'user', 'content': prompt},
      {'role': 'assistant', 'content': response},
    ]
  runs.write_jsonl(path, rows)
  path = folder / 'prompts.jsonl'
  rows = runs.lines(path)
  for row in rows[::2]:
    row['messages'] = [{'role': 'user', 'content': row.pop('text')}]
  runs.write_jsonl(path, rows)
  return folder


def _arguments(config, data, workdir, base):
  found = runs.arguments(
    config, data, workdir, num_iterations=2, max_prompt_length=40
  )
  found[0] += f',base={base}'
  found = [word for word in found if '.pretrain.' not in word]
  return found + [
    f'--config.stages.{stage}.{key}={value}'
    for stage in ('sft', 'reward_model')
    for key, value in (('num_iterations', 2), ('max_prompt_length', 40))
  ]


@pytest.mark.parametrize('family', _FAMILIES)
def test_sft_reward_model_ppo_ptx(family, tmp_path):
  base = foreign.write(tmp_path / 'base', family)
  data, run = _chat_records(tmp_path / 'data'), tmp_path / 'run'
  words = [str(word) for word in _arguments('ppo_ptx', data, run, base)]
  assert cli.run(main.command, words) == 0
  for stage in ('sft', 'reward_model', 'ppo_ptx'):
    assert (run / stage / 'summary.json').exists()
    found = json.loads((run / stage / 'model' / 'model.json').read_text())
    assert found['family'] == family
  numbers = runs.numbers(run / 'ppo_ptx')
  assert len(numbers) == 2
  assert all(np.isfinite(row['objective/kl']) for row in numbers)
  assert abs(numbers[0]['objective/kl']) < 1e-4  # no update came before it
  assert not (run / 'pretrain').exists()
  tokenizer = foreign_tokenizer.ForeignTokenizer.load(str(base))
  kept = foreign_tokenizer.ForeignTokenizer.load(str(run / 'tokenizer'))
  assert kept.fingerprint() == tokenizer.fingerprint()

  for name, kind in (('model', 'policy'), ('value_model', 'reward')):
    out = tmp_path / name
    words = ['export', str(run / 'ppo_ptx' / name), str(out)]
    assert cli.run(convert.command, words) == 0
    described = hf_config.describe(out)
    assert described.family.model_type == family and described.kind == kind
    assert described.fields['eos_token_id'] == tokenizer.eos_id
    # Its tokenizer names no padding, and none is invented.
    assert described.fields['pad_token_id'] is None
    own = foreign_tokenizer.ForeignTokenizer.load(str(out))
    assert own.fingerprint() == tokenizer.fingerprint()
    hf.load_pretrained(out)


def test_import_and_export_change_nothing(tmp_path):
  base = foreign.write(tmp_path / 'base', 'qwen3')
  for way, source, target in (
    ('import', base, tmp_path / 'ours'),
    ('export', tmp_path / 'ours', tmp_path / 'theirs'),
  ):
    words = [way, str(source), str(target)]
    assert cli.run(convert.command, words) == 0
  for path in base.iterdir():
    again = tmp_path / 'theirs' / path.name
    assert again.read_bytes() == path.read_bytes(), path.name


def test_our_own_model_and_tokenizer_leave_too(tmp_path, tmp_path_factory):
  model = runs.finished(tmp_path_factory)[1] / 'sft' / 'model'
  out = tmp_path / 'out'
  words = ['export', str(model), str(out), '--dtype=bfloat16']
  assert cli.run(convert.command, words) == 0
  config, params = hf.load_pretrained(out)
  assert json.loads((out / 'config.json').read_text())['model_type'] == 'gpt2'
  stored = runs.tree(model / 'params')
  assert params['final_norm']['scale'].dtype == 'bfloat16'
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert count == sum(leaf.size for leaf in stored.values())
  tokens = np.arange(6)[None]
  assert transformer.logits(config, params, tokens).shape[-1] >= 320


@pytest.mark.parametrize(
  ('words', 'said'),
  [
    (['import', '{base}', '{base}'], 'a new or empty folder'),
    (['import', '{base}/none', '{out}'], 'config.json cannot be read'),
    (['export', '{base}/none', '{out}'], 'there is no model folder'),
    (['export', '{base}', '{out}', '--family=lama'], "Did you mean 'llama'"),
    (['export', '{base}', '{out}', '--family=gpt2'], 'cannot express'),
    (['export', '{base}', '{out}', '--max_shard_bytes=0'], 'at least 1'),
    (['exprt', '{base}', '{out}'], 'invalid choice'),
    (['import', '{base}', '{base}/config.json/x'], 'cannot be written'),
    (['import', '{base}'], 'required: target'),
  ],
)
def test_wrong_conversions(tmp_path, capsys, words, said):

  base = foreign.write(tmp_path / 'base', 'llama')
  words = [w.format(base=base, out=tmp_path / 'out') for w in words]
  assert cli.run(convert.command, words) == 2
  line = capsys.readouterr().err
  assert said in line and line.count('\n') == 1
  assert not (tmp_path / 'out').exists()


def test_a_model_that_knows_fewer_ids_than_its_tokenizer(tmp_path):
  base = foreign.write(tmp_path / 'base', 'gpt2')
  config, params = hf.load_pretrained(base)
  cut = tmp_path / 'cut'

  params['embedding']['tokens'] = params['embedding']['tokens'][:100]
  hf.save_pretrained(
    cut,
    dataclasses.replace(config, vocab_size=100),
    params,
    family='gpt2',
    tokenizer=foreign_tokenizer.ForeignTokenizer.load(str(base)),
  )
  data = _chat_records(tmp_path / 'data')
  arguments = _arguments('sft', data, tmp_path / 'run', cut)
  arguments = [word for word in arguments if '.stages.' not in word]
  result = runs.run(['-m', 'instructjax.main', *arguments])
  assert result.returncode == 2
  assert 'and its model knows 100' in result.stderr
  words = [f'--model={cut}', '--prompt=a']
  assert cli.run(generate.command, words) == 2
