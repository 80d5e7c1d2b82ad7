"""During training the last hidden layer is saturated more than those below it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from initstudy.claims.comparison import FRACTIONS
from initstudy.claims.finding import ABOVE_ZERO, Finding, shortfall
from initstudy.claims.statistics import FEWEST, mean_interval
from initstudy.columns import ACTIVATION_SATURATED
from initstudy.store.frames import Study


@dataclass(frozen=True)
class TopSaturatesFirst:
    """During training the last hidden layer is saturated more than those below it.

    For each seed: the largest saturated fraction of the last hidden layer over the measurements,
    minus the largest of any layer below.

    Args:
        statement: What is claimed, in words.
        choice: The value of the studied key.

    Example:
        >>> from initstudy.claims import TopSaturatesFirst, synthetic_study
        >>> def results(init, seed):
        ...     saturated = {"fc1": 0.1, "fc2": 0.2, "fc3": 0.8, "head": 0.0}
        ...     rows = {f"activation/{name}/saturated": value for name, value in saturated.items()}
        ...     return rows | {f"activation/{name}/rms": 1.0 for name in saturated}
        >>> study = synthetic_study({"init": ["xavier", "he"]}, results)
        >>> TopSaturatesFirst("The top saturates first.", "xavier").check(study, "MLP").detail
        'largest saturated fraction: last hidden layer 80.0%, below it 20.0%'
    """

    statement: str
    choice: str

    def check(self, study: Study, facet: str) -> Finding:
        """What the results say of the claim; see `initstudy.claims.Claim`."""
        unit = "difference of saturated fractions"
        named = [ACTIVATION_SATURATED.of(name) for name in study.layers(facet)[:-1]]
        columns = [name for name in named if name in study.history.columns]
        rows = study.history_of(facet, "by", "seed", *columns).filter(
            pl.col("by").cast(pl.String) == self.choice
        )
        largest = rows.group_by("seed").agg(pl.col(columns).cast(pl.Float64).max())
        lacking = shortfall(
            (2, len(columns) if columns == named else 0, "probed hidden layers with limits"),
            (FEWEST, len(largest), f"seeds of {self.choice}"),
        )
        if lacking:
            return Finding.undecided(unit, lacking)
        *below, top = columns
        at_top = largest[top].to_numpy()
        others = largest.select(pl.max_horizontal(below)).to_series().to_numpy()
        interval = mean_interval((at_top - others).tolist(), FRACTIONS)
        detail = (
            f"largest saturated fraction: last hidden layer {float(at_top.mean()):.1%}, "
            f"below it {float(others.mean()):.1%}"
        )
        return Finding.judged(interval, ABOVE_ZERO, unit, detail, arms=frozenset({self.choice}))
