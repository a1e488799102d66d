"""What all figures share: no screen, one palette, bare axes, PNG files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import pathlib
from typing import Any

# Of Okabe and Ito's palette, which colour-blind people can tell apart.
GREY, BLUE, RED = '#999999', '#0072B2', '#D55E00'
ORANGE, SKY, GREEN = '#E69F00', '#56B4E9', '#009E73'


def save(
  folder: pathlib.Path, makers: Mapping[str, Callable[[], Any]]
) -> list[str]:
  """Draws figures one after the other, each closed once it is on disk.

  Args:
    folder: where the PNG files go; made if it is missing.
    makers: {file name: what returns the figure, or None to draw none}.

  Returns:
    The names of the files drawn.
  """
  import matplotlib

  matplotlib.use('Agg')
  import matplotlib.pyplot as plt

  folder.mkdir(parents=True, exist_ok=True)
  drawn = []
  for name, make in makers.items():
    figure = make()
    if figure is not None:
      figure.savefig(folder / name, dpi=120)
      plt.close(figure)
      drawn.append(name)
  return drawn


def bare(axis: Any) -> None:
  """Takes away the two edges of a plot that carry no scale."""
  axis.spines[['top', 'right']].set_visible(False)
