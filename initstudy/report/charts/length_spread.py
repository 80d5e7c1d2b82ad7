"""The spread of lengths among networks of one architecture."""

from __future__ import annotations

import altair as alt
import polars as pl

from initstudy.claims.lengths import MANY, ratios
from initstudy.report.charts import style
from initstudy.store.frames import Study


def spread_of_lengths(study: Study, facet: str) -> style.Spec:
    """The variance of the log squared length against the sum of 1/width, with theory's line."""
    lengths = ratios(study, facet)
    if lengths.is_empty():
        raise style.NothingToShow(
            "No lengths: the study was not probed, or has no depth and width."
        )
    log = pl.col("log")
    rows = (
        lengths.group_by("by", "beta")
        .agg(log.var().alias("variance"), pl.len().alias("networks"), pl.col("depth").first())
        .filter(pl.col("networks") >= MANY)
    )
    if rows.is_empty():
        raise style.NothingToShow(f"A spread takes {MANY} networks of one architecture.")
    end = float(rows["beta"].max())  # type: ignore[arg-type]
    base = style.chart([{"beta": 0.0, "variance": 0.0}, {"beta": end, "variance": 5 * end}])
    x = alt.X("beta:Q", title="sum of 1/width over the layers", axis=alt.Axis(grid=False))
    y = alt.Y("variance:Q", title="variance of ln(squared length)")
    line = base.mark_line(color=style.GREY, strokeDash=[5, 3]).encode(x=x, y=y)
    dots = style.chart(rows.sort("beta").to_dicts()).mark_point(filled=True, size=60, opacity=1)
    shown = ["by:N", "depth:Q", "networks:Q", alt.Tooltip("variance:Q", format=".3g")]
    dots = dots.encode(x=x, y=y, color=alt.Color("by:N", title=study.label), tooltip=shown)
    return style.titled(
        facet,
        style.layered([line, dots], 1.2),
        "How far networks of one architecture differ",
        f"Each point: {max(rows['networks'].to_list())} networks at initialization, last hidden "
        "layer over the first. Dashed: theory, 5 × the sum.",
    )
