"""Histograms over steps, one ridge a step: how weights and activations spread while training."""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from initstudy.columns import HISTOGRAM_EDGES
from initstudy.report.charts.style import (
    HEIGHT,
    WIDTH,
    NothingToShow,
    Rows,
    Spec,
    chart,
    seeds_in,
    titled,
)
from initstudy.report.data.runs import text
from initstudy.report.data.steps import at_step, chosen_steps, few, measured
from initstudy.store.frames import Study

MOST_RIDGES = 8
MOST_LAYERS = 6
MOST_CHOICES = 14
# Of the distance between two ridges: neighbours overlap a little, as in a joy plot.
RIDGE_HEIGHT = 1.6
# A share that is not worth an axis that reaches it.
RARE = 1e-3
SCHEME = alt.SchemeParams(name="viridis", extent=[0.0, 0.88])


def weight_ridgelines(study: Study, facet: str) -> Spec:
    """Histograms of the weights' magnitudes over steps, a panel a layer."""
    return _ridgelines(study, facet, "weight/{}/histogram", "Weights over steps")


def activation_ridgelines(study: Study, facet: str) -> Spec:
    """Histograms of the activations' magnitudes over steps, a panel a layer."""
    return _ridgelines(study, facet, "activation/{}/histogram", "Activations over steps")


def _ridgelines(study: Study, facet: str, pattern: str, title: str) -> Spec:
    try:
        rows, columns = measured(study, facet, pattern)
    except NothingToShow as error:
        raise NothingToShow("Not measured: probes=full takes histograms.") from error
    layers = few(list(columns), MOST_LAYERS)
    steps = few(chosen_steps(rows), MOST_RIDGES)
    drawn: Rows = []
    for place, step in enumerate(steps):
        here = at_step(rows, step)
        for layer in layers:
            for by, share in _shares(here, columns[layer]).items():
                drawn += _ridge(place, step, layer, by, share)
    kept = few(list(dict.fromkeys(row["by"] for row in drawn)), MOST_CHOICES)
    drawn = [row for row in drawn if row["by"] in kept]
    if not drawn:
        raise NothingToShow("Every histogram is empty.")
    shown = _best(study, facet, kept)
    at = [row["octave"] for row in drawn if not row.pop("rare")]
    x = alt.X(
        "octave:Q",
        title="|value|, as a power of two",
        axis=alt.Axis(grid=False),
        scale=alt.Scale(domain=[min(at), max(at)], nice=False, clamp=True),
    )
    # Vega has no labels by place: a lookup in the list of steps.
    named = f"{steps}[datum.value]"
    places = list(range(len(steps)))
    y = alt.Y(
        "place:Q",
        title="step",
        scale=alt.Scale(domain=[-0.1, len(steps) - 1 + RIDGE_HEIGHT], nice=False),
        axis=alt.Axis(values=places, labelExpr=named, grid=False),
    )
    hue = alt.Color("step:O", scale=alt.Scale(scheme=SCHEME), legend=None)
    panels = []
    for layer in layers:
        base = chart([row for row in drawn if row["layer"] == layer]).transform_filter(
            f"toString(datum.by) === (chosen ? chosen.by : {text(shown)!r})"
        )
        ridge = base.mark_area(opacity=0.75, line={"strokeWidth": 1.2}, interpolate="monotone")
        # Lower ridges stand in front.
        order = alt.Order("place:Q", sort="descending")
        encoded = ridge.encode(
            x=x,
            y=y,
            y2="high:Q",
            color=hue,
            detail="step:N",
            order=order,
            tooltip=["layer:N", "step:Q", "by:N"],
        )
        panels.append(encoded.properties(width=WIDTH * 0.72, height=HEIGHT, title=layer))
    return titled(
        facet,
        alt.concat(*panels, columns=4 if len(panels) == 4 else 3),
        title,
        f"Share of each octave of |value| over {seeds_in(study, facet)}, zeros left out; "
        f"{study.label} = {text(shown)} unless another one is chosen.",
    )


def _shares(rows: pl.DataFrame, column: str) -> dict[object, np.ndarray]:
    """For each value of the studied variable, the share of each octave; zeros have none."""
    found = {}
    for (by,), group in rows.drop_nulls(column).group_by("by", maintain_order=True):
        counts = np.array(group[column].to_list(), dtype=float).sum(0)[1:-1]
        if counts.sum() > 0:
            found[by] = counts / counts.sum()
    return found


def _ridge(place: int, step: int, layer: str, by: object, share: np.ndarray) -> Rows:
    """One ridge from the octave before its first to the one after its last."""
    octaves = np.log2(HISTOGRAM_EDGES[1 : len(share) + 1])
    inside = np.flatnonzero(share)
    first, last = max(inside[0] - 1, 0), min(inside[-1] + 1, len(share) - 1)
    heights = place + RIDGE_HEIGHT * share / share.max()
    return [
        {
            "place": place,
            "step": step,
            "layer": layer,
            "by": by,
            "octave": int(octaves[i]),
            "high": round(float(heights[i]), 3),
            "rare": bool(share[i] < RARE),
        }
        for i in range(first, last + 1)
    ]


def _best(study: Study, facet: str, kept: list[object]) -> object:
    """The value with the best accuracy among these: what is shown before anything is chosen."""
    runs = study.runs.filter((pl.col("facet") == facet) & pl.col("by").is_in(kept))
    if runs.is_empty():
        return kept[0]
    accuracy = pl.col("test/accuracy").cast(pl.Float64).fill_nan(0.0).fill_null(0.0).mean()
    means = runs.group_by("by", maintain_order=True).agg(accuracy)
    return means.sort("test/accuracy", descending=True)["by"][0]
