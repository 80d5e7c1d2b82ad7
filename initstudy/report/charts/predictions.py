"""Theory behind the measured points: lines to draw, and how well they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping

import altair as alt
import numpy as np
import polars as pl

from initstudy.report.charts.style import GREY, Rows, at_edge, chart
from initstudy.report.data.steps import geometric_means
from initstudy.store.frames import Study

CRITICAL = "theory/critical_std"


def predicted(frame: pl.DataFrame, columns: Mapping[str, str]) -> Rows:
    """Theory's expectation by value and layer, for the runs that it covers.

    Args:
        frame: The first measurement of every run.
        columns: The measured column of each layer, ending in "/rms"; the prediction's ends in
            "/theory".
    """
    expected = _expected(frame, columns)
    covered = frame.drop_nulls(list(expected.values())) if expected else frame.clear()
    means = geometric_means(covered, list(expected.values()))
    return [
        {"by": row["by"], "layer": layer, "value": row[name]}
        for row in means
        for layer, name in expected.items()
    ]


def theory_lines(
    frame: pl.DataFrame, columns: Mapping[str, str], domain: tuple[float, float]
) -> tuple[Rows, str]:
    """What theory expects where it covers the model, and a sentence on how well it agrees.

    Args:
        frame: The first measurement of every run.
        columns: The measured column of each layer, ending in "/rms"; the prediction's ends in
            "/theory".
        domain: Of the axis; what lies outside ends the line.
    """
    rows: Rows = []
    for row in predicted(frame, columns):
        value, where = at_edge(row["value"], domain)
        if where == "inside":
            rows.append({**row, "value": value})
    return rows, _agreement(frame, columns, _expected(frame, columns))


def _expected(frame: pl.DataFrame, columns: Mapping[str, str]) -> dict[str, str]:
    names = {layer: f"{column.removesuffix('/rms')}/theory" for layer, column in columns.items()}
    return {layer: name for layer, name in names.items() if name in frame.columns}


def _agreement(frame: pl.DataFrame, columns: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Median of measured over expected, as a deviation, over runs and layers that are finite."""
    deviations = []
    for layer, name in expected.items():
        pairs = frame.select(columns[layer], name).to_numpy().astype(float)
        good = pairs[np.isfinite(pairs).all(1) & (pairs > 0).all(1)]
        deviations += list(np.abs(np.log(good[:, 0] / good[:, 1])))
    if not deviations:
        return ""
    middle = math.expm1(float(np.median(deviations)))
    return f" Dashed: mean-field theory; the median run and layer lies {middle:.1%} from it."


def critical_line(study: Study, facet: str, x: alt.X, colour: str = GREY) -> list[alt.Chart]:
    """A rule at the deviation where theory has the signal neither grow nor shrink."""
    critical = critical_std(study, facet)
    if critical is None:
        return []
    rule = chart([{"by": critical}]).mark_rule(color=colour, strokeDash=[4, 3])
    return [rule.encode(x=x)]


def critical_note(study: Study, facet: str) -> str:
    """What the rule means; empty where there is none."""
    critical = critical_std(study, facet)
    return "" if critical is None else f" Dashed: theory's critical std, {critical:.3g}."


def critical_std(study: Study, facet: str) -> float | None:
    """The critical deviation of a facet's model, or None where it has none or several."""
    if study.by != "init.std" or CRITICAL not in study.runs.columns:
        return None
    found = study.runs.filter(pl.col("facet") == facet)[CRITICAL].drop_nulls().unique()
    return float(found[0]) if len(found) == 1 else None
