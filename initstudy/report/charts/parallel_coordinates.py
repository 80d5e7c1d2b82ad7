"""Parallel coordinates: every run as a line across its choices and results, as W&B draws them."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from initstudy.columns import TEST_LOSS, TRAIN_LOSS
from initstudy.report.charts import style
from initstudy.store.frames import Study

TICKS = 5
# A dash longer than any line: renderers are slow with a gap of zero.
SOLID = [10_000, 1]


def parallel_coordinates(study: Study, facet: str) -> style.Spec:
    """Every run as a line across what was chosen and what came of it."""
    runs = study.runs_of(facet)
    axes = [(c, False) for c in ("seed", "optimizer.lr") if c in runs and runs[c].n_unique() > 1]
    if study.numeric and study.by:
        axes = [("by", study.logarithmic), *[a for a in axes if a[0] != study.by]]
    losses = [(name, True) for name in (TRAIN_LOSS.name, TEST_LOSS.name) if name in runs.columns]
    axes += [*losses, (study.objective, False)] if study.objective not in dict(losses) else losses
    drawn, thinned = style.thin(runs)
    described = style.run_rows(study, drawn, diverged=pl.col("diverged"))
    rows: style.Rows = []
    ticks: style.Rows = []
    for name, log in axes:
        label = study.label if name == "by" else name
        position = AxisScale(runs[name].cast(pl.Float64).to_list(), log)
        for row, value in zip(described, drawn[name].cast(pl.Float64).to_list(), strict=True):
            rows.append(
                {**row, "axis": label, "value": position(value), "shown": style.shown(value)}
            )
        for where, tick in position.ticks():
            ticks.append({"axis": label, "value": where, "text": tick})
    names = [study.label if name == "by" else name for name, _ in axes]
    top = alt.Axis(orient="top", labelAngle=0, domain=False, labelFontWeight="bold")
    scale = alt.Scale(type="point", padding=0.25)
    x = alt.X("axis:N", sort=names, title=None, scale=scale, axis=top)
    y = alt.Y("value:Q", axis=None, scale=alt.Scale(domain=[-0.04, 1.04]))
    rules = (
        style.chart([{"axis": n} for n in names])
        .mark_rule(color=style.GREY, opacity=0.6)
        .encode(x=x)
    )
    dash = alt.StrokeDash(
        "diverged:N",
        legend=alt.Legend(title="diverged"),
        scale=alt.Scale(domain=[False, True], range=[SOLID, [5, 4]]),
    )
    lines = (
        style.chart(rows)
        .mark_line(strokeWidth=1.5)
        .encode(
            x=x,
            y=y,
            detail="run:N",
            color=style.colour(study, facet=facet),
            strokeDash=dash,
            opacity=style.emphasis(0.6),
            tooltip=[*style.RUN, "axis:N", "shown:N"],
        )
    )
    text = style.chart(ticks).encode(x=x, y=y, text="text:N")
    text = text.mark_text(align="left", dx=5, fontSize=10.5, fontWeight="bold", color=style.INK)
    spec = style.titled(
        facet,
        style.layered([rules, lines, text], 2),
        "Runs across their choices and results",
        f"One line per run{thinned}; dashed if it diverged. A value that is not finite stands at "
        "the top.",
    )
    # Narrower, the names of the axes would stand on one another.
    return spec | {"usermeta": {"least": 110 * len(axes)}}


class AxisScale:
    """Numbers to the unit interval of one axis, and its ticks.

    Args:
        numbers: The numbers on the axis; those that are not finite stand above its end.
        log: Whether to scale by the logarithm, if all of them are positive.
    """

    def __init__(self, numbers: list[float | None], log: bool) -> None:
        good = [v for v in numbers if v is not None and math.isfinite(v)]
        self.log = log and bool(good) and min(good) > 0
        self.low, self.high = (min(good), max(good)) if good else (0.0, 1.0)
        self.distinct = sorted(set(good))

    def __call__(self, value: float | None) -> float:
        """A number's position on the unit interval."""
        if value is None or not math.isfinite(value):
            return 1.04
        low, high, value = (
            (math.log(self.low), math.log(self.high), math.log(value))
            if self.log
            else (self.low, self.high, value)
        )
        return 0.5 if high == low else (value - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Positions on the unit interval and their labels."""
        if len(self.distinct) <= TICKS:
            return [(self(value), f"{value:.3g}") for value in self.distinct]
        positions = [0.0, 0.25, 0.5, 0.75, 1.0]
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        values = [low + p * (high - low) for p in positions]
        return [
            (p, f"{math.exp(v) if self.log else v:.3g}")
            for p, v in zip(positions, values, strict=True)
        ]
