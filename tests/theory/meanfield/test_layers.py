"""Predicted variances and their spread against networks that are really drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from initstudy.theory.meanfield import (
    Layer,
    backward_variances,
    dense,
    forward_band,
    forward_spread,
    forward_variances,
    length_map,
    relu_spread,
    relu_spread_limit,
    weight_variance,
)

FUNCTIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": nn.functional.gelu,
    "selu": torch.selu,
    "sigmoid": torch.sigmoid,
    "linear": lambda x: 1 * x,
    "swish": nn.functional.silu,
}
PAIR = dense([5, 5], 0.1)
NETWORKS = 200


def drawn(activation, layers, inputs, generator, distribution="normal"):
    """Signals of one network for each row of the inputs; and the weights, to ask for gradients."""
    signal, weights, before, after = inputs, [], [], []
    for layer in layers:
        shape = (len(inputs), layer.fan_out, layer.fan_in)
        if distribution == "normal":
            weight = torch.randn(shape, generator=generator)
        else:
            weight = (torch.rand(shape, generator=generator) * 2 - 1) * math.sqrt(3)
        weights.append((layer.std * weight).requires_grad_())
        bias = layer.bias_std * torch.randn(shape[:2], generator=generator)
        before.append(torch.einsum("noi,ni->no", weights[-1], signal) + bias)
        after.append(FUNCTIONS[activation](before[-1]))
        signal = after[-1]
    return weights, before, after


def squares(signals):
    return [float((s.detach() ** 2).mean()) for s in signals]


@pytest.mark.parametrize(
    ("activation", "distribution"),
    [("tanh", "normal"), ("gelu", "uniform"), ("sigmoid", "normal"), ("relu", "uniform")],
)
def test_networks_have_the_predicted_variances(activation, distribution):
    generator = torch.Generator().manual_seed(5)
    layers = dense([60, 120, 90, 120, 80], [0.2, 0.1, 0.15, 0.1], [0.2, 0.0, 0.1, 0.3])
    inputs = 1.5 * torch.randn((NETWORKS, 60), generator=generator).sign()
    weights, before, after = drawn(activation, layers, inputs, generator, distribution)
    error = torch.randn(before[-1].shape, generator=generator)
    signals = [*before[:-1], *after[:-1]]
    gradients = torch.autograd.grad((0.3 * error * before[-1]).sum(), [*signals, *weights])
    forward = forward_variances(activation, layers, input_second_moment=1.5**2)
    backward = backward_variances(
        activation, layers, input_second_moment=1.5**2, output_gradient=0.09
    )
    spread = forward_spread(activation, layers, input_second_moment=1.5**2)
    for signals, kind in ((before, "pre_activations"), (after, "activations")):
        expected = getattr(forward, kind)
        # Four standard errors of the mean over these networks.
        allowed = [4 * math.sqrt(relative / NETWORKS) for relative in getattr(spread, kind)]
        assert squares(signals) == pytest.approx(expected, rel=max(allowed))
    measured = squares(gradients)
    assert measured[:3] == pytest.approx(backward.pre_activations[:-1], rel=0.1)
    assert measured[3:6] == pytest.approx(backward.inputs[1:], rel=0.1)
    assert measured[6:] == pytest.approx(backward.weights, rel=0.1)
    assert backward.pre_activations[-1] == 0.09


def test_convolutions_have_the_variances_of_their_fans():
    """Wrapped around at the edges, where a convolution sums as many inputs as elsewhere."""
    torch.manual_seed(3)
    layers = [Layer(9 * 48, 9 * 64, 0.06), Layer(9 * 64, 9 * 48, 0.055)]
    convolutions = [
        nn.Conv2d(i, o, 3, padding=1, padding_mode="circular", bias=False)
        for i, o in ((48, 64), (64, 48))
    ]
    signal = torch.randn(16, 48, 6, 6)
    measured = []
    for convolution, layer in zip(convolutions, layers, strict=True):
        nn.init.normal_(convolution.weight, 0, layer.std)
        measured.append(convolution(signal))
        signal = torch.tanh(measured[-1])
    error = torch.randn(measured[-1].shape)
    (gradient,) = torch.autograd.grad((error * measured[-1]).sum(), measured[0])
    assert squares(measured) == pytest.approx(
        forward_variances("tanh", layers).pre_activations, rel=0.03
    )
    predicted = backward_variances("tanh", layers).pre_activations[0]
    assert float((gradient**2).mean()) == pytest.approx(predicted, rel=0.03)


def test_famous_schemes_do_what_they_are_famous_for():
    widths = [64, 128, 64, 256, 256]
    he = dense(widths, [math.sqrt(2 / n) for n in widths[:-1]])
    assert forward_variances("relu", he).activations == pytest.approx([1] * 4)
    backwards = dense(widths, [math.sqrt(2 / n) for n in widths[1:]])
    assert backward_variances("relu", backwards).pre_activations == pytest.approx([1] * 4)
    glorot = dense([50] * 5, math.sqrt(2 / 100))
    assert forward_variances("linear", glorot).pre_activations == pytest.approx([1] * 4)
    assert backward_variances("linear", glorot).inputs == pytest.approx([1] * 4)


def test_layers_alike_are_the_length_map():
    layers = dense([100] * 6, math.sqrt(1.7 / 100), math.sqrt(0.05))
    q = 1.7 * 0.4 + 0.05
    for found in forward_variances("swish", layers, input_second_moment=0.4).pre_activations:
        assert found == pytest.approx(q)
        q = length_map("swish", q, 1.7, 0.05)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_spread_is_that_of_drawn_networks(activation):
    generator = torch.Generator().manual_seed(1)
    widths = [20, 60, 90, 70]
    layers = dense(widths, [math.sqrt(1.6 / n) for n in widths[:-1]], 0.3)
    inputs = torch.ones(2000, widths[0])
    with torch.no_grad():
        _, before, after = drawn(activation, layers, inputs, generator)
    predicted = forward_spread(activation, layers)
    mean = forward_variances(activation, layers)
    band = forward_band(activation, layers)
    for kind, signals in (("pre_activations", before), ("activations", after)):
        for number, signal in enumerate(signals):
            lengths = (signal.double() ** 2).mean(1)
            relative = float(lengths.var()) / getattr(mean, kind)[number] ** 2
            # Four standard errors of a variance of 2000 numbers.
            assert relative == pytest.approx(getattr(predicted, kind)[number], rel=0.13)
            low, high = (getattr(edge, kind)[number] for edge in (band.low, band.high))
            inside = float(((low < lengths) & (lengths < high)).double().mean())
            assert inside == pytest.approx(0.954, abs=0.03)


@pytest.mark.parametrize("activation", ["linear", "gelu", "selu", "sigmoid", "swish"])
def test_the_spread_is_right_to_leading_order(activation):
    """Given its input, a layer's units are independent normals: no weight need be drawn."""
    rng = np.random.default_rng(2)
    width, draws = 400, 8000
    layers = dense([width] * 5, math.sqrt(1.3 / width), 0.4)
    moment = np.ones(draws)
    before, after = [], []
    for layer in layers:
        q = layer.sigma_w2 * moment + layer.sigma_b2
        z = rng.standard_normal((draws, width), dtype=np.float32) * np.sqrt(q)[:, None]
        value = FUNCTIONS[activation](torch.from_numpy(z)).double().numpy()
        moment = (value**2).mean(1)
        before.append((z**2).mean(1))
        after.append(moment)
    predicted = forward_spread(activation, layers)
    for kind, lengths in (("pre_activations", before), ("activations", after)):
        relative = [x.var() / x.mean() ** 2 for x in lengths]
        assert relative == pytest.approx(getattr(predicted, kind), rel=0.08)


def test_the_spread_of_relu_is_exact():
    """All the moments of narrow networks, from the chance that a unit is alive."""
    widths = [2, 3, 2]
    layers = dense([5, *widths], [math.sqrt(2 / n) for n in (5, 2, 3)])
    assert forward_spread("relu", layers).activations == pytest.approx(
        [relu_spread(widths[:k]) for k in (1, 2, 3)]
    )
    # A layer's mean of z² is a χ² of its units, around what the layers before it give.
    assert forward_spread("relu", layers).pre_activations == pytest.approx(
        [(1 + relu_spread(widths[:k])) * (1 + 2 / n) - 1 for k, n in enumerate(widths)]
    )
    # |φ(z)|² is Σ over alive units of q·χ²₁; E[M²]/E[M]² is a binomial sum of 3k + k(k - 1).
    factors = [
        sum(math.comb(n, k) / 2**n * k * (k + 2) for k in range(n + 1)) / (n / 2) ** 2
        for n in widths
    ]
    assert relu_spread(widths) == pytest.approx(math.prod(factors) - 1, rel=1e-12)
    wide = [10**6] * 10**4
    assert relu_spread(wide) == pytest.approx(relu_spread_limit(wide), rel=1e-4)
    assert relu_spread([1] * 2000) == math.inf
    assert relu_spread([]) == 0


def test_a_band_is_that_of_a_log_normal():
    layers = dense([5, 6, 7], 0.5)
    mean, spread = (f("relu", layers).activations for f in (forward_variances, forward_spread))
    band = forward_band("relu", layers, deviations=1.5)
    for m, s, low, high in zip(
        mean, spread, band.low.activations, band.high.activations, strict=True
    ):
        log = stats.lognorm(math.sqrt(math.log1p(s)), scale=m / math.sqrt(1 + s))
        assert (log.mean(), log.var()) == pytest.approx((m, s * m * m))
        assert log.cdf([low, high]) == pytest.approx(stats.norm.cdf([-1.5, 1.5]))


def test_the_spread_counts_the_units_it_is_told():
    wide, narrow = (Layer(9 * 16, 9 * 32, 0.1, units=n) for n in (None, 32))
    assert wide.width == 288
    ratio = [forward_spread("tanh", [layer]).activations[0] for layer in (narrow, wide)]
    assert ratio[0] == pytest.approx(9 * ratio[1])


def test_a_signal_that_is_zero_has_no_spread_and_one_that_overflows_no_end():
    dead = dense([10, 10, 10], 0.0)
    assert forward_spread("tanh", dead).activations == (0, 0)
    assert forward_band("tanh", dead).high.activations == (0, 0)
    exploded = dense([10, *[10] * 400], 1000.0)
    assert forward_variances("gelu", exploded).activations[-1] == math.inf
    assert forward_band("gelu", exploded).high.activations[-1] == math.inf
    assert forward_variances("tanh", exploded).activations[-1] == pytest.approx(1, abs=1e-3)
    saturated = forward_band("tanh", dense([10, 10], 1e30))
    assert saturated.low.activations == pytest.approx(saturated.high.activations)


def test_a_deviation_becomes_the_theorys_variance():
    assert weight_variance(0.1, 200) == pytest.approx(2.0)
    assert dense([200, 30], np.float64(0.1))[0].sigma_w2 == pytest.approx(2.0)
    assert dense([4, 5, 6], np.array([0.1, 0.2]))[1] == Layer(5, 6, 0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Layer(0, 5, 0.1), "fan_in=0: must be a whole number of at least 1"),
        (lambda: Layer(5, 2.5, 0.1), "fan_out=2.5"),
        (lambda: Layer(5, 5, -0.1), "std=-0.1: a standard deviation must be a finite"),
        (lambda: Layer(5, 5, 0.1, math.nan), "bias_std=nan"),
        (lambda: Layer(5, 5, 0.1, units=0), "units=0"),
        (lambda: dense([5], 0.1), "give an input's and a layer's width"),
        (lambda: dense([5, 5, 5], [0.1]), "stds: 1 values for 2 layers"),
        (lambda: forward_variances("tanh", []), "give at least one layer"),
        (lambda: forward_variances("cos", PAIR), "activation=cos: choose one of"),
        (lambda: forward_variances("tanh", PAIR, input_second_moment=-1), "moment=-1: a second"),
        (lambda: backward_variances("tanh", PAIR, output_gradient=-1), "gradient=-1: a second"),
        (lambda: forward_band("tanh", PAIR, deviations=math.inf), "deviations=inf"),
        (lambda: forward_spread("tanh", []), "give at least one layer"),
        (lambda: weight_variance(math.inf, 3), "std=inf"),
        (lambda: relu_spread([3, 0]), "widths=0"),
        (lambda: relu_spread_limit([-2]), "widths=-2"),
    ],
)
def test_wrong_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
