"""Two studied keys as a plane: how far training came at each point, and where theory has it end."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import numpy as np
import polars as pl

from initstudy.claims.boundary import SCALES, boundary
from initstudy.report.charts.predictions import critical_line, critical_note
from initstudy.report.charts.style import (
    HEIGHT,
    WIDTH,
    NothingToShow,
    Rows,
    Spec,
    chart,
    emphasis,
    seeds_in,
    titled,
)
from initstudy.store.cells import POINT
from initstudy.store.frames import LOG_FROM, Study

CROSS = 60
TICKS = 10


@dataclass(frozen=True)
class Axis:
    """Cells along one axis: each value of a studied key, up to half-way to its neighbours."""

    values: list[float]
    edges: list[float]
    logarithmic: bool

    @classmethod
    def of(cls, values: pl.Series) -> Axis:
        """The cells of the values that a column has."""
        sorted_values = values.unique().sort().cast(pl.Float64).to_list()
        low, high = sorted_values[0], sorted_values[-1]
        logarithmic = low > 0 and high / low > LOG_FROM
        at = np.log(sorted_values) if logarithmic else np.array(sorted_values)
        half = np.diff(at) / 2 if len(at) > 1 else np.array([0.5])
        edges = np.array([at[0] - half[0], *(at[:-1] + np.diff(at) / 2), at[-1] + half[-1]])
        edges = np.exp(edges) if logarithmic else edges
        return cls(sorted_values, edges.tolist(), logarithmic)

    def cell(self, value: float) -> tuple[float, float]:
        """The borders of a value's cell."""
        place = self.values.index(value)
        return self.edges[place], self.edges[place + 1]

    def encoding(self) -> tuple[alt.Scale, alt.Axis]:
        """The scale over all cells, and an axis with the values themselves as ticks."""
        kind = alt.ScaleType("log" if self.logarithmic else "linear")
        scale = alt.Scale(type=kind, domain=[self.edges[0], self.edges[-1]], nice=False)
        ticks = self.values[:: -(-len(self.values) // TICKS)]
        return scale, alt.Axis(values=ticks, format=".4~g", grid=False)


def phase_diagram(study: Study, facet: str) -> Spec:
    """Training accuracy over the plane of both keys, six depth scales as a line.

    A cell in which most runs diverged is marked, so that it differs from one that never learned.
    """
    runs = study.runs.filter(pl.col("facet") == facet)
    if not study.numeric or study.across is None or not runs["across"].dtype.is_numeric():
        raise NothingToShow("A plane needs two studied keys, both of numbers.")
    along, up = Axis.of(runs["by"]), Axis.of(runs["across"])
    x_scale, x_axis = along.encoding()
    y_scale, y_axis = up.encoding()
    x = alt.X("x:Q", title=study.label, scale=x_scale, axis=x_axis)
    y = alt.Y("y:Q", title=study.across, scale=y_scale, axis=y_axis)
    rows = _rows(runs, along, up)
    # Viridis whole: a net that never learned is dark, and the legend says so.
    colour = alt.Color(
        "accuracy:Q",
        scale=alt.Scale(scheme="viridis", domain=[0, 1]),
        legend=alt.Legend(title=["training", "accuracy"], format="%"),
    )
    names = {"by": study.label, "across": study.across}
    shown = [
        *(alt.Tooltip(f"{field}:Q", title=name) for field, name in names.items()),
        alt.Tooltip("accuracy:Q", format=".1%"),
        "runs:Q",
        "diverged:Q",
    ]
    cells = chart(rows).mark_rect()
    layers = [
        cells.encode(
            x=x, x2="x2:Q", y=y, y2="y2:Q", color=colour, tooltip=shown, opacity=emphasis()
        )
    ]
    lost = [row for row in rows if row["diverged"] > row["runs"] / 2]
    if lost:
        crosses = chart(lost).mark_point(shape="cross", angle=45, size=CROSS, filled=True)
        at = {
            "x": alt.X("by:Q", scale=x_scale, title=""),
            "y": alt.Y("across:Q", scale=y_scale, title=""),
        }
        layers.append(crosses.encode(**at, color=alt.value("white"), tooltip=shown))
    line = boundary(study, facet)
    if line:
        layers += _line(line, up, x_scale, y_scale)
        theory = f" Dashed: theory, {SCALES:g} depth scales."
    else:
        layers += critical_line(study, facet, alt.X("by:Q", scale=x_scale, title=""), "white")
        theory = critical_note(study, facet)
    note = " ×: most runs of the cell diverged." if lost else ""
    return titled(
        facet,
        alt.layer(*layers).properties(width=1.4 * WIDTH, height=1.2 * HEIGHT),
        "Where training is possible",
        f"Mean training accuracy of {seeds_in(study, facet, POINT)} at the end.{theory}{note}",
    )


def _rows(runs: pl.DataFrame, along: Axis, up: Axis) -> Rows:
    accuracy = pl.col("train/accuracy").cast(pl.Float64).fill_nan(0.0).fill_null(0.0).mean()
    grouped = runs.with_columns(pl.col("across").cast(pl.Float64)).group_by(
        POINT, maintain_order=True
    )
    rows = grouped.agg(accuracy.alias("accuracy"), pl.col("diverged").sum(), pl.len().alias("runs"))
    placed = []
    for row in rows.to_dicts():
        (x, x2), (y, y2) = along.cell(row["by"]), up.cell(row["across"])
        placed.append({**row, "x": x, "x2": x2, "y": y, "y2": y2})
    return placed


def _line(
    line: list[dict[str, float]], up: Axis, x_scale: alt.Scale, y_scale: alt.Scale
) -> list[alt.Chart]:
    """The boundary's pieces within the plane; it leaves it where theory's depth has no bound."""
    rows, piece = [], 0
    for here in line:
        inside = up.edges[0] <= here["depth"] <= up.edges[-1]
        piece += not inside
        if inside:
            rows.append({**here, "piece": piece})
    base = chart(rows).encode(
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
