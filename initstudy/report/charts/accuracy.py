"""What the study is about, such as test accuracy, against the studied key."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from initstudy.claims.statistics import Interval
from initstudy.columns import TRAIN_LOSS
from initstudy.report.charts import style
from initstudy.report.charts.ranking import ranking
from initstudy.report.charts.theory import critical_line, critical_note
from initstudy.store.frames import Study


def accuracy_by_value(study: Study, facet: str) -> style.Spec:
    """The objective at the end against the studied key, with its interval over seeds."""
    measure = style.Measure.of(study)
    runs = study.runs_of(facet)
    if runs[measure.column].drop_nulls().drop_nans().is_empty():
        raise style.NothingToShow(f"No run has a {measure.label}.")
    value = study.value(measure.column, facet).alias("value")
    if not study.numeric:
        return ranking(study, facet, measure)
    groups = runs.select("by", value).group_by("by", maintain_order=True)
    intervals = {by: measure.interval(group["value"]) for (by,), group in groups}
    methods = ", ".join(sorted({interval.method for interval in intervals.values()}))
    summary = [_row(by, interval) for by, interval in intervals.items()]
    x = style.x_by(study)
    hue = style.colour(study, legend=False, facet=facet)
    base = style.chart(summary).encode(x=x)
    band = base.mark_area(opacity=0.15, color=style.GREY).encode(
        y=measure.titled_y("low"), y2="high:Q"
    )
    line = base.mark_line(color=style.GREY, strokeWidth=1.2).encode(y=measure.y("mean"))
    bars = base.mark_rule(strokeWidth=2.2).encode(
        y=measure.y("low"), y2="high:Q", color=hue, opacity=style.emphasis()
    )
    dots, thinned = _runs(study, runs, measure)
    dots = dots.encode(x=x, color=hue)
    crosses = _divergences(runs, measure, x)
    note = " × on the axis: that many runs diverged." if crosses else ""
    return style.titled(
        facet,
        style.layered([*critical_line(study, facet, x), band, line, bars, dots, *crosses], 1.5),
        f"{measure.title} at the end",
        f"Points: runs{thinned}; bars and band: 95% interval of the mean ({methods}).{note}"
        f"{critical_note(study, facet)}",
    )


def _row(by: object, interval: Interval) -> dict[str, object]:
    """A mean with its interval, which is drawn without a width if it has no ends."""
    low, high = (
        end if math.isfinite(end) else interval.estimate for end in (interval.low, interval.high)
    )
    return {"by": by, "mean": interval.estimate, "low": low, "high": high}


def _runs(study: Study, runs: pl.DataFrame, measure: style.Measure) -> tuple[alt.Chart, str]:
    """A point for each run that did not diverge, and words that say how many are drawn."""
    drawn, thinned = style.thin(runs.filter(~pl.col("diverged")))
    points = style.run_rows(
        study, drawn, **{measure.field: pl.col(measure.column)}, loss=pl.col(TRAIN_LOSS.name)
    )
    dots = style.chart(points).mark_point(filled=True, size=42)
    tooltip = [
        *style.RUN,
        alt.Tooltip(f"{measure.field}:Q", format=".3f"),
        alt.Tooltip("loss:Q", format=".4g"),
    ]
    y = measure.y(measure.field)
    return dots.encode(y=y, opacity=style.emphasis(0.9), tooltip=tooltip), thinned


def _divergences(runs: pl.DataFrame, measure: style.Measure, x: alt.X) -> list[alt.Chart]:
    """A cross on the axis for each value with runs that diverged, and their number."""
    lost = runs.filter(pl.col("diverged")).group_by("by", maintain_order=True).len("runs")
    if lost.is_empty():
        return []
    rows = [{**row, "zero": 0.0, "text": f"{row['runs']}"} for row in lost.to_dicts()]
    y = measure.y("zero")
    base = style.chart(rows).encode(x=x, y=y, opacity=style.emphasis())
    crosses = base.mark_point(shape="cross", angle=45, size=110, filled=True, color=style.INK)
    numbers = base.mark_text(dy=-13, fontSize=11, color=style.INK)
    return [crosses.encode(tooltip=["by:N", "runs:Q"]), numbers.encode(text="text:N")]
