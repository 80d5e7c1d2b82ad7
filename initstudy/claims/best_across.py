"""How the best value of the second key moves with the studied key."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from initstudy.claims.finding import Finding, Region, shortfall
from initstudy.claims.second_key import (
    as_array,
    common_seeds,
    extend,
    values_of,
    without_second_key,
)
from initstudy.claims.statistics import FEWEST, mean_interval, slope
from initstudy.columns import TRAIN_LOSS
from initstudy.store.cells import edge
from initstudy.store.frames import Study

# The best value lies between those of the grid: a parabola through so many on either side of it.
AROUND = 2


@dataclass(frozen=True)
class BestAcross:
    """How the best value of the second key moves with the studied key.

    For each seed and studied value: the vertex of a parabola of the metric in the logarithm of the
    second key, fitted to the values around the one that is best by the mean over seeds. Then the
    slope of the vertices' logarithms against the logarithm of the studied value. A best value at
    the edge of the grid leaves the claim UNDECIDED.

    Args:
        statement: What is claimed, in words.
        low, high: The limits between which the exponent lies.
        metric: A column of the runs.

    Example:
        >>> from initstudy.claims import BestAcross, synthetic_study
        >>> from math import log
        >>> def results(width, lr, seed):
        ...     return {"train/loss": (log(lr * width) - log(1.6)) ** 2}
        >>> rates = [0.0125, 0.025, 0.05, 0.1, 0.2]
        >>> grid = {"model.width": [16, 32, 64], "optimizer.lr": rates}
        >>> study = synthetic_study(grid, results)
        >>> finding = BestAcross("The best rate falls with width.", high=-0.5).check(study, "MLP")
        >>> finding.verdict, round(finding.estimate, 3)
        ('PASS', -1.0)
    """

    statement: str
    low: float = -math.inf
    high: float = math.inf
    metric: str = TRAIN_LOSS.name

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = f"exponent of the best {study.across} in {study.label}"
        if study.across is None:
            return without_second_key(unit)
        values = values_of(study, facet, self.metric) if study.numeric else {}
        seeds = common_seeds({(b, a): v for b, row in values.items() for a, v in row.items()})
        lacking = shortfall(
            (2, len(values), f"values of {study.label}"), (FEWEST, len(seeds), "seeds")
        )
        if lacking:
            return Finding.undecided(unit, lacking, FEWEST)
        sign = -1 if study.is_lower_better(self.metric) else 1
        found, wider = [], None
        for by, row in sorted(values.items()):
            grid = list(row)
            merits = _finite(sign * as_array(list(row.values()), seeds))
            best = grid[int(merits.mean(1).argmax())]
            if wider is None and (beyond := edge(grid, best)):
                wider = extend(study.across, best, f"{study.label} {by:g}", beyond)
            found.append(vertices(np.log(grid), merits))
        interval = mean_interval(slope(np.log(sorted(values)), np.array(found).T).tolist())
        shown = ", ".join(
            f"{math.exp(float(np.mean(vertex))):.2g} at {by:g}"
            for by, vertex in zip(sorted(values), found, strict=True)
        )
        detail = f"best {study.across}: {shown}"
        if wider:
            return Finding.at_edge(interval, unit, detail, wider)
        return Finding.judged(interval, Region(self.low, self.high), unit, detail)


def _finite(merits: np.ndarray) -> np.ndarray:
    """The merits, where one of the worst rank lies as far below the others as these lie apart."""
    known = merits[np.isfinite(merits)]
    if len(known) == merits.size:
        return merits
    below = known.min() - max(float(np.ptp(known)), 1.0) if len(known) else 0.0
    return np.where(np.isfinite(merits), merits, below)


def vertices(x: np.ndarray, merits: np.ndarray) -> np.ndarray:
    """Where each seed's merit is largest: `[..., seeds]` from `[..., points, seeds]`.

    Every seed takes the same points, so that none is favoured by its own luck. A parabola that has
    no maximum, or has it outside of its points, gives the end of them that is better.
    """
    best = merits.mean(-1).argmax(-1)
    reach = min(AROUND, (len(x) - 1) // 2)
    middle = np.clip(best, reach, len(x) - 1 - reach)
    around = middle[..., None] + np.arange(-reach, reach + 1)
    at = x[around]
    y = np.take_along_axis(merits, around[..., None], -2)
    centre = at.mean(-1, keepdims=True)
    u = at - centre
    powers = np.stack([np.ones_like(u), u, u * u], -1)
    fitted = np.linalg.pinv(powers) @ y
    bend, tilt = fitted[..., 2, :], fitted[..., 1, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = np.where(bend < 0, -tilt / (2 * bend), np.copysign(np.inf, tilt))
    return np.clip(vertex, u.min(-1, keepdims=True), u.max(-1, keepdims=True)) + centre
