"""Checks of arguments, which fail with one line that names the argument and its value."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from numbers import Real
from typing import SupportsIndex

import numpy as np
import torch


def finite(key: str, value: object, what: str = "a value", low: float = 0.0) -> float:
    """The number that an argument is, as Python's own type.

    Args:
        key: The argument's name.
        value: A number of Python or NumPy, or a tensor that holds one number.
        what: What the number stands for.
        low: The least number that is allowed.

    Raises:
        ValueError: It is not a finite number of at least `low`.

    Example:
        >>> import numpy as np
        >>> from initstudy.initializers.checks import finite
        >>> finite("std", np.float64(0.5))
        0.5
    """
    number = _number(value)
    if number is None or not math.isfinite(number) or number < low:
        bound = "" if low == -math.inf else f" of at least {low:g}"
        raise ValueError(f"init.{key}={value}: {what} must be a finite number{bound}")
    return number


def require_finite(key: str, value: object, what: str = "a value", low: float = 0.0) -> None:
    """Raises ValueError unless an argument is a finite number of at least `low`."""
    finite(key, value, what, low)


def require_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless an argument is one of the choices."""
    if value not in choices:
        raise ValueError(f"init.{key}={value}: choose one of {', '.join(choices)}")


def whole(key: str, value: SupportsIndex) -> int:
    """The whole number that an argument is.

    Args:
        key: The argument's name.
        value: A whole number of Python or NumPy.

    Raises:
        ValueError: It is not a whole number: a float, a truth value or None.

    Example:
        >>> from initstudy.initializers.checks import whole
        >>> whole("seed", 3)
        3
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{key}={value!r}: must be a whole number") from None


def _number(value: object) -> float | None:
    if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return None
    # A whole number stays one, so that it prints as it was given.
    return value if isinstance(value, int) else float(value)
