"""The type of every key that the schema declares, for tables of configurations."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, get_args, get_type_hints

from initstudy.config.schema import EXECUTORS, OPTIMIZERS, SCHEDULES, Config

# The choices of a group that `Config` leaves open.
CHOICES: dict[str, tuple[type, ...]] = {
    "optimizer": tuple(OPTIMIZERS.schemas.values()),
    "schedule": tuple(SCHEDULES.schemas.values()),
    "executor": tuple(EXECUTORS.schemas.values()),
}
SCALARS = (bool, int, float, str)


@cache
def declared_types() -> dict[str, type]:
    """The type of each declared key, dotted: bool, int, float or str.

    Keys that may hold anything (`model`, `init`, and what validation alone restricts) are not
    among them. A key that two choices of a group declare as int and as float is a float; one of any
    other type, such as a tuple, is text.
    """
    return _types_of(Config, "")


def _types_of(schema: type, prefix: str) -> dict[str, type]:
    types: dict[str, type] = {}
    hints = get_type_hints(schema)
    for field in fields(schema):
        key, hint = f"{prefix}{field.name}", hints[field.name]
        for choice in CHOICES.get(key, (hint,)):
            if isinstance(choice, type) and is_dataclass(choice):
                for name, kind in _types_of(choice, f"{key}.").items():
                    types[name] = kind if types.get(name, kind) is kind else float
            elif choice is not Any:
                types[key] = _scalar(choice)
    return types


def _scalar(hint: Any) -> type:
    """The scalar type behind a hint such as `int | None`."""
    (kind, *more) = [k for k in get_args(hint) or (hint,) if k is not NoneType]
    return kind if not more and kind in SCALARS else str
