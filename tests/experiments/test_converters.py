"""The table of what is read, on a folder of a few small files."""

from __future__ import annotations

import json
import pathlib

_RUN = pathlib.Path(__file__).parents[2] / 'experiments' / 'converters'


def test_every_file_of_a_folder_is_told(run_python, tmp_path):
  data, out = tmp_path / 'data', tmp_path / 'out'
  (data / 'many').mkdir(parents=True)
  out.mkdir()
  pair = {'prompt': 'a', 'responses': ['b', 'c', 'd'], 'ranks': [1, 2, 2]}
  rows = {
    'pairs.jsonl': [pair, pair],
    'many/a.jsonl': [{'question': 'a', 'answer': 'b'}],
    'many/b.jsonl': [{'question': 'c', 'answer': 'd'}] * 2,
    'strings.jsonl': ['a', 'b'],
    'other.jsonl': [{'x': 1}],
    'labels.jsonl': [
      {
        'question': 'a',
        'passages': [['b', 'c']],
        **{f'prediction {i}': f'p{i}' for i in range(1, 5)},
        'preference': labels,
      }
      for labels in ([1, 1, 1, 1, 1, 1], [1, 2, 1, 1, 1, 1])
    ],
  }
  for name, content in rows.items():
    text = ''.join(json.dumps(row) + '\n' for row in content)
    (data / name).write_text(text)
  (data / 'a.txt').write_text('A book.')
  (data / 'b.csv').write_text('x,y')
  (data / 'README.md').write_text('About.')
  run_python([str(_RUN / 'run.py'), f'--data={data}', f'--out={out}'])
  found = json.loads((out / 'results.json').read_text())
  assert set(found) == {*rows, 'a.txt', 'b.csv', 'many/ (2 files)'} - {
    'many/a.jsonl',
    'many/b.jsonl',
  }
  told = found['pairs.jsonl']['kinds']['comparisons']
  assert (told['rows'], told['records'], told['pairs']) == (2, 2, 4)
  assert told['equal_from_parquet'] is True
  told = found['many/ (2 files)']['kinds']['demonstrations']
  assert told['records'] == 3 and told['equal_from_parquet'] is True
  assert set(found['strings.jsonl']['kinds']) == {'prompts'}
  assert set(found['a.txt']['kinds']) == {'pretraining'}
  assert found['other.jsonl']['refused'] == 'keys x'
  assert found['b.csv']['refused'] == 'none of the endings that are read'
  assert found['labels.jsonl']['labels'] == {
    'rows that describe an order': 1,
    'labels kept': 9,
    'preferences that became a tie': 3,
  }
  lines = (out / 'table.md').read_text().splitlines()
  assert '| pairs.jsonl | comparisons | 2 | 2 | 4 |  |' in lines
  assert '| other.jsonl | keys x |' in lines
