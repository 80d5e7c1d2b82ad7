"""Charts of a studied variable that is a choice: ranked, and as heat maps over the layers."""

from __future__ import annotations

import altair as alt
import polars as pl

from initstudy.report.charts.style import (
    GREY,
    INK,
    RUN,
    WIDTH,
    Rows,
    Spec,
    chart,
    colour,
    emphasis,
    layer_axis,
    run_rows,
    thin,
    titled,
)
from initstudy.store.frames import Study

ROW_HEIGHT = 19


def ranking(study: Study, facet: str, summary: Rows, methods: set[str]) -> Spec:
    """Test accuracy of every choice, the best on top.

    Args:
        study: The sweep.
        facet: Which model.
        summary: A row a choice: `by`, `mean`, and the interval's ends `low` and `high`.
        methods: How the intervals were found.
    """
    runs = study.runs.filter(pl.col("facet") == facet)
    order = study.values(facet)
    y = alt.Y("by:O", sort=order, title=None, axis=alt.Axis(labelLimit=200, grid=True))
    scale = alt.Scale(domain=[0, 1])
    x = alt.X("mean:Q", title="test accuracy", scale=scale, axis=alt.Axis(format="%"))
    base = chart(summary).encode(y=y, color=colour(study, legend=False, facet=facet))
    base = base.encode(opacity=emphasis())
    bars = base.mark_rule(strokeWidth=3).encode(
        x=alt.X("low:Q", scale=scale, title=""), x2="high:Q"
    )
    means = base.mark_tick(thickness=3, size=15).encode(
        x=x,
        tooltip=[
            "by:N",
            alt.Tooltip("mean:Q", format=".3f"),
            alt.Tooltip("low:Q", format=".3f"),
            alt.Tooltip("high:Q", format=".3f"),
        ],
    )
    drawn, thinned = thin(runs.filter(~pl.col("diverged")))
    shown = run_rows(study, drawn, accuracy=pl.col("test/accuracy"))
    dots = chart(shown).mark_point(size=28, color=GREY, filled=False, strokeWidth=1)
    dots = dots.encode(
        y=y,
        x=alt.X("accuracy:Q", scale=scale, title=""),
        opacity=emphasis(),
        tooltip=[*RUN, alt.Tooltip("accuracy:Q", format=".3f")],
    )
    layers = [bars, dots, means]
    lost = runs.filter(pl.col("diverged")).group_by("by", maintain_order=True).len("runs")
    if len(lost):
        rows = [{**row, "zero": 0.0, "text": f"{row['runs']}"} for row in lost.to_dicts()]
        crosses = chart(rows).encode(
            y=y, x=alt.X("zero:Q", scale=scale, title=""), opacity=emphasis()
        )
        layers.append(crosses.mark_point(shape="cross", angle=45, size=80, filled=True, color=INK))
        layers.append(crosses.mark_text(dx=12, fontSize=11, color=INK).encode(text="text:N"))
    note = " × on the axis: that many runs diverged." if len(lost) else ""
    height = ROW_HEIGHT * len(order)
    return titled(
        facet,
        alt.layer(*layers).properties(width=1.5 * WIDTH, height=height),
        f"Test accuracy at the end, by {study.label}",
        f"Circles: runs{thinned}; bars: 95% interval of the mean "
        f"({', '.join(sorted(methods))}).{note}",
    )


def heat_map(study: Study, facet: str, rows: Rows, layers: list[str], title: str) -> alt.Chart:
    """A fraction by layer and choice, the best choice on top.

    Args:
        study: The sweep.
        facet: Which model.
        rows: A row a cell: `by`, `layer`, `value`.
        layers: In running order.
        title: Of the panel.
    """
    order = study.values(facet)
    scale = alt.Scale(scheme="viridis", domain=[0, 1])
    return (
        chart(rows)
        .mark_rect()
        .encode(
            x=alt.X("layer:N", sort=layers, title="layer, input to output", axis=layer_axis()),
            y=alt.Y("by:O", sort=order, title=None, axis=alt.Axis(labelLimit=200)),
            color=alt.Color("value:Q", scale=scale, legend=alt.Legend(title="", format="%")),
            opacity=emphasis(),
            tooltip=["by:N", "layer:N", alt.Tooltip("value:Q", format=".1%")],
        )
        .properties(width=WIDTH, height=ROW_HEIGHT * len(order), title=title)
    )
