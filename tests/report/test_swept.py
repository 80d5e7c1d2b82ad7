"""The report knows what was swept from the sweep itself: one row per choice, no run left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from initstudy import store
from initstudy.config import Run, Swept
from initstudy.report import write
from initstudy.report.data.sources import offline
from initstudy.report.page import words
from initstudy.store.frames import prepare

SMALL = (
    "max_steps=4",
    "data.subset=64",
    "eval_every=4",
    "log_every=2",
    "probes.every=2",
    "planner.workers=1",
    "planner.timing=off",
)


@pytest.fixture
def table(command):
    """Trains a grid and writes its page; gives what its table says, by value and model."""

    def of(*arguments, name="study"):
        code, out, err = command("-m", *SMALL, f"name={name}", *arguments)
        assert code == 0, out + err
        report = write(f"runs/{name}", formats=("html",))
        columns = report.table.columns
        several = "model" in columns[1:]
        runs = columns.index("runs")
        rows = {row[:2] if several else row[0]: int(row[runs]) for row in report.table.rows}
        # Nobody is missing, and nobody is there twice.
        assert sum(rows.values()) == len(report.runs)
        return columns[0], rows

    return of


def test_initializers_of_which_one_alone_has_a_standard_deviation(table):
    studied = table("tracking=off", "init=normal,xavier_normal,torch")
    assert studied == ("init", {"normal": 1, "xavier_normal": 1, "torch": 1})


def test_models_with_different_arguments(table):
    studied = table("tracking=off", "model=mlp,cnn", "seed=0,1")
    assert studied == ("model", {"mlp": 2, "cnn": 2})


def test_optimizers_are_not_told_by_their_usual_rates(table):
    """The page and the table from W&B's files say the same as those from the store."""
    studied = table("tracking=offline", "optimizer=sgd,adam", "seed=0,1")
    assert studied == ("optimizer", {"sgd": 2, "adam": 2})
    mirrored = prepare(offline.read(Path("runs/study/wandb")))
    assert mirrored.by == "optimizer"
    assert words.table(mirrored).rows == words.table(prepare(store.load("runs/study"))).rows


def test_a_second_axis_with_one_value(table):
    studied = table("tracking=off", "init=torch,keras", "optimizer.lr=0.01", "across=optimizer.lr")
    assert studied == ("init", {"torch": 1, "keras": 1})


def test_a_sweep_into_a_study_that_swept_other_keys(table):
    """Every run of both is in the table: each choice, and each standard deviation of one."""
    table("tracking=off", "init=torch,keras")
    studied, rows = table("tracking=off", "init.std=0.1,0.3")
    assert studied == "init"
    assert rows == {
        ("torch", "MLP, std=–"): 1,
        ("keras", "MLP, std=–"): 1,
        ("normal", "MLP, std=0.1"): 1,
        ("normal", "MLP, std=0.3"): 1,
    }
    # Whoever asks for the key that some runs do not have gets all of them, too.
    _, rows = table("tracking=off", "init.std=0.1,0.3", "by=init.std")
    assert rows == {
        ("–", "MLP, init=torch"): 1,
        ("–", "MLP, init=keras"): 1,
        ("0.1", "MLP, init=normal"): 1,
        ("0.3", "MLP, init=normal"): 1,
    }


def test_a_study_that_grows_by_single_runs(command):
    for init in ("torch", "keras"):
        assert command(*SMALL, "tracking=off", "name=grown", f"init={init}")[0] == 0
    assert json.loads(Path("runs/grown/study.json").read_text())["swept"] == ["init"]
    assert sorted(prepare(store.load("runs/grown")).values()) == ["keras", "torch"]


def test_what_commands_give_several_values_is_swept():
    def runs(*overrides):
        return [Run({}, tuple(words.split())) for words in overrides]

    first = Swept.of(runs("init=a epochs=3 name=x", "init=b epochs=3 name=x"))
    assert first == Swept(("init",), {"epochs": "3"})
    # What changes no result is no axis, and neither is the file that says what to sweep.
    assert Swept.of(runs("+sweep=g device=cpu seed=0", "+sweep=g device=cuda seed=1")).keys == (
        "seed",
    )
    again = Swept.of(runs("epochs=5 +model.width=8 init=a", "epochs=5 +model.width=9 init=a"))
    assert again.after(first) == Swept(("model.width", "init", "epochs"), {})
    assert Swept.described(again.after(first).description()) == again.after(first)
