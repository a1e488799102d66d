"""What accelerators can do at best, as their makers print it.

Rates are peaks that no program reaches; `perf/mfu` is a share of them, and the
plan's roofline a bound. They count what a device of JAX is: one chip, whose two
cores, on a TPU v4 or v5p, JAX drives as one.
"""

from __future__ import annotations

from collections.abc import Iterable
import dataclasses
from typing import Any

_GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class Device:
  """One kind of accelerator, per chip.

  Attributes:
    name: what people call it.
    kinds: what jax.Device.device_kind calls it, exactly.
    flops_per_second: peak of dense matrix products in bfloat16, summed in
      float32.
    hbm_bytes: memory; a little less is a program's.
    hbm_bytes_per_second: peak rate of that memory.
    network_bytes_per_second: what it can send over all its fast links together
      (ICI of TPUs, NVLink of GPUs) while it receives as much; makers often
      print the sum of both.
  """

  name: str
  kinds: tuple[str, ...]
  flops_per_second: float
  hbm_bytes: float
  hbm_bytes_per_second: float
  network_bytes_per_second: float


# TPUs: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}, their tables "key
# specifications", which print GB where they mean GiB of memory, and ICI per
# chip as the sum of both directions. The ICI of v4, which its page leaves out:
# six links of 50 GB/s, Jouppi et al. 2023 (arXiv:2304.01433), table 4.
#
# GPUs: NVIDIA's datasheets "A100 Tensor Core GPU", "H100 Tensor Core GPU" and
# "H200 Tensor Core GPU" (nvidia.com/en-us/data-center/{a100,h100,h200}). Those
# of the H100 and H200 print products of matrices half of which are zeros; dense
# ones are half, 989.4 in the white paper "NVIDIA H100 Tensor Core GPU
# Architecture". The sum of NVLink's directions is 600 GB/s, and 900 of Hopper.
DEVICES = (
  Device('TPU v4', ('TPU v4',), 275e12, 32 * _GIB, 1200e9, 300e9),
  Device(
    'TPU v5e', ('TPU v5 lite', 'TPU v5e'), 197e12, 16 * _GIB, 819e9, 200e9
  ),
  Device('TPU v5p', ('TPU v5', 'TPU v5p'), 459e12, 95 * _GIB, 2765e9, 600e9),
  Device(
    'TPU v6e', ('TPU v6 lite', 'TPU v6e'), 918e12, 32 * _GIB, 1640e9, 400e9
  ),
  Device(
    'A100 SXM 40 GB',
    ('NVIDIA A100-SXM4-40GB',),
    312e12,
    40 * _GIB,
    1555e9,
    300e9,
  ),
  Device(
    'A100 SXM 80 GB',
    ('NVIDIA A100-SXM4-80GB',),
    312e12,
    80 * _GIB,
    2039e9,
    300e9,
  ),
  Device(
    'A100 PCIe 40 GB',
    ('NVIDIA A100-PCIE-40GB',),
    312e12,
    40 * _GIB,
    1555e9,
    300e9,
  ),
  Device(
    'A100 PCIe 80 GB',
    ('NVIDIA A100 80GB PCIe',),
    312e12,
    80 * _GIB,
    1935e9,
    300e9,
  ),
  Device(
    'H100 SXM',
    ('NVIDIA H100 80GB HBM3',),
    989.4e12,
    80 * _GIB,
    3350e9,
    450e9,
  ),
  Device('H200 SXM', ('NVIDIA H200',), 989.4e12, 141 * _GIB, 4800e9, 450e9),
)


def find(device_kind: str) -> Device | None:
  """Returns the device of this kind; None of one whose peak is not known.

  Only whole names count: a part of a GPU (MIG), or the same chip on a slower
  card, has other numbers.

  Args:
    device_kind: of a jax.Device.
  """
  for device in DEVICES:
    if device_kind in device.kinds:
      return device
  return None


def peak_flops(devices: Iterable[Any]) -> float:
  """Returns the FLOP/s of jax.Devices together; 0 if one's are not known."""
  found = [find(device.device_kind) for device in devices]
  return sum(x.flops_per_second for x in found) if all(found) else 0.0
