"""A run: one point of a grid, and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Plain = dict[str, Any]

# Keys that describe the sweep, not the run.
OF_THE_SWEEP = (
    "name", "dir", "by", "across", "tune", "criterion", "paper", "claims", "exclude",
    "save_weights", "checkpoint",
)  # fmt: skip
# What cannot change a run's result, and so is no part of its identity.
WITHOUT_EFFECT = (
    *OF_THE_SWEEP, "device", "tracking", "executor", "data.root", "data.download",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One point of a grid.

    Attributes:
        config: The resolved configuration as plain values.
        overrides: What the user or the sweep set, as Hydra takes it.
        id: Twelve hexadecimal digits; the same for the same configuration.
        choices: The choice of each group, such as "xavier_normal" of `init`.
    """

    config: Plain
    overrides: tuple[str, ...] = ()
    id: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The overrides in short: "std=0.1 seed=2"."""
        parts = [o.lstrip("+").split("=", 1) for o in self.overrides if "=" in o]
        shown = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in parts if key != "sweep"]
        return " ".join(shown) or self.id

    def matches(self, pattern: Mapping[str, Any]) -> bool:
        """Whether the run has all these choices of groups and values of keys."""
        has = {**flatten(self.config), **self.choices}
        return all(str(has.get(key)) == str(value) for key, value in pattern.items())


def identity(config: Plain) -> str:
    """The hash of what can change a run's result. 1 and 1.0 are the same number."""
    relevant = {k: _canonical(v) for k, v in flatten(config).items() if not _without_effect(k)}
    text = json.dumps(relevant, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def flatten(config: Mapping[str, Any], prefix: str = "") -> Plain:
    """Nested keys as dotted ones."""
    flat: Plain = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def as_columns(config: Mapping[str, Any]) -> Plain:
    """A run's configuration as columns of a table: dotted keys, lists as text."""
    flat = flatten({k: v for k, v in config.items() if k not in OF_THE_SWEEP})
    return {k: str(v) if isinstance(v, list | tuple | dict) else v for k, v in flat.items()}


def _without_effect(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in WITHOUT_EFFECT)


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_canonical(v) for v in value] if isinstance(value, list | tuple) else value
