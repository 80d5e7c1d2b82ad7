"""Histograms over steps, one ridge per step: how weights and activations spread in training."""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from initstudy.columns import (
    ACTIVATION_HISTOGRAM,
    HISTOGRAM_EDGES,
    WEIGHT_HISTOGRAM,
    Column,
)
from initstudy.report.charts import style
from initstudy.report.data.runs import text
from initstudy.report.data.steps import at_step, chosen_steps, few, measured
from initstudy.store.frames import Study

MOST_RIDGES = 8
MOST_LAYERS = 6
MOST_CHOICES = 14
# In distances between two ridges: neighbours overlap a little, as in a joy plot.
RIDGE_HEIGHT = 1.6
# A fraction of the values for which the axis need not be longer.
RARE = 1e-3
SCHEME = alt.SchemeParams(name="viridis", extent=[0.0, 0.88])


def weight_ridgelines(study: Study, facet: str) -> style.Spec:
    """Histograms of the weights' magnitudes over steps, one panel per layer."""
    return _ridgelines(study, facet, WEIGHT_HISTOGRAM, "Weights over steps")


def activation_ridgelines(study: Study, facet: str) -> style.Spec:
    """Histograms of the activations' magnitudes over steps, one panel per layer."""
    return _ridgelines(study, facet, ACTIVATION_HISTOGRAM, "Activations over steps")


def _ridgelines(study: Study, facet: str, histogram: Column, title: str) -> style.Spec:
    try:
        rows, columns = measured(study, facet, histogram)
    except style.NothingToShow as error:
        raise style.NothingToShow("Not measured: probes=full takes histograms.") from error
    layers = few(list(columns), MOST_LAYERS)
    steps = few(chosen_steps(rows), MOST_RIDGES)
    drawn: style.Rows = []
    for index, step in enumerate(steps):
        here = at_step(rows, step)
        for layer in layers:
            for by, fractions in _fractions(here, columns[layer]).items():
                drawn += _ridge(index, step, layer, by, fractions)
    kept = few(list(dict.fromkeys(row["by"] for row in drawn)), MOST_CHOICES)
    drawn = [row for row in drawn if row["by"] in kept]
    if not drawn:
        raise style.NothingToShow("Every histogram is empty.")
    shown = text(_best(study, facet, kept))
    octaves = [row["octave"] for row in drawn if not row.pop("rare")]
    panels = [
        _panel([row for row in drawn if row["layer"] == layer], steps, octaves, shown).properties(
            width=style.WIDTH * 0.72, height=style.HEIGHT, title=layer
        )
        for layer in layers
    ]
    return style.titled(
        facet,
        alt.concat(*panels, columns=4 if len(panels) == 4 else 3),
        title,
        f"Fraction of each octave of |value| over {style.seeds_in(study, facet)}, zeros left out; "
        f"{study.label} = {shown} unless another one is chosen.",
    )


def _panel(rows: style.Rows, steps: list[int], octaves: list[int], shown: str | None) -> alt.Chart:
    """The ridges of one layer, at the value that a page's reader has chosen, or else at `shown`."""
    x = alt.X(
        "octave:Q",
        title="|value|, as a power of two",
        axis=alt.Axis(grid=False),
        scale=alt.Scale(domain=[min(octaves), max(octaves)], nice=False, clamp=True),
    )
    # Vega has no labels by index: a lookup in the list of steps.
    named = f"{steps}[datum.value]"
    y = alt.Y(
        "ridge:Q",
        title="step",
        scale=alt.Scale(domain=[-0.1, len(steps) - 1 + RIDGE_HEIGHT], nice=False),
        axis=alt.Axis(values=list(range(len(steps))), labelExpr=named, grid=False),
    )
    base = style.chart(rows).transform_filter(
        f"toString(datum.by) === (chosen ? chosen.by : {shown!r})"
    )
    ridge = base.mark_area(opacity=0.75, line={"strokeWidth": 1.2}, interpolate="monotone")
    return ridge.encode(
        x=x,
        y=y,
        y2="high:Q",
        color=alt.Color("step:O", scale=alt.Scale(scheme=SCHEME), legend=None),
        detail="step:N",
        # Lower ridges stand in front.
        order=alt.Order("ridge:Q", sort="descending"),
        tooltip=["layer:N", "step:Q", "by:N"],
    )


def _fractions(rows: pl.DataFrame, column: str) -> dict[object, np.ndarray]:
    """The fraction of values in each octave, by value of the studied key; zeros are left out."""
    fractions = {}
    for (by,), group in rows.drop_nulls(column).group_by("by", maintain_order=True):
        counts = np.array(group[column].to_list(), dtype=float).sum(0)[1:-1]
        if counts.sum() > 0:
            fractions[by] = counts / counts.sum()
    return fractions


def _ridge(index: int, step: int, layer: str, by: object, fractions: np.ndarray) -> style.Rows:
    """One ridge, from the octave before its first to the one after its last."""
    octaves = np.log2(HISTOGRAM_EDGES[1 : len(fractions) + 1])
    inside = np.flatnonzero(fractions)
    first, last = max(inside[0] - 1, 0), min(inside[-1] + 1, len(fractions) - 1)
    heights = index + RIDGE_HEIGHT * fractions / fractions.max()
    return [
        {
            "ridge": index,
            "step": step,
            "layer": layer,
            "by": by,
            "octave": int(octaves[i]),
            "high": round(float(heights[i]), 3),
            "rare": bool(fractions[i] < RARE),
        }
        for i in range(first, last + 1)
    ]


def _best(study: Study, facet: str, kept: list[object]) -> object:
    """The best of these values by the objective: what is shown before anything is chosen."""
    runs = study.runs_of(facet).filter(pl.col("by").is_in(kept))
    if runs.is_empty():
        return kept[0]
    mean = study.value(study.objective, facet).mean().alias("mean")
    means = runs.group_by("by", maintain_order=True).agg(mean)
    return means.sort("mean", descending=not study.is_lower_better(study.objective))["by"][0]
