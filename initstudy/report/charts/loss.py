"""The training loss over steps."""

from __future__ import annotations

from functools import partial

import altair as alt
import polars as pl

from initstudy.columns import DIVERGED_STEP, TRAIN_LOSS
from initstudy.report.charts import style
from initstudy.store.frames import Study

# How many runs' own losses a page holds, to show one when it is chosen.
MOST_LINES = 200
WIDEST = 1e7


def loss_over_steps(study: Study, facet: str) -> style.Spec:
    """The training loss over steps: the mean over seeds as a line, their range as a band."""
    loss = pl.col(TRAIN_LOSS.name)
    rows = study.history_of(facet, "run", "by", "step", TRAIN_LOSS.name).filter(loss.is_not_null())
    domain = style.log_domain(rows[TRAIN_LOSS.name], widest=WIDEST)
    if domain is None:
        raise style.NothingToShow("No run has a finite training loss.")
    finite = rows.filter(loss.is_finite())
    spread = finite.group_by("by", "step", maintain_order=True).agg(
        loss.mean().clip(*domain).alias("value"),
        loss.min().clip(*domain).alias("low"),
        loss.max().clip(*domain).alias("high"),
        pl.len().alias("runs"),
    )
    x = alt.X(
        "step:Q", title="step (updates)", axis=alt.Axis(grid=False), scale=alt.Scale(nice=False)
    )
    y = partial(style.log_axis, "training loss (nats, log scale)", domain)
    hue = style.colour(study, facet=facet)
    base = style.chart(spread.to_dicts()).encode(x=x, color=hue)
    band = base.mark_area().encode(y=y("low"), y2="high:Q", opacity=style.emphasis(0.18))
    line = base.mark_line(strokeWidth=1.8).encode(
        y=y(),
        opacity=style.emphasis(),
        tooltip=["by:N", "step:Q", alt.Tooltip("value:Q", format=".4g"), "runs:Q"],
    )
    crosses, note = _divergences(study, facet, domain[1])
    if crosses:
        crosses = [crosses[0].encode(x=x, y=y(), color=hue)]
    return style.titled(
        facet,
        style.layered([band, line, *_chosen_run(finite, domain, x, y()), *crosses], 1.5),
        "Training loss",
        "Mean over the minibatches since the row before. Line: mean of "
        f"{style.seeds_in(study, facet)}; band: their range.{note}",
    )


def _divergences(study: Study, facet: str, top: float) -> tuple[list[alt.Chart], str]:
    """A cross at the step of each divergence, and the words that say so.

    A run that diverged ends at its step; the mean goes on without it.
    """
    ends = study.runs_of(facet).filter(pl.col("diverged"))
    drawn, thinned = style.thin(ends)
    marks = style.run_rows(study, drawn, step=pl.col(DIVERGED_STEP.name), value=pl.lit(top))
    if not marks:
        return [], ""
    crosses = style.chart(marks).mark_point(shape="cross", angle=45, size=70, filled=True)
    crosses = crosses.encode(opacity=style.emphasis(), tooltip=[*style.RUN, "step:Q"])
    return [crosses], f" × at the top: {len(ends)} runs diverged at that step{thinned}."


def _chosen_run(
    rows: pl.DataFrame, domain: tuple[float, float], x: alt.X, y: alt.Y
) -> list[alt.Chart]:
    """The line of the one run that a page's reader has chosen; invisible before."""
    if rows["run"].n_unique() > MOST_LINES:
        return []
    own = rows.select("run", "step", pl.col(TRAIN_LOSS.name).clip(*domain).alias("value"))
    chosen = alt.condition("chosen && datum.run === chosen.run", alt.value(1), alt.value(0))
    line = style.chart(own.to_dicts()).mark_line(
        strokeWidth=1.6, color=style.INK, strokeDash=[3, 2]
    )
    return [line.encode(x=x, y=y, detail="run:N", opacity=chosen)]
