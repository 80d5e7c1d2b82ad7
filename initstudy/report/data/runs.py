"""The table of runs that a page holds: configuration, results, and a sparkline of the loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from initstudy.columns import DIVERGED_STEP, TRAIN_LOSS, label
from initstudy.report.charts.loss import WIDEST
from initstudy.report.charts.style import log_domain
from initstudy.report.data.steps import few
from initstudy.store.frames import Study

SPARK_POINTS = 28
SPARK_HEIGHT = 100


def run_table(study: Study) -> dict[str, Any]:
    """Columns and rows for a page's script.

    Returns:
        `columns`: for each column its label and whether it is numeric. `rows`: for each run its id,
        its value of the studied key as text, its sparkline (heights from 0 to 100 in the logarithm,
        None for a loss that is not finite), then the columns. `link`: the address to which a run's
        id is appended, or None.
    """
    runs = study.runs
    keys = [key for key in study.varied if key in runs.columns]
    results = {key: name for key, name in _results(study).items() if key in runs.columns}
    columns = [
        *({"label": key, "numeric": runs[key].dtype.is_numeric()} for key in keys),
        *({"label": name, "numeric": True} for name in results.values()),
    ]
    sparks = _sparklines(study)
    rows = [
        [
            row["run"],
            text(row["by"]),
            sparks.get(row["run"], []),
            *(_cell(row[key]) for key in (*keys, *results)),
        ]
        for row in runs.select(*dict.fromkeys(["run", "by", *keys, *results])).to_dicts()
    ]
    link = study.about.get("wandb")
    return {"columns": columns, "rows": rows, "link": f"{link}/runs/" if link else None}


def text(value: Any) -> str | None:
    """A value as a page's script writes it: 1.0 as "1"."""
    if not isinstance(value, float) or not math.isfinite(value):
        return None if value is None else str(value)
    # Both languages agree on the shortest digits, not on when to use an exponent (ECMA-262,
    # Number::toString).
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        return np.format_float_positional(value, trim="-")
    digits, exponent = repr(value).split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent):+d}"


def _results(study: Study) -> dict[str, str]:
    """The columns of results, and what the table calls them: first what the study is about."""
    losses = [c.name for c in study.schema.measured if c.better == "lower" and c.history]
    names = dict.fromkeys([study.objective, *losses[::-1]])
    return {name: label(name) for name in names} | {DIVERGED_STEP.name: "diverged at"}


def _sparklines(study: Study) -> dict[str, list[int | None]]:
    loss = pl.col(TRAIN_LOSS.name)
    rows = study.history.select("run", loss).drop_nulls(TRAIN_LOSS.name)
    domain = log_domain(rows[TRAIN_LOSS.name], widest=WIDEST)
    if domain is None:
        return {}
    low, high = (math.log(end) for end in domain)
    height = ((loss.clip(*domain).log() - low) / (high - low) * SPARK_HEIGHT).round()
    finite = pl.when(loss.is_finite()).then(height).cast(pl.Int32)
    grouped = rows.group_by("run", maintain_order=True).agg(finite.alias("spark"))
    return {row["run"]: few(row["spark"], SPARK_POINTS) for row in grouped.to_dicts()}


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else str(value)
    return value
