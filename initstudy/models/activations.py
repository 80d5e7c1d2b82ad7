"""Activation functions by the names that configurations use."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "selu": nn.SELU,
    "linear": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """A new module for an activation function.

    Raises:
        ValueError: For a name that is not known.
    """
    require_choice("activation", name, tuple(ACTIVATIONS))
    return ACTIVATIONS[name]()


def require_count(key: str, value: int, low: int = 1) -> None:
    """Raises ValueError unless a size of a model is a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"model.{key}={value}: must be a whole number of at least {low}")


def require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless an option of a model is one of these."""
    if value not in choices:
        raise ValueError(f"model.{key}={value}: choose one of {', '.join(choices)}")


def require_flag(key: str, value: bool) -> None:
    """Raises ValueError unless an option of a model is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"model.{key}={value}: must be true or false")


def require_counts(key: str, values: Sequence[int], what: str) -> None:
    """Raises ValueError unless a list of sizes holds one at least, all whole numbers."""
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"model.{key}={values}: needs a list of at least one {what}")
    for value in values:
        require_count(key, value)
