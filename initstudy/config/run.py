"""A run: one point of a grid, and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Plain = dict[str, Any]

# Keys that describe the study, not a run of it.
OF_THE_STUDY = (
    "name",
    "dir",
    "by",
    "across",
    "tune",
    "criterion",
    "objective",
    "max_seeds",
    "paper",
    "claims",
    "notes",
    "exclude",
    "save_weights",
    "checkpoint",
)
# Keys that cannot change the result of a run, and so are no part of its identity.
WITHOUT_EFFECT = (
    *OF_THE_STUDY,
    "device",
    "tracking",
    "executor",
    "planner",
    "data.root",
    "data.download",
)


@dataclass(frozen=True)
class Run:
    """One point of a grid.

    Attributes:
        config: The resolved configuration as plain values.
        overrides: What the user or the grid set, as Hydra takes it.
        id: Twelve hexadecimal digits, which are the same for the same configuration.
        choices: The choice of each group, such as "xavier_normal" of `init`.
        swept: The keys that the study sweeps, of which this run has one value each.
    """

    config: Plain
    overrides: tuple[str, ...] = ()
    id: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    swept: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The overrides in short: "std=0.1 seed=2"."""
        parts = [o.lstrip("+").split("=", 1) for o in self.overrides if "=" in o]
        shown = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in parts if key != "sweep"]
        return " ".join(shown) or self.id

    def matches_any(self, patterns: Sequence[Mapping[str, Any]]) -> bool:
        """Whether one of the patterns, of choices by group and values by key, fits the run."""
        has = {**flatten(self.config), **self.choices} if patterns else {}
        return any(
            all(str(has.get(key)) == str(value) for key, value in pattern.items())
            for pattern in patterns
        )


def identity(config: Plain) -> str:
    """The hash of what can change a run's result. 1 and 1.0 are the same number."""
    relevant = {k: _canonical(v) for k, v in flatten(without(config, WITHOUT_EFFECT)).items()}
    text = json.dumps(relevant, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def without(config: Mapping[str, Any], keys: Iterable[str]) -> Plain:
    """A configuration without some keys and all that lies below them; the rest is shared."""
    left = dict(config)
    for key in keys:
        first, _, rest = key.partition(".")
        if not rest:
            left.pop(first, None)
        elif isinstance(left.get(first), Mapping):
            left[first] = without(left[first], (rest,))
    return left


def flatten(config: Mapping[str, Any], prefix: str = "") -> Plain:
    """A nested configuration as one mapping from dotted keys to values."""
    flat: Plain = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def as_columns(config: Mapping[str, Any]) -> Plain:
    """A run's configuration as the columns of a table: dotted keys, with lists as text."""
    flat = flatten(without(config, OF_THE_STUDY))
    return {k: str(v) if isinstance(v, list | tuple | dict) else v for k, v in flat.items()}


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_canonical(v) for v in value] if isinstance(value, list | tuple) else value
