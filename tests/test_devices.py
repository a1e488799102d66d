"""The names JAX gives to accelerators, and orders of magnitude."""

from __future__ import annotations

import types

import jax
import pytest

from instructjax import devices


@pytest.mark.parametrize(
  'kind, name, teraflops, gib',
  [
    ('TPU v4', 'TPU v4', 275, 32),
    ('TPU v5 lite', 'TPU v5e', 197, 16),
    ('TPU v5', 'TPU v5p', 459, 95),
    ('TPU v5p', 'TPU v5p', 459, 95),
    ('TPU v6 lite', 'TPU v6e', 918, 32),
    ('NVIDIA A100-SXM4-40GB', 'A100 SXM 40 GB', 312, 40),
    ('NVIDIA A100-SXM4-80GB', 'A100 SXM 80 GB', 312, 80),
    ('NVIDIA H100 80GB HBM3', 'H100 SXM', 989.4, 80),
    ('NVIDIA H200', 'H200 SXM', 989.4, 141),
  ],
)
def test_devices_are_found_by_what_jax_calls_them(kind, name, teraflops, gib):
  device = devices.find(kind)
  assert device.name == name
  assert device.flops_per_second == teraflops * 1e12
  assert device.hbm_bytes == gib * 2**30


@pytest.mark.parametrize(
  'kind',
  [
    jax.devices()[0].device_kind,  # a CPU's
    'TPU v3',
    'TPU v4 lite',
    'NVIDIA H100 PCIe',
    'NVIDIA H100 80GB HBM3 MIG 1g.10gb',
    'NVIDIA H200 NVL',
    '',
  ],
)
def test_others_are_not_taken_for_their_likes(kind):
  assert devices.find(kind) is None


def test_the_peak_of_several_devices():
  def peak(*kinds):
    found = [types.SimpleNamespace(device_kind=kind) for kind in kinds]
    return devices.peak_flops(found)

  assert peak('TPU v5 lite') == 197e12
  assert peak(*['NVIDIA H200'] * 4) == 4 * 989.4e12
  assert peak('NVIDIA H200', 'TPU v3') == 0  # one that is not known
  assert devices.peak_flops(jax.devices()) == 0


def test_no_kind_names_two_devices():
  kinds = [kind for device in devices.DEVICES for kind in device.kinds]
  assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize('device', devices.DEVICES, ids=lambda d: d.name)
def test_rates_have_their_units(device):
  """A thousandfold slip would move a bound from memory to products."""
  products_per_byte = device.flops_per_second / device.hbm_bytes_per_second
  assert 100 < products_per_byte < 700
  assert 3 < device.hbm_bytes_per_second / device.network_bytes_per_second < 12
  assert 0.005 < device.hbm_bytes / device.hbm_bytes_per_second < 0.05
