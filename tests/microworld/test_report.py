"""The microworld's section of report.md."""

from __future__ import annotations

from instructjax.microworld import report
from tests.microworld import fake_reports


def _rows(text: str) -> list[list[str]]:
  rows = [line for line in text.splitlines() if line.startswith('|')]
  return [row.replace('\\|', '/').split('|')[1:-1] for row in rows]


def test_tables_are_whole():
  text = report.markdown(fake_reports.report())
  columns = {len(row) for row in _rows(text)}
  assert columns == {1 + len(fake_reports.NAMES)}


def test_numbers_stand_with_their_intervals():
  text = report.markdown(fake_reports.report())
  rows = {row[0].strip(): row[1:] for row in _rows(text)}
  assert rows['preferred to SFT ↑'][2].strip() == '**68%** <sub>63 to 73</sub>'
  assert (
    rows['Likert, 1 to 7 ↑'][1].strip() == '**4.00** <sub>3.80 to 4.20</sub>'
  )
  assert 'few-shot arithmetic ↑' in rows
  kl = rows['KL to the start, nats a response']
  assert [cell.strip() for cell in kl] == ['', '', '9.00', '']
  assert 'pretraining loss, nats a token ↓' not in rows
  assert 'agreement 0.726; majority 0.900 (0.850 to 0.950).' in text
  assert 'PPO-ptx is preferred most, to SFT in 68%' in text


def test_missing_numbers_leave_the_cell_or_the_row_empty():
  found = fake_reports.report()
  del found['intervals']['toxicity']['sft']['rude']
  for keys in found['intervals']['metadata'].values():
    del keys['hallucinates']
  rows = {row[0].strip(): row[1:] for row in _rows(report.markdown(found))}
  assert rows['rude, asked to be rude'][1].strip() == ''
  assert 'hallucinates, closed domain ↓' not in rows


def test_figures_stand_where_they_were_drawn():
  text = report.markdown(fake_reports.report(), ['figures/a.png'])
  assert '![figures/a.png](figures/a.png)' in text


def test_answers_stand_side_by_side_and_break_no_table():
  text = report.markdown(fake_reports.report())
  (row,) = [row for row in _rows(text) if row[0].startswith(' *chat*')]
  for cell, name in zip(row[1:], fake_reports.NAMES, strict=True):
    assert cell.startswith(f' a / b ⏎ of {name[:3]} '), cell
    assert cell.endswith('… (0.25) ')
  found = fake_reports.report()
  found['samples'][0]['responses']['sft'] = {'text': ' ', 'utility': 0.0}
  assert '(empty) (0.00)' in report.markdown(found)
  assert 'The same prompts' not in report.markdown(found | {'samples': []})


def test_the_larger_model_is_told_of_if_there_is_one():
  found = fake_reports.report()
  assert 'larger base model' not in report.markdown(found)
  found['win_rate_ppo_ptx_vs_base_large'] = fake_reports.interval(0.8)
  text = report.markdown(found)
  assert 'preferred to the larger base model in 80% (95% interval 75%' in text
