"""Completing prompts from a model folder, and chatting in the terminal."""

from __future__ import annotations

import argparse
import itertools
import json
import shutil

import pytest

from instructjax import cli
from instructjax import generate
from instructjax.sampling import decode
from tests import foreign
from tests import runs


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  """The policy's folder of the run all tests share."""
  return runs.finished(tmp_path_factory)[1] / 'ppo_ptx' / 'model'


@pytest.fixture
def answer(model, capsys):
  """answer(*flags): rows of standard output; the command must succeed."""

  def answer(*flags):
    argv = [f'--model={model}', '--max_new_tokens=8', *flags]
    assert cli.run(generate.command, argv) == 0
    out, err = capsys.readouterr()
    assert err == ''
    return [json.loads(line) for line in out.splitlines()]

  return answer


def _texts(rows):
  return [row['response'] for row in rows]


def test_every_prompt_gets_its_samples_in_order(answer):
  rows = answer('--prompt=Give hay?', '--prompt=\n  Who?', '--samples=2')
  assert [set(row) for row in rows] == [{'prompt', 'sample', 'response'}] * 4
  assert [(row['prompt'], row['sample']) for row in rows] == list(
    itertools.product(['Give hay?', '\n  Who?'], range(2))
  )
  assert len(set(_texts(rows))) == 4


def test_seeds(answer):
  first = answer('--prompt=Who?', '--samples=4')
  assert answer('--prompt=Who?', '--samples=4') == first
  other = answer('--prompt=Who?', '--samples=4', '--seed=1')
  assert all(a != b for a, b in zip(_texts(first), _texts(other), strict=True))


def test_answers_do_not_depend_on_their_neighbours(answer, monkeypatch):
  alone = answer('--prompt=Who?', '--samples=2')
  beside = answer('--prompt=Who?', '--prompt=Give the hay to?', '--samples=2')
  assert beside[:2] == alone
  other = answer('--prompt=Who?', '--prompt=No', '--samples=2')
  assert other[:2] == alone
  # Nor on how many are answered at a time.
  many = answer('--prompt=Who?', '--samples=7')
  assert many[:2] == alone and len(many) == 7
  monkeypatch.setattr(generate, '_BATCH', 4)
  assert answer('--prompt=Who?', '--samples=7') == many


def test_temperature_and_filters(answer):
  greedy = answer('--prompt=Who?', '--samples=2', '--temperature=0')
  assert len(set(_texts(greedy))) == 1
  found = answer('--prompt=Who?', '--samples=2', '--top_k=5', '--top_p=1e-6')
  assert _texts(found) == _texts(greedy)


def test_a_model_split_over_devices_answers_as_on_one(model, answer):
  """The same tokens, and no device holds all of a large weight."""
  flags = '--prompt=Who?', '--prompt=Give the hay to?', '--samples=2'
  code = """
import pathlib, sys
from instructjax import generate
argv = sys.argv[1:]
options = generate.parser().parse_args(argv)
loaded = generate.Generator(pathlib.Path(options.model), options)
table = loaded.params['embedding']['tokens']
assert table.addressable_shards[0].data.size == table.size // 4
sys.exit(generate.command(argv))
"""
  args = [f'--model={model}', '--max_new_tokens=8', *flags]
  meshes = '--mesh.fsdp=-1', '--mesh.tensor=2'
  result = runs.run(['-c', code, *args, *meshes], devices=4)
  assert result.returncode == 0, result.stderr
  assert list(map(json.loads, result.stdout.splitlines())) == answer(*flags)
  result = runs.run(
    ['-m', 'instructjax.generate', *args, '--mesh.tensor=4'], devices=4
  )
  assert result.returncode == 2
  assert 'mesh.tensor=4 must divide 2,' in result.stderr


def test_records_in_and_a_file_out(answer, tmp_path):
  records = tmp_path / 'prompts.jsonl'
  runs.write_jsonl(records, [{'text': 'Hay?'}, {'text': 'Für wen?\n'}])
  out = tmp_path / 'out.jsonl'
  out.write_text('older')
  assert answer(f'--prompts={records}', '--prompt=No?', f'--out={out}') == []
  rows = runs.lines(out)
  assert [row['prompt'] for row in rows] == ['No?', 'Hay?', 'Für wen?\n']
  assert rows == answer(f'--prompts={records}', '--prompt=No?')


def test_an_empty_prompt_is_one(answer):
  rows = answer('--prompt=', '--samples=2')
  assert [row['prompt'] for row in rows] == ['', '']


def test_a_stage_folder_and_a_relative_path_will_do(model, answer, monkeypatch):
  flags = '--prompt=Who?', '--samples=2'
  wanted = answer(*flags)
  monkeypatch.chdir(model.parent)
  assert answer(*flags, '--model=model') == wanted
  assert answer(*flags, f'--model={model.parent}') == wanted


def test_prompts_up_to_the_models_positions(model, answer):
  folder = generate.Generator(model, _options(max_new_tokens=8))
  text = 'hay '
  while len(folder.tokenizer.encode_prompt(text + 'hay ')) <= folder.room:
    text += 'hay '
  assert len(answer(f'--prompt={text}', '--samples=2')) == 2


def _options(**chosen):
  defaults = vars(generate.parser().parse_args(['--model=x']))
  return argparse.Namespace(**defaults | chosen)


@pytest.mark.parametrize(
  'flags, said',
  [
    ([], 'nothing to do'),
    (['--prompt=a', '--samples=0'], '--samples=0 must be at least 1'),
    (['--prompt=a', '--samples=two'], "invalid int value: 'two'"),
    (['--prompt=a', '--temperature=-1'], '--temperature=-1.0 must be'),
    (['--prompt=a', '--temperature=nan'], '--temperature=nan must be'),
    (['--prompt=a', '--top_k=-1'], '--top_k=-1 must be at least 0'),
    (['--prompt=a', '--top_p=0'], '--top_p=0.0 must be over 0'),
    (['--prompt=a', '--max_new_tokens=0'], 'must be from 1 to 47'),
    (['--prompt=a', '--max_new_tokens=48'], 'the model has 48 positions'),
    (['--prompt=' + 99 * 'hay '], 'the model has room for 40'),
    (['--prompt=a', '--out=/nowhere/out.jsonl'], '--out=/nowhere/out.jsonl'),
    (['--prompt=a', '--out=/'], 'cannot be written'),
    (['--prompts=/nowhere.jsonl'], 'it does not exist'),
    (['--prompt=a', '--model=/nowhere'], 'there is no model folder /nowhere'),
    (['--prompt=a', '--model=/proc'], '/proc is not a model folder'),
    (['--promt=a'], 'unrecognized arguments: --promt=a'),
    (['--prompt=\udcff'], 'surrogate'),
  ],
)
def test_mistakes(model, capsys, flags, said):
  argv = [f'--model={model}', '--max_new_tokens=8', *flags]
  assert cli.run(generate.command, argv) == 2
  out, err = capsys.readouterr()
  (line,) = err.splitlines()
  assert out == '' and line.startswith('error: ') and said in line


def test_models_that_cannot_answer(model, tmp_path, capsys):
  def refused(folder):
    argv = [f'--model={folder}', '--prompt=a']
    assert cli.run(generate.command, argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line

  reward = model.parents[1] / 'reward_model' / 'model'
  assert 'holds a reward model' in refused(reward)
  copy = shutil.copytree(model, tmp_path / 'model')
  (copy / 'params' / 'manifest.ocdbt').unlink()
  assert 'params cannot be read' in refused(copy)
  (copy / 'tokenizer.model').write_bytes(b'cut')
  assert 'needed a SentencePiece model' in refused(copy)


def test_an_old_answer_file_survives_a_mistake(model, tmp_path, capsys):
  out = tmp_path / 'out.jsonl'
  out.write_text('kept')
  argv = [f'--model={model}', '--prompt=' + 99 * 'hay ', f'--out={out}']
  assert cli.run(generate.command, argv) == 2
  assert out.read_text() == 'kept'


def test_chat_from_a_pipe(model):
  """Empty lines, too long ones, and forgetting what was said."""
  args = ['-m', 'instructjax.generate', f'--model={model}', '--chat']
  said = ['Who?', '', 'hay ' * 60, '/new', 'Who?']
  process = runs.start([*args, '--max_new_tokens=4'], stdin=-1)
  out, err = process.communicate('\n'.join(said) + '\n', timeout=120)
  assert process.returncode == 0
  assert 'Ctrl-D' in err and 'Traceback' not in err
  assert err.count('error: prompt ') == 1 and '/new starts over' in err
  first, nothing, too_long, forgotten, again, end = out.split('> ')[1:]
  assert nothing == too_long == forgotten == '' and end == '\n'
  assert first == again  # as if for the first time


def test_chat_takes_utf8_only(model):
  """What a locale makes of other bytes differs; a traceback comes of none."""
  args = ['-m', 'instructjax.generate', f'--model={model}', '--chat']
  process = runs.start([*args, '--max_new_tokens=4'], stdin=-1, text=False)
  _, err = process.communicate(b'\xff\xfe\n', timeout=120)
  assert process.returncode in (0, 2)
  assert b'error: needed U' in err and b'Traceback' not in err


@pytest.fixture(scope='module')
def foreign_model(tmp_path_factory):
  """A Hugging Face folder with a chat template."""
  return foreign.write(tmp_path_factory.mktemp('foreign') / 'model', 'qwen3')


def test_streaming_says_what_answering_does(model, foreign_model):
  for folder in (model, foreign_model):
    options = _options(max_new_tokens=6)
    found = generate.Generator(folder, options)
    for prompt in ('Who?', (('user', 'a'), ('assistant', 'b'), ('user', 'c'))):
      pieces = list(found.stream(prompt))
      assert ''.join(pieces) == found.answer([prompt])[0][0]


def test_streaming_holds_back_what_is_no_whole_character(foreign_model):
  found = generate.Generator(foreign_model, _options(max_new_tokens=4))
  ids = found.tokenizer.encode('\U0001f600')
  assert len(ids) == 4  # bytes
  assert found.tokenizer.decode(ids[:2]).endswith('\ufffd')
  spoken = iter([[i] for i in ids])
  found._encode = lambda prompts: [[1]]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(decode, 'stream', lambda *args, **options: spoken)
    assert ''.join(found.stream('x')) == '\U0001f600'


def test_messages_from_records_through_a_template(
  foreign_model, tmp_path, capsys
):
  messages = [
    {'role': 'system', 'content': 'Be brief.'},
    {'role': 'user', 'content': 'Who?'},
  ]
  runs.write_jsonl(tmp_path / 'prompts.jsonl', [{'messages': messages}])
  argv = [
    f'--model={foreign_model}',
    f'--prompts={tmp_path / "prompts.jsonl"}',
    '--max_new_tokens=4',
    '--samples=3',
    '--dtype=bfloat16',
  ]
  assert cli.run(generate.command, argv) == 0
  rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [row['sample'] for row in rows] == [0, 1, 2]
  assert {row['prompt'] for row in rows} == {'Be brief.\n\nWho?'}


def test_chat_with_a_template_remembers(foreign_model, monkeypatch, capsys):
  asked = []
  stream = generate.Generator.stream

  def listen(self, prompt):
    asked.append(prompt)
    return stream(self, prompt)

  monkeypatch.setattr(generate.Generator, 'stream', listen)
  said = iter(['One?', 'Two?'])

  def reply(prompt):
    try:
      return next(said)
    except StopIteration:
      raise EOFError from None

  monkeypatch.setattr('builtins.input', reply)
  argv = [f'--model={foreign_model}', '--chat', '--max_new_tokens=3']
  assert cli.run(generate.command, argv) == 0
  assert asked[0] == (('user', 'One?'),)
  (_, answer), last = asked[1][1], asked[1][2]
  assert asked[1][0] == ('user', 'One?') and last == ('user', 'Two?')
  assert answer in capsys.readouterr().out


def test_a_prompt_of_nothing(tmp_path, capsys):
  folder = foreign.write(tmp_path / 'gpt2', 'gpt2')  # no begin of text
  argv = [f'--model={folder}', '--prompt=', '--max_new_tokens=4']
  assert cli.run(generate.command, argv) == 2
  assert 'got an empty one' in capsys.readouterr().err
