"""Gains: what a nonlinearity takes from a signal's deviation, to be made up for by the weights."""

from __future__ import annotations

import math

# Gains as PyTorch documents them (https://docs.pytorch.org/docs/stable/nn.init.html,
# calculate_gain). GELU is not in that table: sqrt(2), its limit for large inputs, is customary.
GAINS = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3 / 4,
    "gelu": math.sqrt(2.0),
}


def gain(nonlinearity: str, negative_slope: float = 0.0) -> float:
    """The factor that makes up for what a nonlinearity takes from the signal's deviation.

    Raises:
        ValueError: For a nonlinearity that has none.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + negative_slope**2))
    if nonlinearity not in GAINS:
        known = ", ".join((*GAINS, "leaky_relu"))
        raise ValueError(f"init.nonlinearity={nonlinearity}: choose one of {known}")
    return GAINS[nonlinearity]
