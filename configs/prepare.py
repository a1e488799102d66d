"""The paper's rules that make datasets of raw prompt logs (section 3.2, A).

  python -m instructjax.prepare --prompts=GLOB --out=DIR

Reads prompt records, users' and labelers', as they were logged, and writes
DIR/{sft,rm,ppo}_{train,valid}.jsonl, DIR/test.jsonl, what every rule did to
which row (ledger.json, dropped.jsonl), and the paper's tables and figures for
this data. Another value: --config.KEY=VALUE. docs/data_rules.md defines every
rule and key. A million prompts take a minute and a half on two cores.
"""

import ml_collections


def get_config():
  return ml_collections.ConfigDict(
    {
      # Of every draw. With another one everything is drawn anew.
      'salt': '',
      # Two prompts are one if they share a prefix of so many characters, and
      # of such a share of the shorter one. The paper says "a long common
      # prefix". Real prompts of many sources lose nothing to 64 characters but
      # true repetitions and questions on the same passage; at 48, questions of
      # a common form begin to fall (experiments/prepare).
      'min_chars': 64,
      'min_share': 0.8,
      # Prompts of one user, or of one organisation with
      # cap_by='organization_id' (paper: 3.2 has the one, A.2 the other).
      'max_per_user': 200,
      'cap_by': 'user_id',
      'cap_labelers': True,
      # Shares of the users ('organization_id' splits by that); they come near
      # the paper's shares of prompts (Tables 6 and 9: 77,076 for training,
      # 35,725 for validation, 3,196 for the test).
      'split_by': 'user_id',
      'splits': {'train': 0.66, 'valid': 0.31, 'test': 0.03},
      # Shares of a source's prompts, from Table 6, training: labelers 11,295
      # and 6,623; customers 1,430, 26,584 and 31,144.
      'labeler': {'sft': 0.63, 'rm': 0.37},
      'customer': {'sft': 0.024, 'rm': 0.45, 'ppo': 0.526},
      # Largest number of prompts of each file; 0: all.
      'sizes': {
        'sft_train': 0,
        'sft_valid': 0,
        'rm_train': 0,
        'rm_valid': 0,
        'ppo_train': 0,
        'ppo_valid': 0,
        'test': 0,
      },
      # What is done to prompts with personal information in the training
      # split: 'drop' them, or 'redact' it. Further kinds: street_address,
      # person. '' looks for nothing.
      'pii': 'drop',
      'pii_kinds': 'email,iban,credit_card,ssn,ip_address,phone',
      # In tokens: of a tokenizer (a run's tokenizer.model, or a folder as
      # Hugging Face has them), or words and marks if that is ''.
      'max_length': 1000,
      'tokenizer': '',
      # Tags that are kept ('en,fr'); '' keeps all.
      'languages': '',
      # A row that is broken or no prompt: 'refuse' it, or 'skip' and list it,
      # up to a share of the rows.
      'on_bad_row': 'refuse',
      'max_bad_share': 0.01,
      # 'jsonl', or 'jsonl,arrayrecord'.
      'formats': 'jsonl',
      # Worker processes at most, one for each 32 MB; 0: one for each core.
      'workers': 2,
      # Whether to replace what other prompts or another config made in DIR.
      'overwrite': False,
    }
  )
