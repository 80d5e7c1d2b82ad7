"""At initialization a measure changes less from layer to layer under one choice than another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from initstudy.claims.finding import ABOVE_ZERO, Finding, shortfall
from initstudy.claims.statistics import FEWEST, mean_interval, slope
from initstudy.columns import ACTIVATION_STD, LAYER, Column
from initstudy.store.frames import Study


@dataclass(frozen=True)
class Flatter:
    """At initialization a measure changes less from layer to layer under one choice than another.

    For each seed: the slope of the measure's logarithm against the layer's number, over hidden
    layers; what counts is how far it is from zero.

    Args:
        statement: What is claimed, in words.
        flatter: The choice whose measure is claimed to change less.
        than: The other choice.
        measure: A column of the history, with `{layer}` in place of the layer's name.

    Raises:
        ValueError: `measure` has no `{layer}`.

    Example:
        >>> from initstudy.claims import Flatter, synthetic_study
        >>> def results(init, seed):
        ...     growth = {"he": 1.0, "xavier": 0.7}[init]
        ...     layers = [f"fc{number}" for number in range(1, 5)]
        ...     sizes = {name: growth**number for number, name in enumerate(layers)}
        ...     return {f"activation/{n}/{k}": v for n, v in sizes.items() for k in ("rms", "std")}
        >>> study = synthetic_study({"init": ["he", "xavier"]}, results)
        >>> claim = Flatter("He's keeps the signal.", flatter="he", than="xavier")
        >>> claim.check(study, "MLP").detail
        'activation/LAYER/std changes per layer: he by +0.0%, xavier by -30.0%'
    """

    statement: str
    flatter: str
    than: str
    measure: str = ACTIVATION_STD.name

    def __post_init__(self) -> None:
        if LAYER not in self.measure:
            raise ValueError(
                f"claims: measure={self.measure}: write {LAYER} for the layer, as in "
                f"{ACTIVATION_STD.name}"
            )

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        column = Column(self.measure, "")
        unit = f"difference of |slope of ln {column.of('layer')}|"
        hidden = study.layers(facet)[:-1]
        columns = [c for layer in hidden if (c := column.of(layer)) in study.history.columns]
        choices = (self.flatter, self.than)
        slopes = {choice: _slopes(study, facet, choice, columns) for choice in choices}
        seeds = sorted(slopes[self.flatter].keys() & slopes[self.than].keys())
        lacking = shortfall(
            (2, len(columns), f"hidden layers with {self.measure}"),
            (FEWEST, len(seeds), f"seeds of both {self.flatter} and {self.than}"),
        )
        if lacking:
            return Finding.undecided(unit, lacking)
        steeper = [abs(slopes[self.than][s]) - abs(slopes[self.flatter][s]) for s in seeds]
        interval = mean_interval(steeper)
        means = {c: float(np.mean([values[s] for s in seeds])) for c, values in slopes.items()}
        changes = ", ".join(f"{c} by {np.expm1(mean):+.1%}" for c, mean in means.items())
        detail = f"{column.of('LAYER')} changes per layer: {changes}"
        return Finding.judged(interval, ABOVE_ZERO, unit, detail, arms=frozenset(choices))


def _slopes(study: Study, facet: str, choice: str, columns: list[str]) -> dict[int, float]:
    """The slope of the logarithm over the layers at step 0, by seed; without those not finite."""
    if len(columns) < 2:
        return {}
    rows = study.history_of(facet, "by", "seed", "step", *columns).filter(
        (pl.col("by").cast(pl.String) == choice) & (pl.col("step") == 0)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(rows.select(columns).to_numpy().astype(float))
    slopes = slope(np.arange(len(columns)), logs)
    pairs = zip(rows["seed"].to_list(), slopes, strict=True)
    return {seed: float(value) for seed, value in pairs if np.isfinite(value)}
