"""Where the maps come to rest, how fast, and on which side of the edge of chaos."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as hyp

from initstudy.theory.meanfield import (
    KNOWN,
    Propagation,
    analyze,
    correlation_map,
    correlation_slope,
    critical_sigma_w2,
    leaky_relu,
    length_map,
    length_slope,
    stable_correlation,
    stable_length,
)

CURVED = ["erf", "gelu", "hard_tanh", "selu", "sigmoid", "swish", "tanh"]
variances = hyp.floats(0.01, 20.0)
biases = hyp.one_of(hyp.just(0.0), hyp.floats(1e-6, 3.0))


@pytest.mark.parametrize(
    ("activation", "critical"),
    [
        ("relu", 2.0),
        (leaky_relu(0.5), 2 / 1.25),
        ("linear", 1.0),
        ("tanh", 1.0),
        ("hard_tanh", 1.0),
        # The slope at zero is 2/√π.
        ("erf", math.pi / 4),
        # The slopes at zero are 1.0507 and 1.7581, half of the time each.
        ("selu", 2 / (1.0507009873554805**2 * (1 + 1.6732632423543772**2))),
    ],
)
def test_critical_weight_variance_without_biases(activation, critical):
    """He et al. 2015 for relu; one over the mean squared slope at zero for the others."""
    assert critical_sigma_w2(activation) == pytest.approx(critical, rel=1e-12)
    found = analyze(activation, critical)
    assert found.phase == "critical"
    assert found.chi1 == pytest.approx(1, abs=1e-12)
    assert found.xi_q == found.xi_c == math.inf
    assert found.c == 1


def test_published_values():
    # Xiao et al. 2018 and the delta-orthogonal literature train tanh at (1.05, 2.01e-5).
    assert critical_sigma_w2("tanh", 2.01e-5) == pytest.approx(1.05, abs=5e-5)
    # Klambauer et al. 2017: mean 0 and variance 1 are a fixed point of selu at σ_w² = 1.
    selu = analyze("selu", 1.0)
    assert (selu.q, selu.c) == pytest.approx((1, 0), abs=1e-9)
    assert length_slope("selu", 1.0, 1.0) == pytest.approx(0.782648, abs=1e-6)
    # Roberts et al. 2022, section 5.3.4: where both slopes of gelu, and of swish, are 1.
    length = (3 + math.sqrt(17)) / 2
    assert length_map("gelu", length, 1.98305826, 0.17292239) == pytest.approx(length, rel=1e-8)
    for name, q, weight in (("gelu", length, 1.98305826), ("swish", 14.32017362, 1.98800468)):
        assert correlation_slope(name, 1.0, q, weight) == pytest.approx(1, abs=1e-8)
        assert length_slope(name, q, weight) == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("sigma_b2", [1e-4, 0.05, 0.6, 3.0, 1e4])
@pytest.mark.parametrize("activation", [*CURVED, "relu", "leaky_relu", "linear"])
def test_the_critical_line_is_where_chi1_is_one(activation, sigma_b2):
    if sigma_b2 < {"gelu": 0.17, "swish": 0.55}.get(activation, 0):
        with pytest.raises(ValueError, match=f"{activation} has no stable critical length below"):
            critical_sigma_w2(activation, sigma_b2)
        return
    critical = critical_sigma_w2(activation, sigma_b2)
    found = analyze(activation, critical, sigma_b2)
    assert found.chi1 == pytest.approx(1, abs=1e-9)
    assert found.phase == "critical"
    assert (found.c, found.xi_c) == (1, math.inf)
    assert analyze(activation, critical * 0.999, sigma_b2).phase == "ordered"
    assert analyze(activation, critical * 1.001, sigma_b2).phase == "chaotic"


@pytest.mark.parametrize("sigma_w2", [0.3, 1.7, 4.0])
@pytest.mark.parametrize("sigma_b2", [0.0, 1e-3, 0.4])
@pytest.mark.parametrize("activation", CURVED)
def test_iterates_come_to_the_fixed_points(activation, sigma_w2, sigma_b2):
    found = analyze(activation, sigma_w2, sigma_b2)
    q = 1.0
    for _ in range(400):
        q = length_map(activation, q, sigma_w2, sigma_b2)
    if found.q == math.inf:
        assert q > 1e5
        return
    assert q == pytest.approx(found.q, rel=1e-6, abs=1e-30)
    if found.q == 0:
        assert (found.c, found.phase) == (1, "ordered")
        return
    assert length_map(activation, found.q, sigma_w2, sigma_b2) == pytest.approx(found.q, rel=1e-13)
    assert length_slope(activation, found.q, sigma_w2) < 1
    fixed = correlation_map(activation, found.c, found.q, sigma_w2, sigma_b2)
    assert fixed == pytest.approx(found.c, abs=1e-12)
    slope = correlation_slope(activation, found.c, found.q, sigma_w2)
    assert slope <= 1
    for c in (0.0, 0.9):
        for _ in range(50):
            c = correlation_map(activation, c, found.q, sigma_w2, sigma_b2)
        assert c == pytest.approx(found.c, abs=2 * slope**50 + 1e-12)


@pytest.mark.parametrize(
    ("activation", "sigma_w2", "sigma_b2"),
    [
        ("tanh", 1.5, 0.05),
        ("tanh", 2.5, 0.05),
        ("tanh", 4.0, 0.0),
        ("relu", 1.6, 0.1),
        ("gelu", 1.9, 0.5),
        ("selu", 1.2, 0.3),
        ("hard_tanh", 1.4, 0.01),
        ("sigmoid", 30.0, 0.1),
    ],
)
def test_depth_scales_are_the_decay_of_iterates(activation, sigma_w2, sigma_b2):
    found = analyze(activation, sigma_w2, sigma_b2)
    q, c = found.q * 1.01, found.c - 1e-3 if found.c > 0.5 else found.c + 1e-3
    lengths, correlations = [], []
    for _ in range(60):
        q = length_map(activation, q, sigma_w2, sigma_b2)
        c = correlation_map(activation, c, found.q, sigma_w2, sigma_b2)
        lengths.append(abs(q - found.q) / found.q)
        correlations.append(abs(c - found.c))
    for distances, scale in ((lengths, found.xi_q), (correlations, found.xi_c)):
        # Where the distance is small enough for a straight line and large enough for its digits.
        kept = [d for d in distances if d > 1e-10][-12:]
        measured = (len(kept) - 1) / math.log(kept[0] / kept[-1])
        assert measured == pytest.approx(scale, rel=0.02)


def test_relu_dies_out_stays_or_explodes():
    dies, stays, explodes = (analyze("relu", s) for s in (1.0, 2.0, 3.0))
    assert (dies.q, stays.q, explodes.q) == (0, 1, math.inf)
    assert (dies.phase, stays.phase, explodes.phase) == ("ordered", "critical", "chaotic")
    # A length that dies by a half a layer, one that grows by three halves.
    assert dies.xi_q == pytest.approx(1 / math.log(2))
    assert explodes.xi_q == pytest.approx(1 / math.log(1.5))
    assert explodes.c == 1
    assert stable_length("relu", 2.0, start=7.0) == 7
    assert analyze("relu", 2.0, 0.1).q == math.inf
    assert analyze("relu", 1.0, 0.1).q == pytest.approx(0.2)


def test_correlations_of_relu_come_to_one_as_a_power():
    """Hayou et al. 2019: 1 - c is 9π²/(2·depth²) at the edge of chaos."""
    c = 0.0
    for _ in range(2000):
        c = correlation_map("relu", c, 1.0, 2.0)
    assert (1 - c) * 2000**2 == pytest.approx(4.5 * math.pi**2, rel=0.02)


def test_vanishing_biases_are_the_limit_of_small_ones():
    for activation, sigma_w2 in (("tanh", 0.7), ("relu", 1.5), ("swish", 1.2)):
        without, small = analyze(activation, sigma_w2), analyze(activation, sigma_w2, 1e-11)
        assert dataclasses.astuple(without)[1:5] == pytest.approx(
            dataclasses.astuple(small)[1:5], rel=1e-4
        )


def test_gelu_without_biases_has_two_futures():
    assert analyze("gelu", 2.2, start=0.1).phase == "ordered"
    assert analyze("gelu", 2.2, start=10.0).q == math.inf
    # With small biases both are finite, with an unstable length between them.
    for sigma_w2, sigma_b2 in ((1.995, 0.14), (1.99, 0.16)):
        for start in (1e-3, 1.0, 40.0):
            q = start
            for _ in range(2000):
                q = length_map("gelu", q, sigma_w2, sigma_b2)
            found = stable_length("gelu", sigma_w2, sigma_b2, start=start)
            assert found == pytest.approx(q, rel=0.02)
            assert (found > 10) == (start > 10)


@pytest.mark.parametrize(("activation", "power"), [("tanh", 1), ("gelu", 1), ("hard_tanh", 2)])
def test_close_to_the_edge_the_correlation_leaves_one_as_its_expansion_says(activation, power):
    """1 - c* grows as χ₁ - 1 for smooth activations and as its square for those with a kink."""
    critical = critical_sigma_w2(activation, 0.2)
    ratios = []
    for distance in (1e-4, 1e-6, 1e-7):
        found = analyze(activation, critical * (1 + distance), 0.2)
        ratios.append((1 - found.c) / (found.chi1 - 1) ** power)
        # The slope crosses 1 from the other side, twice as fast at a kink.
        assert found.xi_c * (found.chi1 - 1) == pytest.approx(power, rel=5e-3)
    assert ratios == pytest.approx([ratios[0]] * 3, rel=0.02)


def test_an_answer_is_frozen_and_has_all_fields():
    found = analyze("tanh", sigma_w2=1.5, sigma_b2=0.05)
    assert found == Propagation(**dataclasses.asdict(found))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.q = 1.0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(hyp.sampled_from(KNOWN), variances, hyp.floats(1.0, 3.0), biases)
def test_the_length_grows_with_the_weights(activation, sigma_w2, factor, sigma_b2):
    low = stable_length(activation, sigma_w2, sigma_b2)
    assert stable_length(activation, sigma_w2 * factor, sigma_b2) >= low * (1 - 1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(hyp.sampled_from(KNOWN), variances, biases)
def test_correlations_are_correlations(activation, sigma_w2, sigma_b2):
    found = analyze(activation, sigma_w2, sigma_b2)
    assert 0 <= found.c <= 1
    assert found.q >= sigma_b2 * (1 - 1e-12)
    assert found.c == 1 or found.phase == "chaotic"
    assert found.xi_q >= 0
    assert found.xi_c >= 0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(hyp.floats(0.01, 1.99), hyp.floats(1e-6, 10.0), hyp.floats(1e-3, 1e3))
def test_relu_does_not_know_a_scale(sigma_w2, sigma_b2, scale):
    small, large = (analyze("relu", sigma_w2, b) for b in (sigma_b2, sigma_b2 * scale))
    assert large.q == pytest.approx(small.q * scale)
    assert (large.chi1, large.xi_q, large.phase) == (small.chi1, small.xi_q, small.phase)
    c = np.linspace(0, 1, 5)
    assert [correlation_map("relu", x, 1.0, sigma_w2) for x in c] == pytest.approx(
        [correlation_map("relu", x, scale, sigma_w2) for x in c]
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analyze("tanh", -1.0), "sigma_w2=-1.0: a variance must be a finite number of at"),
        (lambda: analyze("tanh", math.nan), "sigma_w2=nan"),
        (lambda: analyze("tanh", math.inf), "sigma_w2=inf"),
        (lambda: analyze("tanh", True), "sigma_w2=True"),
        (lambda: analyze("tanh", "1"), "sigma_w2=1: a variance"),
        (lambda: analyze("tanh", 1.0, -0.1), "sigma_b2=-0.1"),
        (lambda: analyze("maxout", 1.0), "activation=maxout: choose one of relu, tanh, erf"),
        (lambda: analyze("tanh", 1.0, start=0.0), "start=0.0: must be above zero"),
        (lambda: critical_sigma_w2("tanh", -1.0), "sigma_b2=-1.0"),
        (lambda: length_map("tanh", -1.0, 1.0), "q=-1.0"),
        (lambda: correlation_map("tanh", 1.5, 1.0, 1.0), "c=1.5: a correlation must be from -1"),
        (lambda: correlation_map("tanh", 0.5, 0.0, 1.0), "q=0.0: must be above zero"),
        (lambda: correlation_map("tanh", 0.5, 1.0, 0.0), "must be above zero"),
        (lambda: stable_correlation("tanh", math.nan, 1.0), "q=nan"),
        (lambda: analyze(leaky_relu(math.inf), 1.0), "negative_slope=inf"),
    ],
)
def test_wrong_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_the_depth_scale_is_that_of_whatever_limits_depth():
    """Of two inputs' correlation where there is a length, of the length where it explodes."""
    tanh = analyze("tanh", 1.2, 0.05)
    assert tanh.depth_scale == tanh.xi_c == pytest.approx(-1 / math.log(tanh.chi1))
    assert analyze("relu", 1.0).depth_scale == pytest.approx(1 / math.log(2))
    assert analyze("relu", 4.0).depth_scale == pytest.approx(1 / math.log(2))
    assert analyze("relu", 2.0).depth_scale == math.inf
