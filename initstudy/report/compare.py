"""Sweeps side by side: the same values in both, and the difference with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import altair as alt
import polars as pl

from initstudy import claims
from initstudy.claims.statistics import Interval, mean_interval
from initstudy.report.charts.style import (
    GREY,
    HEIGHT,
    WIDTH,
    Rows,
    Spec,
    chart,
    emphasis,
    titled,
    x_by,
)
from initstudy.report.page import html, words
from initstudy.store import StoreError
from initstudy.store.frames import Study

METRIC = "test/accuracy"
# Okabe and Ito's colours, told apart by everyone (https://jfly.uni-koeln.de/color/).
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]
Accuracies = dict[Any, dict[int, float]]


@dataclass(frozen=True)
class Pair:
    """One value of the studied variable in the first sweep and in another one.

    Attributes:
        facet: The model.
        by: The value.
        name: Of the other sweep.
        first, other: Mean test accuracy.
        difference: Of the other less the first; paired over the seeds that both have.
    """

    facet: str
    by: Any
    name: str
    first: float
    other: float
    difference: Interval


def pairs(studies: Mapping[str, Study]) -> list[Pair]:
    """Every value that the first sweep and another one have in common.

    Args:
        studies: At least two, by name, the first one first.

    Raises:
        StoreError: They study different keys, or have nothing in common.
    """
    (first_name, first), *others = studies.items()
    found = []
    for name, other in others:
        if other.by != first.by:
            raise StoreError(
                f"{first_name} is about {first.label}, {name} about {other.label}: "
                "only sweeps about the same key can be compared"
            )
        found += _pairs(first, name, other)
    if not found:
        raise StoreError(f"{', '.join(studies)}: no model, value and seed in common")
    return found


def page(studies: Mapping[str, Study], found: Sequence[Pair]) -> html.Page:
    """The sweeps side by side.

    Args:
        studies: By name, the first one first.
        found: What `pairs` gives of them.
    """
    names = list(studies)
    first = studies[names[0]]
    specs: dict[str, Spec] = {}
    for number, facet in enumerate(dict.fromkeys(pair.facet for pair in found)):
        here = [pair for pair in found if pair.facet == facet]
        specs[f"accuracy_{number}"] = _side_by_side(first, facet, names[0], here)
        specs[f"difference_{number}"] = _differences(first, facet, names[0], here)
    results = [
        replace(result, facet=f"{name}: {result.facet}")
        for name, study in studies.items()
        for result in claims.evaluate(study)
    ]
    return html.Page(
        title=" and ".join(names),
        headline=headline(names[0], first.label, found),
        paragraphs=[f"{name}. {words.paragraph(study)}" for name, study in studies.items()],
        command="",
        claims=[html.claim_row(r) for r in results],
        charts=html.places(specs, {}),
        specs=specs,
        tables=[{"title": "Differences of test accuracy", **asdict(table(names[0], first, found))}],
        label=first.label,
        choices=html.choices(first),
    )


def headline(name: str, label: str, found: Sequence[Pair]) -> str:
    """In words: where the others are better, where worse."""
    said = []
    for other in dict.fromkeys(pair.name for pair in found):
        here = [pair.difference for pair in found if pair.name == other]
        better, worse = sum(d.above_zero for d in here), sum(d.below_zero for d in here)
        said.append(f"{other} is better at {better} and worse at {worse} of {len(here)}")
    return f"Against {name}, {'; '.join(said)} values of {label}"


def table(name: str, study: Study, found: Sequence[Pair]) -> words.Table:
    """A row a value and sweep: both means, the difference and its interval."""
    columns = (study.label, "model", name, "other", "its", "difference", "95% interval")
    rows = tuple(
        (
            words.short(pair.by),
            pair.facet,
            f"{pair.first:.3f}",
            pair.name,
            f"{pair.other:.3f}",
            f"{pair.difference.estimate:+.3f}",
            words.span(pair.difference.low, pair.difference.high) or "one seed",
        )
        for pair in found
    )
    return words.Table(columns, rows)


def _pairs(first: Study, name: str, other: Study) -> list[Pair]:
    alone = len(first.facets) == len(other.facets) == 1
    found = []
    for facet in first.facets:
        theirs = other.facets[0] if alone else facet
        if theirs not in other.facets:
            continue
        ours, their = _accuracies(first, facet), _accuracies(other, theirs)
        label = facet if facet == theirs else f"{facet} and {theirs}"
        for by in ours:
            seeds = sorted(ours[by].keys() & their.get(by, {}).keys())
            if seeds:
                a, b = [ours[by][s] for s in seeds], [their[by][s] for s in seeds]
                differences = mean_interval([y - x for x, y in zip(a, b, strict=True)])
                means = sum(a) / len(a), sum(b) / len(b)
                found.append(Pair(label, by, name, *means, differences))
    return found


def _accuracies(study: Study, facet: str) -> Accuracies:
    found: Accuracies = {}
    value = pl.col(METRIC).cast(pl.Float64).fill_nan(0.0).fill_null(0.0)
    runs = study.runs.filter(pl.col("facet") == facet)
    for row in runs.select("by", "seed", value).sort("by").to_dicts():
        found.setdefault(row["by"], {})[row["seed"]] = row[METRIC]
    return found


def _side_by_side(study: Study, facet: str, name: str, found: Sequence[Pair]) -> Spec:
    names = [name, *dict.fromkeys(pair.name for pair in found)]
    rows: Rows = [{"by": p.by, "sweep": p.name, "accuracy": p.other} for p in found]
    once = {pair.by: pair.first for pair in found}
    rows += [{"by": by, "sweep": name, "accuracy": value} for by, value in once.items()]
    base = chart(rows).encode(
        x=x_by(study),
        color=_colour(names),
        y=alt.Y(
            "accuracy:Q",
            title="test accuracy",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format="%"),
        ),
        tooltip=["sweep:N", "by:N", alt.Tooltip("accuracy:Q", format=".3f")],
    )
    dots = base.mark_point(filled=True, size=45).encode(opacity=emphasis())
    parts = [base.mark_line(strokeWidth=1.6), dots] if study.numeric else [dots]
    drawn = alt.layer(*parts).properties(width=1.5 * WIDTH, height=HEIGHT)
    return titled(facet, drawn, "Test accuracy at the end", "Means over the seeds in common.")


def _differences(study: Study, facet: str, name: str, found: Sequence[Pair]) -> Spec:
    rows: Rows = [
        {
            "by": p.by,
            "sweep": p.name,
            "difference": p.difference.estimate,
            "low": _or(p.difference.low, p.difference.estimate),
            "high": _or(p.difference.high, p.difference.estimate),
        }
        for p in found
    ]
    names = list(dict.fromkeys(pair.name for pair in found))
    y = alt.Y("low:Q", title=f"difference to {name}", axis=alt.Axis(format="+.2~f"))
    base = chart(rows).encode(x=x_by(study), color=_colour([name, *names]), opacity=emphasis())
    bars = base.mark_rule(strokeWidth=2.5).encode(y=y, y2="high:Q")
    dots = base.mark_point(filled=True, size=45).encode(
        y=alt.Y("difference:Q", title=""),
        tooltip=[
            "sweep:N",
            "by:N",
            *(alt.Tooltip(f"{k}:Q", format="+.3f") for k in ("difference", "low", "high")),
        ],
    )
    zero = chart([{"zero": 0.0}]).mark_rule(color=GREY).encode(y=alt.Y("zero:Q", title=""))
    drawn = alt.layer(zero, bars, dots).properties(width=1.5 * WIDTH, height=HEIGHT)
    how = ", ".join(sorted({pair.difference.method for pair in found}))
    return titled(
        facet,
        drawn,
        f"Difference of test accuracy to {name}",
        f"Paired over seeds: runs of one seed start from the same draws. 95% intervals ({how}).",
    )


def _colour(names: Sequence[str]) -> alt.Color:
    scale = alt.Scale(domain=list(names), range=[COLOURS[i % 6] for i in range(len(names))])
    return alt.Color("sweep:N", title="sweep", scale=scale)


def _or(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value
