"""Two studied keys as a plane: how far training came at each point, and where theory has it end."""

from __future__ import annotations

import altair as alt
import polars as pl

from initstudy.claims.boundary import SCALES, boundary
from initstudy.report.charts import style
from initstudy.report.charts.axis import Axis
from initstudy.report.charts.theory import critical_line, critical_note
from initstudy.store.cells import POINT
from initstudy.store.frames import Study

CROSS = 60


def phase_diagram(study: Study, facet: str) -> style.Spec:
    """The objective's metric in training over the plane of both keys, six depth scales as a line.

    A cell in which most runs diverged is marked, so that it differs from one that never learned.
    """
    runs = study.runs_of(facet)
    if not study.numeric or study.across is None or not runs["across"].dtype.is_numeric():
        raise style.NothingToShow("A plane needs two studied keys, both of numbers.")
    along, up = Axis.of(runs["by"]), Axis.of(runs["across"])
    x_scale, x_axis = along.encoding()
    y_scale, y_axis = up.encoding()
    x = alt.X("x:Q", title=study.label, scale=x_scale, axis=x_axis)
    y = alt.Y("y:Q", title=study.across, scale=y_scale, axis=y_axis)
    measure = style.Measure.of(study, study.schema.learning)
    rows = _rows(study, facet, measure, along, up)
    # All of viridis: a model that never learned is dark, and the legend says so.
    colour = alt.Color(
        f"{measure.field}:Q",
        scale=alt.Scale(scheme="viridis", domain=[0, 1] if measure.fraction else alt.Undefined),
        legend=alt.Legend(title=measure.label.split(), format="%" if measure.fraction else "~g"),
    )
    names = {"by": study.label, "across": study.across}
    tooltip = [
        *(alt.Tooltip(f"{field}:Q", title=name) for field, name in names.items()),
        alt.Tooltip(f"{measure.field}:Q", format=".1%" if measure.fraction else ".4g"),
        "runs:Q",
        "diverged:Q",
    ]
    cells = style.chart(rows).mark_rect().encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=colour)
    layers = [cells.encode(tooltip=tooltip, opacity=style.emphasis())]
    lost = [row for row in rows if row["diverged"] > row["runs"] / 2]
    if lost:
        crosses = style.chart(lost).mark_point(shape="cross", angle=45, size=CROSS, filled=True)
        at = {
            "x": alt.X("by:Q", scale=x_scale, title=""),
            "y": alt.Y("across:Q", scale=y_scale, title=""),
        }
        layers.append(crosses.encode(**at, color=alt.value("white"), tooltip=tooltip))
    line = boundary(study, facet)
    if line:
        layers += _line(line, up, x_scale, y_scale)
        theory = f" Dashed: theory, {SCALES:g} depth scales."
    else:
        layers += critical_line(study, facet, alt.X("by:Q", scale=x_scale, title=""), "white")
        theory = critical_note(study, facet)
    note = " ×: most runs of the cell diverged." if lost else ""
    return style.titled(
        facet,
        style.layered(layers, 1.4, 1.2 * style.HEIGHT),
        "Where training is possible",
        f"Mean {measure.label} of {style.seeds_in(study, facet, POINT)} at the end.{theory}{note}",
    )


def _rows(study: Study, facet: str, measure: style.Measure, along: Axis, up: Axis) -> style.Rows:
    """One row per cell: its borders, the mean of the metric, and how many of its runs diverged."""
    mean = study.value(measure.column, facet).mean()
    grouped = (
        study.runs_of(facet)
        .with_columns(pl.col("across").cast(pl.Float64))
        .group_by(POINT, maintain_order=True)
    )
    counts = (pl.col("diverged").sum(), pl.len().alias("runs"))
    rows = grouped.agg(mean.alias(measure.field), *counts)
    placed = []
    for row in rows.to_dicts():
        (x, x2), (y, y2) = along.cell(row["by"]), up.cell(row["across"])
        placed.append({**row, "x": x, "x2": x2, "y": y, "y2": y2})
    return placed


def _line(
    line: list[dict[str, float]], up: Axis, x_scale: alt.Scale, y_scale: alt.Scale
) -> list[alt.Chart]:
    """The boundary's pieces within the plane, which it leaves where theory's depth is infinite."""
    rows, piece = [], 0
    for here in line:
        inside = up.edges[0] <= here["depth"] <= up.edges[-1]
        piece += not inside
        if inside:
            rows.append({**here, "piece": piece})
    base = style.chart(rows).encode(
        x=alt.X("by:Q", scale=x_scale, title=""),
        y=alt.Y("depth:Q", scale=y_scale, title=""),
        detail="piece:N",
        order="by:Q",
    )
    # A dark edge keeps the line visible on the palest cells.
    return [
        base.mark_line(color="black", strokeWidth=4.5, opacity=0.55),
        base.mark_line(color="white", strokeWidth=2, strokeDash=[7, 4]),
    ]
