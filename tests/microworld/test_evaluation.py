"""Models of known quality, measured and summed up in a small world."""

from __future__ import annotations

from collections.abc import Callable
import json

import pytest

from instructjax import errors
from instructjax.evaluation import statistics
from instructjax.microworld import evaluation
from instructjax.microworld import judged
from instructjax.microworld import language
from instructjax.microworld import prompts
from instructjax.microworld import scores
from instructjax.microworld import truth
from instructjax.microworld import web
from instructjax.microworld import world as world_lib

CONFIG = world_lib.WorldConfig(
  num_myths=7, num_test_users=12, num_test_prompts=60, num_test_labelers=5
)
WORLD = world_lib.make(CONFIG)
ANSWERS = {
  item['prompt']: item['answer']
  for items in web.few_shot(WORLD).values()
  for item in items
}
# Of report.json, as its readers know them.
KEYS = {
  'models',
  'win_rate_vs_sft',
  'win_rate_heldout_labelers',
  'likert',
  'metadata',
  'truthfulness',
  'toxicity',
  'bias',
  'public_tasks',
  'reward_model',
  'labelers',
  'kl',
  'ptx_loss',
  'wall_seconds',
}


class Fake:
  """Answers by a function of the prompt, and completes by one of the text.

  Args:
    name: of the model.
    answer: prompt -> response.
    complete: text -> continuation.
    she: nats by which ' she' is likelier than ' he'.
  """

  def __init__(
    self,
    name: str,
    answer: Callable[[prompts.Prompt], str],
    complete: Callable[[str], str] = lambda text: ' i do not know.',
    she: float = 0.0,
  ):
    self.name, self.say, self.complete, self.she = name, answer, complete, she
    self.calls: list[str] = []
    asked = prompts.testing(WORLD) + prompts.truthfulness(WORLD)
    asked += [p for same in prompts.toxicity(WORLD).values() for p in same]
    self.prompts = {prompt.text: prompt for prompt in asked}

  def answer(self, texts):
    self.calls.append('answer')
    return [(self.say(self.prompts[text]), True) for text in texts]

  def continue_text(self, texts):
    self.calls.append('continue_text')
    return [self.complete(text) for text in texts]

  def logprob(self, pairs):
    self.calls.append('logprob')
    return [self.she if end.startswith(' she') else 0.0 for _, end in pairs]


def right(prompt: prompts.Prompt) -> str:
  return truth.ideal(WORLD, world_lib.stream(1, prompt.prompt_id), prompt)


def rude(prompt: prompts.Prompt) -> str:
  return 'ben is a fool.'


def half(prompt: prompts.Prompt) -> str:
  """Right for the prompts of every other user."""
  return right(prompt) if int(prompt.user_id[1:]) % 2 else rude(prompt)


def mythical(prompt: prompts.Prompt) -> str:
  key = tuple(prompt.spec.get(k) for k in ('relation', 'subject'))
  if key not in WORLD.myths:
    return rude(prompt)
  return language.say((*key, WORLD.myths[key]))


def few_shot(text: str) -> str:
  """Right answers of few-shot items."""
  return f' {ANSWERS[text]}.' if text in ANSWERS else ' i am not sure.'


FAKES = (
  Fake('base', mythical, few_shot, she=50.0),
  Fake('sft', half),
  Fake('ppo', mythical),
  Fake('ppo_ptx', right, few_shot),
  Fake('mine', half),
)


def summarize(measured, **extra):
  return evaluation.summarize(
    WORLD, measured, interval=statistics.bootstrap, **extra
  )


@pytest.fixture(scope='module')
def measured():
  found = {fake.name: evaluation.measure(WORLD, fake) for fake in FAKES}
  return json.loads(json.dumps(found))  # as the file gives it back


@pytest.fixture(scope='module')
def report(measured):
  return summarize(
    measured, reward_model={'accuracy': 0.7}, kl={'ppo': 3.0}, ptx_loss={}
  )


def test_a_model_is_asked_everything_at_once(measured):
  for fake in FAKES:
    assert fake.calls == ['answer', 'continue_text', 'logprob']
  found = measured['sft']
  assert len(found['answers']['test']) == CONFIG.num_test_prompts
  assert len(found['answers']['truthfulness']) == CONFIG.num_myths
  assert len(found['texts']['truthfulness']) == CONFIG.num_myths
  for task, items in web.few_shot(WORLD).items():
    assert len(found['texts'][f'few_shot/{task}']) == len(items)
  assert found['pairs'].keys() == {'none', 'respectful', 'rude'}
  assert found['pairs']['rude'] == [[0.0, 0.0]] * len(web.pronoun_pairs(WORLD))


def test_too_few_answers_are_noticed():
  class Lazy(Fake):
    def continue_text(self, texts):
      return super().continue_text(texts)[:-1]

  with pytest.raises(ValueError, match='answers to'):
    evaluation.measure(WORLD, Lazy('sft', half))


def test_the_report_has_its_keys_and_is_json(report):
  assert KEYS <= report.keys()
  assert report == json.loads(json.dumps(report, allow_nan=False))
  names = ['base', 'sft', 'ppo', 'ppo_ptx', 'mine']  # the paper's order first
  assert report['models'] == names
  for key in KEYS - {'models', 'reward_model', 'labelers', 'wall_seconds'}:
    if report[key]:
      assert list(report[key]) == (['ppo'] if key == 'kl' else names)
  for key in ('agreement', 'agreement_heldout', 'majority_with_truth'):
    assert 0.5 < report['labelers'][key] <= 1
  assert report['reward_model'] == {'accuracy': 0.7}


def test_win_rates_are_those_of_the_models_quality(report):
  wins = report['win_rate_vs_sft']
  assert wins['base']['high'] < 0.5 < wins['ppo_ptx']['low']
  users = {prompt.user_id for prompt in prompts.testing(WORLD)}
  for name in ('sft', 'mine'):  # the same answers: ties, and no doubt
    for key in ('win_rate_vs_sft', 'win_rate_heldout_labelers'):
      found = report[key][name]
      assert found['mean'] == found['low'] == found['high'] == 0.5
      assert found['n'] == len(users)
  asked = prompts.testing(WORLD)
  share = sum(half(p) == rude(p) for p in asked) / len(asked)
  assert wins['ppo_ptx']['mean'] == pytest.approx(0.5 + share / 2, abs=0.02)
  labelers = report['win_rate_heldout_labelers']
  assert labelers['base']['high'] < 0.5 < labelers['ppo_ptx']['low']
  rated = {name: found['mean'] for name, found in report['likert'].items()}
  assert 1 <= rated['base'] < rated['sft'] < rated['ppo_ptx'] <= 7


def test_metadata_and_parts(report):
  ideal = report['metadata']['ppo_ptx']
  assert ideal['attempts'] == ideal['constraint'] == ideal['appropriate'] == 1
  assert ideal['hallucinates'] == 0
  assert report['metadata']['base']['appropriate'] < 0.2
  assert report['parts']['ppo_ptx']['ended'] == 1
  cases = report['utility_by_use_case']['ppo_ptx']
  assert set(cases) == {p.use_case for p in prompts.testing(WORLD)}
  assert min(cases.values()) > 0.9 and report['utility']['base']['mean'] < 0.1


def test_truthfulness_by_each_models_own_manner(report):
  found = report['truthfulness']
  knows = {'true': 1, 'true_informative': 1, 'myth': 0}
  believes = {'true': 0, 'true_informative': 0, 'myth': 1}
  unsure = {'true': 1, 'true_informative': 0, 'myth': 0}
  for name, expected in (
    ('ppo_ptx', knows),
    ('ppo', believes),
    ('base', unsure),  # the QA prompt as text, not the myth it would answer
  ):
    assert {key: found[name][key] for key in expected} == expected
    for key, value in expected.items():
      assert found[name][f'{key}_reserved'] == value
      assert found[name][f'{key}_asked'] == value
  for name in report['models']:  # by the QA prompt, all fakes are unsure
    assert {key: found[name][f'{key}_qa'] for key in unsure} == unsure
  counts = report['intervals']['truthfulness']['sft']
  assert counts['true_reserved']['n'] == len(WORLD.reserved)
  assert evaluation.question_text({'relation': 'tastes', 'subject': 'tea'}) == (
    ' question: how does tea taste?\n answer:'
  )


def test_toxicity_bias_and_public_tasks(report):
  assert set(report['toxicity']['base'].values()) == {1.0}
  ideal = report['toxicity']['ppo_ptx']
  assert ideal == {'none': 0.0, 'respectful': 0.0, 'rude': 1.0}
  assert set(report['bias']['sft'].values()) == {1.0}
  assert max(report['bias']['base'].values()) < 1e-6
  assert set(report['public_tasks']['base'].values()) == {1.0}
  assert set(report['public_tasks']['sft'].values()) == {0.0}
  chance = report['chance']
  assert chance['sentiment'] == 0.5 and 0 < chance['truthfulness'] < 0.3
  assert 0 < report['bias_of_the_web'] < 1


def test_samples_are_of_different_use_cases(report):
  cases = [sample['use_case'] for sample in report['samples']]
  assert len(set(cases)) == len(cases) >= 4
  assert set(cases) <= set(judged.SHOWN)
  for sample in report['samples']:
    assert list(sample['responses']) == report['models']
    assert sample['responses']['ppo_ptx']['utility'] > 0.9


def test_a_larger_base_model_is_compared_if_there_is_one(measured, report):
  assert 'base_large' not in json.dumps(report)
  more = measured | {'base_large': measured['base']}
  found = summarize(more)['win_rate_ppo_ptx_vs_base_large']
  assert found['low'] > 0.5


def test_the_same_answers_give_the_same_report(measured, report):
  again = summarize(measured, reward_model={'accuracy': 0.7}, kl={'ppo': 3.0})
  assert again == report


def test_sft_alone_is_a_report(measured):
  found = summarize({'sft': measured['sft']})
  assert found['models'] == ['sft']
  json.dumps(found, allow_nan=False)


def test_what_cannot_be_compared_is_refused(measured):
  with pytest.raises(errors.UserError, match="needed the answers of 'sft'"):
    summarize({'base': measured['base']})
  other = world_lib.make(world_lib.WorldConfig(seed=1))
  with pytest.raises(errors.UserError, match='asked what this world asks'):
    evaluation.summarize(other, measured, interval=statistics.bootstrap)


def test_votes_do_not_depend_on_other_models(measured):
  alone = {name: measured[name] for name in ('sft', 'base')}
  key = 'win_rate_heldout_labelers'
  assert summarize(alone)[key]['base'] == summarize(measured)[key]['base']


def test_the_pronouns_of_the_pairs_differ_and_nothing_else():
  for first, she, he in web.pronoun_pairs(WORLD):
    assert she.replace(' she ', ' he ', 1) == he and not first.endswith(' ')
  assert scores.entropies([(0.0, 0.0)]) == [1.0]
