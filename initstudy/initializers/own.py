"""What the model's own constructor makes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Own:
    """Leaves a model as its constructor made it, from a seeded random state.

    It is the baseline of every comparison: what a model starts from if nobody initializes it. A
    study constructs the model anew for every run, after seeding torch's random state with the run's
    seed.

    Example:
        >>> from initstudy.initializers.own import Own
        >>> Own()
        Own()
    """
