"""The W&B report: what is covered, the initializer's code, the experiment, its outcome."""

from __future__ import annotations

import inspect
from typing import Any

import wandb_workspaces.reports.v2 as wr
from hydra.utils import get_class

from initstudy.report.page import words
from initstudy.claims import Result
from initstudy.columns import ACTIVATION_RMS, GRADIENT_RMS, TRAIN_LOSS
from initstudy.report.charts.style import Measure
from initstudy.store.frames import Study
from initstudy.report.wandb import panels

LONGEST_TITLE = 128
MOST_CODE = 4


def build(study: Study, results: list[Result], entity: str, project: str) -> Any:
    """The report as an object that can be saved; nothing is sent.

    Args:
        study: The study.
        results: What was found of its claims.
        entity: Who owns the report and its runs.
        project: The project in which they are.
    """
    name = str(study.about.get("name", "study"))
    return wr.Report(
        entity=entity,
        project=project,
        title=f"initstudy: {name}"[:LONGEST_TITLE],
        description=words.headline(study, results),
        width="fluid",
        blocks=[
            *_covered(study, results),
            *_code(study),
            *_experiment(study),
            *_outcome(study, results, entity, project),
            *_layers(study, entity, project),
        ],
    )


def _covered(study: Study, results: list[Result]) -> list[Any]:
    said = [wr.H1("What is covered"), wr.P(words.headline(study, results) + ".")]
    said.append(wr.P(words.paragraph(study)))
    return said + [wr.P(f"{name}: {text}") for name, text in words.paper(study)]


def _code(study: Study) -> list[Any]:
    # Code that a server names is not imported, unless it is this package's.
    known = [t for t in _targets(study) if t.startswith("initstudy.") or not _is_remote(study)]
    sources = [source for source in map(_source, known) if source]
    if not sources:
        return []
    use = "initstudy.initialize(model, initializer, seed=0)  # fills every weight of a model"
    blocks = [wr.CodeBlock(code=source, language="python") for source in sources[:MOST_CODE]]
    return [wr.H1("The initialization"), *blocks, wr.CodeBlock(code=use, language="python")]


def _experiment(study: Study) -> list[Any]:
    values = ", ".join(words.short(value) for value in study.values())
    told: list[Any] = [wr.H1("The experiment")]
    if values:
        told.append(wr.P(f"{study.label}: {values}."))
    command = str(study.about.get("command", ""))
    return told + ([wr.CodeBlock(code=command, language=None)] if command else [])


def _outcome(study: Study, results: list[Result], entity: str, project: str) -> list[Any]:
    shown = [
        panels.over_steps(study, TRAIN_LOSS.name, "Training loss", log=True),
        panels.over_steps(study, study.objective, Measure.of(study).title, log=False),
        panels.against(study),
        panels.parallel(study),
    ]
    said: list[Any] = [
        f"{r.finding.verdict}: {r.statement} ({r.facet}) {r.finding.detail}. "
        f"{'; '.join(words.evidence_of(r))}"
        for r in results
    ]
    listed = [wr.H2("Claims"), wr.UnorderedList(items=said)] if said else []
    return [wr.H1("What came of it"), *listed, _grid(study, shown, entity, project)]


def _layers(study: Study, entity: str, project: str) -> list[Any]:
    blocks: list[Any] = []
    for title, column in (("Activations", ACTIVATION_RMS), ("Gradients", GRADIENT_RMS)):
        shown = panels.per_layer(study, column)
        if shown:
            blocks += [wr.H2(title), _grid(study, shown, entity, project)]
    return [wr.H1("Layer by layer"), *blocks] if blocks else []


def _grid(study: Study, shown: list[Any], entity: str, project: str) -> Any:
    name = str(study.about.get("name", "study"))
    runs = wr.Runset(
        entity=entity, project=project, name=f"runs of {name}", filters=f"Group = '{name}'"
    )
    for number, panel in enumerate(shown):
        panel.layout = wr.Layout(x=12 * (number % 2), y=8 * (number // 2), w=12, h=8)
    return wr.PanelGrid(runsets=[runs], panels=shown)


def _targets(study: Study) -> list[str]:
    if "init._target_" not in study.runs.columns:
        return []
    return study.runs["init._target_"].drop_nulls().unique(maintain_order=True).to_list()


def _is_remote(study: Study) -> bool:
    return bool(study.about.get("remote"))


def _source(target: str) -> str:
    """The code of an initializer; empty if it cannot be had here."""
    try:
        return inspect.getsource(get_class(target))
    except Exception:
        # It belongs to a user's module that cannot be imported here: the report goes without it.
        return ""
