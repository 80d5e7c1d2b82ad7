"""Any callable, by quadrature: against the closed forms and against other integrals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn
from torch.nn import functional as F

from initstudy.theory.meanfield import (
    analyze,
    critical_sigma_w2,
    dense,
    elu,
    forward_variances,
    leaky_relu,
    resolve,
    softplus,
    stable_length,
)

# Functions that are not recognized, so that they are integrated.
CLOSED = {
    "tanh": lambda x: torch.tanh(x),
    "gelu": lambda x: F.gelu(x),
    "selu": lambda x: F.selu(x),
    "hard_tanh": lambda x: x.clamp(-1, 1),
    "elu": lambda x: F.elu(x),
    "silu": lambda x: x * torch.sigmoid(x),
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
}
MOMENTS = ("second_moment", "derivative_moment")


@pytest.mark.parametrize("name", CLOSED)
def test_quadrature_agrees_with_the_closed_form(name):
    numerical, closed = resolve(CLOSED[name]), resolve(name)
    assert type(numerical).__name__ == "Numerical"
    assert numerical.growth == pytest.approx(closed.growth, abs=1e-8)
    for q in (1e-8, 0.02, 1.3, 60.0, 1e6):
        for c in (1.0, -1.0, -0.6, 0.0, 0.3, 1 - 1e-6):
            for moment in MOMENTS:
                size = abs(getattr(closed, moment)(q))
                expected = getattr(closed, moment)(q, c)
                assert getattr(numerical, moment)(q, c) == pytest.approx(expected, abs=1e-12 * size)
        for moment in ("length_slope", "fourth_moment"):
            expected = getattr(closed, moment)(q)
            assert getattr(numerical, moment)(q) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("function", [F.relu6, F.hardswish, torch.sin, F.softsign, F.mish])
@pytest.mark.parametrize("q", [0.3, 4.0])
def test_functions_without_a_closed_form_against_adaptive_quadrature(function, q):
    std = math.sqrt(q)

    def value(x):
        return float(function(torch.tensor(x, dtype=torch.float64)))

    def expectation(integrand):
        density = stats.norm(0, std).pdf
        marks = [-3.0, 0.0, 3.0, 6.0]
        return integrate.quad(
            lambda x: integrand(x) * density(x), -12 * std, 12 * std, points=marks, limit=400
        )[0]

    activation = resolve(function)
    assert activation.second_moment(q) == pytest.approx(expectation(lambda x: value(x) ** 2))
    # Mehler's first coefficients: at c = 0 the mean squared, and the slope in c there.
    mean = expectation(value)
    assert activation.second_moment(q, 0.0) == pytest.approx(mean**2, abs=1e-12)
    slope = expectation(lambda x: x * value(x)) / q
    assert activation.derivative_moment(q, 0.0) == pytest.approx(slope**2)


@pytest.mark.parametrize("c", [-0.8, 0.0, 0.5, 0.999])
def test_sine_has_its_own_kernel(c):
    """E[sin u·sin u'] = exp(-q)·sinh(qc), E[cos u·cos u'] = exp(-q)·cosh(qc)."""
    sine = resolve(torch.sin)
    for q in (1e-3, 1.0, 9.0):
        assert sine.second_moment(q, c) == pytest.approx(math.exp(-q) * math.sinh(q * c), abs=1e-14)
        assert sine.derivative_moment(q, c) == pytest.approx(math.exp(-q) * math.cosh(q * c))


def test_what_torch_and_names_share():
    assert resolve(F.silu) is resolve("silu")
    assert resolve(torch.relu) is resolve("relu")
    assert resolve(nn.Tanh()) is resolve("tanh")
    assert resolve(nn.Identity()) is resolve("linear")
    assert resolve(nn.ReLU6()) is resolve(nn.ReLU6())
    same = resolve("gelu")
    assert resolve(same) is same


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.LeakyReLU(0.3), leaky_relu(0.3)),
        (nn.ELU(0.7), elu(0.7)),
        (nn.Softplus(beta=2.0), softplus(2.0)),
        (nn.PReLU().double(), leaky_relu(0.25)),
        (lambda x: torch.where(x > 0, x, 0.1 * x), leaky_relu(0.1)),
    ],
)
def test_modules_keep_their_constants(module, expected):
    found = resolve(module)
    x = np.linspace(-4, 4, 41)
    at = torch.from_numpy(x)
    np.testing.assert_allclose(found.function(x), module(at).detach().numpy(), rtol=1e-6)
    for c in (1.0, 0.2):
        assert found.second_moment(2.0, c) == pytest.approx(expected.second_moment(2.0, c))
        assert found.derivative_moment(2.0, c) == pytest.approx(expected.derivative_moment(2.0, c))


def test_gelus_approximation_is_not_the_exact_one():
    exact, approximate = (resolve(nn.GELU(approximate=a)) for a in ("none", "tanh"))
    difference = approximate.second_moment(1.0) - exact.second_moment(1.0)
    assert 1e-6 < abs(difference) < 1e-3


def test_the_whole_theory_takes_a_callable():
    def function(x):
        return x.clamp(-1, 1)

    assert critical_sigma_w2(function, 0.1) == pytest.approx(critical_sigma_w2("hard_tanh", 0.1))
    found, expected = (analyze(f, 1.7, 0.1) for f in (function, "hard_tanh"))
    assert (found.q, found.c, found.xi_c) == pytest.approx((expected.q, expected.c, expected.xi_c))
    layers = dense([64] * 4, 0.2)
    assert forward_variances(F.hardtanh, layers) == forward_variances("hard_tanh", layers)


def test_relu_squared_explodes_or_dies():
    """So et al. 2021, Primer: relu(x)²; E[φ²] = 3q²/2, so q = 2/(3·σ_w²) repels."""

    def squared(x):
        return torch.relu(x) ** 2

    assert resolve(squared).second_moment(2.0) == pytest.approx(1.5 * 4)
    assert resolve(squared).growth == math.inf
    assert stable_length(squared, 1.0, start=0.6) == 0
    assert stable_length(squared, 1.0, start=0.7) == math.inf


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (torch.exp, "φ\\(1000\\) is not finite"),
        (torch.sign, "φ jumps at 0"),
        (F.hardshrink, "φ jumps at"),
        (lambda x: x.sum(), "must map a double tensor elementwise"),
        (lambda x: x.float(), "must map a double tensor elementwise"),
        (lambda x: x @ torch.ones(3, 3), "does not map a tensor elementwise"),
        (lambda x: x + torch.rand_like(x), "not smooth between any two points"),
        (math.tanh, "does not map a tensor elementwise"),
    ],
)
def test_functions_that_have_no_such_theory(function, said):
    with pytest.raises(ValueError, match=said) as error:
        resolve(function)
    assert "\n" not in str(error.value)
