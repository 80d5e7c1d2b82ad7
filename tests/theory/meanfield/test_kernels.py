"""Gaussian expectations of every activation against integrals done another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.polynomial import hermite_e
from scipy import integrate, stats
from torch.nn import functional

from initstudy.theory.meanfield import KNOWN, leaky_relu, resolve
from initstudy.theory.meanfield.mixtures import kolmogorov_rule

TORCHS = {
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "sigmoid": torch.sigmoid,
    "hard_tanh": functional.hardtanh,
    "gelu": functional.gelu,
    "selu": functional.selu,
    "swish": functional.silu,
    "silu": functional.silu,
    "elu": functional.elu,
    "mish": functional.mish,
    # Exact where torch's own goes over to a straight line.
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "linear": lambda x: 1 * x,
}
NAMES = sorted(set(KNOWN) - {"silu"})
SMOOTH = ["erf", "gelu", "mish", "sigmoid", "softplus", "swish", "tanh"]


def values(name, x):
    """φ and φ' by torch, at points of any shape."""
    at = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    out = TORCHS[name](at)
    (slope,) = torch.autograd.grad(out.sum(), at)
    return out.detach().numpy(), slope.numpy()


def panels(edges, order=30):
    """Gauss–Legendre nodes and weights on each stretch between two edges."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    edges = np.unique(edges)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half * (1 + nodes)).ravel(), (half * weights).ravel()


def expectation(integrand, q):
    """E over x normal with variance q: adaptive quadrature on stretches between all the scales."""
    std = math.sqrt(q)
    marks = {std * k for k in (0.3, 1, 2, 4, 6, 9)} | {x for x in (1, 3, 9, 30) if x < 9 * std}
    edges = np.array(sorted({0.0} | marks | {-x for x in marks}))
    width = np.diff(edges)

    def stretches(t):
        x = edges[:-1] + t * width
        return integrand(x) @ (width * stats.norm.pdf(x, 0, std))

    return integrate.quad_vec(stretches, 0, 1, epsabs=0, epsrel=1e-11, quadrature="gk21")[0]


@pytest.mark.parametrize("q", [1e-10, 1e-3, 0.4, 7.0, 1e3, 1e6])
@pytest.mark.parametrize("name", NAMES)
def test_moments_of_one_input(name, q):
    def integrand(x):
        value, slope = values(name, x)
        return np.stack([value**2, slope**2, x * value * slope / q, value**4])

    kernel = resolve(name)
    found = [
        f(q)
        for f in (
            kernel.second_moment,
            kernel.derivative_moment,
            kernel.length_slope,
            kernel.fourth_moment,
        )
    ]
    expected = expectation(integrand, q)
    if name == "sigmoid" and q < 1e-6:
        # x·φ·φ'/q is a difference of numbers of the size of 1/√q there; σ'(0)² is its limit.
        expected[2] = 1 / 16
    assert found == pytest.approx(expected, rel=1e-8, abs=0)


@pytest.mark.parametrize("q", [0.02, 1.3, 60.0])
@pytest.mark.parametrize("name", NAMES)
def test_moments_of_two_inputs_are_power_series_in_their_correlation(name, q):
    """Mehler: E[φφ'] = Σ aₖ²·cᵏ with aₖ the coefficients of φ(√q·z) in Hermite polynomials."""
    std, terms = math.sqrt(q), 60
    kinks = np.clip([-1 / std, 1 / std], -12, 12)
    z, weight = panels(np.concatenate((np.arange(-12, 12.1, 0.25), kinks)))
    weight = weight * stats.norm.pdf(z)
    norms = [math.sqrt(math.factorial(k)) for k in range(terms)]
    basis = hermite_e.hermevander(z, terms - 1) / norms
    value, slope = (weight * v @ basis for v in values(name, std * z))
    kernel = resolve(name)
    for c in (-0.6, 0.0, 0.25, 0.6):
        powers = float(c) ** np.arange(terms)
        size = value @ value
        assert kernel.second_moment(q, c) == pytest.approx(value**2 @ powers, abs=1e-9 * size)
        assert kernel.derivative_moment(q, c) == pytest.approx(slope**2 @ powers, rel=1e-8)


@pytest.mark.parametrize(("q", "one_less_c"), [(1e-6, 1e-3), (2.0, 0.02), (1e4, 1e-6), (1e6, 1e-9)])
@pytest.mark.parametrize("name", SMOOTH)
def test_close_inputs_of_smooth_activations(name, q, one_less_c):
    """In sum and difference, which are independent; the difference is short and needs few nodes."""
    short, long = math.sqrt(q * one_less_c / 2), math.sqrt(q * (2 - one_less_c) / 2)
    near = np.arange(0, 40, 1.0)
    far = long * np.arange(0, 9.1, 0.5)
    edges = np.concatenate((near[near < 9 * long], 2.0 ** np.arange(5, 14), far))
    edges = edges[edges <= 9 * long]
    mean, weight = panels(np.concatenate((-edges, edges)))
    weight = weight * stats.norm.pdf(mean, 0, long)
    t, dual = hermite_e.hermegauss(40)
    (v1, s1), (v2, s2) = (values(name, mean[:, None] + sign * short * t) for sign in (1, -1))
    dual = dual / dual.sum()
    kernel = resolve(name)
    c = 1 - one_less_c
    assert kernel.second_moment(q, c) == pytest.approx(weight @ (v1 * v2) @ dual, rel=1e-8)
    assert kernel.derivative_moment(q, c) == pytest.approx(weight @ (s1 * s2) @ dual, rel=1e-8)


@pytest.mark.parametrize("name", ["hard_tanh", "selu"])
def test_close_inputs_of_activations_with_kinks(name):
    """Nested quadrature that splits at the kinks of both inputs."""
    q, c = 3.0, 0.98
    std, rest = math.sqrt(q), math.sqrt(q * (1 - c * c))
    kinks = (-1.0, 1.0) if name == "hard_tanh" else (0.0,)
    around = [k + s * rest * 2.0**j for k in kinks for s in (-1, 1) for j in range(-2, 5)]
    u, outer = panels([*around, *kinks, *(std * np.arange(-8, 8.1, 0.8))], 16)
    middle = c * u[:, None]
    edges = [middle + rest * np.arange(-8, 8.1, 2)]
    edges += [np.clip(np.full_like(middle, k), middle - 8 * rest, middle + 8 * rest) for k in kinks]
    edges = np.sort(np.concatenate(edges, axis=1))
    nodes, weights = np.polynomial.legendre.leggauss(16)
    half = np.diff(edges)[..., None] / 2
    other = edges[:, :-1, None] + half * (1 + nodes)
    inner = half * weights * stats.norm.pdf(other, middle[..., None], rest)
    here, there = values(name, u), values(name, other)
    outer = outer * stats.norm.pdf(u, 0, std)
    value, slope = (outer @ (h * (inner * t).sum((1, 2))) for h, t in zip(here, there, strict=True))
    kernel = resolve(name)
    assert kernel.second_moment(q, c) == pytest.approx(value, rel=1e-8)
    assert kernel.derivative_moment(q, c) == pytest.approx(slope, rel=1e-8)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"mish"}))
@pytest.mark.parametrize("q", [1e-9, 0.5, 1e5])
def test_the_slope_by_the_covariance_is_that_of_prices_theorem(name, q):
    """E[φφ'] at 1 less that at c is q·∫E[φ'φ'], so close to 1 both lose no digits."""
    kernel = resolve(name)
    # In c = cos θ the integrand has no square root at c = 1.
    for end in (0.5, 1e-3):
        theta, weight = panels(np.concatenate(([0, end], end * 2.0 ** -np.arange(1, 14))), 16)
        slopes = [kernel.derivative_moment(q, math.cos(t)) * math.sin(t) for t in theta]
        drop = kernel.second_moment(q) - kernel.second_moment(q, math.cos(end))
        assert drop == pytest.approx(
            q * (weight @ slopes), rel=1e-7, abs=1e-14 * kernel.second_moment(q)
        )


@pytest.mark.parametrize("c", [-1.0, -0.3, 0.0, 0.8, 1.0])
def test_relu_has_the_arc_cosine_kernels(c):
    """Cho & Saul 2009: q/(2π)·(sin θ + (π - θ)·cos θ) and (π - θ)/(2π) at c = cos θ."""
    theta = math.acos(c)
    relu = resolve("relu")
    order_one = (math.sin(theta) + (math.pi - theta) * c) / (2 * math.pi)
    assert relu.second_moment(3.0, c) == pytest.approx(3 * order_one, rel=1e-12, abs=1e-15)
    assert relu.derivative_moment(3.0, c) == pytest.approx((math.pi - theta) / (2 * math.pi))


def test_erf_has_williams_kernel():
    """Williams 1997, for erf itself: (2/π)·asin(2qc/(1 + 2q))."""
    expected = 2 / math.pi * math.asin(2 * 3 * 0.4 / (1 + 2 * 3))
    assert resolve("erf").second_moment(3.0, 0.4) == pytest.approx(expected, rel=1e-13)


def test_the_logistic_function_is_a_mixture_over_kolmogorovs_distribution():
    k, weight = kolmogorov_rule()
    assert weight.sum() == pytest.approx(1, rel=1e-13)
    assert weight @ k == pytest.approx(math.sqrt(math.pi / 2) * math.log(2), rel=1e-13)
    assert weight @ k**2 == pytest.approx(math.pi**2 / 12, rel=1e-13)
    x = np.linspace(-40, 40, 801)
    mixed = stats.norm.cdf(x[:, None] / (2 * k)) @ weight
    np.testing.assert_allclose(mixed, values("sigmoid", x)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_no_length_is_too_small_or_too_large(name):
    kernel = resolve(name)
    at_zero = values(name, np.zeros(1))[0][0]
    assert kernel.second_moment(0.0) == pytest.approx(at_zero**2, rel=1e-14, abs=1e-300)
    assert kernel.derivative_moment(0.0) == pytest.approx(kernel.derivative_moment(1e-12), rel=1e-5)
    bounded = kernel.growth == 0
    for q in (1e40, 1e200, math.inf):
        expected = at_zero**2 + (1 - at_zero) ** 2 if bounded else kernel.growth * q
        assert kernel.second_moment(q) == pytest.approx(expected, rel=1e-12)
        assert kernel.derivative_moment(q) == pytest.approx(kernel.growth, abs=1e-12)


@pytest.mark.parametrize("name", ["sine", "", "ReLU"])
def test_an_unknown_activation_is_answered_with_the_known_ones(name):
    with pytest.raises(ValueError, match=f"meanfield.activation={name}: choose one of relu, tanh"):
        resolve(name)


def test_a_slope_must_be_finite():
    with pytest.raises(ValueError, match="negative_slope=nan"):
        leaky_relu(math.nan)
