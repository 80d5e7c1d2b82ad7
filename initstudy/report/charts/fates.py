"""What became of the runs at each value of the studied key."""

from __future__ import annotations

import altair as alt
import polars as pl

from initstudy.columns import FATE
from initstudy.report.charts import style
from initstudy.store.fates import FATES
from initstudy.store.frames import Study

# From green, over what never learned, to black for what diverged.
COLOURS = (
    "#35b779",
    "#a0da39",
    "#fde725",
    "#cccccc",
    "#31688e",
    "#5ec0d6",
    "#440154",
    "#111111",
)


def fates_by_value(study: Study, facet: str) -> style.Spec:
    """The shares of runs that trained, or failed in one way or another, against the studied key."""
    runs = study.runs_of(facet).drop_nulls("by")
    if runs.is_empty() or runs[FATE.name].null_count() == len(runs):
        raise style.NothingToShow(
            "The study has no fraction, such as an accuracy, by which a run is said to be trained."
        )
    counts = runs.group_by("by", FATE.name, maintain_order=True).len("runs")
    whole = dict(runs.group_by("by").len().iter_rows())
    rows = [
        {
            "by": row["by"],
            "fate": row[FATE.name] or "not known",
            "share": row["runs"] / whole[row["by"]],
            "runs": row["runs"],
            "order": FATES.index(row[FATE.name]) if row[FATE.name] else len(FATES),
        }
        for row in counts.iter_rows(named=True)
    ]
    present = [fate for fate in FATES if any(row["fate"] == fate for row in rows)]
    colours = [COLOURS[FATES.index(fate)] for fate in present]
    axis = alt.Axis(labelAngle=-50, labelLimit=120, labelOverlap=False, format=".3~g")
    if not study.numeric:
        axis = alt.Axis(labelAngle=-50, labelLimit=120)
    bars = style.chart(rows).mark_bar(stroke="white", strokeWidth=0.5)
    drawn = bars.encode(
        x=alt.X("by:O", title=study.label, axis=axis, sort=study.values(facet)),
        y=alt.Y("share:Q", title="share of runs", stack=True, axis=alt.Axis(format="%")),
        color=alt.Color(
            "fate:N",
            scale=alt.Scale(domain=present, range=colours),
            legend=alt.Legend(title="fate"),
        ),
        order="order:Q",
        opacity=style.emphasis(),
        tooltip=["by:N", "fate:N", "runs:Q", alt.Tooltip("share:Q", format=".0%")],
    )
    return style.titled(
        facet,
        style.layered([drawn], 1.5),
        "What became of the runs",
        "Trained: half of the way from chance to 100% on training and test data; memorized: on "
        "training data alone. Dead, vanished, saturated: at chance, with what the probes last saw. "
        f"Plateau: none of these.{_where(runs)}",
    )


def _where(runs: pl.DataFrame) -> str:
    """Where runs diverged, by layer, in words."""
    lost = runs.filter(pl.col("diverged"))
    if lost.is_empty() or "diverged_layer" not in lost.columns:
        return ""
    layers = lost["diverged_layer"].drop_nulls().value_counts(sort=True)
    first = int(lost["diverged_step"].min())  # type: ignore[arg-type]
    last = int(lost["diverged_step"].max())  # type: ignore[arg-type]
    where = ", ".join(f"{count} in {layer}" for layer, count in layers.head(3).iter_rows())
    begun = f" (first not finite: {where})" if where else ""
    return f" Diverged: at steps {first} to {last}{begun}."
