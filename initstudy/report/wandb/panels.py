"""Panels that the W&B report and the workspace have in common."""

from __future__ import annotations

from typing import Any

import wandb_workspaces.reports.v2 as wr

from initstudy.columns import STEP, TRAIN_LOSS, Column
from initstudy.report.charts.style import Measure
from initstudy.report.data.steps import few
from initstudy.store.frames import Study
from initstudy.store.tables import GROUPS

MOST_LAYERS = 8
AXIS = STEP.name


def over_steps(study: Study, column: str, title: str, *, log: bool) -> Any:
    """A column over steps, one line per value of the studied key: the mean, and the range."""
    return wr.LinePlot(
        title=title,
        x=AXIS,
        y=[column],
        log_y=log,
        smoothing_factor=0.0,
        max_runs_to_show=100,
        **grouped(study),
    )


def grouped(study: Study) -> dict[str, Any]:
    """How a panel groups the seeds of one value."""
    if study.by is None:
        return {}
    return {"groupby": config(study.by), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}


def config(key: str) -> Any:
    """A key of the configuration as W&B holds it: choices of groups are under `choices`."""
    return wr.Config(f"choices.{key}" if key in GROUPS else key)


def against(study: Study) -> Any:
    """The objective of every run against the studied key."""
    measure = Measure.of(study)
    if study.by is None or not study.numeric:
        return wr.BarPlot(title=measure.title, metrics=[measure.column], **_bars(study))
    return wr.ScatterPlot(
        title=f"{measure.title} against {study.by}",
        x=config(study.by),
        y=wr.SummaryMetric(measure.column),
        log_x=study.logarithmic or None,
        range_y=(0.0, 1.0) if measure.fraction else (None, None),
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
        wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(TRAIN_LOSS.name), log=True),
        wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(study.objective)),
    ]
    return wr.ParallelCoordinatesPlot(title="Runs across choices and results", columns=columns)


def layers(study: Study) -> list[str]:
    """The layers of all the study's models, thinned out if they are many."""
    names = dict.fromkeys(name for facet in study.facets for name in study.layers(facet))
    return few(list(names), MOST_LAYERS)


def per_layer(study: Study, column: Column) -> list[Any]:
    """One panel per layer for a statistic of its activations, gradients or weights."""
    kind, _, statistic = column.of("").split("/")
    return [
        over_steps(study, column.of(layer), f"{layer}: {kind} {statistic}", log=True)
        for layer in layers(study)
        if column.of(layer) in study.history.columns
    ]


def _bars(study: Study) -> dict[str, Any]:
    return {} if study.by is None else {"groupby": config(study.by), "groupby_aggfunc": "mean"}
