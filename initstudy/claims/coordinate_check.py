"""The coordinate check: how the size of activations depends on a model's width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from initstudy.claims.finding import PASS, Finding, Region, shortfall
from initstudy.claims.statistics import FEWEST, Ends, Interval, mean_interval, slope
from initstudy.columns import ACTIVATION_RMS
from initstudy.store.frames import Study

WIDTHS = "model.width"
LEARNING_RATE = "optimizer.lr"


@dataclass(frozen=True)
class CoordinateCheck:
    """The activations' rms is a power of the width between two limits, in every layer.

    For each layer and seed: the slope of ln(rms) against ln(width). The layer whose interval comes
    closest to a limit, or lies furthest beyond one, decides (Yang et al. 2022, Tensor Programs V,
    appendix D.1: verifying muP by its coordinates).

    Args:
        statement: What is claimed, in words.
        step: When to look: the last measurement up to this step.
        lr: The learning rate; the nearest one of the study is taken.
        low, high: The limits of the exponent.
        layers: The layers to check; all by default.

    Example:
        >>> from initstudy.claims import CoordinateCheck, synthetic_study
        >>> def results(width, lr, seed):
        ...     return {"activation/fc1/rms": 1.0, "activation/head/rms": width**0.5}
        >>> study = synthetic_study({"model.width": [64, 256], "optimizer.lr": [0.1]}, results)
        >>> claim = CoordinateCheck("The size does not depend on width.", step=5, lr=0.1, high=0.2)
        >>> claim.check(study, "MLP").detail
        'exponents at step 0: fc1 +0.00, head +0.50'
    """

    statement: str
    step: int
    lr: float
    low: float = -math.inf
    high: float = math.inf
    layers: Sequence[str] | None = None

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "exponent of the activations' rms in width"
        rows = measured(study, facet, self.lr)
        rows = rows.filter(pl.col("step") <= self.step)
        lacking = shortfall(
            (2, rows["width"].n_unique(), f"probed values of {WIDTHS}"),
            (FEWEST, rows["seed"].n_unique(), "seeds"),
        )
        if lacking:
            return Finding.undecided(unit, lacking)
        rows = rows.filter(pl.col("step") == rows["step"].max())
        chosen = [
            name for name in study.layers(facet) if self.layers is None or name in self.layers
        ]
        exponents = {name: mean_interval(slopes(rows, name)) for name in chosen}
        region = Region(self.low, self.high)
        worst = max(exponents, key=lambda name: self._beyond(exponents[name]))
        detail = f"exponents at step {rows['step'][0]}: " + ", ".join(
            f"{name} {interval.estimate:+.2f}" for name, interval in exponents.items()
        )
        interval = _of_all(list(exponents.values()), exponents[worst], region)
        return Finding.judged(interval, region, f"{unit}, {worst}", detail)

    def _beyond(self, interval: Interval) -> float:
        return max(self.low - interval.estimate, interval.estimate - self.high)


def _of_all(intervals: list[Interval], worst: Interval, region: Region) -> Interval:
    """The interval of the layer that decides: inside of a region only if those of all layers are.

    That every layer is inside takes no correction (an intersection–union test); that one of them
    is outside is looked for in all, at a level divided by their number.
    """

    def at(level: float) -> Ends:
        for interval in intervals:
            low, high = interval.at(level)
            if region.verdict(low, high) != PASS:
                break
        else:
            return worst.at(level)
        low, high = worst.at(level / len(intervals))
        if region.verdict(low, high) == PASS:
            # Another layer's interval is the widest.
            return interval.at(level)
        return low, high

    return Interval.of(worst.estimate, worst.n, worst.method, at, worst.plan)


def measured(study: Study, facet: str, lr: float | None = None) -> pl.DataFrame:
    """The activations' rms of every probed row at one learning rate.

    Args:
        study: A study whose models differ in width.
        facet: One of its facets.
        lr: The learning rate, of which the nearest one of the study is taken; the middle one by
            default.

    Returns:
        Columns `width`, `seed`, `step`, `layer` and `rms`; empty if nothing was probed.
    """
    runs = study.runs_of(facet)
    columns = {ACTIVATION_RMS.of(name): name for name in study.layers(facet)}
    if not {WIDTHS, LEARNING_RATE} <= set(runs.columns) or not columns:
        return pl.DataFrame(schema={"width": pl.Int64, "seed": pl.Int64, "step": pl.Int64})
    rates = runs[LEARNING_RATE].unique().sort().to_list()
    wanted = rates[len(rates) // 2] if lr is None else lr
    nearest = min(rates, key=lambda rate: abs(math.log(rate / wanted)))
    chosen = runs.filter(pl.col(LEARNING_RATE) == nearest).select("run", width=pl.col(WIDTHS))
    rows = study.history.join(chosen, on="run").select("width", "seed", "step", *columns)
    long = rows.unpivot(index=["width", "seed", "step"], variable_name="layer", value_name="rms")
    return long.drop_nulls("rms").with_columns(pl.col("layer").replace(columns))


def slopes(rows: pl.DataFrame, layer: str) -> list[float]:
    """The slope of a layer's ln(rms) against ln(width), one per seed."""
    slopes_of_seeds = []
    for _, seed in rows.filter(pl.col("layer") == layer).sort("width").group_by("seed"):
        x, y = (np.log(seed[column].to_numpy().astype(float)) for column in ("width", "rms"))
        slopes_of_seeds.append(float(slope(x, y)))
    return slopes_of_seeds
