"""Panels that the W&B report and the workspace have in common."""

from __future__ import annotations

from typing import Any

import wandb_workspaces.reports.v2 as wr

from initstudy.store.frames import Study
from initstudy.report.data.steps import few

MOST_LAYERS = 8
AXIS = "step"


def over_steps(study: Study, metric: str, title: str, *, log: bool) -> Any:
    """A metric over steps, a line a value of the studied variable: the mean, and the range."""
    return wr.LinePlot(
        title=title,
        x=AXIS,
        y=[metric],
        log_y=log,
        smoothing_factor=0.0,
        max_runs_to_show=100,
        **grouped(study),
    )


def grouped(study: Study) -> dict[str, Any]:
    """How a panel puts together the seeds of one value."""
    if study.by is None:
        return {}
    return {"groupby": config(study.by), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}


def config(key: str) -> Any:
    """A key of the configuration, as W&B holds it: choices of groups have a place of their own."""
    return wr.Config(f"choices.{key}" if "." not in key and key in ("init", "model") else key)


def against(study: Study) -> Any:
    """Test accuracy of every run against the studied variable."""
    if study.by is None or not study.numeric:
        return wr.BarPlot(title="Test accuracy", metrics=["test/accuracy"], **_bars(study))
    return wr.ScatterPlot(
        title=f"Test accuracy against {study.by}",
        x=config(study.by),
        y=wr.SummaryMetric("test/accuracy"),
        log_x=study.logarithmic or None,
        range_y=(0.0, 1.0),
    )


def parallel(study: Study) -> Any:
    """Every run across its choices and results."""
    keys = [key for key in study.varied if key != "model._target_"]
    columns = [
        wr.ParallelCoordinatesPlotColumn(config(key), log=study.logarithmic or None)
        if key == study.by
        else wr.ParallelCoordinatesPlotColumn(config(key))
        for key in keys
    ]
    columns += [
        wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric("train/loss"), log=True),
        wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric("test/accuracy")),
    ]
    return wr.ParallelCoordinatesPlot(title="Runs across choices and results", columns=columns)


def layers(study: Study) -> list[str]:
    """The layers of all the study's models; some of them where they are many."""
    found = dict.fromkeys(name for facet in study.facets for name in study.layers(facet))
    return few(list(found), MOST_LAYERS)


def per_layer(study: Study, kind: str, statistic: str = "rms") -> list[Any]:
    """A panel a layer for a statistic of its activations, gradients or weights."""
    return [
        over_steps(study, f"{kind}/{layer}/{statistic}", f"{layer}: {kind} {statistic}", log=True)
        for layer in layers(study)
        if f"{kind}/{layer}/{statistic}" in study.history.columns
    ]


def _bars(study: Study) -> dict[str, Any]:
    return {} if study.by is None else {"groupby": config(study.by), "groupby_aggfunc": "mean"}
