"""The W&B report and workspace: as they are sent to a server, and sent twice."""

from __future__ import annotations

import json

import pytest

from initstudy.report.wandb import publish
from initstudy.store import StoreError
from tests.synthetic import LAYERS, save, sweep

SECTIONS = ["Loss", "Accuracy", "Activations", "Gradients", "Weights"]


@pytest.fixture
def study(tmp_path):
    store = sweep()
    kind = {"init._target_": "initstudy.initializers.Normal"}
    runs = [row | kind | {"tracking.project": "p"} for row in store.runs.to_dicts()]
    history = [
        row | {f"weight/{name}/rms": 1.0 for name in LAYERS} for row in store.history.to_dicts()
    ]
    return save(
        type(store)(
            type(store.runs)(runs, infer_schema_length=None),
            type(store.history)(history, infer_schema_length=None),
            store.study,
        ),
        tmp_path,
    )


def sent(server, kind):
    (view,) = [view for view in server.views.values() if view["type"] == kind]
    return view, json.loads(view["spec"])


def panels_of(spec):
    found = []

    def walk(part):
        if isinstance(part, dict):
            if "viewType" in part and "config" in part:
                found.append((part["viewType"], part["config"]))
            for value in part.values():
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(spec)
    return found


def texts(spec):
    return json.dumps(spec, ensure_ascii=False)


def test_the_report_has_the_articles_structure(server, study):
    published = publish(study)
    view, spec = sent(server, "runs")
    assert (view["displayName"], view["projectName"]) == ("initstudy: synthetic", "p")
    assert view["id"] in published.report
    headings = [
        block["children"][0]["text"] for block in spec["blocks"] if block["type"] == "heading"
    ]
    assert headings == [
        "What is covered",
        "The initialization",
        "The experiment",
        "What came of it",
        "Claims",
        "Layer by layer",
        "Activations",
        "Gradients",
    ]
    said = texts(spec)
    assert "class Normal" in said
    assert "python -m initstudy +sweep=x" in said
    assert "UNDECIDED: Large is worse." in said
    kinds = [kind for kind, _ in panels_of(spec)]
    assert kinds.count("Run History Line Plot") == 2 + 2 * len(LAYERS)
    assert {"Scatter Plot", "Parallel Coordinates Plot"} <= set(kinds)
    loss = next(c for _, c in panels_of(spec) if c.get("metrics") == ["train/loss"])
    # A nested key as W&B keeps it.
    assert loss["groupBy"] == "init.value.std"
    assert (loss["xAxis"], loss["yLogScale"]) == ("step", True)
    scatter = next(c for kind, c in panels_of(spec) if kind == "Scatter Plot")
    assert "init.value.std" in scatter["xAxis"]
    assert "test/accuracy" in scatter["yAxis"]


def test_the_workspace_has_its_sections(server, study):
    publish(study)
    view, spec = sent(server, "project-view")
    assert view["displayName"] == "initstudy: synthetic"
    sections = spec["section"]["panelBankConfig"]["sections"]
    named = {section["name"]: section["panels"] for section in sections}
    assert [name for name in named if name in SECTIONS] == SECTIONS
    assert all(named[name] for name in SECTIONS)
    weights = [panel["config"]["metrics"] for panel in named["Weights"]]
    assert weights == [[f"weight/{name}/rms"] for name in LAYERS]
    assert "synthetic" in texts(spec["section"]["runSets"])


def test_a_second_call_updates_instead_of_doubling(server, study):
    first = publish(study)
    assert publish(study) == first
    assert sorted(view["type"] for view in server.views.values()) == ["project-view", "runs"]
    publish(study, "team/elsewhere")
    assert sum(view["type"] == "project-view" for view in server.views.values()) == 2


@pytest.mark.parametrize("target", ["team", "team/p/q", "/p"])
def test_a_wrong_target_is_one_line(server, study, target):
    with pytest.raises(StoreError, match="write it as ENTITY/PROJECT"):
        publish(study, target)


def test_a_refusal_and_a_missing_key_are_one_line(server, study, monkeypatch):
    import wandb

    server.fault = 403
    with pytest.raises(StoreError, match="--publish: Failed to verify credentials"):
        publish(study)
    server.fault = None
    monkeypatch.delenv("WANDB_API_KEY")
    # wandb keeps the key of its session.
    wandb.teardown()
    with pytest.raises(StoreError, match="--publish: No API key") as error:
        publish(study)
    assert "\n" not in str(error.value)
