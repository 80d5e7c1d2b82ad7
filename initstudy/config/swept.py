"""Which keys a study sweeps: those that the overrides of its runs give several values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from initstudy.config.run import WITHOUT_EFFECT, Plain, Run

# Overrides that only say where the rest of the configuration comes from.
NO_KEYS = ("sweep", "hydra")


@dataclass(frozen=True)
class Swept:
    """What the overrides of a study's runs set.

    Attributes:
        keys: The keys that were given several values, in the order of the overrides.
        fixed: The value of every other key that was given, as text.
    """

    keys: tuple[str, ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Swept:
        """What the runs of one grid were given.

        Example:
            >>> runs = [Run({}, ("init=torch", f"seed={seed}")) for seed in (0, 1)]
            >>> Swept.of(runs)
            Swept(keys=('seed',), fixed={'init': 'torch'})
        """
        values: dict[str, set[str]] = {}
        for run in runs:
            for key, value in _given(run):
                values.setdefault(key, set()).add(value)
        return cls(
            tuple(key for key, several in values.items() if len(several) > 1),
            {key: value for key, (value, *others) in values.items() if not others},
        )

    @classmethod
    def described(cls, study: Mapping[str, Any]) -> Swept:
        """What the description of a study says, `study.json`; nothing if it says nothing."""
        return cls(tuple(study.get("swept", ())), dict(study.get("fixed", {})))

    def after(self, earlier: Swept) -> Swept:
        """Together with what earlier commands have given the runs of the same study.

        Example:
            >>> first = Swept(("init",), {"epochs": "3"})
            >>> Swept(("seed",), {"epochs": "5"}).after(first)
            Swept(keys=('seed', 'init', 'epochs'), fixed={})
        """
        changed = (k for k, v in self.fixed.items() if earlier.fixed.get(k, v) != v)
        keys = tuple(dict.fromkeys((*self.keys, *earlier.keys, *changed)))
        fixed = {**earlier.fixed, **self.fixed}
        return Swept(keys, {key: value for key, value in fixed.items() if key not in keys})

    def description(self) -> Plain:
        """What a study's description holds of it."""
        return {"swept": list(self.keys), "fixed": dict(self.fixed)}


def _given(run: Run) -> list[tuple[str, str]]:
    """The keys that a run's overrides set, of those that can change a result, and the values."""
    words = [override.lstrip("+").partition("=") for override in run.overrides]
    return [(key, value) for key, equals, value in words if equals and not _is_left_out(key)]


def _is_left_out(key: str) -> bool:
    left_out = (*NO_KEYS, *WITHOUT_EFFECT)
    return any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in left_out)
