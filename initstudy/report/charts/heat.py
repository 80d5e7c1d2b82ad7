"""Heat maps of the signal: layer by value of the studied variable, with theory's contours."""

from __future__ import annotations

import math

import altair as alt
import numpy as np
import polars as pl

from initstudy.report.charts.layers import ACTIVATIONS, GRADIENTS
from initstudy.report.charts.phase import Axis
from initstudy.report.charts.predictions import predicted
from initstudy.report.charts.ranking import ROW_HEIGHT
from initstudy.report.charts.style import (
    HEIGHT,
    WIDTH,
    NothingToShow,
    Rows,
    Spec,
    at_edge,
    chart,
    emphasis,
    layer_axis,
    log_domain,
    seeds_in,
    shown,
    titled,
)
from initstudy.report.data.steps import few, measured, over_steps
from initstudy.store.frames import Study

MOST_CONTOURS = 9
# Of the colours, which a run that diverged would take for itself alone.
WIDEST = 1e14


def activation_heat(study: Study, facet: str) -> Spec:
    """Activation rms, layer by value, at one step."""
    return _heat(study, facet, ACTIVATIONS[0], "Activation rms, layer by layer")


def gradient_heat(study: Study, facet: str) -> Spec:
    """Gradient rms, layer by value, at one step."""
    return _heat(study, facet, GRADIENTS[0], "Gradient rms, layer by layer")


def contours(rows: Rows, layers: list[str], levels: list[float], logarithmic: bool) -> Rows:
    """Where a predicted quantity crosses levels, between the values of the studied variable.

    Args:
        rows: `by`, `layer` and `value` of the prediction.
        layers: In running order.
        levels: Positive numbers.
        logarithmic: Whether to go between two values in log.

    Returns:
        A row a level, layer and crossing: `level`, `layer`, `by`, and `branch`, which counts the
        crossings of one layer.
    """
    found: Rows = []
    for layer in layers:
        here = sorted((r["by"], r["value"]) for r in rows if r["layer"] == layer)
        at = np.array([math.log(by) if logarithmic else by for by, _ in here])
        heights = np.log([value for _, value in here])
        for level in levels:
            above = heights - math.log(level)
            for branch, i in enumerate(np.flatnonzero(above[:-1] * above[1:] < 0).tolist()):
                share = above[i] / (above[i] - above[i + 1])
                place = float(at[i] + share * (at[i + 1] - at[i]))
                by = math.exp(place) if logarithmic else place
                found.append({"level": level, "layer": layer, "by": by, "branch": branch})
    return found


def _heat(study: Study, facet: str, pattern: str, title: str) -> Spec:
    if study.by is None:
        raise NothingToShow("One configuration: there is nothing to lay side by side.")
    probed, columns = measured(study, facet, pattern)
    layers = list(columns)
    steps, rows = over_steps(study, facet, probed, columns)
    domain = log_domain((row["value"] for row in rows), widest=WIDEST)
    if domain is None:
        raise NothingToShow("Every measured value is zero or not finite.")
    placed = [
        {**row, "value": at_edge(row["value"], domain)[0], "measured": shown(row["value"])}
        for row in rows
    ]
    x = alt.X("layer:N", sort=layers, title="layer, input to output", axis=layer_axis())
    scale = alt.Scale(type="log", scheme="viridis", domain=list(domain), nice=False)
    legend = alt.Legend(
        title=["rms", "(log scale)"],
        format="~e",
        values=_levels(domain),
        gradientLength=HEIGHT * 0.8,
    )
    hue = alt.Color("value:Q", scale=scale, legend=legend)
    tooltip = ["by:N", "layer:N", "step:Q", "measured:N"]
    parts, note = [], ""
    if study.numeric:
        up = Axis.of(pl.Series([row["by"] for row in rows]))
        for row in placed:
            row["low"], row["high"] = up.cell(row["by"])
        y_scale, y_axis = up.encoding()
        y = alt.Y("low:Q", title=study.label, scale=y_scale, axis=y_axis)
        cells = chart(placed).encode(x=x, y=y, y2="high:Q", color=hue)
        lines = _contours(study, facet, probed, columns, domain, y_scale, x)
        note = " White lines: mean-field theory at initialization." if lines else ""
        height = float(HEIGHT)
    else:
        order = few(study.values(facet))
        named = alt.Y("by:O", sort=order, title=None, axis=alt.Axis(labelLimit=200))
        cells, lines = chart(placed).encode(x=x, y=named, color=hue), []
        height = float(ROW_HEIGHT * len(order))
    shown_cells = cells.transform_filter("datum.step === step").mark_rect()
    parts = [shown_cells.encode(opacity=emphasis(), tooltip=tooltip), *lines]
    return titled(
        facet,
        alt.layer(*parts).properties(width=1.3 * WIDTH, height=height),
        title,
        f"Geometric mean over {seeds_in(study, facet)}, at one step (pictures: at "
        f"initialization).{note}",
        steps,
    )


def _contours(
    study: Study,
    facet: str,
    probed: pl.DataFrame,
    columns: dict[str, str],
    domain: tuple[float, float],
    y_scale: alt.Scale,
    x: alt.X,
) -> list[alt.Chart]:
    kept = few(study.values(facet))
    rows = predicted(probed.filter((pl.col("step") == 0) & pl.col("by").is_in(kept)), columns)
    inside = [row for row in rows if at_edge(row["value"], domain)[1] == "inside"]
    found = contours(inside, list(columns), _levels(domain), study.logarithmic)
    if not found:
        return []
    for row in found:
        row["text"] = f"{row['level']:g}"
    y = alt.Y("by:Q", scale=y_scale, title="")
    lines = chart(found).encode(x=x, y=y, detail=["level:N", "branch:N"])
    first = {
        level: next(r for r in found if r["level"] == level)
        for level in dict.fromkeys(row["level"] for row in found)
    }
    names = chart(list(first.values())).encode(x=x, y=y, text="text:N")
    # A dark edge keeps lines and names visible on the palest cells.
    return [
        lines.mark_line(color="black", strokeWidth=3.5, opacity=0.5),
        lines.mark_line(color="white", strokeWidth=1.5),
        names.mark_text(color="black", fontSize=11, stroke="black", strokeWidth=3, opacity=0.6),
        names.mark_text(color="white", fontSize=11, fontWeight="bold"),
    ]


def _levels(domain: tuple[float, float]) -> list[float]:
    """Powers of ten within a domain, evenly spaced and few."""
    low, high = (math.log10(end) for end in domain)
    decades = range(math.ceil(low), math.floor(high) + 1)
    every = max(1, math.ceil(len(decades) / MOST_CONTOURS))
    return [10.0**k for k in decades if k % every == 0]
