"""Fans by noise, curvature by power iteration, growth over time, large tensors."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import initstudy
from initstudy.audit.fans import measure_fans
from initstudy.audit.identify import find_outliers
from initstudy.audit.tensors import moments, rms
from tests.audit.networks import Recurrent, data, images, mlp

X, Y = data(64)


@pytest.mark.parametrize(
    ("layer", "shape", "fan_in", "fan_out"),
    [
        (nn.Linear(50, 30), (64, 50), 50, 30),
        (nn.Conv2d(12, 8, 1, groups=4), (4, 12, 9, 9), 3, 2),
        # Every other position of the kernel meets no input: k²/s² of them do.
        (nn.ConvTranspose2d(16, 8, 2, stride=2), (4, 16, 8, 8), 16, 32),
        (nn.ConvTranspose2d(8, 4, 4, stride=4), (4, 8, 8, 8), 8, 64),
        (nn.Conv2d(6, 10, 2, stride=2), (4, 6, 16, 16), 24, 10),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_noise_counts_what_a_unit_sums(layer, shape, fan_in, fan_out):
    found = measure_fans(layer, shape)
    assert found.fan_in == pytest.approx(fan_in, rel=0.05)
    assert found.fan_out == pytest.approx(fan_out, rel=0.05)


def test_torchs_count_is_no_fault_where_it_is_nearer_to_what_is_summed():
    """From 2c to c channels, kernel and stride 2: 2c are summed; torch counts 4c, we 8c."""
    torch.manual_seed(0)
    strided, plain = nn.ConvTranspose2d(64, 32, 2, stride=2), nn.ConvTranspose2d(64, 8, 3)
    batch = images(2, 6, 64)
    codes = {w.code for w in initstudy.audit_model(strided, batch).warnings}
    assert "wrong-fan" not in codes
    row = initstudy.audit_model(strided, batch).parameters[0]
    assert (row.measured_fan_in, row.fan_in) == (pytest.approx(64, rel=0.05), 256)
    assert "wrong-fan" in {w.code for w in initstudy.audit_model(plain, batch).warnings}


def test_the_sharpness_is_the_largest_eigenvalue_of_the_hessian():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 6), nn.Tanh(), nn.Linear(6, 4))
    params = dict(net.named_parameters())

    def loss(*values):
        named = dict(zip(params, values, strict=True))
        return F.cross_entropy(torch.func.functional_call(net, named, X), Y)

    blocks = torch.autograd.functional.hessian(loss, tuple(params.values()))
    sizes = [p.numel() for p in params.values()]
    matrix = torch.cat(
        [
            torch.cat([b.reshape(n, m) for b, m in zip(row, sizes, strict=True)], 1)
            for row, n in zip(blocks, sizes, strict=True)
        ]
    )
    largest = float(torch.linalg.eigvalsh(matrix)[-1])
    found = initstudy.audit_model(net, X, targets=Y, learning_rate=1.0)
    assert found.sharpness == pytest.approx(largest, rel=0.02)
    too_large = initstudy.audit_model(net, X, targets=Y, learning_rate=5 / largest)
    assert "sharpness" in {w.code for w in too_large.warnings}
    assert "sharpness" not in {w.code for w in found.warnings} or largest > 4


def test_the_growth_over_time_is_that_of_the_recurrent_matrix():
    """In a linear regime a state's gradient changes by the gain of an orthogonal matrix."""
    net = Recurrent(1.0)
    with torch.no_grad():
        nn.init.orthogonal_(net.rnn.weight_hh_l0, 0.8)
        net.rnn.weight_ih_l0.mul_(1e-3)
    (found,) = initstudy.audit_model(net, X).signal.time
    assert found.factor == pytest.approx(0.8, rel=0.02)
    assert found.steps == 32


def test_cells_that_run_in_a_loop_are_seen_over_time():
    class Loop(nn.Module):
        def __init__(self, gain):
            super().__init__()
            self.cell, self.head = nn.RNNCell(1, 32), nn.Linear(32, 4)
            nn.init.orthogonal_(self.cell.weight_hh, gain)

        def forward(self, x):
            state = x.new_zeros(len(x), 32)
            for step in range(x.shape[1]):
                state = self.cell(x[:, step : step + 1], state)
            return self.head(state)

    torch.manual_seed(0)
    found = initstudy.audit_model(Loop(0.5), X)
    (time,) = found.signal.time
    assert time.factor < 0.55
    assert "time" in {w.code for w in found.warnings}


def test_statistics_of_large_tensors_are_those_of_all_entries():
    values = torch.randn(1500, 1000, generator=torch.Generator().manual_seed(0)) * 1e-30 + 1e-29
    known = moments(values)
    assert known.mean == pytest.approx(values.double().mean().item(), rel=1e-5)
    assert known.std == pytest.approx(values.double().std(correction=0).item(), rel=1e-4)
    assert rms(values) == pytest.approx(values.double().square().mean().sqrt().item(), rel=1e-5)
    half = values.mul(1e30).half()
    assert moments(half).std == pytest.approx(half.double().std(correction=0).item(), rel=1e-6)


def test_one_entry_in_a_million_is_found_and_the_others_are_named():
    """timm's trunc_normal_ has left one weight at 100 deviations in Swin's downsampling."""
    torch.manual_seed(0)
    layer = nn.Linear(1024, 1024, bias=False)
    nn.init.normal_(layer.weight, std=0.02)
    assert find_outliers(layer.weight, moments(layer.weight)) is None
    with torch.no_grad():
        layer.weight[5, 7] = -2.0
    row = initstudy.audit_model(layer).parameters[0]
    assert row.outliers == 1
    assert row.outlier == pytest.approx(100, rel=0.02)
    assert row.distribution == "N(0, 0.02²), but for 1 at 100 standard deviations"


def test_a_sharp_curvature_costs_a_quadratic_nothing():
    """For ½·a·x² the curvature is a, and the largest stable rate 2/a."""
    layer = nn.Linear(1, 1, bias=False)
    ones = torch.ones(4, 1)
    found = initstudy.audit_model(
        layer, ones, loss=lambda y: 3.5 * y.square().mean(), learning_rate=0.1
    )
    assert found.sharpness == pytest.approx(7.0, rel=1e-4)
    assert math.isclose(2 / found.sharpness, 2 / 7, rel_tol=1e-4)
    assert mlp(1)[0].weight.requires_grad
