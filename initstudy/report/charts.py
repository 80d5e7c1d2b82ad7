"""The charts of a sweep, one function each: from a study and a facet to a Vega-Lite specification.

A chart that has nothing to show raises `NothingToShow` with the sentence that stands in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import altair as alt
import polars as pl

from initstudy.report.boundary import DEPTH
from initstudy.report.fractions import dead_and_saturated
from initstudy.report.frames import Study
from initstudy.report.lengths import spread_of_lengths
from initstudy.report.lines import accuracy_along, learning_time_along
from initstudy.report.parallel import parallel_coordinates
from initstudy.report.phase import phase_diagram
from initstudy.report.predictions import (
    critical_line,
    critical_note,
    geometric_means,
    theory_lines,
)
from initstudy.report.ranking import ranking
from initstudy.report.statistics import mean_interval
from initstudy.report.style import (
    GREY,
    HEIGHT,
    WIDTH,
    NothingToShow,
    Rows,
    Spec,
    at_edge,
    chart,
    colour,
    layer_axis,
    log_axis,
    log_domain,
    seeds_in,
    shown,
    titled,
    x_by,
)
from initstudy.report.widths import LEARNING_RATE, WIDTHS, coordinates

TRIANGLES = alt.Shape(
    "where:N",
    scale=alt.Scale(domain=["above", "below"], range=["triangle-up", "triangle-down"]),
    legend=None,
)


def loss_over_steps(study: Study, facet: str) -> Spec:
    """Training loss over steps: the mean over seeds as a line, their range as a band."""
    rows = study.history.filter((pl.col("facet") == facet) & pl.col("train/loss").is_not_null())
    domain = log_domain(rows["train/loss"].to_list(), widest=1e7)
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
    marks = ends.select("run", "by", "seed", pl.col("diverged_step").alias("step"),
                        pl.lit(domain[1]).alias("value"))  # fmt: skip
    x = alt.X(
        "step:Q", title="step (updates)", axis=alt.Axis(grid=False), scale=alt.Scale(nice=False)
    )
    base = chart(spread.to_dicts()).encode(x=x, color=colour(study, facet=facet))
    band = base.mark_area(opacity=0.18).encode(
        y=log_axis("training loss (nats, log scale)", domain, "low"), y2="high:Q"
    )
    line = base.mark_line(strokeWidth=1.8).encode(
        y=log_axis("training loss (nats, log scale)", domain),
        tooltip=["by:N", "step:Q", alt.Tooltip("value:Q", format=".4g"), "runs:Q"],
    )
    layers = [band, line]
    if len(marks):
        layers.append(
            chart(marks.to_dicts())
            .mark_point(shape="cross", angle=45, size=70, filled=True)
            .encode(
                x=x, y=log_axis("", domain), color=colour(study, facet=facet),
                tooltip=["run:N", "by:N", "seed:N", "step:Q"],
            )
        )  # fmt: skip
    note = f" × at the top: {len(marks)} runs diverged at that step." if len(marks) else ""
    seeds = seeds_in(study, facet)
    return titled(
        facet,
        alt.layer(*layers).properties(width=1.5 * WIDTH, height=HEIGHT),
        "Training loss",
        f"Mean over the minibatches since the last row. Line: mean of {seeds}; band: their range."
        f"{note}",
    )


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
    axis = alt.Axis(format="%")
    base = chart(summary).encode(x=x)
    band = base.mark_area(opacity=0.15, color=GREY).encode(
        y=alt.Y("low:Q", title="test accuracy", scale=y, axis=axis), y2="high:Q"
    )
    line = base.mark_line(color=GREY, strokeWidth=1.2).encode(y=alt.Y("mean:Q", scale=y))
    bars = base.mark_rule(strokeWidth=2.2).encode(
        y=alt.Y("low:Q", scale=y), y2="high:Q", color=colour(study, legend=False, facet=facet)
    )
    columns = ["run", "by", "seed", "test/accuracy", "train/loss", "diverged_step"]
    points = runs.filter(~pl.col("diverged")).select(columns).rename({"test/accuracy": "accuracy"})
    dots = (
        chart(_plain(points))
        .mark_point(filled=True, size=42, opacity=0.9)
        .encode(
            x=x, y=alt.Y("accuracy:Q", scale=y), color=colour(study, legend=False, facet=facet),
            tooltip=["run:N", "by:N", "seed:N", alt.Tooltip("accuracy:Q", format=".3f")],
        )
    )  # fmt: skip
    layers = [*critical_line(study, facet, x), band, line, bars, dots]
    lost = runs.filter(pl.col("diverged")).group_by("by", maintain_order=True).len("runs")
    if len(lost):
        rows = [{**row, "zero": 0.0, "text": f"{row['runs']}"} for row in lost.to_dicts()]
        crosses = chart(rows).mark_point(
            shape="cross", angle=45, size=110, filled=True, color="black"
        )
        layers.append(crosses.encode(x=x, y=alt.Y("zero:Q", scale=y), tooltip=["by:N", "runs:Q"]))
        count = chart(rows).mark_text(dy=-13, fontSize=11)
        layers.append(count.encode(x=x, y=alt.Y("zero:Q", scale=y), text="text:N"))
    how = ", ".join(sorted(methods))
    note = " × on the axis: that many runs diverged." if len(lost) else ""
    note += critical_note(study, facet)
    return titled(
        facet,
        alt.layer(*layers).properties(width=1.5 * WIDTH, height=HEIGHT),
        "Test accuracy at the end",
        f"Points: runs; bars and band: 95% interval of the mean ({how}).{note}",
    )


def activations_by_depth(study: Study, facet: str) -> Spec:
    """Root mean square of each layer's activations against depth, first and last measurement."""
    return _by_depth(
        study, facet, "activation/{}/rms", "Activations through the layers",
        "activation rms (log scale)",
    )  # fmt: skip


def gradients_by_depth(study: Study, facet: str) -> Spec:
    """Root mean square of each activation's gradient against depth, first and last measurement."""
    return _by_depth(
        study, facet, "gradient/{}/rms", "Gradients through the layers",
        "rms of the loss gradient by activation (log scale)",
    )  # fmt: skip


def _by_depth(study: Study, facet: str, column: str, title: str, axis: str) -> Spec:
    layers = study.layers(facet)
    columns = {layer: column.format(layer) for layer in layers}
    if not layers or any(c not in study.history.columns for c in columns.values()):
        raise NothingToShow("Not measured: the sweep ran with probes=off.")
    probed = study.history.filter(
        (pl.col("facet") == facet) & pl.col(columns[layers[0]]).is_not_null()
    )
    if probed.is_empty():
        raise NothingToShow("Not measured: no run was probed.")
    panels = {
        "at initialization": probed.filter(pl.col("step") == 0),
        "at the end": probed.group_by("run", maintain_order=True).last(),
    }
    everything = pl.concat([f.select(columns.values()) for f in panels.values()])
    domain = log_domain(v for c in everything.columns for v in everything[c].to_list())
    if domain is None:
        raise NothingToShow("Every measured value is zero or not finite.")
    rows: Rows = []
    for panel, frame in panels.items():
        for row in geometric_means(frame, list(columns.values())):
            for layer, name in columns.items():
                value, where = at_edge(row[name], domain)
                rows.append({"panel": panel, "by": row["by"], "layer": layer, "value": value,
                             "where": where, "measured": shown(row[name])})  # fmt: skip
    foreseen, agreement = theory_lines(panels["at initialization"], columns, domain)
    x = alt.X("layer:N", sort=layers, title="layer, input to output", axis=layer_axis())
    hue = colour(study, facet=facet)
    drawn = []
    for panel in panels:
        here = [row for row in rows if row["panel"] == panel]
        base = chart(here).encode(x=x, y=log_axis(axis, domain), color=hue)
        line = base.mark_line(strokeWidth=1.6)
        dots = base.mark_point(filled=True, size=34).encode(
            tooltip=["by:N", "layer:N", "measured:N"]
        )
        outside = [row for row in here if row["where"] != "inside"]
        marks = chart(outside or [{"where": None}]).mark_point(filled=True, size=90)
        marks = marks.encode(x=x, y=log_axis(axis, domain), shape=TRIANGLES, color=hue)
        if foreseen and panel == "at initialization":
            # A line through the points would hide the one that theory draws behind them.
            expected = chart(foreseen).encode(x=x, y=log_axis(axis, domain), color=hue)
            line = expected.mark_line(strokeWidth=1.4, strokeDash=[5, 3])
        parts = [line, dots, *([marks] if outside else [])]
        drawn.append(alt.layer(*parts).properties(width=WIDTH, height=HEIGHT, title=panel))
    beyond = any(row["where"] != "inside" for row in rows)
    note = " Triangles at the edge: beyond it, zero, or not finite." if beyond else ""
    return titled(
        facet, alt.hconcat(*drawn), title,
        f"Geometric mean over {seeds_in(study, facet)}; a run that diverged ends at its last "
        f"measurement.{note}{agreement}",
    )  # fmt: skip


def _plain(frame: pl.DataFrame) -> Rows:
    """Rows that JSON can hold: what is not finite becomes text."""
    return [
        {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in frame.to_dicts()
    ]


CHARTS: dict[str, Callable[[Study, str], Spec]] = {
    "loss": loss_over_steps,
    "accuracy": accuracy_by_value,
    "activations": activations_by_depth,
    "gradients": gradients_by_depth,
    "dead_saturated": dead_and_saturated,
    "parallel": parallel_coordinates,
}
# Of studies of two keys: what one key alone does is no summary of them.
PLANE_CHARTS: dict[str, Callable[[Study, str], Spec]] = {
    "phase": phase_diagram,
    "accuracy": accuracy_along,
    "learning_time": learning_time_along,
    "coordinates": coordinates,
    "lengths": spread_of_lengths,
}


def charts_of(study: Study) -> dict[str, Callable[[Study, str], Spec]]:
    """The charts that suit a study, by name."""
    if study.across is None:
        return CHARTS
    suits = {
        "phase": study.numeric and study.trained,
        "accuracy": study.trained,
        "learning_time": study.about.get("criterion") is not None,
        "coordinates": (study.by, study.across) == (WIDTHS, LEARNING_RATE),
        "lengths": (study.by, study.across) == (WIDTHS, DEPTH),
    }
    return {name: draw for name, draw in PLANE_CHARTS.items() if suits[name]}
