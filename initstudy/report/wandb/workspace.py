"""The saved view of the W&B project: a section per metric, then the layers."""

from __future__ import annotations

import hashlib
from typing import Any

import wandb_workspaces.workspaces as ws

from initstudy.columns import (
    ACTIVATION_DEAD,
    ACTIVATION_RMS,
    GRADIENT_RMS,
    WEIGHT_RMS,
    WEIGHT_UPDATE_RATIO,
    Metric,
    label,
)
from initstudy.report.wandb import panels
from initstudy.store.frames import Study


def build(study: Study, entity: str, project: str) -> Any:
    """The workspace as an object that can be saved; nothing is sent."""
    name = str(study.about.get("name", "study"))
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"initstudy: {name}",
        sections=[_section(title, shown) for title, shown in _panels(study).items() if shown],
        settings=ws.WorkspaceSettings(x_axis=panels.AXIS, max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=f"Group = '{name}'",
            groupby=[] if study.by is None else [ws.Config(panels.config(study.by).name)],
        ),
    )


def find(view: Any, name: str) -> None:
    """Makes a workspace the one that an earlier call saved, if there is one."""
    code = hashlib.sha256(f"initstudy/{view.entity}/{view.project}/{name}".encode()).hexdigest()
    # In the form in which the library names its views; it would give one without a random name.
    view._internal_name = f"nw-{code[:11]}-v"
    try:
        view._internal_id = ws.Workspace.from_url(view.url)._internal_id
    except (ValueError, IndexError, KeyError):
        # There is none yet, or no project.
        view._internal_id = ""


def _panels(study: Study) -> dict[str, list[Any]]:
    schema = study.schema
    sections = {metric.name.capitalize(): _of_metric(study, metric) for metric in schema.metrics}
    objective = schema.metric(study.objective)
    if objective is not None:
        sections[objective.name.capitalize()] += [panels.against(study), panels.parallel(study)]
    for title, columns in (
        ("Activations", (ACTIVATION_RMS, ACTIVATION_DEAD)),
        ("Gradients", (GRADIENT_RMS,)),
        ("Weights", (WEIGHT_RMS, WEIGHT_UPDATE_RATIO)),
    ):
        sections[title] = [panel for c in columns for panel in panels.per_layer(study, c)]
    return sections


def _of_metric(study: Study, metric: Metric) -> list[Any]:
    """A panel over steps for each part of the data."""
    names = [metric.column(split).name for split in study.schema.splits]
    return [
        panels.over_steps(study, name, label(name).capitalize(), log=not metric.fraction)
        for name in names
        if name in study.history.columns
    ]


def _section(title: str, shown: list[Any]) -> Any:
    return ws.Section(
        name=title,
        panels=shown,
        is_open=True,
        panel_settings=ws.SectionPanelSettings(x_axis=panels.AXIS),
    )
