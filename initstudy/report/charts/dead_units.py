"""Dead units and saturated activations, by layer."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from initstudy.columns import ACTIVATION_DEAD, ACTIVATION_SATURATED
from initstudy.report.charts import style
from initstudy.store.frames import Study

PANELS = {"dead units": ACTIVATION_DEAD, "saturated activations": ACTIVATION_SATURATED}


def dead_and_saturated(study: Study, facet: str) -> style.Spec:
    """The fractions of dead units and of saturated activations at the end, by layer."""
    layers = study.layers(facet)[:-1]
    names = [c.of(layer) for c in PANELS.values() for layer in layers]
    columns = [name for name in names if name in study.history.columns]
    last = (
        study.history_of(facet, "run", "by", *columns)
        .group_by("run", "by", maintain_order=True)
        .agg(pl.col(c).drop_nulls().last() for c in columns)
    )
    drawn: list[Any] = []
    absent: list[str] = []
    for title, column in PANELS.items():
        present = [layer for layer in layers if column.of(layer) in columns]
        rows: style.Rows = [
            {"by": by, "layer": layer, "value": value}
            for layer in present
            for (by,), frame in last.group_by("by", maintain_order=True)
            if (value := _mean(frame[column.of(layer)])) is not None
        ]
        if not rows:
            absent.append(title)
        elif study.numeric:
            drawn.append(_lines(study, facet, rows, layers, title))
        else:
            drawn.append(_heat_map(study, facet, rows, present, title))
    if not drawn:
        raise style.NothingToShow(
            "Not measured: the study ran with probes=off, or its model has no hidden layer."
        )
    note = f" No {absent[0]}: the activation function has no limits." if absent else ""
    return style.titled(
        facet,
        alt.hconcat(*drawn),
        "Dead and saturated at the end",
        "Dead: zero for a whole batch. Saturated: within 1% of the activation function's own "
        f"limits. Mean of {style.seeds_in(study, facet)}.{note}",
    )


def _lines(
    study: Study, facet: str, rows: style.Rows, layers: list[str], title: str
) -> alt.LayerChart:
    """A fraction against the studied key, one line per layer."""
    shape = alt.Shape("layer:N", sort=layers, legend=alt.Legend(title="layer"))
    dash = alt.StrokeDash("layer:N", sort=layers, legend=None)
    scale, axis = alt.Scale(domain=[0, 1]), alt.Axis(format="%")
    base = style.chart(rows).encode(
        x=style.x_by(study, facet), y=alt.Y("value:Q", title="fraction", scale=scale, axis=axis)
    )
    line = base.mark_line(color=style.GREY, strokeWidth=1.2)
    dots = base.mark_point(filled=True, size=55).encode(
        shape=shape,
        color=style.colour(study, legend=False, facet=facet),
        opacity=style.emphasis(),
        tooltip=["by:N", "layer:N", alt.Tooltip("value:Q", format=".1%")],
    )
    return style.layered([line.encode(strokeDash=dash, detail="layer:N"), dots], 1, title=title)


def _heat_map(
    study: Study, facet: str, rows: style.Rows, layers: list[str], title: str
) -> alt.Chart:
    """A fraction by layer and choice, the best choice on top."""
    order = study.values(facet)
    scale = alt.Scale(scheme="viridis", domain=[0, 1])
    cells = style.chart(rows).mark_rect()
    cells = cells.encode(
        x=alt.X("layer:N", sort=layers, title="layer, input to output", axis=style.layer_axis()),
        y=alt.Y("by:O", sort=order, title=None, axis=alt.Axis(labelLimit=200)),
        color=alt.Color("value:Q", scale=scale, legend=alt.Legend(title="", format="%")),
        opacity=style.emphasis(),
        tooltip=["by:N", "layer:N", alt.Tooltip("value:Q", format=".1%")],
    )
    return cells.properties(width=style.WIDTH, height=style.ROW_HEIGHT * len(order), title=title)


def _mean(values: pl.Series) -> float | None:
    """The mean of what is finite, or None if nothing is."""
    finite = values.cast(pl.Float64).drop_nulls().drop_nans()
    return None if finite.is_empty() else float(finite.mean())  # type: ignore[arg-type]
