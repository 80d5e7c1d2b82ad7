"""What all charts share: one colour per value of the studied key, axes, fonts, tooltips.

Charts import this module and name its parts as `style.chart`, `style.titled` and so on.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from initstudy.claims.statistics import Interval, fraction_interval, mean_interval
from initstudy.columns import label
from initstudy.store.frames import STD, Study

WIDTH, HEIGHT = 360, 270
# The height of one choice in a chart whose rows are choices.
ROW_HEIGHT = 19
# Viridis without its palest end: its lightness falls steadily, so the order survives black and
# white print, and every colour stands out from paper.
SCHEME = alt.SchemeParams(name="viridis", extent=[0.0, 0.88])
LEGEND_ENTRIES = 16
LEGEND_ROWS = 15
# Visible on a light page and on a dark one.
GREY = "#777777"
# What a page replaces: the colour of lines and marks that belong to no value, and the choice of its
# reader.
INK = alt.ExprRef("ink")
PARAMS: list[dict[str, Any]] = [
    {"name": "ink", "value": "black"},
    {"name": "chosen", "value": None},
]
CHOSEN = (
    "!chosen || (isValid(datum.run) && isValid(chosen.run) ? datum.run === chosen.run"
    " : toString(datum.by) === chosen.by)"
)
UNCHOSEN = 0.07
# Marks of single runs beyond which they cover one another, and take minutes to draw.
MOST_MARKS = 500
# The first lines of a tooltip on a mark that stands for a run.
RUN = ["run:N", "configuration:N"]
Rows = list[dict[str, Any]]
Spec = dict[str, Any]


class NothingToShow(ValueError):  # noqa: N818
    """A chart would be empty; the message is the sentence that stands in its place."""


@dataclass(frozen=True)
class Measure:
    """A metric as charts draw it.

    Attributes:
        column: Its column, such as "test/accuracy".
        field: The field that holds it in a chart's rows, such as "accuracy".
        fraction: Whether all its values lie between 0 and 1.
    """

    column: str
    field: str
    fraction: bool

    @classmethod
    def of(cls, study: Study, column: str | None = None) -> Measure:
        """A column of a study, by default its objective."""
        column = column or study.objective
        metric = study.schema.metric(column)
        field = column.rpartition("/")[2] if metric is None else metric.name
        return cls(column, field, metric is not None and metric.fraction)

    @property
    def label(self) -> str:
        """The metric's name on an axis."""
        return label(self.column)

    @property
    def title(self) -> str:
        """The metric's name at the beginning of a title."""
        return self.label[0].upper() + self.label[1:]

    @property
    def scale(self) -> alt.Scale:
        """The scale of an axis."""
        return alt.Scale(domain=[0, 1]) if self.fraction else alt.Scale(zero=False)

    @property
    def axis(self) -> alt.Axis:
        """The ticks of an axis."""
        return alt.Axis(format="%") if self.fraction else alt.Axis(format="~g")

    def y(self, field: str) -> alt.Y:
        """The y position of a field that holds values of the metric."""
        return alt.Y(f"{field}:Q", scale=self.scale)

    def titled_y(self, field: str) -> alt.Y:
        """The same, for the layer that draws the axis."""
        return alt.Y(f"{field}:Q", title=self.label, scale=self.scale, axis=self.axis)

    def interval(self, values: pl.Series) -> Interval:
        """The mean of a metric's values with its interval, which of fractions lies in 0 to 1."""
        return (fraction_interval if self.fraction else mean_interval)(values.to_numpy())


def chart(rows: Rows) -> alt.Chart:
    """An empty chart over plain rows.

    They go in as text, because Altair copies a chart at every step, and lists of rows with it. JSON
    has no NaN and no infinity; they become null, which is not drawn. Numbers keep six digits,
    except for the studied key, by which charts know one another's marks.
    """
    plain = [{k: v if k == "by" else _number(v) for k, v in row.items()} for row in rows]
    text = json.dumps(plain, allow_nan=False, separators=(",", ":"))
    return alt.Chart(alt.InlineData(values=text, format=alt.DataFormat(type="json")))


def layered(
    parts: Sequence[alt.Chart], width: float = 1.0, height: float = HEIGHT, **properties: Any
) -> alt.LayerChart:
    """Charts drawn over one another.

    Args:
        parts: The charts, the lowest one first.
        width: The width as a multiple of `WIDTH`.
        height: The height in pixels.
        properties: Further properties, such as `title`.
    """
    layers: alt.LayerChart = alt.layer(*parts)  # type: ignore[assignment]
    return layers.properties(width=width * WIDTH, height=height, **properties)


def emphasis(opacity: float = 1.0) -> Any:
    """The opacity of a mark, which is faint if a page's reader has chosen another value or run.

    It depends on the field `by` and, if a mark stands for one run, `run`.
    """
    return alt.condition(CHOSEN, alt.value(opacity), alt.value(opacity * UNCHOSEN))


def _number(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def colour(study: Study, legend: bool = True, facet: str | None = None) -> alt.Color:
    """The colour of the studied key's values, the same in every chart of a facet.

    Choices are coloured by their rank in the facet, the best first.
    """
    if study.by is None:
        return alt.Color("by:N", legend=None, scale=alt.Scale(range=["#31688e"]))
    shown = _legend(study) if legend else None
    if not study.numeric:
        ranked = alt.Scale(scheme=SCHEME, domain=study.values(facet))
        return alt.Color("by:O", scale=ranked, legend=shown)
    scale = alt.Scale(scheme=SCHEME, type="log" if study.logarithmic else alt.Undefined)
    return alt.Color("by:Q", scale=scale, legend=shown)


def _legend(study: Study) -> alt.Legend:
    """A legend of the grid's own values, thinned out if they are many."""
    if not study.numeric:
        return alt.Legend(
            title=f"{study.label}, best first",
            symbolOpacity=1,
            symbolType="stroke",
            symbolStrokeWidth=4,
            columns=-(-len(study.values()) // LEGEND_ROWS),
        )
    values = study.values()
    every = -(-len(values) // LEGEND_ENTRIES)
    return alt.Legend(
        title=study.label,
        type="symbol",
        values=values[::every],
        format=".3~g",
        symbolOpacity=1,
        symbolType="stroke",
        symbolStrokeWidth=4,
        symbolSize=160,
    )


def x_by(study: Study, facet: str | None = None) -> alt.X:
    """The studied key along x; choices from the best to the worst."""
    if not study.numeric:
        axis = alt.Axis(labelAngle=-50, labelLimit=120)
        return alt.X("by:O", title=study.label, axis=axis, sort=study.values(facet))
    scale = alt.Scale(type="log" if study.logarithmic else "linear", nice=False, padding=12)
    axis = alt.Axis(format="~g", tickCount=5, grid=False)
    return alt.X("by:Q", title=_with_unit(study), scale=scale, axis=axis)


def layer_axis() -> alt.Axis:
    """Names of layers along x, thinned out if they are many."""
    return alt.Axis(labelAngle=0, labelOverlap="greedy", labelSeparation=6)


def log_axis(
    title: str, domain: tuple[float, float], field: str = "value", format: str = "~e"
) -> alt.Y:
    """A logarithmic y axis over a fixed domain."""
    scale = alt.Scale(type="log", domain=list(domain), nice=False, clamp=True)
    return alt.Y(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(format=format, tickCount=6))


def log_domain(
    values: pl.Series | Iterable[float | None], widest: float = 1e24
) -> tuple[float, float] | None:
    """A domain for the positive finite values among these; None if there is no such value.

    Args:
        values: The values.
        widest: The largest ratio of the domain's ends. What lies outside is drawn at the edge.
    """
    series = values if isinstance(values, pl.Series) else pl.Series(list(values), dtype=pl.Float64)
    numbers = series.cast(pl.Float64).drop_nulls().to_numpy()
    good = np.sort(numbers[np.isfinite(numbers) & (numbers > 0)])
    if len(good) == 0:
        return None
    middle = math.log(good[len(good) // 2])
    half = math.log(widest) / 2
    low, high = (
        math.exp(max(math.log(good[0]), middle - half)),
        math.exp(min(math.log(good[-1]), middle + half)),
    )
    return low / 1.6, high * 1.6


def at_edge(value: float | None, domain: tuple[float, float]) -> tuple[float, str]:
    """A value moved into a domain, and whether it lies "inside", "below" or "above" it.

    A value that is not finite, or was not measured, lies above.
    """
    if value is None or not math.isfinite(value) or value > domain[1]:
        return domain[1], "above"
    return (value, "inside") if value >= domain[0] else (domain[0], "below")


def titled(
    facet: str,
    parts: alt.TopLevelMixin,
    title: str,
    subtitle: str,
    steps: Sequence[int] | None = None,
) -> Spec:
    """A chart as a Vega-Lite specification with its title, fonts, background and parameters.

    Args:
        facet: The facet that it shows.
        parts: The chart.
        title: What it shows.
        subtitle: What its marks mean.
        steps: If the chart shows one step at a time, the steps that its parameter `step` may have.
    """
    heading = f"{title} · {facet}"
    full = parts.properties(
        title=alt.TitleParams(
            heading,
            subtitle=_lines(subtitle),
            anchor="start",
            fontSize=15,
            subtitleFontSize=11.5,
            subtitleColor=GREY,
            offset=12,
        ),
        background="white",
    )
    styled = full.configure(font="Helvetica, Arial, sans-serif", padding=14)
    styled = styled.configure_axis(
        labelFontSize=11,
        titleFontSize=12,
        titleFontWeight="normal",
        gridColor="#ececec",
        domainColor="#888",
        tickColor="#888",
    )
    styled = styled.configure_view(stroke=None).configure_header(labelFontSize=12, title=None)
    spec = styled.configure_legend(labelFontSize=11, titleFontSize=11.5).to_dict(validate=False)
    spec["params"] = [*spec.get("params", []), *PARAMS]
    if steps:
        spec["params"] = [*spec["params"], {"name": "step", "value": steps[0]}]
        spec["usermeta"] = {"steps": list(steps)}
    return spec


def run_rows(study: Study, runs: pl.DataFrame, **values: pl.Expr) -> Rows:
    """One row per run: its id, its value of the studied key, its configuration in words, values."""
    words = [
        pl.format(f"{key}={{}}", pl.col(key).cast(pl.String).fill_null("–")) for key in study.varied
    ]
    configuration = pl.concat_str(words, separator=", ") if words else pl.lit("the only one")
    shown = {"configuration": configuration, **values}
    return runs.select("run", "by", **shown).to_dicts()


def thin(runs: pl.DataFrame, most: int = MOST_MARKS) -> tuple[pl.DataFrame, str]:
    """At most so many runs, of which each gets a mark, and words that say so if any is left out.

    They are spread evenly over the studied values, and within each over the seeds.
    """
    if len(runs) <= most:
        return runs, ""
    order = runs.with_row_index("index").sort("by", *({"seed"} & {*runs.columns}), "run")
    chosen = np.linspace(0, len(runs) - 1, most).round().astype(int)
    kept = order["index"].gather(chosen).sort()
    return runs[kept.to_list()], f" ({most} of {len(runs):,} drawn)"


def seeds_in(study: Study, facet: str, point: Sequence[str] = ("by",)) -> str:
    """How many seeds a facet's points are the mean of, in words."""
    runs = study.runs_of(facet)
    count = max(runs.group_by(point).agg(pl.col("seed").n_unique())["seed"].to_list())
    return "1 seed" if count == 1 else f"{count} seeds"


def shown(value: float | None) -> str:
    """A number in a tooltip."""
    return "not measured" if value is None else f"{value:.4g}"


def _lines(text: str, width: int = 88) -> list[str]:
    return textwrap.wrap(text, width)


def _with_unit(study: Study) -> str:
    scale = ", log scale" if study.logarithmic else ""
    if study.by == STD:
        return f"init.std: standard deviation of the initial weights{scale}"
    return f"{study.label}{scale}"
