"""The families of Hugging Face models, by what their config.json calls them."""

from __future__ import annotations

from instructjax.checkpoints.families import base
from instructjax.checkpoints.families import gemma
from instructjax.checkpoints.families import gpt2
from instructjax.checkpoints.families import gpt_neox
from instructjax.checkpoints.families import gptj
from instructjax.checkpoints.families import llama
from instructjax.checkpoints.families import opt
from instructjax.checkpoints.families import qwen

FAMILIES: dict[str, base.Family] = {
  family.model_type: family
  for module in (gpt2, opt, gptj, gpt_neox, llama, qwen, gemma)
  for family in module.FAMILIES
}
