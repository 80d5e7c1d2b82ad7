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
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 3]),
)  # fmt: skip
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
        nn.Conv2d(4, 6, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3),
        nn.Embedding(9, 4),
    ],
)
def test_torchs_convention_is_what_torch_calculates(layer):
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
    assert compute_fans(layer, "weight", "torch") == Fans(fan_in, fan_out)


def test_the_fans_of_other_layers():
    assert compute_fans(nn.Linear(7, 3), "bias") == Fans(7, 3)
    assert compute_fans(nn.Embedding(9, 4), "weight") == Fans(1, 4)
    assert compute_fans(nn.LayerNorm(5), "weight") == Fans(1, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((nn.Softmax(1), "weight"), "Softmax: no fans"),
        ((nn.Linear(2, 2), "gain"), r"Linear\.gain"),
        ((nn.Linear(2, 2), "weight", "keros"), "convention=keros: choose one of layer"),
    ],
)
def test_what_has_no_fans_is_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        compute_fans(*arguments)
