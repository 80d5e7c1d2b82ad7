"""Where theory has training end: the depth at which a signal is forgotten."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from initstudy.claims.finding import Finding, shortfall
from initstudy.claims.statistics import RESAMPLES, Interval, mean_interval, percentile_interval
from initstudy.columns import THEORY_ACTIVATION, THEORY_SIGMA_B2, THEORY_SIGMA_W2
from initstudy.store.frames import Study
from initstudy.theory import meanfield

DEPTH = "model.depth"
SCALES = 6.0
FINE = 400
VARIANCES = (THEORY_SIGMA_W2.name, THEORY_SIGMA_B2.name)
THEORY = (THEORY_ACTIVATION.name, *VARIANCES)


@dataclass(frozen=True)
class Separates:
    """Theory's boundary separates the cells that train from those that do not.

    Every cell is scored by depth over depth scale (`meanfield.Propagation.depth_scale`): the fewer
    scales deep, the more trainable. What counts is the area under the ROC curve of that score, the
    chance that a trained run lies fewer scales deep than an untrained one. Its interval is a
    percentile bootstrap over the cells, each with all its seeds.

    Args:
        statement: What is claimed, in words.
        trained: The training accuracy from which a run counts as trained; of another task, the
            value of the objective's metric on the training data.
        limit: The smallest area that supports the claim; the whole interval must reach it.

    Example:
        >>> from initstudy.claims import Separates, synthetic_study
        >>> def results(std, depth, seed):
        ...     theory = {"theory/activation": "tanh", "theory/sigma_b2": 0.05}
        ...     theory["theory/sigma_w2"] = std**2
        ...     return {"train/accuracy": 0.9 if depth < 10 else 0.1, **theory}
        >>> grid = {"init.std": [0.5, 1.0], "model.depth": [2, 4, 40, 80]}
        >>> study = synthetic_study(grid, results)
        >>> Separates("Theory says how deep.").check(study, "MLP").verdict
        'PASS'
    """

    statement: str
    trained: float = 0.5
    limit: float = 0.9

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "area under the ROC curve"
        cells = scored(study, facet, self.trained)
        if cells is None:
            why = f"needs {DEPTH}, and a model that mean-field theory covers"
            return Finding.undecided(unit, why)
        trained, all_runs = int(cells["trained"].sum()), int(cells["runs"].sum())
        if trained in (0, all_runs):
            which = "no run" if trained == 0 else "every run"
            return Finding.undecided(unit, f"{which} trains; there is nothing to separate")
        score = -cells["scales"].to_numpy()
        positive = cells["trained"].to_numpy().astype(float)
        negative = cells["runs"].to_numpy() - positive
        interval = area(score, positive, negative)
        inside = cells.filter(pl.col("scales") <= SCALES)
        outside = cells.filter(pl.col("scales") > SCALES)
        detail = (
            f"{trained} of {all_runs} runs train; within {SCALES:g} depth scales "
            f"{_fraction(inside)}, beyond them {_fraction(outside)}"
        )
        return Finding.decided(interval.low >= self.limit, interval, unit, detail)


@dataclass(frozen=True)
class UntrainedBeyond:
    """Runs deeper than so many of theory's depth scales do not train.

    For each seed: the fraction of its runs beyond that depth that train.

    Args:
        statement: What is claimed, in words.
        trained: The training accuracy from which a run counts as trained; of another task, the
            value of the objective's metric on the training data.
        scales: How many depth scales.
        limit: The largest fraction that supports the claim; the whole interval must lie at or below
            it.

    Example:
        >>> from initstudy.claims import UntrainedBeyond, synthetic_study
        >>> def results(std, depth, seed):
        ...     theory = {"theory/activation": "tanh", "theory/sigma_b2": 0.05}
        ...     theory["theory/sigma_w2"] = std**2
        ...     return {"train/accuracy": 0.9 if depth < 10 else 0.1, **theory}
        >>> grid = {"init.std": [0.5, 1.0], "model.depth": [2, 4, 40, 80]}
        >>> study = synthetic_study(grid, results)
        >>> UntrainedBeyond("Nothing deeper trains.").check(study, "MLP").detail
        '0 of 12 runs beyond 6 depth scales train'
    """

    statement: str
    trained: float = 0.5
    scales: float = SCALES
    limit: float = 0.05

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "fraction of runs that train"
        cells = scored(study, facet, self.trained, "seed")
        beyond = None if cells is None else cells.filter(pl.col("scales") > self.scales)
        seeds = 0 if beyond is None else beyond["seed"].n_unique()
        lacking = shortfall((2, seeds, f"seeds of runs deeper than {self.scales:g} depth scales"))
        if beyond is None or lacking:
            return Finding.undecided(unit, str(lacking))
        sums = beyond.group_by("seed").agg(pl.col("trained", "runs").sum())
        interval = mean_interval((sums["trained"] / sums["runs"]).to_list())
        detail = f"{_fraction(beyond)} runs beyond {self.scales:g} depth scales train"
        return Finding.decided(interval.high <= self.limit, interval, unit, detail)


def scored(study: Study, facet: str, trained: float, *keys: str) -> pl.DataFrame | None:
    """How deep each cell of a facet lies, and how many of its runs train.

    Args:
        study: The study.
        facet: One of its facets.
        trained: The training accuracy from which a run counts as trained; of another task, the
            value of the objective's metric on the training data.
        keys: Further columns of the runs that tell cells apart.

    Returns:
        One row per cell: `by`, the depth, `scales` (how many depth scales deep), `runs`, and how
        many of them `trained`; None if the study has no depth, or theory does not cover its model.
    """
    runs = study.runs_of(facet)
    if not {DEPTH, *THEORY} <= set(runs.columns):
        return None
    runs = runs.drop_nulls(THEORY)
    if runs.is_empty():
        return None
    values = runs.group_by("by").agg(
        pl.col(THEORY_ACTIVATION.name).first(), pl.col(VARIANCES).mean()
    )
    scale = {by: depth_scale(*row) for by, *row in values.iter_rows()}
    column = study.schema.learning
    value = pl.col(column).cast(pl.Float64)
    enough = value <= trained if study.is_lower_better(column) else value >= trained
    good = value.is_finite() & enough & ~pl.col("diverged")
    cell = ("by", DEPTH, *keys)
    grouped = runs.group_by(cell).agg(pl.len().alias("runs"), good.sum().alias("trained"))
    depth = pl.col(DEPTH).cast(pl.Float64)
    inverse = pl.col("by").replace_strict({by: 1 / s for by, s in scale.items()})
    return grouped.with_columns((depth * inverse).alias("scales")).sort(cell)


def depth_scale(activation: str, sigma_w2: float, sigma_b2: float) -> float:
    """Over how many layers a signal is forgotten e-fold; see `meanfield.Propagation`."""
    return meanfield.analyze(activation, sigma_w2, sigma_b2).depth_scale


def area(
    score: np.ndarray, positive: np.ndarray, negative: np.ndarray, resamples: int = RESAMPLES
) -> Interval:
    """The area under the ROC curve of cells, with its interval over cells.

    It is the fraction of pairs of a positive and a negative run in which the positive one has the
    larger score, ties counting half (Hanley & McNeil 1982, The Meaning and Use of the Area under a
    ROC Curve).

    Args:
        score: The score of each cell.
        positive: How many of each cell's runs are positive.
        negative: How many are not.
        resamples: How many resamples the bootstrap takes.
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
    """Six depth scales as a line over the studied key.

    Between the values of the grid, theory's variances are interpolated as powers of the studied
    key, which they are if that is a variance or a standard deviation.

    Returns:
        Rows of `by` and `depth`; none if the study is not one of numbers and depths.
    """
    runs = study.runs_of(facet)
    if study.across != DEPTH or not study.numeric or not set(THEORY) <= set(runs.columns):
        return []
    means = runs.drop_nulls(THEORY).group_by("by").agg(pl.col(VARIANCES).mean()).sort("by")
    if len(means) < 2 or float(means["by"][0]) <= 0:
        return []
    activation = str(runs[THEORY_ACTIVATION.name].drop_nulls()[0])
    by, weights = means["by"].to_numpy(), means[THEORY_SIGMA_W2.name].to_numpy()
    biases = float(means[THEORY_SIGMA_B2.name].to_numpy().mean())
    fine = np.geomspace(by[0], by[-1], FINE)
    curve = np.exp(np.interp(np.log(fine), np.log(by), np.log(weights)))
    rows = []
    for value, sigma_w2 in zip(fine, curve, strict=True):
        scale = depth_scale(activation, float(sigma_w2), biases)
        if math.isfinite(scale):
            rows.append({"by": float(value), "depth": SCALES * scale})
    return rows


def _fraction(cells: pl.DataFrame) -> str:
    runs = int(cells["runs"].sum())
    return f"{int(cells['trained'].sum())} of {runs}" if runs else "there is none"
