"""The coordinate check: how the size of activations goes with width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from initstudy.claims.claim import FAIL, PASS, UNDECIDED
from initstudy.claims.statistics import Interval, mean_interval, slope
from initstudy.store.frames import Study

WIDTHS = "model.width"
LEARNING_RATE = "optimizer.lr"


@dataclass(frozen=True)
class CoordinateCheck:
    """The activations' rms goes with width as a power between two limits, in every layer.

    For each layer and seed: the slope of ln(rms) against ln(width). The layer whose interval comes
    closest to a limit, or lies furthest beyond one, decides (Yang et al. 2022, Tensor Programs V,
    appendix D.1: verifying muP by its coordinates).

    Args:
        statement: What is claimed, in words.
        step: When: the last measurement up to this step.
        lr: At which learning rate, the nearest of those in the sweep.
        low, high: Limits of the exponent.
        layers: Which; all by default.
    """

    statement: str
    step: int
    lr: float
    low: float = -math.inf
    high: float = math.inf
    layers: Sequence[str] | None = None

    def check(self, study: Study, facet: str) -> tuple[str, Interval | None, str, str]:
        """See `Claim`."""
        unit = "exponent of the activations' rms in width"
        rows = measured(study, facet, self.lr)
        rows = rows.filter(pl.col("step") <= self.step)
        if rows.is_empty() or rows["width"].n_unique() < 2 or rows["seed"].n_unique() < 2:
            return UNDECIDED, None, unit, f"needs probes, two values of {WIDTHS}, two seeds"
        rows = rows.filter(pl.col("step") == rows["step"].max())
        chosen = [
            name for name in study.layers(facet) if self.layers is None or name in self.layers
        ]
        found = {name: mean_interval(slopes(rows, name)) for name in chosen}
        worst = max(found, key=lambda name: self._beyond(found[name]))
        detail = f"at step {rows['step'][0]}: " + ", ".join(
            f"{name} {interval.estimate:+.2f}" for name, interval in found.items()
        )
        holds = self._beyond(found[worst]) <= 0
        return (PASS if holds else FAIL), found[worst], f"{unit}, {worst}", detail

    def _beyond(self, interval: Interval) -> float:
        return max(self.low - interval.low, interval.high - self.high)


def measured(study: Study, facet: str, lr: float | None = None) -> pl.DataFrame:
    """`width`, `seed`, `step`, `layer` and `rms` of every probed row, at one learning rate.

    Args:
        study: Whose nets differ in width.
        facet: Which of its models.
        lr: The nearest learning rate of the sweep is taken; the middle one by default.
    """
    runs = study.runs.filter(pl.col("facet") == facet)
    columns = {f"activation/{name}/rms": name for name in study.layers(facet)}
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
    """One seed's slope of ln(rms) against ln(width) each."""
    found = []
    for _, seed in rows.filter(pl.col("layer") == layer).sort("width").group_by("seed"):
        x, y = (np.log(seed[column].to_numpy().astype(float)) for column in ("width", "rms"))
        found.append(float(slope(x, y)))
    return found
