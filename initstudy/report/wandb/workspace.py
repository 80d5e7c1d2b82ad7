"""The saved view of the W&B project: sections Loss, Accuracy, Activations, Gradients, Weights."""

from __future__ import annotations

import hashlib
from typing import Any

import wandb_workspaces.workspaces as ws

from initstudy.store.frames import Study
from initstudy.report.wandb import panels


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
    """Makes a workspace the one that an earlier call saved, where there is one."""
    code = hashlib.sha256(f"initstudy/{view.entity}/{view.project}/{name}".encode()).hexdigest()
    # As the library names its views; one that has a name is not given a random one.
    view._internal_name = f"nw-{code[:11]}-v"
    try:
        view._internal_id = ws.Workspace.from_url(view.url)._internal_id
    except (ValueError, IndexError, KeyError):
        # There is none yet, or no project.
        view._internal_id = ""


def _panels(study: Study) -> dict[str, list[Any]]:
    def steps(metric: str, title: str, *, log: bool) -> list[Any]:
        known = metric in study.history.columns
        return [panels.over_steps(study, metric, title, log=log)] if known else []

    return {
        "Loss": [
            *steps("train/loss", "Training loss", log=True),
            *steps("test/loss", "Test loss", log=True),
        ],
        "Accuracy": [
            *steps("train/accuracy", "Training accuracy", log=False),
            *steps("test/accuracy", "Test accuracy", log=False),
            panels.against(study),
            panels.parallel(study),
        ],
        "Activations": [
            *panels.per_layer(study, "activation"),
            *panels.per_layer(study, "activation", "dead"),
        ],
        "Gradients": panels.per_layer(study, "gradient"),
        "Weights": [
            *panels.per_layer(study, "weight"),
            *panels.per_layer(study, "weight", "update_ratio"),
        ],
    }


def _section(title: str, shown: list[Any]) -> Any:
    return ws.Section(
        name=title,
        panels=shown,
        is_open=True,
        panel_settings=ws.SectionPanelSettings(x_axis="step"),
    )
