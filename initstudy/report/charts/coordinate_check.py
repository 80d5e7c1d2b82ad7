"""The coordinate check: activations against width."""

from __future__ import annotations

import altair as alt
import polars as pl

from initstudy.claims.coordinate_check import WIDTHS, measured
from initstudy.report.charts import style
from initstudy.store.frames import Study


def coordinates(study: Study, facet: str) -> style.Spec:
    """Each layer's activation rms against width, at three measurements."""
    rows = measured(study, facet)
    if rows.is_empty():
        raise style.NothingToShow("No coordinate check: the study was not probed.")
    steps = rows["step"].unique().sort().to_list()
    early = steps[min(2, len(steps) - 1)]
    mean = pl.col("rms").log().mean().exp()
    panels: style.Rows = []
    for step in dict.fromkeys([steps[0], early, steps[-1]]):
        grouped = rows.filter(pl.col("step") == step).group_by("width", "layer").agg(mean)
        panels += [{**row, "panel": f"step {step}"} for row in grouped.sort("width").to_dicts()]
    domain = style.log_domain(row["rms"] for row in panels)
    if domain is None:
        raise style.NothingToShow("Every measured value is zero or not finite.")
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
        base = style.chart([row for row in panels if row["panel"] == panel]).encode(
            x=x,
            y=style.log_axis("activation rms (log scale)", domain, "rms"),
            color=alt.Color("layer:O", scale=scheme, sort=layers),
        )
        shown = ["layer:N", "width:Q", alt.Tooltip("rms:Q", format=".4g")]
        lines, dots = base.mark_line(), base.mark_point(filled=True, size=36).encode(tooltip=shown)
        drawn.append(
            (lines + dots).properties(width=0.7 * style.WIDTH, height=style.HEIGHT, title=panel)
        )
    return style.titled(
        facet,
        alt.hconcat(*drawn),
        "Coordinate check: activations against width",
        "Geometric mean over seeds at the middle learning rate; level lines are what lets a rate "
        "carry over from one width to another.",
    )
