"""Dead units and saturated activations, by layer."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from initstudy.report.charts.ranking import heat_map
from initstudy.report.charts.style import (
    GREY,
    HEIGHT,
    WIDTH,
    NothingToShow,
    Rows,
    Spec,
    chart,
    colour,
    emphasis,
    seeds_in,
    titled,
    x_by,
)
from initstudy.store.frames import Study


def dead_and_saturated(study: Study, facet: str) -> Spec:
    """Fractions of dead units and of saturated activations at the end, by layer."""
    layers = study.layers(facet)[:-1]
    panels = {
        "dead units": "activation/{}/dead",
        "saturated activations": "activation/{}/saturated",
    }
    fractions = [c for c in study.history.columns if c.endswith(("/dead", "/saturated"))]
    last = (
        study.history.select("run", "by", "facet", *fractions)
        .filter(pl.col("facet") == facet)
        .group_by("run", "by", maintain_order=True)
        .agg(pl.col(c).drop_nulls().last() for c in fractions)
    )
    drawn: list[Any] = []
    absent: list[str] = []
    for name, pattern in panels.items():
        present = [layer for layer in layers if pattern.format(layer) in last.columns]
        rows: Rows = [
            {"by": by, "layer": layer, "value": value}
            for layer in present
            for (by,), frame in last.group_by("by", maintain_order=True)
            if (value := _mean(frame[pattern.format(layer)])) is not None
        ]
        if not rows:
            absent.append(name)
            continue
        if not study.numeric:
            drawn.append(heat_map(study, facet, rows, present, name))
            continue
        shape = alt.Shape("layer:N", sort=layers, legend=alt.Legend(title="layer"))
        dash = alt.StrokeDash("layer:N", sort=layers, legend=None)
        base = chart(rows).encode(
            x=x_by(study, facet),
            y=alt.Y(
                "value:Q",
                title="fraction",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%"),
            ),
        )
        line = base.mark_line(color=GREY, strokeWidth=1.2).encode(strokeDash=dash, detail="layer:N")
        dots = base.mark_point(filled=True, size=55).encode(
            shape=shape,
            color=colour(study, legend=False, facet=facet),
            opacity=emphasis(),
            tooltip=["by:N", "layer:N", alt.Tooltip("value:Q", format=".1%")],
        )
        drawn.append(alt.layer(line, dots).properties(width=WIDTH, height=HEIGHT, title=name))
    if not drawn:
        raise NothingToShow("Not measured: the sweep ran with probes=off, or has no hidden layer.")
    note = f" No {absent[0]}: the activation function has no limits." if absent else ""
    return titled(
        facet,
        alt.hconcat(*drawn),
        "Dead and saturated at the end",
        "Dead: zero for a whole batch. Saturated: within 1% of the activation's own limits. "
        f"Mean of {seeds_in(study, facet)}.{note}",
    )


def _mean(values: pl.Series) -> float | None:
    finite = values.cast(pl.Float64).drop_nulls().drop_nans()
    return None if finite.is_empty() else float(finite.mean())  # type: ignore[arg-type]
