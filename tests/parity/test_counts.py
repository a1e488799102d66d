"""Published models as transformers builds them, without their numbers."""

from __future__ import annotations

import pytest
import torch
import transformers

from tests import published


@pytest.mark.parametrize('name', published.PUBLISHED)
def test_as_many_parameters(name):
  fields, count = published.PUBLISHED[name]
  fields = dict(fields)
  kind = transformers.CONFIG_MAPPING[fields.pop('model_type')]
  with torch.device('meta'):
    model = transformers.AutoModelForCausalLM.from_config(kind(**fields))
  assert sum(p.numel() for p in model.parameters()) == count
