"""Theory behind the measured points: lines to draw, and how well they agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import numpy as np
import polars as pl

from initstudy.claims.band import DEVIATIONS
from initstudy.columns import ACTIVATION_SPREAD, ACTIVATION_THEORY, THEORY_CRITICAL_STD, Column
from initstudy.report.charts import style
from initstudy.report.data.steps import geometric_means
from initstudy.store.frames import STD, Study


def predicted(frame: pl.DataFrame, theory: Column, layers: Sequence[str]) -> style.Rows:
    """Theory's expectation by value and layer, for the runs that it covers.

    Args:
        frame: The first measurement of every run.
        theory: The column that holds theory's expectation.
        layers: The layers, from input to output.

    Returns:
        Rows of `by`, `layer` and `value`.
    """
    names = {layer: theory.of(layer) for layer in layers if theory.of(layer) in frame.columns}
    covered = frame.drop_nulls(list(names.values())) if names else frame.clear()
    return [
        {"by": row["by"], "layer": layer, "value": row[name]}
        for row in geometric_means(covered, list(names.values()))
        for layer, name in names.items()
    ]


def theory_lines(
    frame: pl.DataFrame, theory: Column, layers: Sequence[str], domain: tuple[float, float]
) -> style.Rows:
    """`predicted`, less what lies outside of an axis' domain, where a line ends."""
    rows = predicted(frame, theory, layers)
    return [row for row in rows if style.at_edge(row["value"], domain)[1] == "inside"]


def theory_band(
    frame: pl.DataFrame, layers: Sequence[str], domain: tuple[float, float]
) -> style.Rows:
    """Where 95% of networks of these widths lie around theory's expectation of the activations.

    Args:
        frame: The first measurement of every run.
        layers: The layers, from input to output.
        domain: The domain of the axis, at whose ends the band ends.

    Returns:
        Rows of `by`, `layer`, `low` and `high`; none if theory does not cover the model.
    """
    expected = {
        (r["by"], r["layer"]): r["value"] for r in predicted(frame, ACTIVATION_THEORY, layers)
    }
    rows = []
    for row in predicted(frame, ACTIVATION_SPREAD, layers):
        mean = expected.get((row["by"], row["layer"]))
        if mean is None or row["value"] is None:
            continue
        variance = math.log1p(row["value"])
        ends = [
            mean * math.exp((side * DEVIATIONS * math.sqrt(variance) - variance / 2) / 2)
            for side in (-1, 1)
        ]
        low, high = (style.at_edge(end, domain)[0] for end in ends)
        if low < high:
            rows.append({"by": row["by"], "layer": row["layer"], "low": low, "high": high})
    return rows


def agreement(
    frame: pl.DataFrame, measured: Column, theory: Column, layers: Sequence[str], when: str = ""
) -> str:
    """A sentence on how far the measurement lies from theory, over runs and layers.

    Args:
        frame: The first measurement of every run.
        measured: The column that holds the measurement.
        theory: The column that holds theory's expectation.
        layers: The layers.
        when: What the dashed lines hold for, such as " at initialization".

    Returns:
        The sentence, with a space before it; empty if theory does not cover the model.
    """
    deviations: list[float] = []
    for layer in layers:
        if theory.of(layer) in frame.columns:
            pairs = frame.select(measured.of(layer), theory.of(layer)).to_numpy().astype(float)
            good = pairs[np.isfinite(pairs).all(1) & (pairs > 0).all(1)]
            deviations += list(np.abs(np.log(good[:, 0] / good[:, 1])))
    if not deviations:
        return ""
    middle = math.expm1(float(np.median(deviations)))
    return f" Dashed: mean-field theory{when}; the median run and layer lies {middle:.1%} from it."


def critical_line(study: Study, facet: str, x: alt.X, colour: str = style.GREY) -> list[alt.Chart]:
    """A rule at the standard deviation at which theory has signals neither grow nor shrink."""
    critical = critical_std(study, facet)
    if critical is None:
        return []
    rule = style.chart([{"by": critical}]).mark_rule(color=colour, strokeDash=[4, 3])
    return [rule.encode(x=x)]


def critical_note(study: Study, facet: str) -> str:
    """What the rule means; empty if there is none."""
    critical = critical_std(study, facet)
    return "" if critical is None else f" Dashed: theory's critical std, {critical:.3g}."


def critical_std(study: Study, facet: str) -> float | None:
    """The critical standard deviation of a facet's model, or None if it has none or several."""
    if study.by != STD or THEORY_CRITICAL_STD.name not in study.runs.columns:
        return None
    values = study.runs_of(facet)[THEORY_CRITICAL_STD.name].drop_nulls().unique()
    return float(values[0]) if len(values) == 1 else None
