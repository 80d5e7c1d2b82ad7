"""Gains: the factors on the weights that make up for what an activation function does."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from initstudy.initializers.checks import finite
from initstudy.quadrature import adaptive_mean

Nonlinearity: TypeAlias = "str | Callable[[Tensor], Tensor]"

# PyTorch's documented gains (https://docs.pytorch.org/docs/stable/nn.init.html, calculate_gain).
# Those of tanh and selu are not exact; GELU is not in that table, and sqrt(2), its limit for large
# inputs, is customary.
GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3 / 4,
    "gelu": math.sqrt(2.0),
}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: 1 * x,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "selu": F.selu,
    "gelu": F.gelu,
    "silu": F.silu,
    "swish": F.silu,
    "elu": F.elu,
    "mish": F.mish,
    "softplus": F.softplus,
    "erf": torch.erf,
    "hard_tanh": F.hardtanh,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
}


def gain(nonlinearity: Nonlinearity, negative_slope: float = 0.01, *, exact: bool = False) -> float:
    """The factor that makes up for what an activation function takes from a signal.

    For names that PyTorch documents it is PyTorch's number, and He's √(2/(1 + slope²)) for
    leaky_relu. For every other name and any function it is 1/√E[φ(z)²], with z standard normal:
    with weights of variance gain²/fan_in, a mean square of one at the pre-activations is a fixed
    point of `initstudy.theory.meanfield.length_map`.

    Args:
        nonlinearity: The activation function: a name, or any elementwise function or module of
            torch.
        negative_slope: The slope of "leaky_relu" below zero; the default is that of
            `torch.nn.LeakyReLU` and `torch.nn.init.calculate_gain`.
        exact: Whether to use 1/√E[φ(z)²] for PyTorch's names as well.

    Raises:
        ValueError: The name is not known, the slope is not a finite number, or the function has no
            finite mean square above zero.

    Example:
        >>> import torch
        >>> from initstudy.initializers import gain
        >>> round(gain(torch.nn.functional.silu), 6)
        1.676532
        >>> round(gain("tanh"), 6), round(gain("tanh", exact=True), 6)
        (1.666667, 1.592537)
    """
    if callable(nonlinearity):
        return _by_quadrature(nonlinearity)
    if nonlinearity == "leaky_relu":
        slope = finite("negative_slope", negative_slope, "a slope", -math.inf)
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity in GAINS and not exact:
        return GAINS[nonlinearity]
    if nonlinearity not in FUNCTIONS:
        known = ", ".join((*FUNCTIONS, "leaky_relu"))
        raise ValueError(
            f"init.nonlinearity={nonlinearity}: choose one of {known}, or give a function"
        )
    return _by_quadrature(FUNCTIONS[nonlinearity])


@lru_cache(maxsize=64)
def _by_quadrature(function: Callable[[Tensor], Tensor]) -> float:
    def square(x):  # type: ignore[no-untyped-def]
        with torch.no_grad():
            return function(torch.from_numpy(x)).double().numpy() ** 2

    name = getattr(function, "__name__", type(function).__name__)
    try:
        moment = adaptive_mean(square)
    except Exception as error:
        # A user's function may raise anything.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(
            f"init.nonlinearity={name}: must map a double tensor elementwise ({reason})"
        ) from error
    if not math.isfinite(moment) or moment <= 0:
        raise ValueError(
            f"init.nonlinearity={name}: its mean square over N(0, 1) is {moment}, which has no gain"
        )
    return 1 / math.sqrt(moment)
