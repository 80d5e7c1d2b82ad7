"""Gains against torch's table, and against the theory's moments."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from initstudy.initializers import Fans, KaimingNormal, KaimingUniform, gain
from initstudy.initializers.gains import FUNCTIONS
from initstudy.theory import meanfield


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "selu", "leaky_relu"])
def test_documented_gains_are_torchs(name):
    assert gain(name) == pytest.approx(nn.init.calculate_gain(name), rel=1e-12)
    assert gain("leaky_relu", 0.3) == pytest.approx(nn.init.calculate_gain("leaky_relu", 0.3))


@pytest.mark.parametrize("name", [*FUNCTIONS, "leaky_relu"])
def test_exact_gains_keep_a_length_of_one(name):
    """One convention: with variance gain²/fan_in, q = 1 is a fixed point of the length map."""
    exact = gain(name, exact=True)
    activation = name if name in meanfield.KNOWN else FUNCTIONS[name]
    assert meanfield.length_map(activation, 1.0, exact**2) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(
    ("function", "published"),
    [
        # Klambauer et al. 2017: selu keeps variance one. He et al. 2015: √2.
        (F.selu, 1.0),
        (torch.relu, math.sqrt(2)),
        # timm's and NFNet's tables have 1/std(φ(z)), of the variance; with the mean it is this.
        (torch.tanh, 1.5925374197228312),
        (F.leaky_relu, math.sqrt(2 / (1 + 0.01**2))),
    ],
)
def test_gains_of_functions(function, published):
    assert gain(function) == pytest.approx(published, rel=1e-9)


def test_gains_by_monte_carlo():
    z = torch.randn(4_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for function in (F.silu, F.mish, nn.Softplus(), lambda x: torch.sin(3 * x), F.hardshrink):
        moment = function(z).square()
        error = 4 * moment.std().item() / 2000
        assert 1 / gain(function) ** 2 == pytest.approx(moment.mean().item(), abs=error)


def test_kaiming_takes_a_function():
    fans = Fans(200, 100)
    assert KaimingNormal(F.silu).law((100, 200), fans).std == pytest.approx(
        gain(F.silu) / math.sqrt(200)
    )
    assert KaimingUniform(nn.SiLU()).law((100, 200), fans).std == pytest.approx(
        gain("silu") / math.sqrt(200)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sine",), "nonlinearity=sine: choose one of linear, .*, or give a function"),
        (("leaky_relu", math.nan), "negative_slope=nan"),
        (("leaky_relu", True), "negative_slope=True"),
        (("leaky_relu", [1]), "negative_slope=\\[1\\]"),
        ((lambda x: 0 * x,), "its mean square over N"),
        ((lambda x: x @ x.T @ torch.ones(3),), "must map a double tensor elementwise"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_has_no_gain_is_refused_in_a_line(arguments, said):
    with pytest.raises(ValueError, match=said) as error:
        gain(*arguments)
    assert "\n" not in str(error.value)
