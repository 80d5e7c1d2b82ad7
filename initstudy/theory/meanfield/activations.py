"""Activations by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from initstudy.theory.meanfield.checks import require_choice, require_number
from initstudy.theory.meanfield.kernels import Kernel, PiecewiseLinear
from initstudy.theory.meanfield.mixtures import Gated, Probit, kolmogorov_rule

ONE = np.ones(1)

# SciPy takes a second to import, and the activations that most networks have need none of it.


def _tanh() -> Kernel:
    # tanh(x) = 2/(1 + exp(-2x)) - 1 = E[2Φ(x/K) - 1].
    k, weights = kolmogorov_rule()
    return Probit(np.tanh, 1 / k, weights)


def _sigmoid() -> Kernel:
    from scipy.special import expit

    k, weights = kolmogorov_rule()
    return Probit(expit, 1 / (2 * k), weights, offset=0.5, height=0.5)


def _swish() -> Kernel:
    from scipy.special import expit

    k, weights = kolmogorov_rule()
    return Gated(lambda x: x * expit(x), 1 / (2 * k), weights)


def _erf() -> Kernel:
    from scipy.special import erf

    return Probit(erf, math.sqrt(2) * ONE, ONE)


def _gelu() -> Kernel:
    from scipy.special import ndtr

    return Gated(lambda x: x * ndtr(x), ONE, ONE)


def _hard_tanh() -> Kernel:
    from initstudy.theory.meanfield.smoothed import HardTanh

    return HardTanh()


def _selu() -> Kernel:
    from initstudy.theory.meanfield.smoothed import Selu

    return Selu()


BUILDERS: dict[str, Callable[[], Kernel]] = {
    "relu": lambda: PiecewiseLinear(0.0),
    "tanh": _tanh,
    "erf": _erf,
    "sigmoid": _sigmoid,
    "hard_tanh": _hard_tanh,
    "gelu": _gelu,
    "selu": _selu,
    "swish": _swish,
    "silu": _swish,
    "linear": lambda: PiecewiseLinear(1.0),
}
KNOWN = (*BUILDERS, "leaky_relu")


def resolve(activation: str, negative_slope: float = 0.01) -> Kernel:
    """The Gaussian expectations of an activation.

    Args:
        activation: One of `KNOWN`. "gelu" is the exact one, x·Φ(x).
        negative_slope: Of "leaky_relu"; the others ignore it.

    Raises:
        ValueError: The activation is not known, or the slope not finite.
    """
    require_choice("activation", activation, KNOWN)
    if activation == "leaky_relu":
        require_number("negative_slope", negative_slope, "a slope", -math.inf)
        return PiecewiseLinear(float(negative_slope))
    return _resolve(activation)


@cache
def _resolve(activation: str) -> Kernel:
    return BUILDERS[activation]()
