"""Studies side by side: the values that they have in common, and the difference at each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import altair as alt

from initstudy import claims
from initstudy.claims.statistics import Interval, mean_interval
from initstudy.report.charts import style
from initstudy.report.page import html, words
from initstudy.store import StoreError
from initstudy.store.frames import Study

# Okabe and Ito's colours, told apart by everyone (https://jfly.uni-koeln.de/color/).
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]
Values = dict[Any, dict[int, float]]


@dataclass(frozen=True)
class Pair:
    """One value of the studied key in the first study and in another one.

    Attributes:
        facet: The facet.
        by: The value.
        name: The name of the other study.
        first, other: The mean of the objective in each.
        difference: The other one minus the first, paired over the seeds that both have.
    """

    facet: str
    by: Any
    name: str
    first: float
    other: float
    difference: Interval


def pairs(studies: Mapping[str, Study]) -> list[Pair]:
    """Every value that the first study and another one have in common.

    Args:
        studies: At least two studies by name, the first one first.

    Raises:
        StoreError: They study different keys or objectives, or have nothing in common.
    """
    (first_name, first), *others = studies.items()
    compared = []
    for name, other in others:
        if other.by != first.by:
            raise StoreError(
                f"{first_name} is about {first.label}, {name} about {other.label}: "
                "only studies about the same key can be compared"
            )
        if other.objective != first.objective:
            raise StoreError(
                f"{first_name} measures {first.objective}, {name} {other.objective}: "
                "only studies of the same objective can be compared"
            )
        compared += _pairs(first, name, other)
    if not compared:
        raise StoreError(f"{', '.join(studies)}: no model, value and seed in common")
    return compared


def page(studies: Mapping[str, Study], compared: Sequence[Pair]) -> html.Page:
    """The page of studies side by side.

    Args:
        studies: The studies by name, the first one first.
        compared: Their pairs, as `pairs` gives them.
    """
    names = list(studies)
    first = studies[names[0]]
    measure = style.Measure.of(first)
    specs: dict[str, style.Spec] = {}
    for number, facet in enumerate(dict.fromkeys(pair.facet for pair in compared)):
        here = [pair for pair in compared if pair.facet == facet]
        specs[f"{measure.field}_{number}"] = _side_by_side(first, facet, names[0], here)
        specs[f"difference_{number}"] = _differences(first, facet, names[0], here)
    results = [
        replace(result, facet=f"{name}: {result.facet}")
        for name, study in studies.items()
        for result in claims.evaluate_study(study)
    ]
    values = {
        "title": f"Differences of {measure.label}",
        **asdict(table(names[0], first, compared)),
    }
    return html.Page(
        title=" and ".join(names),
        headline=headline(names[0], first, compared),
        paragraphs=[f"{name}. {words.paragraph(study)}" for name, study in studies.items()],
        command="",
        claims=[html.claim_row(result) for result in results],
        charts=html.all_charts(first, specs, {}),
        specs=specs,
        tables=[{"title": f"Differences of {measure.label}", **values}],
        label=first.label,
        choices=html.choices(first),
    )


def headline(name: str, study: Study, compared: Sequence[Pair]) -> str:
    """In words: at how many values the others are better, and at how many worse."""
    lower = study.is_lower_better(study.objective)
    said = []
    for other in dict.fromkeys(pair.name for pair in compared):
        here = [pair.difference for pair in compared if pair.name == other]
        above, below = sum(d.above_zero for d in here), sum(d.below_zero for d in here)
        better, worse = (below, above) if lower else (above, below)
        said.append(f"{other} is better at {better} and worse at {worse} of {len(here)}")
    return f"Against {name}, {'; '.join(said)} values of {study.label}"


def table(name: str, study: Study, compared: Sequence[Pair]) -> words.Table:
    """One row per value and study: both means, the difference and its interval."""
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
        for pair in compared
    )
    return words.Table(columns, rows)


def _pairs(first: Study, name: str, other: Study) -> list[Pair]:
    alone = len(first.facets) == len(other.facets) == 1
    compared = []
    for facet in first.facets:
        theirs = other.facets[0] if alone else facet
        if theirs not in other.facets:
            continue
        ours, their = _values(first, facet), _values(other, theirs)
        label = facet if facet == theirs else f"{facet} and {theirs}"
        for by in ours:
            seeds = sorted(ours[by].keys() & their.get(by, {}).keys())
            if seeds:
                a, b = [ours[by][s] for s in seeds], [their[by][s] for s in seeds]
                differences = mean_interval([y - x for x, y in zip(a, b, strict=True)])
                compared.append(Pair(label, by, name, fmean(a), fmean(b), differences))
    return compared


def _values(study: Study, facet: str) -> Values:
    """The objective of a facet's runs, by value of the studied key and seed."""
    values: Values = {}
    value = study.value(study.objective, facet).alias("value")
    for by, seed, reached in study.runs_of(facet).select("by", "seed", value).sort("by").rows():
        values.setdefault(by, {})[seed] = reached
    return values


def _side_by_side(study: Study, facet: str, name: str, compared: Sequence[Pair]) -> style.Spec:
    measure = style.Measure.of(study)
    names = [name, *dict.fromkeys(pair.name for pair in compared)]
    field = measure.field
    rows: style.Rows = [{"by": p.by, "study": p.name, field: p.other} for p in compared]
    once = {pair.by: pair.first for pair in compared}
    rows += [{"by": by, "study": name, field: value} for by, value in once.items()]
    base = style.chart(rows).encode(
        x=style.x_by(study),
        color=_colour(names),
        y=measure.titled_y(field),
        tooltip=["study:N", "by:N", alt.Tooltip(f"{field}:Q", format=".3f")],
    )
    dots = base.mark_point(filled=True, size=45).encode(opacity=style.emphasis())
    parts = [base.mark_line(strokeWidth=1.6), dots] if study.numeric else [dots]
    title = f"{measure.title} at the end"
    drawn = style.layered(parts, 1.5)
    return style.titled(facet, drawn, title, "Means over the seeds in common.")


def _differences(study: Study, facet: str, name: str, compared: Sequence[Pair]) -> style.Spec:
    rows: style.Rows = [
        {
            "by": p.by,
            "study": p.name,
            "difference": p.difference.estimate,
            "low": _or(p.difference.low, p.difference.estimate),
            "high": _or(p.difference.high, p.difference.estimate),
        }
        for p in compared
    ]
    names = list(dict.fromkeys(pair.name for pair in compared))
    y = alt.Y("low:Q", title=f"difference to {name}", axis=alt.Axis(format="+.2~f"))
    base = style.chart(rows).encode(x=style.x_by(study), color=_colour([name, *names]))
    base = base.encode(opacity=style.emphasis())
    bars = base.mark_rule(strokeWidth=2.5).encode(y=y, y2="high:Q")
    dots = base.mark_point(filled=True, size=45).encode(
        y=alt.Y("difference:Q", title=""),
        tooltip=[
            "study:N",
            "by:N",
            *(alt.Tooltip(f"{k}:Q", format="+.3f") for k in ("difference", "low", "high")),
        ],
    )
    zero = style.chart([{"zero": 0.0}]).mark_rule(color=style.GREY)
    zero = zero.encode(y=alt.Y("zero:Q", title=""))
    how = ", ".join(sorted({pair.difference.method for pair in compared}))
    return style.titled(
        facet,
        style.layered([zero, bars, dots], 1.5),
        f"Difference of {style.Measure.of(study).label} to {name}",
        f"Paired over seeds: runs of one seed start from the same draws. 95% intervals ({how}).",
    )


def _colour(names: Sequence[str]) -> alt.Color:
    scale = alt.Scale(domain=list(names), range=[COLOURS[i % 6] for i in range(len(names))])
    return alt.Color("study:N", title="study", scale=scale)


def _or(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value
