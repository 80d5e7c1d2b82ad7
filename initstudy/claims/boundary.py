"""Where theory has training end: the depth at which a signal is forgotten."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from initstudy.claims.claim import FAIL, PASS, UNDECIDED
from initstudy.claims.statistics import RESAMPLES, Interval, mean_interval, percentile_interval
from initstudy.store.frames import Study
from initstudy.theory import meanfield

DEPTH = "model.depth"
SCALES = 6.0
FINE = 400
THEORY = ("theory/activation", "theory/sigma_w2", "theory/sigma_b2")


@dataclass(frozen=True)
class Separates:
    """Theory's boundary separates the cells that train from those that do not.

    Every cell is scored by depth over depth scale (`meanfield.Propagation.depth_scale`): the fewer
    scales deep, the more trainable. What counts is the area under the ROC curve of that score, the
    chance that a trained run lies fewer scales deep than an untrained one. Its interval is a
    percentile bootstrap over the cells, each with all its seeds.

    Args:
        statement: What is claimed, in words.
        trained: The training accuracy from which a run counts as trained.
        limit: Of the area; the whole interval must lie at or above it.
    """

    statement: str
    trained: float = 0.5
    limit: float = 0.9

    def check(self, study: Study, facet: str) -> tuple[str, Interval | None, str, str]:
        """See `Claim`."""
        unit = "area under the ROC curve"
        found = scored(study, facet, self.trained)
        if found is None:
            return UNDECIDED, None, unit, f"needs {DEPTH} and what theory says of the model"
        trained, all_runs = int(found["trained"].sum()), int(found["runs"].sum())
        if trained in (0, all_runs):
            which = "no run" if trained == 0 else "every run"
            return UNDECIDED, None, unit, f"{which} trains; there is nothing to separate"
        score = -found["scales"].to_numpy()
        positive = found["trained"].to_numpy().astype(float)
        negative = found["runs"].to_numpy() - positive
        interval = area(score, positive, negative)
        inside = found.filter(pl.col("scales") <= SCALES)
        outside = found.filter(pl.col("scales") > SCALES)
        detail = (
            f"{trained} of {all_runs} runs train; within {SCALES:g} depth scales {_share(inside)}, "
            f"beyond {_share(outside)}"
        )
        return (PASS if interval.low >= self.limit else FAIL), interval, unit, detail


@dataclass(frozen=True)
class UntrainedBeyond:
    """Runs deeper than so many of theory's depth scales do not train.

    For each seed: the share of its runs beyond that depth that train.

    Args:
        statement: What is claimed, in words.
        trained: The training accuracy from which a run counts as trained.
        scales: How many depth scales.
        limit: Of the share; the whole interval must lie at or below it.
    """

    statement: str
    trained: float = 0.5
    scales: float = SCALES
    limit: float = 0.05

    def check(self, study: Study, facet: str) -> tuple[str, Interval | None, str, str]:
        """See `Claim`."""
        unit = "share of runs that train"
        found = scored(study, facet, self.trained, "seed")
        beyond = None if found is None else found.filter(pl.col("scales") > self.scales)
        if beyond is None or beyond["seed"].n_unique() < 2:
            why = f"needs runs of two seeds deeper than {self.scales:g} depth scales"
            return UNDECIDED, None, unit, why
        sums = beyond.group_by("seed").agg(pl.col("trained", "runs").sum())
        interval = mean_interval((sums["trained"] / sums["runs"]).to_list())
        detail = f"{_share(beyond)} runs beyond {self.scales:g} depth scales train"
        return (PASS if interval.high <= self.limit else FAIL), interval, unit, detail


def scored(study: Study, facet: str, trained: float, *keys: str) -> pl.DataFrame | None:
    """A row a cell, and each of further `keys`: `scales` deep, `runs`, how many of them `trained`.

    None where the study has no depth, or theory does not cover its model.
    """
    runs = study.runs.filter(pl.col("facet") == facet)
    if not {DEPTH, *THEORY} <= set(runs.columns):
        return None
    runs = runs.drop_nulls(THEORY)
    if runs.is_empty():
        return None
    values = runs.group_by("by").agg(
        pl.col("theory/activation").first(), pl.col("theory/sigma_w2", "theory/sigma_b2").mean()
    )
    scale = {by: depth_scale(*row) for by, *row in values.iter_rows()}
    accuracy = pl.col("train/accuracy").cast(pl.Float64)
    good = accuracy.is_finite() & (accuracy >= trained) & ~pl.col("diverged")
    cell = ("by", DEPTH, *keys)
    grouped = runs.group_by(cell).agg(pl.len().alias("runs"), good.sum().alias("trained"))
    depth = pl.col(DEPTH).cast(pl.Float64)
    inverse = pl.col("by").replace_strict({by: 1 / s for by, s in scale.items()})
    return grouped.with_columns((depth * inverse).alias("scales")).sort(cell)


def depth_scale(activation: str, sigma_w2: float, sigma_b2: float) -> float:
    """Layers over which a signal is forgotten e-fold; see `meanfield.Propagation`."""
    return meanfield.analyze(activation, sigma_w2, sigma_b2).depth_scale


def area(
    score: np.ndarray, positive: np.ndarray, negative: np.ndarray, resamples: int = RESAMPLES
) -> Interval:
    """The area under the ROC curve of cells, with its interval over cells.

    It is the share of pairs of a positive and a negative run in which the positive one has the
    larger score, ties counting half (Hanley & McNeil 1982, The Meaning and Use of the Area under a
    ROC Curve).

    Args:
        score: Of each cell.
        positive: How many of its runs are positive.
        negative: How many are not.
        resamples: Of the bootstrap.
    """
    wins = (score[:, None] > score) + 0.5 * (score[:, None] == score)
    count = len(score)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    areas = _areas(drawn * positive, drawn * negative, wins)
    estimate = float(_areas(positive[None], negative[None], wins)[0])
    return percentile_interval(estimate, areas, count, "cells")


def _areas(positive: np.ndarray, negative: np.ndarray, wins: np.ndarray) -> np.ndarray:
    pairs = positive.sum(1) * negative.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((positive @ wins) * negative).sum(1) / pairs


def boundary(study: Study, facet: str) -> list[dict[str, float]]:
    """Six depth scales as a line over the studied variable: rows of `by` and `depth`.

    Between the values of the grid the theory's variances are interpolated as powers of the studied
    variable, which they are where that is a variance or a standard deviation.
    """
    runs = study.runs.filter(pl.col("facet") == facet)
    if study.across != DEPTH or not study.numeric or not set(THEORY) <= set(runs.columns):
        return []
    means = runs.drop_nulls(THEORY).group_by("by").agg(pl.col(THEORY[1:]).mean()).sort("by")
    if len(means) < 2 or float(means["by"][0]) <= 0:
        return []
    activation = str(runs["theory/activation"].drop_nulls()[0])
    by, weights = means["by"].to_numpy(), means["theory/sigma_w2"].to_numpy()
    biases = float(means["theory/sigma_b2"].to_numpy().mean())
    fine = np.geomspace(by[0], by[-1], FINE)
    curve = np.exp(np.interp(np.log(fine), np.log(by), np.log(weights)))
    rows = []
    for value, sigma_w2 in zip(fine, curve, strict=True):
        scale = depth_scale(activation, float(sigma_w2), biases)
        if math.isfinite(scale):
            rows.append({"by": float(value), "depth": SCALES * scale})
    return rows


def _share(cells: pl.DataFrame) -> str:
    runs = int(cells["runs"].sum())
    return f"{int(cells['trained'].sum())} of {runs}" if runs else "there is none"
