"""`python -m initstudy --explain …`: held against what the same command then does."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest
import torch

from initstudy import store
from initstudy.config.command_line import compose_grid
from initstudy.engine.state import State
from initstudy.scheduling.autotune import Autotuner
from initstudy.scheduling.study import Trained
from initstudy.training import checkpoints
from initstudy.training.group import Pack
from initstudy.training.pack import Resumption, train_pack
from tests.scheduling.workers import SMALL, small_pack
from tests.users_own import MINE

GRID = ["-m", "model.activation=tanh", "model.width=8,9", "seed=0,1,2", "init.std=0.1,0.3"]
# Not compiled, which would take long once.
TANH = ["model.width=8", "model.activation=tanh"]
OFFLINE = [word for word in SMALL if word != "tracking=off"]


def groups_of(said: str) -> list[dict[str, list[str]]]:
    """What is said of each group, by label; a line without a label belongs to the one above."""
    groups: list[dict[str, list[str]]] = []
    label = ""
    listed = said.partition("\nin all")[0].partition("\nfiles in")[0]
    for line in listed.splitlines()[1:]:
        if line.startswith("group "):
            groups.append({"title": [line.partition(": ")[2]]})
        elif line.strip():
            label = line[2:16].strip() or label
            groups[-1].setdefault(label, []).append(line[16:].strip())
    return groups


def files_of(said: str) -> dict[str, str]:
    """How many files there will be of each pattern."""
    rows = [line.split()[:2] for line in said.partition("\nfiles in ")[2].splitlines()[1:]]
    return {pattern: count for count, pattern in rows}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in everything(folder) if path.is_file()}


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_three_models_are_three_groups_with_an_engine_and_reasons_each(command, tmp_path):
    code, out, err = command("--explain", "+sweep=std_grid", "model=mlp,cnn,lstm")
    assert (code, err) == (0, "")
    mlp, cnn, lstm = groups_of(out)
    assert [group["title"][0].split()[0] for group in (mlp, cnn, lstm)] == ["MLP", "CNN", "LSTM"]
    assert [group["engine"][0] for group in (mlp, cnn, lstm)] == ["compiled", "batched", "vmap"]
    assert not any(label.startswith("not ") for label in mlp)
    assert set(cnn) - set(mlp) == {"not compiled"}
    assert set(lstm) - set(mlp) == {"not compiled", "not batched"}
    for group in (mlp, cnn, lstm):
        assert group["runs"] == ["112 runs of 112 to train, 2,640 steps each"]
        assert group["expected"]
    assert re.search(r"^in all: 336 runs in \d+ packs", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("model", "engine", "reason"),
    [
        ("mine_explained.Net", "batched", ""),
        ("mine_explained.Dropping", "one by one", "random"),
        ("mine_explained.Raising", "vmap", ""),
    ],
)
def test_a_users_model_gets_the_reason_why_it_cannot_be_stacked(
    command, tmp_path, model, engine, reason
):
    (tmp_path / "mine_explained.py").write_text(textwrap.dedent(MINE))
    code, out, _ = command("--explain", "-m", f"model._target_={model}", "seed=0,1", *SMALL)
    assert code == 0
    (group,) = groups_of(out)
    assert group["engine"] == [engine]
    assert reason in "".join(group.get("not vmap", []))


def test_the_command_does_what_was_explained(command, tmp_path):
    """The same runs, in as many packs, and just the files that were named; W&B's among them."""
    grid = [*GRID, *OFFLINE, "save_weights=final", "planner.pack_size=4", "name=grid"]
    code, said, _ = command("--explain", *grid)
    assert code == 0
    assert not (tmp_path / "runs").exists()
    groups, files = groups_of(said), files_of(said)
    assert [group["packs"] for group in groups] == [["2 packs: 2 of 3 runs"]] * 2
    assert command(*grid)[0] == 0
    named: set[Path] = set()
    for pattern, count in files.items():
        found = set(Path("runs/grid").glob(pattern))
        named |= found
        if pattern.startswith("report/"):
            # The fixture does without, since pictures take long to draw.
            continue
        if pattern.startswith("checkpoints"):
            assert not found
        elif pattern.startswith("wandb"):
            # One of them is the report's.
            assert len(found) == int(count) - 1
        else:
            assert len(found) == int(count), pattern
    assert named >= contents(Path("runs/grid")).keys()
    assert len(store.packs("runs/grid")) == int(files["store/*.runs.parquet"]) == 4


def test_a_study_that_goes_on_is_explained_by_what_is_left(command, tmp_path):
    """It leaves the directory as it is, to the last name and byte."""
    grid = [*SMALL, "name=grid", *TANH]
    assert command("-m", "seed=0,1", *grid)[0] == 0
    before = contents(Path("runs"))
    code, out, _ = command("--explain", "-m", "seed=range(5)", *grid)
    assert code == 0
    assert out.startswith("runs/grid: 2 of 5 runs complete\n")
    (group,) = groups_of(out)
    assert group["runs"] == ["3 runs of 5 to train, 24 steps each"]
    assert contents(Path("runs")) == before
    code, out, _ = command("--explain", "-m", "seed=0,1", *grid)
    assert code == 0
    assert groups_of(out) == []
    assert "store/*.runs.parquet" not in files_of(out)


def test_a_pack_with_a_checkpoint_is_explained_as_it_will_go_on(command, tmp_path):
    """One of three runs, which no plan would put together."""
    pack = small_pack(*TANH)
    begun = Pack(pack.group, pack.runs[:3])
    cpu, directory = torch.device("cpu"), Path("runs/grid")
    items = train_pack(begun, cpu, Resumption(due=lambda: True))
    state = next(item for item in items if isinstance(item, State))
    checkpoints.save(directory, begun, checkpoints.Partway(state), cpu)
    useless = directory / "checkpoints/other"
    useless.mkdir()
    grid = ["-m", *TANH, "init.std=0.1,0.3", "seed=0,1", *SMALL]
    before = contents(tmp_path)
    code, out, _ = command("--explain", *grid, "name=grid")
    assert code == 0
    (group,) = groups_of(out)
    assert group["packs"][0] == "2 packs: 1 of 3 runs and 1 of 1 run"
    assert group["packs"][1].startswith("1 of them from a checkpoint on")
    assert contents(tmp_path) == before
    assert useless.exists()


def test_seconds_follow_from_what_was_measured_before(command, tmp_path, monkeypatch):
    """Of the two plans that are possible, only the one whose speed is known."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("initstudy.scheduling.autotune.WORTH_MEASURING", 0.0)
    monkeypatch.setattr("initstudy.training.pack.SECONDS_OF_A_TRIAL", 0.01)
    monkeypatch.setattr(Autotuner, "_cores", lambda self: 2)
    remembered = ["planner.timing=remembered", *TANH, "seed=range(12)"]
    grid = ["-m", *SMALL, *remembered, "planner.pack_size=6", "planner.workers=null"]
    code, out, _ = command("--explain", *grid)
    assert code == 0
    (group,) = groups_of(out)
    assert group["measured"] == ["nothing yet; this command may time it first"]
    assert "rough estimate" in group["expected"][0]
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr("initstudy.scheduling.study._train", lambda *given: {})
    assert command(*grid, "name=timed")[0] == 0
    file = tmp_path / "cache/initstudy/planner.json"
    ((key, rates),) = json.loads(file.read_text()).items()
    assert rates
    file.write_text(json.dumps({key: {"1x6": 12.0}}))
    code, out, _ = command("--explain", *grid)
    assert code == 0
    (group,) = groups_of(out)
    assert group["measured"] == ["12 member-steps/s with packs of 6, 1 side by side"]
    # 12 runs × 24 steps / 12 member-steps/s = 24 s, and 0.1 s for two packs.
    assert group["expected"] == ["24 s, from what was measured"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["init.std=0.05,0.5"],
        ["batch_size=100000"],
        ["-m", "model._target_=nowhere.Net", "seed=0,1"],
        ["init._target_=initstudy.initializers.Normal", "init.std=-1"],
    ],
)
def test_what_the_command_refuses_is_refused_alike(command, tmp_path, arguments):
    code, out, explained = command("--explain", *arguments, "name=refused")
    assert (code, out) == (2, "")
    assert len(explained.splitlines()) == 1 or "Ambiguous" in explained
    assert explained.startswith("initstudy: ")
    assert not everything(tmp_path)
    code, _, refused = command(*arguments, "name=refused")
    assert code == 2
    assert explained.splitlines()[-1] == refused.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [["+sweep=std_grid", "seed=0"], ["-m", "init=normal,orthogonal", "seed=0,1"], ["seed=3"]],
)
def test_a_grid_that_is_only_composed_is_the_one_that_hydra_launches(monkeypatch, command, words):
    launched = []

    def study(runs, *given, **named):
        launched.extend(runs)
        return Trained()

    monkeypatch.setattr("initstudy.scheduling.study.study", study)
    assert command(*words, "name=grid")[0] == 0
    overrides = [word for word in words if word != "-m"]
    grid = compose_grid([*overrides, "name=grid"], multirun="-m" in words)
    assert [run.id for run in grid.runs] == [run.id for run in launched]
    assert [run.config for run in grid.runs] == [run.config for run in launched]
    assert [run.label for run in grid.runs] == [run.label for run in launched]
    assert str(grid.directory) == "runs/grid"
