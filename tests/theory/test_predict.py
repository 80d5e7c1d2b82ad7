"""Mean-field predictions for real networks, against what torch then measures."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import initstudy
from initstudy.initializers import (
    Constant,
    KaimingNormal,
    Normal,
    Orthogonal,
    as_policy,
    initialize,
    mean_field,
)
from initstudy.models import CNN, LSTM, MLP, ResNet
from initstudy.theory import meanfield
from initstudy.theory.predict import NotCoveredError, logit_gradient, predict, second_moment


def batch(count=256, size=16):
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(0))


def labels(count=256):
    return torch.randint(10, (count,), generator=torch.Generator().manual_seed(1))


def predicted(net, x=None):
    x = batch() if x is None else x
    return predict(net, dict(net.named_parameters()), second_moment(x), len(x))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "sigmoid", "linear"])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.6])
def test_activations_and_gradients_are_the_predicted_ones(activation, factor):
    """In absolute terms, to what five layers of width 512 leave to chance."""
    net = MLP((1, 16, 16), 10, depth=5, width=512, activation=activation)
    initialize(net, as_policy(Normal(factor * math.sqrt(1.5 / 512))), seed=0)
    expected = predicted(net)
    *hidden, head = initstudy.audit_model(net, batch(), targets=labels()).signal.layers
    for layer in hidden:
        assert layer.activation_rms == pytest.approx(expected.activations[layer.name], rel=0.1)
        assert layer.gradient_rms == pytest.approx(expected.gradients[layer.name], rel=0.15)
    # Ten logits, which all examples share where activations are positive, are ten draws.
    assert head.activation_rms == pytest.approx(expected.activations["head"], rel=0.6)


@pytest.mark.parametrize(("activation", "critical"), [("relu", 2.0), ("tanh", 1.0)])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_fifty_layers_stay_within_the_finite_width_band(activation, critical, factor):
    """Mean squares of every layer, from half to twice the critical deviation (width 512)."""
    width, depth = 512, 50
    std = factor * math.sqrt(critical / width)
    layers = meanfield.dense([width] * (depth + 1), std)
    band = meanfield.forward_band(activation, layers, deviations=3.0)
    generator = torch.Generator().manual_seed(3)
    phi = torch.relu if activation == "relu" else torch.tanh
    h = torch.randn(64, width, generator=generator, dtype=torch.float64)
    for place in range(depth):
        h = phi(h @ (std * torch.randn(width, width, generator=generator, dtype=torch.float64)))
        measured = h.square().mean().item()
        low, high = band.low.activations[place], band.high.activations[place]
        assert low <= measured <= high, place


def test_a_convolution_keeps_its_channels_apart_and_its_borders_count_little():
    net = CNN((1, 16, 16), 10, (64, 64), pooling="none", activation="tanh")
    initialize(net, as_policy(KaimingNormal(gain=1.0)), seed=0)
    expected = predicted(net)
    for layer in initstudy.audit_model(net, batch(64), targets=labels(64)).signal.layers[:-1]:
        assert layer.activation_rms == pytest.approx(expected.activations[layer.name], rel=0.12)


@pytest.mark.parametrize("variance", [0.0, 0.3, 2.0, 30.0])
def test_the_logits_gradient_is_what_autograd_finds(variance):
    generator = torch.Generator().manual_seed(0)
    z = math.sqrt(variance) * torch.randn(20_000, 10, generator=generator, dtype=torch.float64)
    z.requires_grad_()
    y = torch.randint(10, (len(z),), generator=generator)
    F.cross_entropy(z, y, reduction="sum").backward()
    assert logit_gradient(variance, 10) == pytest.approx(z.grad.square().mean().item(), rel=0.02)


def test_critical_deviations_are_the_published_ones():
    """He et al. 2015: √(2/width) for ReLU; Poole et al. 2016: 1/√width for tanh without biases."""
    for activation, variance in (("relu", 2.0), ("tanh", 1.0), ("linear", 1.0)):
        net = MLP((1, 16, 16), 10, depth=4, width=200, activation=activation)
        initialize(net, as_policy(Normal(0.1)), seed=0)
        assert predicted(net).critical_std == pytest.approx(math.sqrt(variance / 200), rel=1e-4)
    shallow = initialize(MLP((1, 16, 16), 10, depth=1), as_policy(Normal(0.1)), seed=0)
    assert predicted(shallow).critical_std is None


def test_the_variances_between_hidden_layers_are_those_that_were_drawn():
    net = MLP((1, 16, 16), 10, depth=6, width=300, activation="tanh")
    initialize(net, mean_field(sigma_w2=1.3, sigma_b2=0.05), seed=0)
    found = predicted(net)
    assert found.activation == "tanh"
    assert found.sigma_w2 == pytest.approx(1.3, rel=0.01)
    assert found.sigma_b2 == pytest.approx(0.05, rel=0.1)
    shallow = initialize(MLP((1, 16, 16), 10, depth=1), as_policy(Normal(0.1)), seed=0)
    assert (predicted(shallow).sigma_w2, predicted(shallow).sigma_b2) == (None, None)


def test_orthogonal_weights_have_the_same_second_moments():
    net = MLP((1, 16, 16), 10, depth=4, width=256, activation="tanh")
    initialize(net, as_policy(Orthogonal()), seed=0)
    expected = predicted(net).activations
    for layer in initstudy.audit_model(net, batch(), targets=labels()).signal.layers:
        assert layer.activation_rms == pytest.approx(expected[layer.name], rel=0.05)
        assert layer.expected_activation_rms == pytest.approx(expected[layer.name], rel=1e-6)


@pytest.mark.parametrize(
    ("make", "initializer", "said"),
    [
        (lambda: CNN((1, 8, 8), 10), KaimingNormal(), "pool1 is a MaxPool2d"),
        (lambda: MLP((8,), 10, layer_norm=True), KaimingNormal(), "norm1 is a LayerNorm"),
        (lambda: LSTM((1, 8, 8), 10), KaimingNormal(), "a LSTM is not a chain"),
        (lambda: ResNet((1, 8, 8), 10), KaimingNormal(), "is a BatchNorm2d"),
        (lambda: MLP((8,), 10, depth=30), Normal(1e13), "the signal overflows"),
        (lambda: MLP((8,), 10), Constant(0.1), "the mean of fc1.weight is not zero"),
        (
            lambda: nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)),
            Normal(),
            "no activation function from 0 to 1",
        ),
        (
            lambda: nn.Sequential(nn.Linear(2, 2), nn.ReLU()),
            Normal(),
            "last module is not a linear",
        ),
        (
            lambda: nn.Sequential(
                nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)
            ),
            Normal(),
            "activation functions differ",
        ),
    ],
)
def test_what_theory_does_not_cover_says_why(make, initializer, said):
    net = initialize(make(), as_policy(initializer), seed=0)
    with pytest.raises(NotCoveredError, match=said):
        predicted(net)
