"""Initializers that fill a tensor as a whole, against linear algebra and the layers themselves."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as hyp
from scipy import stats
from scipy.linalg import hadamard
from torch import nn

from initstudy.initializers import (
    DeltaOrthogonal,
    Dirac,
    Fans,
    Identity,
    Orthogonal,
    UnitForgetGate,
    ZerO,
    compute_fans,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def fill(initializer, layer, parameter="weight", seed=0, convention="layer"):
    weight = getattr(layer, parameter)
    fans = compute_fans(layer, parameter, convention)
    value = initializer(weight.shape, fans, generator=generator(seed), dtype=weight.dtype)
    with torch.no_grad():
        weight.copy_(value)
    return layer


def is_orthogonal(matrix, gain):
    rows, columns = matrix.shape
    gram = matrix.T @ matrix if rows >= columns else matrix @ matrix.T
    torch.testing.assert_close(gram, gain**2 * torch.eye(min(rows, columns)), atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(hyp.integers(1, 60), hyp.integers(1, 60), hyp.floats(0.1, 2.0), hyp.integers(0, 2**62))
def test_orthogonal_matrices_are(rows, columns, gain, seed):
    layer = fill(Orthogonal(gain), nn.Linear(columns, rows), seed=seed)
    is_orthogonal(layer.weight.detach(), gain)


def test_each_map_that_a_tensor_holds_is_orthogonal_by_itself():
    conv = fill(Orthogonal(0.5), nn.Conv2d(8, 12, 3, groups=4)).weight.detach()
    for group in conv.chunk(4):
        is_orthogonal(group.flatten(1), 0.5)
    transposed = fill(Orthogonal(), nn.ConvTranspose2d(6, 4, 3, groups=2)).weight.detach()
    for group in transposed.chunk(2):
        is_orthogonal(group.transpose(0, 1).flatten(1), 1.0)
    lstm = fill(Orthogonal(), nn.LSTM(5, 7), "weight_hh_l0").weight_hh_l0.detach()
    for gate in lstm.chunk(4):
        is_orthogonal(gate, 1.0)
    packed = fill(Orthogonal(), nn.MultiheadAttention(6, 2), "in_proj_weight").in_proj_weight
    for projection in packed.detach().chunk(3):
        is_orthogonal(projection, 1.0)


def test_orthogonal_matrices_are_haar_distributed():
    """An entry's square is Beta(1/2, (n-1)/2), and traces have mean 0 and variance 1.

    LAPACK's Q alone, without the sign fix, has a trace far from zero.
    """
    n, count = 5, 3000
    fans = Fans(n, n)
    draws = torch.stack(
        [Orthogonal()((n, n), fans, generator=generator(seed)) for seed in range(count)]
    )
    squares = draws[:, 0, 0].double().square().numpy()
    assert stats.kstest(squares, stats.beta(0.5, (n - 1) / 2).cdf).pvalue > 1e-3
    traces = torch.diagonal(draws, dim1=1, dim2=2).sum(1)
    assert abs(traces.mean()) < 4 / math.sqrt(count)
    assert traces.var() == pytest.approx(1.0, abs=0.15)
    assert torch.linalg.det(draws).sign().mean().abs() < 4 / math.sqrt(count)


def test_an_orthogonal_linear_layer_keeps_lengths():
    layer = fill(Orthogonal(), nn.Linear(30, 30, bias=False))
    x = torch.randn(8, 30, generator=generator())
    torch.testing.assert_close(layer(x).norm(dim=1), x.norm(dim=1))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_delta_orthogonal_convolution_keeps_the_length_of_every_signal(dimensions, kernel):
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    layer = kind(4, 6, kernel, padding=kernel // 2, bias=False)
    fill(DeltaOrthogonal(0.7), layer)
    x = torch.randn(2, 4, *[5] * dimensions, generator=generator())
    torch.testing.assert_close(layer(x).flatten(1).norm(dim=1), 0.7 * x.flatten(1).norm(dim=1))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d])
def test_dirac_hands_its_input_on(kind, groups):
    layer = fill(Dirac(), kind(4, 4, 3, padding=1, groups=groups, bias=False))
    x = torch.randn(2, 4, *[7] * (layer.weight.dim() - 2), generator=generator())
    torch.testing.assert_close(layer(x), x)


def test_dirac_and_identity_are_torchs():
    for groups in (1, 2):
        layer = nn.Conv2d(6, 4, 3, groups=groups)
        theirs = nn.init.dirac_(torch.empty_like(layer.weight), groups)
        assert torch.equal(fill(Dirac(), layer).weight, theirs)
    assert torch.equal(fill(Identity(), nn.Linear(5, 3)).weight, nn.init.eye_(torch.empty(3, 5)))


def test_identities_stand_in_every_gate():
    gru = fill(Identity(0.5), nn.GRU(3, 4), "weight_hh_l0")
    for gate in gru.weight_hh_l0.detach().chunk(3):
        assert torch.equal(gate, 0.5 * torch.eye(4))


def test_zero_is_an_identity_or_widens_through_a_hadamard_matrix():
    assert torch.equal(fill(ZerO(), nn.Linear(7, 7)).weight, torch.eye(7))
    assert torch.equal(fill(ZerO(), nn.Linear(9, 4)).weight, torch.eye(4, 9))
    widening = fill(ZerO(), nn.Linear(5, 11)).weight
    expected = torch.from_numpy(hadamard(16)).float()[:11, :5] / 4
    torch.testing.assert_close(widening, expected)
    power = fill(ZerO(), nn.Linear(6, 16)).weight
    torch.testing.assert_close(power.T @ power, torch.eye(6))
    conv = fill(ZerO(), nn.Conv2d(3, 3, 3, padding=1, bias=False))
    x = torch.randn(1, 3, 6, 6, generator=generator())
    torch.testing.assert_close(conv(x), x)


def test_a_unit_forget_gate_makes_the_cell_remember():
    lstm = nn.LSTM(3, 5)
    for name, parameter in lstm.named_parameters():
        nn.init.zeros_(parameter)
        if name == "bias_ih_l0":
            fill(UnitForgetGate(), lstm, name)
    cell = torch.randn(1, 1, 5, generator=generator())
    _, (_, after) = lstm(torch.zeros(1, 1, 3), (torch.zeros(1, 1, 5), cell))
    torch.testing.assert_close(after, F.sigmoid(torch.tensor(1.0)) * cell)


@pytest.mark.parametrize(
    ("initializer", "shape", "said"),
    [
        (Orthogonal(), (5,), r"two dimensions or more, not \(5,\)"),
        (Identity(), (4, 3, 3), "Dirac is for convolutions"),
        (Dirac(), (4, 3), "fills convolutions"),
        (DeltaOrthogonal(), (3, 4, 3), "length of 4 channels in 3"),
        (DeltaOrthogonal(), (3, 4), "fills convolutions"),
        (UnitForgetGate(), (7,), "four gates"),
    ],
)
def test_what_cannot_be_filled_is_said(initializer, shape, said):
    with pytest.raises(ValueError, match=said):
        initializer(shape, Fans(3, 4), generator=generator())
    with pytest.raises(ValueError, match=r"init\.gain=-1"):
        Orthogonal(-1)
