"""The tasks that instructions ask for, in the paper's ten use cases.

Each module holds, side by side, how an instruction is made, how it is
answered, and by which rules an answer is checked.
"""

from __future__ import annotations

from instructjax.microworld.use_cases import base
from instructjax.microworld.use_cases import brainstorming
from instructjax.microworld.use_cases import chat
from instructjax.microworld.use_cases import classification
from instructjax.microworld.use_cases import closed
from instructjax.microworld.use_cases import open_qa
from instructjax.microworld.use_cases import other
from instructjax.microworld.use_cases import people
from instructjax.microworld.use_cases import rewrite
from instructjax.microworld.use_cases import sentences
from instructjax.microworld.use_cases import stories
from instructjax.microworld.use_cases import summarization

Check = base.Check
Task = base.Task

# name -> task; the weights are the paper's shares (its Table 1), 99.9 in all.
TASKS = {
  task.name: task
  for module in (
    stories,
    sentences,
    people,
    open_qa,
    brainstorming,
    chat,
    rewrite,
    summarization,
    closed,
    classification,
    other,
  )
  for task in module.TASKS
}
USE_CASES = tuple(dict.fromkeys(task.use_case for task in TASKS.values()))
