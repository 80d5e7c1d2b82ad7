"""The signal through the layers: activations forward, gradients backward."""

from __future__ import annotations

from dataclasses import dataclass

import altair as alt
import polars as pl

from initstudy.claims.band import in_band
from initstudy.columns import (
    ACTIVATION_RMS,
    ACTIVATION_THEORY,
    GRADIENT_RMS,
    GRADIENT_THEORY,
    Column,
)
from initstudy.report.charts import style
from initstudy.report.charts.theory import agreement, theory_band, theory_lines
from initstudy.report.data.steps import geometric_means, measured, over_steps
from initstudy.store.frames import Study


@dataclass(frozen=True)
class Signal:
    """What is drawn of the layers.

    Attributes:
        measured: The column that holds the measurement.
        theory: The column that holds theory's expectation of it.
        title: The chart's title.
        axis: The title of its axis.
    """

    measured: Column
    theory: Column
    title: str
    axis: str


ACTIVATIONS = Signal(
    ACTIVATION_RMS,
    ACTIVATION_THEORY,
    "Activations through the layers",
    "activation rms (log scale)",
)
GRADIENTS = Signal(
    GRADIENT_RMS,
    GRADIENT_THEORY,
    "Gradients through the layers",
    "rms of the loss gradient by activation (log scale)",
)
TRIANGLES = alt.Shape(
    "where:N",
    scale=alt.Scale(domain=["above", "below"], range=["triangle-up", "triangle-down"]),
    legend=None,
)


def activations_by_depth(study: Study, facet: str) -> style.Spec:
    """The rms of each layer's activations against depth, at the first and last measurement."""
    return _by_depth(study, facet, ACTIVATIONS)


def gradients_by_depth(study: Study, facet: str) -> style.Spec:
    """The rms of each activation's gradient against depth, at the first and last measurement."""
    return _by_depth(study, facet, GRADIENTS)


def activations_over_steps(study: Study, facet: str) -> style.Spec:
    """The rms of each layer's activations against depth, at the step that is a parameter."""
    return _over_steps(study, facet, ACTIVATIONS)


def gradients_over_steps(study: Study, facet: str) -> style.Spec:
    """The rms of each activation's gradient against depth, at the step that is a parameter."""
    return _over_steps(study, facet, GRADIENTS)


def _by_depth(study: Study, facet: str, signal: Signal) -> style.Spec:
    probed, columns = measured(study, facet, signal.measured)
    layers = list(columns)
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
    first = panels["at initialization"]
    lines = theory_lines(first, signal.theory, layers, domain)
    band = theory_band(first, layers, domain) if signal is ACTIVATIONS else []
    drawn = []
    for panel, rows in means.items():
        # A line through the points would hide the one that theory draws behind them.
        theory = lines if panel == "at initialization" else []
        parts = _points(study, facet, rows, layers, signal.axis, domain, theory, line=not theory)
        if theory and band:
            parts = [_band(study, facet, band, layers, signal.axis, domain), *parts]
        drawn.append(style.layered(parts, title=panel))
    outside = any(_is_outside(row, domain) for rows in means.values() for row in rows)
    return style.titled(
        facet,
        alt.hconcat(*drawn),
        signal.title,
        f"Geometric mean over {style.seeds_in(study, facet)}; a run that diverged ends at its last "
        f"measurement.{_beyond(outside)}"
        f"{agreement(first, signal.measured, signal.theory, layers)}{_inside(study, facet, band)}",
    )


def _band(
    study: Study,
    facet: str,
    band: style.Rows,
    layers: list[str],
    axis: str,
    domain: tuple[float, float],
) -> alt.Chart:
    """Theory's band behind the points."""
    x = alt.X("layer:N", sort=layers, title="layer, input to output", axis=style.layer_axis())
    area = style.chart(band).mark_area()
    return area.encode(
        x=x,
        y=style.log_axis(axis, domain, "low"),
        y2="high:Q",
        color=style.colour(study, facet=facet),
        opacity=style.emphasis(0.18),
    )


def _inside(study: Study, facet: str, band: style.Rows) -> str:
    """How many layers lie in their band, in words."""
    if not band:
        return ""
    layers = in_band(study, facet)["inside"]
    inside = f"{int(layers.sum())} of {len(layers)}"
    return f" Bands: 95% of nets of this width; {inside} layers lie inside."


def _over_steps(study: Study, facet: str, signal: Signal) -> style.Spec:
    probed, columns = measured(study, facet, signal.measured)
    layers = list(columns)
    domain = _domain(probed.select(columns.values()))
    steps, rows = over_steps(study, facet, probed, columns)
    first = probed.filter(pl.col("step") == 0)
    lines = theory_lines(first, signal.theory, layers, domain)
    parts = _points(study, facet, rows, layers, signal.axis, domain, lines, line=True)
    outside = any(_is_outside(row, domain) for row in rows)
    return style.titled(
        facet,
        style.layered(parts, 1.5),
        signal.title,
        f"Geometric mean over {style.seeds_in(study, facet)}, at one step; a run that diverged "
        f"stays at its last measurement.{_beyond(outside)}"
        f"{agreement(first, signal.measured, signal.theory, layers, ' at initialization')}",
        steps,
    )


def _points(
    study: Study,
    facet: str,
    rows: style.Rows,
    layers: list[str],
    axis: str,
    domain: tuple[float, float],
    theory: style.Rows,
    *,
    line: bool,
) -> list[alt.Chart]:
    """Points over the layers, theory's dashed lines behind them, marks for what lies outside.

    Rows that have a `step` are shown at the chart's parameter of that name.
    """
    placed = []
    for row in rows:
        value, where = style.at_edge(row["value"], domain)
        placed.append(
            {**row, "value": value, "where": where, "measured": style.shown(row["value"])}
        )
    x = alt.X("layer:N", sort=layers, title="layer, input to output", axis=style.layer_axis())
    hue, y = style.colour(study, facet=facet), style.log_axis(axis, domain)
    base = style.chart(placed)
    if "step" in placed[0]:
        base = base.transform_filter("datum.step === step")
    base = base.encode(x=x, y=y, color=hue)
    opacity = style.emphasis()
    parts = []
    if theory:
        expected = style.chart(theory).encode(x=x, y=y, color=hue, opacity=opacity)
        parts.append(expected.mark_line(strokeWidth=1.4, strokeDash=[5, 3]))
    if line:
        parts.append(base.mark_line(strokeWidth=1.6).encode(opacity=opacity))
    tooltip = ["by:N", "layer:N", "measured:N"]
    dots = base.mark_point(filled=True, size=34)
    parts.append(dots.encode(tooltip=tooltip, opacity=opacity))
    if any(row["where"] != "inside" for row in placed):
        marks = base.transform_filter("datum.where !== 'inside'").mark_point(filled=True, size=90)
        parts.append(marks.encode(shape=TRIANGLES, tooltip=tooltip, opacity=opacity))
    return parts


def _domain(values: pl.DataFrame) -> tuple[float, float]:
    domain = style.log_domain(pl.concat([values[c].cast(pl.Float64) for c in values.columns]))
    if domain is None:
        raise style.NothingToShow("Every measured value is zero or not finite.")
    return domain


def _is_outside(row: dict, domain: tuple[float, float]) -> bool:
    return style.at_edge(row["value"], domain)[1] != "inside"


def _beyond(outside: bool) -> str:
    return " Triangles at the edge: beyond it, zero, or not finite." if outside else ""
