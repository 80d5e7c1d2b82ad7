"""A study on Weights & Biases: a report with the article's structure, and a saved workspace.

Both are found again by what they are called, so that a second call updates them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from initstudy import claims
from initstudy.store.frames import Study, prepare
from initstudy.report.data.sources import read
from initstudy.store import StoreError

INSTALL = "pip install 'initstudy[publish]'"


@dataclass(frozen=True)
class Published:
    """Where a study can be seen.

    Attributes:
        report: The address of the W&B report.
        workspace: The address of the saved view of the project.
    """

    report: str
    workspace: str


def publish(source: str | Path, target: str | None = None) -> Published:
    """Creates or updates a study's W&B report and workspace.

    Args:
        source: A source that `read` takes.
        target: `ENTITY/PROJECT`; by default the project to which the study's runs were logged.

    Raises:
        StoreError: There is nothing to publish, the package for it is missing, there is no key, or
            the server refuses.
    """
    study = prepare(read(source))
    results = claims.evaluate_study(study)
    given = None if target is None else _parse(target)
    try:
        with warnings.catch_warnings():
            # The package is written for an older pydantic, which warns at every import.
            warnings.simplefilter("ignore", DeprecationWarning)
            from initstudy.report.wandb import article, workspace
    except ModuleNotFoundError as error:
        raise StoreError(f"--publish needs wandb-workspaces: {INSTALL}") from error
    import wandb

    try:
        api = wandb.Api(timeout=30)
        entity, project = given or _of_the_runs(study, api)
        name = str(study.about.get("name", "study"))
        report = article.build(study, results, entity, project)
        report.id = _known_report(api, f"{entity}/{project}", report.title)
        report.save()
        view = workspace.build(study, entity, project)
        workspace.find(view, name)
        view.save()
        return Published(report.url, view.url)
    except StoreError:
        raise
    except Exception as error:
        # The clients raise whatever their layers raise, all of which is trouble with the server.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise StoreError(f"--publish: {lines[0]}") from error


def _parse(target: str) -> tuple[str, str]:
    entity, _, project = target.partition("/")
    if not entity or not project or "/" in project:
        raise StoreError(f"--publish {target}: write it as ENTITY/PROJECT")
    return entity, project


def _of_the_runs(study: Study, api: Any) -> tuple[str, str]:
    first = study.runs.row(0, named=True)
    entity = first.get("tracking.entity") or api.default_entity
    if not entity:
        raise StoreError("--publish: no entity is known; give ENTITY/PROJECT")
    return str(entity), str(first.get("tracking.project") or "initstudy")


def _known_report(api: Any, project: str, title: str) -> str:
    """The id of the report of that title; empty if there is none, or no project yet."""
    from wandb.errors import CommError

    try:
        return next((r.id for r in api.reports(project) if r.display_name == title), "")
    except (CommError, ValueError):
        return ""
