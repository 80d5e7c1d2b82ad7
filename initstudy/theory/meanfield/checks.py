"""Checks of arguments, which fail with one line that names the argument and its value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real


def require_number(key: str, value: float, what: str = "a number", low: float = 0.0) -> None:
    """Raises ValueError unless an argument is a finite number of at least `low`."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < low:
        bound = "" if low == -math.inf else f" of at least {low:g}"
        raise ValueError(f"meanfield.{key}={value}: {what} must be a finite number{bound}")


def require_variances(sigma_w2: float, sigma_b2: float) -> None:
    """Raises ValueError unless both are finite and not negative."""
    require_number("sigma_w2", sigma_w2, "a variance")
    require_number("sigma_b2", sigma_b2, "a variance")


def require_positive(key: str, value: float) -> None:
    """Raises ValueError unless an argument is a finite number above zero."""
    require_number(key, value)
    if value == 0:
        raise ValueError(f"meanfield.{key}={value}: must be above zero")


def require_correlation(c: float) -> None:
    """Raises ValueError unless an argument is a number from -1 to 1."""
    require_number("c", c, "a correlation", -math.inf)
    if abs(c) > 1:
        raise ValueError(f"meanfield.c={c}: a correlation must be from -1 to 1")


def require_count(key: str, value: int) -> None:
    """Raises ValueError unless an argument is a whole number of at least 1."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"meanfield.{key}={value}: must be a whole number of at least 1")


def require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless an argument is one of the choices."""
    if value not in choices:
        raise ValueError(f"meanfield.{key}={value}: choose one of {', '.join(choices)}")
