"""A metric along the second studied key, one line per value of the first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import altair as alt

from initstudy.claims.statistics import mean_interval
from initstudy.columns import LEARNING_TIME
from initstudy.report.charts import style
from initstudy.store.cells import POINT, cells
from initstudy.store.frames import LOG_FROM, Study


def accuracy_along(study: Study, facet: str) -> style.Spec:
    """The objective along the second key."""
    measure = style.Measure.of(study)
    rows = _means(study, facet, measure.column)
    return _drawn(study, facet, rows, measure.titled_y, f"{measure.title} at the end")


def learning_time_along(study: Study, facet: str) -> style.Spec:
    """Steps until training reached the study's criterion, along the second key."""
    criterion = study.about.get("criterion")
    if LEARNING_TIME.name not in study.runs.columns or criterion is None:
        raise style.NothingToShow("The study has no criterion of what counts as learned.")
    rows = _means(study, facet, LEARNING_TIME.name)
    domain = style.log_domain(row[key] for row in rows for key in ("low", "high"))
    if domain is None:
        raise style.NothingToShow("No run was trained.")
    y = partial(style.log_axis, "learning time (steps, log scale)", domain, format="~s")
    unreached = study.runs_of(facet)[LEARNING_TIME.name].null_count()
    lost = f" {unreached} runs never reached it and count with all their steps."
    measure = style.Measure.of(study, study.schema.learning)
    reached = f"{criterion:.0%}" if measure.fraction else f"{criterion:g}"
    title = f"Steps until the {measure.label} reached {reached}"
    return _drawn(study, facet, rows, y, title, lost if unreached else "")


def _means(study: Study, facet: str, metric: str) -> style.Rows:
    """One row per point of both keys: the mean of a metric over seeds, and their range."""
    if study.across is None:
        raise style.NothingToShow("The study has one studied key alone.")
    rows = []
    for (by, across), group in cells(study, facet, metric).group_by(POINT, maintain_order=True):
        values = group["value"].to_list()
        rows.append(
            {
                "by": by,
                "across": across,
                "mean": mean_interval(values).estimate,
                "low": min(values),
                "high": max(values),
                "runs": len(values),
            }
        )
    return rows


def _drawn(
    study: Study,
    facet: str,
    rows: style.Rows,
    y: Callable[[str], alt.Y],
    title: str,
    note: str = "",
) -> style.Spec:
    x = _x(study, [row["across"] for row in rows])
    base = style.chart(rows).encode(x=x, color=style.colour(study, facet=facet))
    numbers = [alt.Tooltip(f"{key}:Q", format=".4g") for key in ("mean", "low", "high")]
    tooltip = ["by:N", alt.Tooltip("across:N", title=study.across), "runs:Q", *numbers]
    opacity = style.emphasis()
    layers = [
        base.mark_rule(strokeWidth=3).encode(y=y("low"), y2="high:Q", opacity=style.emphasis(0.35)),
        base.mark_line(strokeWidth=1.8).encode(y=y("mean"), opacity=opacity),
        base.mark_point(filled=True, size=45).encode(y=y("mean"), opacity=opacity, tooltip=tooltip),
    ]
    validated = study.schema.selection != study.objective
    by = "on the validation data" if validated else "by the other seeds"
    tuned = f" {study.tune} is chosen for each point {by}." if study.tune else ""
    return style.titled(
        facet,
        style.layered(layers, 1.4, 1.1 * style.HEIGHT),
        f"{title}, by {study.across}",
        f"Points: mean of {style.seeds_in(study, facet, POINT)}; bars: their range.{tuned}{note}",
    )


def _x(study: Study, values: list) -> alt.X:
    if not all(isinstance(value, int | float) for value in values):
        return alt.X("across:O", title=study.across, sort=None)
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > LOG_FROM / 4
    scale = alt.Scale(type="log" if logarithmic else "linear", nice=False, padding=12)
    axis = alt.Axis(values=sorted(set(values)), format=".4~g", grid=False, labelOverlap="greedy")
    return alt.X("across:Q", title=study.across, scale=scale, axis=axis)
