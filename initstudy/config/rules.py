"""What a single value of the configuration may be; `schema` states it beside each field."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class Rule(Protocol):
    """What a value has to be."""

    def fault(self, value: Any) -> str | None:
        """What would be right, as in "must be at most 1"; None if the value is right."""


@dataclass(frozen=True)
class Whole:
    """A whole number from `low` up to `high`; None as `high` sets no upper limit."""

    low: int
    high: int | None = None

    def fault(self, value: Any) -> str | None:
        """What would be right; None if the value is right."""
        if isinstance(value, bool) or not isinstance(value, int) or value < self.low:
            return f"must be a whole number of at least {self.low}"
        if self.high is not None and value > self.high:
            return f"must be at most {self.high}"
        return None


@dataclass(frozen=True)
class Number:
    """A finite number from `low` up to `high`.

    Attributes:
        low: The lower limit.
        high: The upper limit.
        above: Whether the lower limit itself is excluded.
        below: Whether the upper limit itself is excluded.
    """

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    below: bool = False

    def fault(self, value: Any) -> str | None:
        """What would be right; None if the value is right."""
        if not is_number(value) or value < self.low or (self.above and value == self.low):
            return (
                f"must be a finite number {'above' if self.above else 'of at least'} {self.low:g}"
            )
        if value > self.high or (self.below and value == self.high):
            return f"must be {'below' if self.below else 'at most'} {self.high:g}"
        return None


@dataclass(frozen=True, init=False)
class OneOf:
    """One of a few words."""

    choices: tuple[str, ...]

    def __init__(self, *choices: str) -> None:
        object.__setattr__(self, "choices", choices)

    def fault(self, value: Any) -> str | None:
        """What would be right; None if the value is right."""
        return None if value in self.choices else f"choose one of {', '.join(self.choices)}"


@dataclass(frozen=True)
class Form:
    """Any other form of a value.

    Attributes:
        holds: Whether a value has the form.
        right: What would be right, as in "must be true or false".
    """

    holds: Callable[[Any], bool]
    right: str

    def fault(self, value: Any) -> str | None:
        """What would be right; None if the value is right."""
        return None if self.holds(value) else self.right


def is_number(value: Any) -> bool:
    """Whether a value is a finite number; true and false are none."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def are_fractions(value: Any) -> bool:
    """Whether a value is a pair of numbers of at least 0 and below 1."""
    fraction = Number(high=1, below=True)
    pair = isinstance(value, list | tuple) and len(value) == 2
    return pair and all(fraction.fault(item) is None for item in value)


def are_texts(value: Any) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def are_mappings(value: Any) -> bool:
    """Whether a value is a list of mappings."""
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def is_mapping(value: Any) -> bool:
    """Whether a value maps keys to values."""
    return isinstance(value, Mapping)


FLAG = Form(lambda value: isinstance(value, bool), "must be true or false")
SINGLE = Form(
    lambda value: value is not None and not isinstance(value, list | tuple | dict),
    "must be a single value",
)
