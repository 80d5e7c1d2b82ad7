"""The signal through the layers: activations forward, gradients backward."""

from __future__ import annotations

import altair as alt
import polars as pl

from initstudy.report.charts.predictions import theory_lines
from initstudy.report.charts.style import (
    HEIGHT,
    WIDTH,
    NothingToShow,
    Rows,
    Spec,
    at_edge,
    chart,
    colour,
    emphasis,
    layer_axis,
    log_axis,
    log_domain,
    seeds_in,
    shown,
    titled,
)
from initstudy.report.data.steps import geometric_means, measured, over_steps
from initstudy.store.frames import Study

ACTIVATIONS = ("activation/{}/rms", "Activations through the layers", "activation rms (log scale)")
GRADIENTS = (
    "gradient/{}/rms",
    "Gradients through the layers",
    "rms of the loss gradient by activation (log scale)",
)
TRIANGLES = alt.Shape(
    "where:N",
    scale=alt.Scale(domain=["above", "below"], range=["triangle-up", "triangle-down"]),
    legend=None,
)


def activations_by_depth(study: Study, facet: str) -> Spec:
    """Root mean square of each layer's activations against depth, first and last measurement."""
    return _by_depth(study, facet, *ACTIVATIONS)


def gradients_by_depth(study: Study, facet: str) -> Spec:
    """Root mean square of each activation's gradient against depth, first and last measurement."""
    return _by_depth(study, facet, *GRADIENTS)


def activations_over_steps(study: Study, facet: str) -> Spec:
    """The same at one step, a parameter."""
    return _over_steps(study, facet, *ACTIVATIONS)


def gradients_over_steps(study: Study, facet: str) -> Spec:
    """The same at one step, a parameter."""
    return _over_steps(study, facet, *GRADIENTS)


def _by_depth(study: Study, facet: str, pattern: str, title: str, axis: str) -> Spec:
    probed, columns = measured(study, facet, pattern)
    panels = {
        "at initialization": probed.filter(pl.col("step") == 0),
        "at the end": probed.group_by("run", maintain_order=True).last(),
    }
    domain = _domain(pl.concat([f.select(columns.values()) for f in panels.values()]))
    means = {
        panel: [
            {"by": row["by"], "layer": layer, "value": row[name]}
            for row in geometric_means(frame, list(columns.values()))
            for layer, name in columns.items()
        ]
        for panel, frame in panels.items()
    }
    foreseen, agreement = theory_lines(panels["at initialization"], columns, domain)
    drawn = []
    for panel, rows in means.items():
        # A line through the points would hide the one that theory draws behind them.
        theory = foreseen if panel == "at initialization" else []
        parts = _signal(study, facet, rows, list(columns), axis, domain, theory, line=not theory)
        drawn.append(parts.properties(width=WIDTH, height=HEIGHT, title=panel))
    outside = any(at_edge(row["value"], domain)[1] != "inside" for r in means.values() for row in r)
    return titled(
        facet,
        alt.hconcat(*drawn),
        title,
        f"Geometric mean over {seeds_in(study, facet)}; a run that diverged ends at its last "
        f"measurement.{_beyond(outside)}{agreement}",
    )


def _over_steps(study: Study, facet: str, pattern: str, title: str, axis: str) -> Spec:
    probed, columns = measured(study, facet, pattern)
    domain = _domain(probed.select(columns.values()))
    steps, rows = over_steps(study, facet, probed, columns)
    foreseen, agreement = theory_lines(probed.filter(pl.col("step") == 0), columns, domain)
    parts = _signal(study, facet, rows, list(columns), axis, domain, foreseen, line=True)
    outside = any(at_edge(row["value"], domain)[1] != "inside" for row in rows)
    theory = agreement.replace("theory;", "theory at initialization;")
    return titled(
        facet,
        parts.properties(width=1.5 * WIDTH, height=HEIGHT),
        title,
        f"Geometric mean over {seeds_in(study, facet)}, at one step; a run that diverged stays at "
        f"its last measurement.{_beyond(outside)}{theory}",
        steps,
    )


def _signal(
    study: Study,
    facet: str,
    rows: Rows,
    layers: list[str],
    axis: str,
    domain: tuple[float, float],
    foreseen: Rows,
    *,
    line: bool,
) -> alt.LayerChart:
    """Points over the layers, theory's dashed lines behind them, marks for what lies outside.

    Rows that have a `step` are shown at the chart's parameter of that name.
    """
    placed = []
    for row in rows:
        value, where = at_edge(row["value"], domain)
        placed.append({**row, "value": value, "where": where, "measured": shown(row["value"])})
    x = alt.X("layer:N", sort=layers, title="layer, input to output", axis=layer_axis())
    hue, y = colour(study, facet=facet), log_axis(axis, domain)
    base = chart(placed)
    if "step" in placed[0]:
        base = base.transform_filter("datum.step === step")
    base = base.encode(x=x, y=y, color=hue)
    parts = []
    if foreseen:
        expected = chart(foreseen).encode(x=x, y=y, color=hue, opacity=emphasis())
        parts.append(expected.mark_line(strokeWidth=1.4, strokeDash=[5, 3]))
    if line:
        parts.append(base.mark_line(strokeWidth=1.6).encode(opacity=emphasis()))
    tooltip = ["by:N", "layer:N", "measured:N"]
    dots = base.mark_point(filled=True, size=34)
    parts.append(dots.encode(tooltip=tooltip, opacity=emphasis()))
    if any(row["where"] != "inside" for row in placed):
        marks = base.transform_filter("datum.where !== 'inside'").mark_point(filled=True, size=90)
        parts.append(marks.encode(shape=TRIANGLES, tooltip=tooltip, opacity=emphasis()))
    drawn: alt.LayerChart = alt.layer(*parts)  # type: ignore[assignment]
    return drawn


def _domain(values: pl.DataFrame) -> tuple[float, float]:
    domain = log_domain(pl.concat([values[c].cast(pl.Float64) for c in values.columns]))
    if domain is None:
        raise NothingToShow("Every measured value is zero or not finite.")
    return domain


def _beyond(outside: bool) -> str:
    return " Triangles at the edge: beyond it, zero, or not finite." if outside else ""
