"""A studied key that is a choice: every choice with its runs, the best on top."""

from __future__ import annotations

import math
from typing import Any

import altair as alt
import polars as pl

from initstudy.claims.ranking import Ranking, rank
from initstudy.report.charts import style
from initstudy.store.frames import Study


def ranking(study: Study, facet: str, measure: style.Measure) -> style.Spec:
    """What each choice reached, the best on top, with the ranks that it may have.

    Args:
        study: A study whose values are choices.
        facet: One of its facets.
        measure: What is compared.
    """
    runs = study.runs_of(facet)
    ranked = rank(study, facet)
    order = ranked.choices
    summary = [_row(ranked, choice) for choice in order]
    y = alt.Y("by:O", sort=order, title=None, axis=alt.Axis(labelLimit=200, grid=True))
    scale = measure.scale
    x = alt.X("mean:Q", title=measure.label, scale=scale, axis=measure.axis)
    base = style.chart(summary).encode(y=y, color=style.colour(study, legend=False, facet=facet))
    base = base.encode(opacity=style.emphasis())
    bars = base.mark_rule(strokeWidth=3).encode(
        x=alt.X("low:Q", scale=scale, title=""), x2="high:Q"
    )
    numbers = [alt.Tooltip(f"{field}:Q", format=".3f") for field in ("mean", "low", "high")]
    means = base.mark_tick(thickness=3, size=15).encode(x=x, tooltip=["by:N", *numbers])
    drawn, thinned = style.thin(runs.filter(~pl.col("diverged")))
    points = style.run_rows(study, drawn, **{measure.field: pl.col(measure.column)})
    dots = style.chart(points).mark_point(size=28, color=style.GREY, filled=False, strokeWidth=1)
    dots = dots.encode(
        y=y,
        x=alt.X(f"{measure.field}:Q", scale=scale, title=""),
        opacity=style.emphasis(),
        tooltip=[*style.RUN, alt.Tooltip(f"{measure.field}:Q", format=".3f")],
    )
    edge = style.chart(summary).encode(y=y, opacity=style.emphasis(), text="ranks:N")
    at_edge = edge.mark_text(align="left", dx=6, fontSize=10, color=style.GREY)
    layers = [bars, dots, means, at_edge.encode(x=alt.value(1.5 * style.WIDTH))]
    lost = runs.filter(pl.col("diverged")).group_by("by", maintain_order=True).len("runs")
    if len(lost):
        rows = [{**row, "zero": 0.0, "text": f"{row['runs']}"} for row in lost.to_dicts()]
        x_zero = alt.X("zero:Q", scale=scale, title="")
        crosses = style.chart(rows).encode(y=y, x=x_zero, opacity=style.emphasis())
        ink = style.INK
        layers.append(crosses.mark_point(shape="cross", angle=45, size=80, filled=True, color=ink))
        layers.append(crosses.mark_text(dx=12, fontSize=11, color=ink).encode(text="text:N"))
    note = " × on the axis: that many runs diverged." if len(lost) else ""
    return style.titled(
        facet,
        style.layered(layers, 1.5, style.ROW_HEIGHT * len(order)),
        f"{measure.title} at the end, by {study.label}",
        f"Circles: runs{thinned}; bars: intervals that hold all means at once with 95%; right: the "
        f"ranks that are not excluded.{_same(ranked)}{note}",
    )


def _row(ranked: Ranking, choice: Any) -> dict[str, Any]:
    mean = ranked.means[choice]
    low, high = (end if math.isfinite(end) else mean for end in ranked.intervals[choice])
    return {"by": choice, "mean": mean, "low": low, "high": high, "ranks": ranked.shown(choice)}


def _same(ranked: Ranking) -> str:
    """Which choices are one and the same, in words."""
    groups = [" = ".join(map(str, group)) for group in ranked.twins]
    return f" The same to the last digit: {'; '.join(groups)}." if groups else ""
