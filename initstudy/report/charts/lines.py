"""A measure along the second studied key, a line for each value of the first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import altair as alt
import polars as pl

from initstudy.claims.statistics import mean_interval
from initstudy.report.charts.style import (
    HEIGHT,
    WIDTH,
    NothingToShow,
    Rows,
    Spec,
    chart,
    colour,
    emphasis,
    log_axis,
    log_domain,
    seeds_in,
    titled,
)
from initstudy.store.cells import POINT, cells
from initstudy.store.frames import LEARNING_TIME, LOG_FROM, Study


def accuracy_along(study: Study, facet: str) -> Spec:
    """Test accuracy along the second key."""
    base = _base(study, facet, "test/accuracy")
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(format="%")

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", title="test accuracy", scale=scale, axis=axis)

    return _drawn(study, facet, base, y, "Test accuracy at the end")


def learning_time_along(study: Study, facet: str) -> Spec:
    """Steps until the training accuracy reached the study's criterion, along the second key."""
    criterion = study.about.get("criterion")
    if LEARNING_TIME not in study.runs.columns or criterion is None:
        raise NothingToShow("The study has no criterion of what counts as learned.")
    base = _base(study, facet, LEARNING_TIME)
    domain = log_domain(row[key] for row in base for key in ("low", "high"))
    if domain is None:
        raise NothingToShow("No run was trained.")
    y = partial(log_axis, "learning time (steps, log scale)", domain, format="~s")
    unreached = study.runs.filter(pl.col("facet") == facet)[LEARNING_TIME].null_count()
    lost = f" {unreached} runs never reached it and count with all their steps."
    title = f"Steps until the training accuracy reached {criterion:.0%}"
    return _drawn(study, facet, base, y, title, lost if unreached else "")


def _base(study: Study, facet: str, metric: str) -> Rows:
    if study.across is None:
        raise NothingToShow("The study has one studied key alone.")
    found = cells(study, facet, metric)
    rows = []
    for (by, across), group in found.group_by(POINT, maintain_order=True):
        values = group["value"].to_list()
        interval = mean_interval(values)
        rows.append(
            {
                "by": by,
                "across": across,
                "mean": interval.estimate,
                "low": min(values),
                "high": max(values),
                "runs": len(values),
            }
        )
    return rows


def _drawn(
    study: Study, facet: str, rows: Rows, y: Callable[[str], alt.Y], title: str, note: str = ""
) -> Spec:
    x = _x(study, [row["across"] for row in rows])
    hue = colour(study, facet=facet)
    base = chart(rows).encode(x=x, color=hue)
    numbers = [alt.Tooltip(f"{key}:Q", format=".4g") for key in ("mean", "low", "high")]
    shown = ["by:N", alt.Tooltip("across:N", title=study.across), "runs:Q", *numbers]
    layers = [
        base.mark_rule(strokeWidth=3).encode(y=y("low"), y2="high:Q", opacity=emphasis(0.35)),
        base.mark_line(strokeWidth=1.8).encode(y=y("mean"), opacity=emphasis()),
        base.mark_point(filled=True, size=45).encode(
            y=y("mean"), opacity=emphasis(), tooltip=shown
        ),
    ]
    tuned = f" {study.tune} is chosen for each point by the other seeds." if study.tune else ""
    return titled(
        facet,
        alt.layer(*layers).properties(width=1.4 * WIDTH, height=1.1 * HEIGHT),
        f"{title}, by {study.across}",
        f"Points: mean of {seeds_in(study, facet, POINT)}; bars: their range.{tuned}{note}",
    )


def _x(study: Study, values: list) -> alt.X:
    if not all(isinstance(value, int | float) for value in values):
        return alt.X("across:O", title=study.across, sort=None)
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > LOG_FROM / 4
    scale = alt.Scale(type="log" if logarithmic else "linear", nice=False, padding=12)
    axis = alt.Axis(values=sorted(set(values)), format=".4~g", grid=False, labelOverlap="greedy")
    return alt.X("across:Q", title=study.across, scale=scale, axis=axis)
