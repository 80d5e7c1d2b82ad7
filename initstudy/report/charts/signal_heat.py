"""Heat maps of the signal: layer by value of the studied key, with theory's contours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import altair as alt
import numpy as np
import polars as pl

from initstudy.columns import Column
from initstudy.report.charts import style
from initstudy.report.charts.axis import Axis
from initstudy.report.charts.signal_by_depth import ACTIVATIONS, GRADIENTS, Signal
from initstudy.report.charts.theory import theory_lines
from initstudy.report.data.steps import few, measured, over_steps
from initstudy.store.frames import Study

MOST_CONTOURS = 9
# The largest ratio of a colour scale's ends: a run that diverged would take all colours for itself.
WIDEST = 1e14


def activation_heat(study: Study, facet: str) -> style.Spec:
    """The rms of the activations, layer by value, at one step."""
    return _heat(study, facet, ACTIVATIONS, "Activation rms, layer by layer")


def gradient_heat(study: Study, facet: str) -> style.Spec:
    """The rms of the gradients, layer by value, at one step."""
    return _heat(study, facet, GRADIENTS, "Gradient rms, layer by layer")


def contours(
    rows: style.Rows, layers: list[str], levels: list[float], logarithmic: bool
) -> style.Rows:
    """Where a predicted quantity crosses levels, between the values of the studied key.

    Args:
        rows: `by`, `layer` and `value` of the prediction.
        layers: The layers, from input to output.
        levels: The levels, positive numbers.
        logarithmic: Whether to interpolate between two values in the logarithm.

    Returns:
        One row per level, layer and crossing: `level`, `layer`, `by`, and `branch`, which numbers
        the crossings of one layer.
    """
    crossings: style.Rows = []
    for layer in layers:
        here = sorted((r["by"], r["value"]) for r in rows if r["layer"] == layer)
        at = np.array([math.log(by) if logarithmic else by for by, _ in here])
        heights = np.log([value for _, value in here])
        for level in levels:
            above = heights - math.log(level)
            for branch, i in enumerate(np.flatnonzero(above[:-1] * above[1:] < 0).tolist()):
                fraction = above[i] / (above[i] - above[i + 1])
                between = float(at[i] + fraction * (at[i + 1] - at[i]))
                by = math.exp(between) if logarithmic else between
                crossings.append({"level": level, "layer": layer, "by": by, "branch": branch})
    return crossings


@dataclass(frozen=True)
class _Plot:
    """What the layers of one heat map share."""

    study: Study
    facet: str
    layers: list[str]
    domain: tuple[float, float]

    @property
    def x(self) -> alt.X:
        """The layers."""
        axis = style.layer_axis()
        return alt.X("layer:N", sort=self.layers, title="layer, input to output", axis=axis)

    @property
    def levels(self) -> list[float]:
        """Powers of ten within the domain, evenly spaced and few."""
        low, high = (math.log10(end) for end in self.domain)
        decades = range(math.ceil(low), math.floor(high) + 1)
        every = max(1, math.ceil(len(decades) / MOST_CONTOURS))
        return [10.0**k for k in decades if k % every == 0]

    @property
    def colour(self) -> alt.Color:
        """The rms of a cell."""
        scale = alt.Scale(type="log", scheme="viridis", domain=list(self.domain), nice=False)
        legend = alt.Legend(
            title=["rms", "(log scale)"],
            format="~e",
            values=self.levels,
            gradientLength=style.HEIGHT * 0.8,
        )
        return alt.Color("value:Q", scale=scale, legend=legend)


def _heat(study: Study, facet: str, signal: Signal, title: str) -> style.Spec:
    if study.by is None:
        raise style.NothingToShow("One configuration: there is nothing to lay side by side.")
    probed, columns = measured(study, facet, signal.measured)
    steps, rows = over_steps(study, facet, probed, columns)
    domain = style.log_domain((row["value"] for row in rows), widest=WIDEST)
    if domain is None:
        raise style.NothingToShow("Every measured value is zero or not finite.")
    plot = _Plot(study, facet, list(columns), domain)
    placed = [
        {
            **row,
            "value": style.at_edge(row["value"], domain)[0],
            "measured": style.shown(row["value"]),
        }
        for row in rows
    ]
    lines: list[alt.Chart] = []
    if study.numeric:
        up = Axis.of(pl.Series([row["by"] for row in rows]))
        for row in placed:
            row["low"], row["high"] = up.cell(row["by"])
        y_scale, y_axis = up.encoding()
        y = alt.Y("low:Q", title=study.label, scale=y_scale, axis=y_axis)
        cells = style.chart(placed).encode(x=plot.x, y=y, y2="high:Q", color=plot.colour)
        lines = _contours(plot, probed, signal.theory, y_scale)
        height = float(style.HEIGHT)
    else:
        order = few(study.values(facet))
        named = alt.Y("by:O", sort=order, title=None, axis=alt.Axis(labelLimit=200))
        cells = style.chart(placed).encode(x=plot.x, y=named, color=plot.colour)
        height = float(style.ROW_HEIGHT * len(order))
    tooltip = ["by:N", "layer:N", "step:Q", "measured:N"]
    shown = cells.transform_filter("datum.step === step").mark_rect()
    shown = shown.encode(opacity=style.emphasis(), tooltip=tooltip)
    note = " White lines: mean-field theory at initialization." if lines else ""
    return style.titled(
        facet,
        style.layered([shown, *lines], 1.3, height),
        title,
        f"Geometric mean over {style.seeds_in(study, facet)}, at one step (pictures: at "
        f"initialization).{note}",
        steps,
    )


def _contours(
    plot: _Plot, probed: pl.DataFrame, theory: Column, y_scale: alt.Scale
) -> list[alt.Chart]:
    """Theory's contours and their names; none if theory does not cover the model."""
    kept = few(plot.study.values(plot.facet))
    first = probed.filter((pl.col("step") == 0) & pl.col("by").is_in(kept))
    rows = theory_lines(first, theory, plot.layers, plot.domain)
    crossings = contours(rows, plot.layers, plot.levels, plot.study.logarithmic)
    if not crossings:
        return []
    for row in crossings:
        row["text"] = f"{row['level']:g}"
    y = alt.Y("by:Q", scale=y_scale, title="")
    lines = style.chart(crossings).encode(x=plot.x, y=y, detail=["level:N", "branch:N"])
    first_of = {
        level: next(r for r in crossings if r["level"] == level)
        for level in dict.fromkeys(row["level"] for row in crossings)
    }
    names = style.chart(list(first_of.values())).encode(x=plot.x, y=y, text="text:N")
    # A dark edge keeps lines and names visible on the palest cells.
    return [
        lines.mark_line(color="black", strokeWidth=3.5, opacity=0.5),
        lines.mark_line(color="white", strokeWidth=1.5),
        names.mark_text(color="black", fontSize=11, stroke="black", strokeWidth=3, opacity=0.6),
        names.mark_text(color="white", fontSize=11, fontWeight="bold"),
    ]
