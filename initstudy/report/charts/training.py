"""How training went: loss over steps, accuracy against the studied variable."""

from __future__ import annotations

import math
from functools import partial

import altair as alt
import polars as pl

from initstudy.claims.statistics import mean_interval
from initstudy.report.charts.predictions import critical_line, critical_note
from initstudy.report.charts.ranking import ranking
from initstudy.report.charts.style import (
    GREY,
    HEIGHT,
    INK,
    RUN,
    WIDTH,
    NothingToShow,
    Spec,
    chart,
    colour,
    emphasis,
    log_axis,
    log_domain,
    run_rows,
    seeds_in,
    thin,
    titled,
    x_by,
)
from initstudy.store.frames import Study

# Runs whose own loss a page holds, to show it when one is chosen.
MOST_LINES = 200


def loss_over_steps(study: Study, facet: str) -> Spec:
    """Training loss over steps: the mean over seeds as a line, their range as a band."""
    told = study.history.select("run", "by", "facet", "step", "train/loss")
    rows = told.filter((pl.col("facet") == facet) & pl.col("train/loss").is_not_null())
    domain = log_domain(rows["train/loss"], widest=1e7)
    if domain is None:
        raise NothingToShow("No run has a finite training loss.")
    finite = rows.filter(pl.col("train/loss").is_finite())
    spread = finite.group_by("by", "step", maintain_order=True).agg(
        pl.col("train/loss").mean().clip(*domain).alias("value"),
        pl.col("train/loss").min().clip(*domain).alias("low"),
        pl.col("train/loss").max().clip(*domain).alias("high"),
        pl.len().alias("runs"),
    )
    # A run that diverged ends at its step; the mean goes on without it, and the mark says so.
    ends = study.runs.filter((pl.col("facet") == facet) & pl.col("diverged"))
    drawn, thinned = thin(ends)
    marks = run_rows(study, drawn, step=pl.col("diverged_step"), value=pl.lit(domain[1]))
    x = alt.X(
        "step:Q", title="step (updates)", axis=alt.Axis(grid=False), scale=alt.Scale(nice=False)
    )
    y = partial(log_axis, "training loss (nats, log scale)", domain)
    hue = colour(study, facet=facet)
    base = chart(spread.to_dicts()).encode(x=x, color=hue)
    band = base.mark_area().encode(y=y("low"), y2="high:Q", opacity=emphasis(0.18))
    line = base.mark_line(strokeWidth=1.8).encode(
        y=y(),
        opacity=emphasis(),
        tooltip=["by:N", "step:Q", alt.Tooltip("value:Q", format=".4g"), "runs:Q"],
    )
    layers = [band, line, *_chosen_run(finite, domain, x, y())]
    if marks:
        crosses = chart(marks).mark_point(shape="cross", angle=45, size=70, filled=True)
        layers.append(
            crosses.encode(x=x, y=y(), color=hue, opacity=emphasis(), tooltip=[*RUN, "step:Q"])
        )
    note = f" × at the top: {len(ends)} runs diverged at that step{thinned}." if marks else ""
    seeds = seeds_in(study, facet)
    return titled(
        facet,
        alt.layer(*layers).properties(width=1.5 * WIDTH, height=HEIGHT),
        "Training loss",
        f"Mean over the minibatches since the last row. Line: mean of {seeds}; band: their range."
        f"{note}",
    )


def _chosen_run(
    rows: pl.DataFrame, domain: tuple[float, float], x: alt.X, y: alt.Y
) -> list[alt.Chart]:
    """A line of the one run that a page's reader has chosen; invisible before."""
    if rows["run"].n_unique() > MOST_LINES:
        return []
    own = rows.select("run", "step", pl.col("train/loss").clip(*domain).alias("value"))
    chosen = alt.condition("chosen && datum.run === chosen.run", alt.value(1), alt.value(0))
    line = chart(own.to_dicts()).mark_line(strokeWidth=1.6, color=INK, strokeDash=[3, 2])
    return [line.encode(x=x, y=y, detail="run:N", opacity=chosen)]


def accuracy_by_value(study: Study, facet: str) -> Spec:
    """Test accuracy against the studied variable, with its interval over seeds."""
    runs = study.runs.filter(pl.col("facet") == facet)
    if runs["test/accuracy"].drop_nulls().drop_nans().is_empty():
        raise NothingToShow("No run has a test accuracy.")
    summary, methods = [], set()
    for (value,), group in runs.group_by("by", maintain_order=True):
        interval = mean_interval(group["test/accuracy"].fill_nan(0.0).to_list())
        methods.add(interval.method)
        low = interval.estimate if math.isnan(interval.low) else max(0.0, interval.low)
        high = interval.estimate if math.isnan(interval.high) else min(1.0, interval.high)
        summary.append({"by": value, "mean": interval.estimate, "low": low, "high": high})
    if not study.numeric:
        return ranking(study, facet, summary, methods)
    x = x_by(study)
    y = alt.Scale(domain=[0, 1])
    hue = colour(study, legend=False, facet=facet)
    axis = alt.Axis(format="%")
    base = chart(summary).encode(x=x)
    band = base.mark_area(opacity=0.15, color=GREY).encode(
        y=alt.Y("low:Q", title="test accuracy", scale=y, axis=axis), y2="high:Q"
    )
    line = base.mark_line(color=GREY, strokeWidth=1.2).encode(y=alt.Y("mean:Q", scale=y))
    bars = base.mark_rule(strokeWidth=2.2).encode(
        y=alt.Y("low:Q", scale=y), y2="high:Q", color=hue, opacity=emphasis()
    )
    drawn, thinned = thin(runs.filter(~pl.col("diverged")))
    points = run_rows(study, drawn, accuracy=pl.col("test/accuracy"), loss=pl.col("train/loss"))
    dots = chart(points).mark_point(filled=True, size=42)
    dots = dots.encode(
        x=x,
        y=alt.Y("accuracy:Q", scale=y),
        color=hue,
        opacity=emphasis(0.9),
        tooltip=[
            *RUN,
            alt.Tooltip("accuracy:Q", format=".3f"),
            alt.Tooltip("loss:Q", format=".4g"),
        ],
    )
    layers = [*critical_line(study, facet, x), band, line, bars, dots]
    lost = runs.filter(pl.col("diverged")).group_by("by", maintain_order=True).len("runs")
    if len(lost):
        rows = [{**row, "zero": 0.0, "text": f"{row['runs']}"} for row in lost.to_dicts()]
        base = chart(rows).encode(x=x, y=alt.Y("zero:Q", scale=y), opacity=emphasis())
        crosses = base.mark_point(shape="cross", angle=45, size=110, filled=True, color=INK)
        layers.append(crosses.encode(tooltip=["by:N", "runs:Q"]))
        layers.append(base.mark_text(dy=-13, fontSize=11, color=INK).encode(text="text:N"))
    how = ", ".join(sorted(methods))
    note = " × on the axis: that many runs diverged." if len(lost) else ""
    note += critical_note(study, facet)
    return titled(
        facet,
        alt.layer(*layers).properties(width=1.5 * WIDTH, height=HEIGHT),
        "Test accuracy at the end",
        f"Points: runs{thinned}; bars and band: 95% interval of the mean ({how}).{note}",
    )
