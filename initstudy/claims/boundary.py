"""Where theory has training end: the depth at which a signal is forgotten."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from initstudy.claims.comparison import FRACTIONS
from initstudy.claims.finding import ABOVE_ZERO, Finding, Region, shortfall
from initstudy.claims.limits import HALF, most_seeds
from initstudy.claims.statistics import FEWEST, mean_interval, smallest
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
    """Theory's boundary separates the runs that train from those that do not, better than depth.

    Every run is scored by depth over depth scale (`meanfield.Propagation.depth_scale`): the fewer
    scales deep, the more trainable. What counts is the area under the ROC curve of that score, the
    chance that a trained run lies fewer scales deep than an untrained one. Depth alone separates
    many grids nearly as well, so the area has to exceed that of depth, too. Both are measured in
    each seed, and the seeds decide.

    Args:
        statement: What is claimed, in words.
        trained: The training accuracy from which a run counts as trained; of another task, the
            value of the objective's metric on the training data.
        limit: The smallest area that supports the claim.

    Example:
        >>> from initstudy.claims import Separates, synthetic_study
        >>> def results(std, depth, seed):
        ...     theory = {"theory/activation": "tanh", "theory/sigma_b2": 0.05}
        ...     theory["theory/sigma_w2"] = std**2
        ...     trains = depth < (5 if std < 1 else 80) + seed % 3
        ...     return {"train/accuracy": 0.9 if trains else 0.1, **theory}
        >>> grid = {"init.std": [0.5, 1.3], "model.depth": [2, 4, 10, 40, 81]}
        >>> finding = Separates("Theory says where.").check(synthetic_study(grid, results), "MLP")
        >>> finding.detail.partition(";")[0]
        'area 0.938, and 0.884 for depth alone'
    """

    statement: str
    trained: float = 0.5
    limit: float = 0.9

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "area under the ROC curve, above its limit and above depth's"
        cells = scored(study, facet, self.trained, "seed")
        if cells is None:
            why = f"needs {DEPTH}, and a model that mean-field theory covers"
            return Finding.undecided(unit, why)
        trained, all_runs = int(cells["trained"].sum()), int(cells["runs"].sum())
        if trained in (0, all_runs):
            which = "no run" if trained == 0 else "every run"
            return Finding.undecided(unit, f"{which} trains; there is nothing to separate")
        theory, depth = (_areas_of_seeds(cells, score) for score in ("scales", DEPTH))
        if lacking := shortfall((FEWEST, len(theory), "seeds in which some runs train")):
            return Finding.undecided(unit, lacking, FEWEST)
        reached = mean_interval(theory - self.limit, FRACTIONS)
        gain = mean_interval(theory - depth, FRACTIONS)
        inside = cells.filter(pl.col("scales") <= SCALES)
        outside = cells.filter(pl.col("scales") > SCALES)
        detail = (
            f"area {theory.mean():.3f}, and {depth.mean():.3f} for depth alone; "
            f"{trained} of {all_runs} runs train; within {SCALES:g} depth scales "
            f"{_fraction(inside)}, beyond them {_fraction(outside)}"
        )
        return Finding.judged(smallest([reached, gain]), ABOVE_ZERO, unit, detail)


@dataclass(frozen=True)
class EndsAfter:
    """Training ends after a certain multiple of theory's depth scale.

    For each seed: the multiple that best separates the runs that train from those that do not, as
    the geometric mean of all multiples at which as few runs as possible lie on the wrong side.

    Args:
        statement: What is claimed, in words.
        scales: The multiple that is expected: 6 (Schoenholz et al. 2017, section 5).
        tolerance: How far from it the multiple may lie.
        trained: The training accuracy from which a run counts as trained; of another task, the
            value of the objective's metric on the training data.

    Example:
        >>> from initstudy.claims import EndsAfter, synthetic_study
        >>> def results(std, depth, seed):
        ...     theory = {"theory/activation": "tanh", "theory/sigma_b2": 0.05}
        ...     theory["theory/sigma_w2"] = std**2
        ...     return {"train/accuracy": 0.9 if depth < 6 else 0.1, **theory}
        >>> study = synthetic_study({"init.std": [1.0], "model.depth": [2, 5, 7, 30]}, results)
        >>> EndsAfter("It ends after six.", tolerance=5.5).check(study, "MLP").detail
        'training ends after 1.63 depth scales; 0 of 32 runs lie on the wrong side of that'
    """

    statement: str
    scales: float = SCALES
    tolerance: float = 1.0
    trained: float = 0.5

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "depth scales after which training ends"
        cells = scored(study, facet, self.trained, "seed")
        found = [] if cells is None else _borders(cells)
        if lacking := shortfall(
            (FEWEST, len(found), "seeds in which some runs train and some not")
        ):
            return Finding.undecided(unit, lacking, FEWEST)
        interval = mean_interval([multiple for multiple, _ in found])
        assert cells is not None
        wrong, runs = sum(wrong for _, wrong in found), int(cells["runs"].sum())
        detail = (
            f"training ends after {interval.estimate:.3g} depth scales; {wrong} of {runs} runs lie "
            "on the wrong side of that"
        )
        region = Region(self.scales - self.tolerance, self.scales + self.tolerance)
        return Finding.judged(interval, region, unit, detail)


@dataclass(frozen=True)
class UntrainedBeyond:
    """In most seeds hardly a run trains that is deeper than so many of theory's depth scales.

    Args:
        statement: What is claimed, in words.
        trained: The training accuracy from which a run counts as trained; of another task, the
            value of the objective's metric on the training data.
        scales: How many depth scales.
        limit: The largest fraction of a seed's runs beyond that depth that may train.
        share: The share of seeds that more than have to keep that limit.

    Example:
        >>> from initstudy.claims import UntrainedBeyond, synthetic_study
        >>> def results(std, depth, seed):
        ...     theory = {"theory/activation": "tanh", "theory/sigma_b2": 0.05}
        ...     theory["theory/sigma_w2"] = std**2
        ...     return {"train/accuracy": 0.9 if depth < 10 else 0.1, **theory}
        >>> grid = {"init.std": [0.5, 1.0], "model.depth": [2, 4, 40, 80]}
        >>> study = synthetic_study(grid, results)
        >>> finding = UntrainedBeyond("Nothing deeper trains.").check(study, "MLP")
        >>> finding.verdict, finding.detail.partition(";")[0]
        ('PASS', '0 of 32 runs beyond 6 depth scales train')
    """

    statement: str
    trained: float = 0.5
    scales: float = SCALES
    limit: float = 0.05
    share: float = HALF

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "fraction of runs that train"
        cells = scored(study, facet, self.trained, "seed")
        beyond = None if cells is None else cells.filter(pl.col("scales") > self.scales)
        seeds = 0 if beyond is None else beyond["seed"].n_unique()
        lacking = shortfall((1, seeds, f"seeds of runs deeper than {self.scales:g} depth scales"))
        if beyond is None or lacking:
            return Finding.undecided(unit, str(lacking))
        sums = beyond.group_by("seed").agg(pl.col("trained", "runs").sum())
        fractions = dict(sums.select("seed", pl.col("trained") / pl.col("runs")).iter_rows())
        limits = (-math.inf, self.limit)
        finding = most_seeds(fractions, limits, self.share, "the fraction of runs that train")
        detail = (
            f"{_fraction(beyond)} runs beyond {self.scales:g} depth scales train; {finding.detail}"
        )
        return replace(finding, detail=detail)


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


def area(score: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """The area under the ROC curve of cells.

    It is the fraction of pairs of a positive and a negative run in which the positive one has the
    larger score, ties counting half (Hanley & McNeil 1982, The Meaning and Use of the Area under a
    ROC Curve).

    Args:
        score: The score of each cell.
        positive: How many of each cell's runs are positive.
        negative: How many are not.
    """
    wins = (score[:, None] > score) + 0.5 * (score[:, None] == score)
    return float(positive @ wins @ negative / (positive.sum() * negative.sum()))


def _areas_of_seeds(cells: pl.DataFrame, column: str) -> np.ndarray:
    """The area of a score in each seed in which some runs train and some do not."""
    areas = []
    for _, seed in cells.sort("seed").group_by("seed", maintain_order=True):
        positive = seed["trained"].to_numpy().astype(float)
        negative = seed["runs"].to_numpy() - positive
        if positive.sum() and negative.sum():
            areas.append(area(-seed[column].to_numpy().astype(float), positive, negative))
    return np.array(areas)


def _borders(cells: pl.DataFrame) -> list[tuple[float, int]]:
    """For each seed the multiple of the depth scale at which training ends, and runs beyond it.

    Seeds in which all runs train, or none does, have none.
    """
    found = []
    for _, seed in cells.sort("seed").group_by("seed", maintain_order=True):
        scales = seed["scales"].to_numpy()
        order = np.argsort(scales)
        positive = seed["trained"].to_numpy()[order]
        negative = (seed["runs"] - seed["trained"]).to_numpy()[order]
        if not positive.sum() or not negative.sum():
            continue
        # On the wrong side of a border behind the first k cells.
        wrong = np.concatenate([[0], np.cumsum(negative)])
        wrong = wrong + positive.sum() - np.concatenate([[0], np.cumsum(positive)])
        best = np.flatnonzero(wrong == wrong.min())
        logs = np.log(scales[order])
        between = np.concatenate([logs[:1], (logs[1:] + logs[:-1]) / 2, logs[-1:]])
        found.append((float(np.exp(between[best].mean())), int(wrong.min())))
    return found


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
