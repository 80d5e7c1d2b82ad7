from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from initstudy.initializers import Fans, compute_fans


def test_the_published_example_of_a_convolution():
    # MATLAB's page on initializing parameters: 5×5 kernel, 3 channels, 128 filters.
    assert compute_fans(nn.Conv2d(3, 128, 5), "weight") == Fans(75, 3200)


def connections(module: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    """Fans counted on the layer itself: what a unit inside reads, and whom an input reaches."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
    x.requires_grad_()
    y = module(x)
    middle = tuple(s // 2 for s in y.shape[2:])
    (grad,) = torch.autograd.grad(y[(0, 0, *middle)], x)
    fan_in = int((grad != 0).sum())
    centre = tuple(s // 2 for s in x.shape[2:])
    bump = torch.zeros_like(x)
    bump[(0, 0, *centre)] = 1.0
    with torch.no_grad():
        fan_out = int((module(bump) != module(torch.zeros_like(x))).sum())
    return fan_in, fan_out


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([1, 3]),
)
def test_fans_are_the_connections_of_the_layer(kind, groups, inputs, outputs, kernel):
    layer = kind(groups * inputs, groups * outputs, kernel, padding=kernel // 2, groups=groups)
    spatial = (7,) * (1 if "1d" in kind.__name__ else 2)
    fans = compute_fans(layer, "weight")
    assert (fans.fan_in, fans.fan_out) == connections(
        layer, torch.zeros(1, groups * inputs, *spatial)
    )


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(7, 3),
        nn.Bilinear(4, 5, 6),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3),
        nn.ConvTranspose3d(4, 6, 3, groups=2),
        nn.Embedding(9, 4),
        nn.LSTM(5, 7, proj_size=3),
        nn.GRU(5, 7),
        nn.MultiheadAttention(8, 2),
        nn.MultiheadAttention(8, 2, kdim=5, vdim=3),
    ],
    ids=repr,
)
def test_torchs_convention_is_what_torch_calculates(layer):
    for name, parameter in layer.named_parameters(recurse=False):
        if parameter.dim() > 1:
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(parameter)
            assert compute_fans(layer, name, "torch") == Fans(fan_in, fan_out)


def test_the_fans_of_other_layers():
    assert compute_fans(nn.Linear(7, 3), "bias") == Fans(7, 3)
    assert compute_fans(nn.Embedding(9, 4), "weight") == Fans(1, 4)
    assert compute_fans(nn.LayerNorm(5), "weight") == Fans(1, 1)
    assert compute_fans(nn.Bilinear(4, 5, 6), "weight") == Fans(20, 6)


def test_gates_and_packed_projections_count_alone_or_as_one_map():
    lstm, gru = nn.LSTM(30, 100, num_layers=2, bidirectional=True), nn.GRU(30, 100)
    assert compute_fans(lstm, "weight_ih_l0") == Fans(30, 100, blocks=4)
    assert compute_fans(lstm, "weight_ih_l1_reverse") == Fans(200, 100, blocks=4)
    assert compute_fans(lstm, "weight_hh_l0") == Fans(100, 100, blocks=4)
    assert compute_fans(lstm, "bias_hh_l0") == Fans(100, 100, blocks=4)
    assert compute_fans(lstm, "weight_ih_l0", "matlab") == Fans(30, 400)
    assert compute_fans(gru, "weight_ih_l0", "matlab") == Fans(30, 300)
    assert compute_fans(gru, "weight_hh_l0", "matlab") == Fans(100, 300)
    assert compute_fans(nn.RNN(30, 100), "weight_hh_l0") == Fans(100, 100)
    packed = nn.MultiheadAttention(64, 4)
    assert compute_fans(packed, "in_proj_weight") == Fans(64, 64, blocks=3)
    assert compute_fans(packed, "in_proj_weight", "torch") == Fans(64, 192)
    separate = nn.MultiheadAttention(64, 4, kdim=10, vdim=12)
    assert compute_fans(separate, "k_proj_weight") == Fans(10, 64)
    assert compute_fans(separate, "in_proj_bias") == Fans(64, 64)


def test_a_projected_gate_sums_what_its_row_multiplies():
    """One gate of an LSTM, written out: the unit's inputs are the columns of its own rows."""
    lstm = nn.LSTM(3, 4)
    torch.nn.init.zeros_(lstm.bias_ih_l0)
    torch.nn.init.zeros_(lstm.bias_hh_l0)
    x = torch.randn(1, 1, 3, requires_grad=True)
    h = torch.randn(1, 1, 4, requires_grad=True)
    c = torch.zeros(1, 1, 4)
    y, _ = lstm(x, (h, c))
    to_x, to_h = torch.autograd.grad(y[0, 0, 0], (x, h))
    assert int((to_x != 0).sum()) == compute_fans(lstm, "weight_ih_l0").fan_in
    assert int((to_h != 0).sum()) == compute_fans(lstm, "weight_hh_l0").fan_in


def test_keras_and_matlabs_counts_of_convolutions():
    """Keras's kernels: (k, k, in/groups, out); transposed (k, k, out, in); depthwise (k, k, in, 2).

    MATLAB: prod(FilterSize)·NumChannels and prod(FilterSize)·NumFilters, of one group.
    """
    grouped, depthwise = nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(8, 16, 3, groups=8)
    transposed = nn.ConvTranspose2d(8, 12, 3)
    assert compute_fans(grouped, "weight", "keras") == Fans(18, 108)
    assert compute_fans(depthwise, "weight", "keras") == Fans(72, 18)
    assert compute_fans(transposed, "weight", "keras") == Fans(108, 72)
    matlab = [compute_fans(layer, "weight", "matlab") for layer in (grouped, depthwise, transposed)]
    assert [(f.fan_in, f.fan_out) for f in matlab] == [(18, 27), (9, 18), (72, 108)]
    assert compute_fans(nn.Embedding(9, 4), "weight", "keras") == Fans(9, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((nn.Softmax(1), "weight"), "Softmax: the fans of this kind of layer are not known"),
        ((nn.Linear(2, 2), "gain"), r"Linear\.gain"),
        ((nn.Linear(2, 2), "weight", "keros"), "convention=keros: choose one of layer"),
    ],
)
def test_what_has_no_fans_is_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        compute_fans(*arguments)
