"""The spread of gradients against networks that are really drawn."""

from __future__ import annotations

import math

import pytest
import torch

from initstudy.theory.meanfield import (
    backward_band,
    backward_spread,
    backward_variances,
    dense,
    relu_spread,
)
from tests.theory.meanfield.test_layers import FUNCTIONS

WIDTH, DEPTH, NETWORKS = 128, 5, 1000


def drawn_gradients(activation, layers, networks, seed=0):
    """Mean squared gradients by each layer's pre-activations, inputs and weights: autograd's."""
    generator = torch.Generator().manual_seed(seed)
    signal = unit_length(torch.randn(networks, layers[0].fan_in, generator=generator))
    signal.requires_grad_()
    reads, before = [], []
    for layer in layers:
        reads.append(signal)
        weight = layer.std * torch.randn(networks, layer.fan_out, layer.fan_in, generator=generator)
        bias = layer.bias_std * torch.randn(networks, layer.fan_out, generator=generator)
        before.append(torch.einsum("noi,ni->no", weight, signal) + bias)
        signal = FUNCTIONS[activation](before[-1])
    seed_gradient = unit_length(torch.randn(before[-1].shape, generator=generator))
    gradients = torch.autograd.grad((before[-1] * seed_gradient).sum(), [*before, *reads])
    mean_squares = [g.square().mean(1).double() for g in gradients]
    by_unit, by_input = mean_squares[: len(layers)], mean_squares[len(layers) :]
    lengths = [x.detach().square().mean(1) for x in reads]
    by_weight = [g * x for g, x in zip(by_unit, lengths, strict=True)]
    return by_unit, by_input, by_weight


def unit_length(vectors):
    """Of mean square one each: what is given varies from network to network in direction alone."""
    return vectors / vectors.square().mean(1, keepdim=True).sqrt()


def relative_variance(values):
    return (values.var() / values.mean() ** 2).item()


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "swish", "selu"])
def test_the_spread_is_that_of_drawn_networks(activation):
    variance = {"relu": 2.0, "tanh": 1.4, "sigmoid": 9.0}.get(activation, 1.7)
    layers = dense([WIDTH] * (DEPTH + 1), math.sqrt(variance / WIDTH), 0.3)
    found = drawn_gradients(activation, layers, NETWORKS)
    spread = backward_spread(activation, layers)
    assert spread.pre_activations[-1] == 0
    for measured, expected in zip(
        found, (spread.pre_activations, spread.inputs, spread.weights), strict=True
    ):
        for values, predicted in list(zip(measured, expected, strict=True))[1:-1]:
            assert relative_variance(values) == pytest.approx(predicted, rel=0.2)


def test_relus_gradients_spread_as_its_lengths_do():
    layers = dense([10, 20, 30, 40, 50], 0.3)
    spread = backward_spread("relu", layers).pre_activations
    assert spread[:-1] == pytest.approx([relu_spread([20, 30, 40][k:]) for k in range(3)])


@pytest.mark.parametrize(("activation", "critical"), [("relu", 2.0), ("tanh", 1.0)])
@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_gradients_of_fifty_layers_stay_within_the_band(activation, critical, factor):
    """Width 512, from half to twice the critical deviation, in each of three networks."""
    layers = dense([512] * 51, factor * math.sqrt(critical / 512))
    mean = backward_variances(activation, layers).pre_activations
    band = backward_band(activation, layers, deviations=3.0)
    found, _, _ = drawn_gradients(activation, layers, networks=3)
    for place, values in enumerate(found):
        if mean[place] < 1e-30:
            continue  # single precision ends here
        low, high = band.low.pre_activations[place], band.high.pre_activations[place]
        assert low * 0.999 <= values.min().item() <= values.max().item() <= high * 1.001, place


def test_a_band_wants_a_number_of_deviations():
    with pytest.raises(ValueError, match="deviations=-1"):
        backward_band("tanh", dense([5, 5], 0.1), deviations=-1)
