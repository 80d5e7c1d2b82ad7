"""Warnings that a practitioner can act on, causes before their consequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from initstudy.audit.causes import depth, ends, reach, units, weights
from initstudy.audit.evidence import Evidence
from initstudy.audit.result import Warned

# In the order in which they are to be read: what makes all else void comes first.
CHECKS: tuple[Callable[[Evidence], Iterable[Warned]], ...] = (
    weights.not_finite,
    ends.inputs,
    ends.targets,
    ends.probabilities,
    reach.frozen,
    reach.detached,
    units.symmetric,
    units.dead,
    units.saturated,
    depth.odd_layer,
    depth.time,
    depth.growth,
    ends.learning_rate,
    ends.loss,
    reach.no_gradient,
    reach.unused,
    units.identical_layers,
    units.duplicate_units,
    weights.outliers,
    weights.not_filled,
    weights.wrong_fans,
    weights.embeddings,
    weights.forget_gates,
    weights.resolution,
    reach.used_twice,
)
# The codes of all warnings.
CODES = frozenset(
    {
        "not-finite", "inputs", "targets", "softmax", "frozen", "detached", "symmetric", "dead",
        "saturated", "odd-layer", "time", "signal", "gradient", "sharpness", "loss", "no-gradient",
        "unused", "identical-layers", "duplicate-units", "outliers", "not-initialized",
        "wrong-fan", "embedding", "forget-gate", "resolution", "used-twice",
    }
)  # fmt: skip
# What each cause accounts for, where it is found.
CONSEQUENCES: dict[str, tuple[str, ...]] = {
    "not-finite": ("signal", "gradient", "loss", "odd-layer", "saturated", "sharpness"),
    "inputs": ("signal", "gradient", "loss", "odd-layer", "saturated", "dead", "sharpness"),
    "targets": ("signal", "gradient", "loss", "sharpness"),
    "softmax": ("gradient",),
    "frozen": ("no-gradient",),
    "detached": ("no-gradient", "gradient"),
    "symmetric": ("no-gradient", "dead", "signal", "gradient", "loss", "odd-layer", "sharpness"),
    "dead": ("no-gradient", "signal", "gradient", "odd-layer"),
    "saturated": ("signal", "gradient", "loss", "odd-layer", "sharpness"),
    "odd-layer": ("signal", "gradient", "loss", "sharpness"),
    "time": ("signal", "gradient", "loss", "sharpness"),
    "signal": ("gradient", "loss", "sharpness"),
    "gradient": ("sharpness",),
}


def advise(evidence: Evidence) -> tuple[list[Warned], list[Warned]]:
    """The warnings and the notes about a model.

    Args:
        evidence: What was measured.
    """
    found = [warning for check in CHECKS for warning in check(evidence)]
    warnings = [warning for warning in found if not warning.note]
    return _sorted(warnings), [warning for warning in found if warning.note]


def _sorted(warnings: list[Warned]) -> list[Warned]:
    causes, consequences = list[Warned](), list[Warned]()
    for warning in warnings:
        cause = next((c for c in causes if warning.code in CONSEQUENCES.get(c.code, ())), None)
        if cause is None:
            causes.append(warning)
        else:
            consequences.append(replace(warning, follows=cause.code))
    return causes + consequences
