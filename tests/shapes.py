"""The check of arguments and results against their annotations, shapes of tensors included."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import beartype

F = TypeVar("F", bound=Callable[..., object])

_check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def checked(function: F) -> F:
    """Checks every call of a function, in which an int is a float, as it is for mypy.

    A function within a function is made anew with each call of the outer one, and a step of
    training makes many. To check those as well would take half of the time of the tests.
    """
    return function if "<locals>" in function.__qualname__ else _check(function)
