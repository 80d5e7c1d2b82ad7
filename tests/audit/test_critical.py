"""The critical scale against the constants of mean-field theory."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import initstudy
from initstudy.models import ResNet

WIDTH, DEPTH = 256, 80


def chain(activation, bias=0.0, std=1.0):
    """A deep network of weights N(0, 1/width) and biases N(0, bias)."""
    layers = [m for _ in range(DEPTH) for m in (nn.Linear(WIDTH, WIDTH), activation())]
    net = nn.Sequential(*layers, nn.Linear(WIDTH, WIDTH))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in net[::2]:
            layer.weight.copy_(torch.randn(WIDTH, WIDTH, generator=generator) * std / WIDTH**0.5)
            layer.bias.copy_(torch.randn(WIDTH, generator=generator) * bias**0.5)
    return net


X = torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(1))
# σ_b², σ_w² at criticality, and the size of inputs at which the signal is at its fixed point.
CONSTANTS = {
    "relu, √(2/fan_in)": (nn.ReLU, 0.0, 2.0, 1.0),
    "linear, 1/√fan_in": (nn.Identity, 0.0, 1.0, 1.0),
    # Schoenholz et al. 2017, figure 1, by quadrature.
    "tanh": (nn.Tanh, 0.05, 1.76095, 0.6),
    # By the same quadrature.
    "selu": (nn.SELU, 0.05, 0.90177, 1.0),
    # Roberts, Yaida & Hanin 2022, section 5.3.4: K* = 14.3202.
    "silu": (nn.SiLU, 0.55514, 1.98800, 2.63),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_the_constants_of_theory_are_found_within_two_percent(name):
    activation, bias, sigma_w2, size = CONSTANTS[name]
    found = initstudy.critical_scale(chain(activation, bias), X * size)
    assert found.factor == pytest.approx(math.sqrt(sigma_w2), rel=0.02)
    assert found.low < found.factor < found.high
    assert found.passes <= 50
    if found.theory is not None:
        assert found.theory == pytest.approx(math.sqrt(sigma_w2), rel=0.01)
    assert found.std == pytest.approx(found.factor / WIDTH**0.5, rel=0.02)


def test_the_factor_scales_with_the_weights_and_the_model_is_left_as_it_was():
    net = chain(nn.ReLU, std=4.0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = initstudy.critical_scale(net, X)
    assert found.factor == pytest.approx(math.sqrt(2) / 4, rel=0.02)
    assert found.signal == pytest.approx(1.0, abs=0.02)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_resnet_without_norms_and_a_transformer_have_a_scale_with_an_interval():
    torch.manual_seed(0)
    net = ResNet((1, 8, 8), 10)
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            owner, _, key = name.rpartition(".")
            setattr(net.get_submodule(owner), key, nn.Identity())
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = initstudy.critical_scale(net, images)
    assert 0 < found.low < found.factor < found.high < math.inf
    block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(block, 3, enable_nested_tensor=False)
    for layer in encoder.layers:
        layer.norm1, layer.norm2 = nn.Identity(), nn.Identity()
    found = initstudy.critical_scale(encoder, torch.randn(4, 6, 32))
    assert 0 < found.low < found.factor < found.high
