"""The coordinate check, drawn."""

from __future__ import annotations

import altair as alt
import polars as pl

from initstudy.claims.coordinate_check import WIDTHS, measured
from initstudy.report.charts.style import (
    HEIGHT,
    WIDTH,
    NothingToShow,
    Rows,
    Spec,
    chart,
    log_axis,
    log_domain,
    titled,
)
from initstudy.store.frames import Study


def coordinates(study: Study, facet: str) -> Spec:
    """Each layer's activation rms against width, at three measurements."""
    rows = measured(study, facet)
    if rows.is_empty():
        raise NothingToShow("No coordinate check: the sweep was not probed.")
    steps = rows["step"].unique().sort().to_list()
    early = steps[min(2, len(steps) - 1)]
    mean = pl.col("rms").log().mean().exp()
    panels: Rows = []
    for step in dict.fromkeys([steps[0], early, steps[-1]]):
        grouped = rows.filter(pl.col("step") == step).group_by("width", "layer").agg(mean)
        panels += [{**row, "panel": f"step {step}"} for row in grouped.sort("width").to_dicts()]
    domain = log_domain(row["rms"] for row in panels)
    if domain is None:
        raise NothingToShow("Every measured value is zero or not finite.")
    values = sorted({row["width"] for row in panels})
    x = alt.X(
        "width:Q",
        title=WIDTHS,
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=alt.Axis(values=values, format=".4~g", grid=False),
    )
    layers = study.layers(facet)
    scheme = alt.Scale(scheme=alt.SchemeParams(name="viridis", extent=[0.0, 0.88]), domain=layers)
    drawn = []
    for panel in dict.fromkeys(row["panel"] for row in panels):
        base = chart([row for row in panels if row["panel"] == panel]).encode(
            x=x,
            y=log_axis("activation rms (log scale)", domain, "rms"),
            color=alt.Color("layer:O", scale=scheme, sort=layers),
        )
        shown = ["layer:N", "width:Q", alt.Tooltip("rms:Q", format=".4g")]
        lines, dots = base.mark_line(), base.mark_point(filled=True, size=36).encode(tooltip=shown)
        drawn.append((lines + dots).properties(width=0.7 * WIDTH, height=HEIGHT, title=panel))
    return titled(
        facet,
        alt.hconcat(*drawn),
        "Coordinate check: activations against width",
        "Geometric mean over seeds at the middle learning rate; level lines are what lets a rate "
        "carry over from one width to another.",
    )
