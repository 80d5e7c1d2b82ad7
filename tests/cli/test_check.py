"""Runs trained again are those in the store, to the last bit; one that was changed is found."""

from __future__ import annotations

import textwrap
from pathlib import Path

import polars as pl
import pytest

from initstudy import store
from initstudy.cli import check
from tests.users_own import MINE

GRID = [
    "-m",
    "init.std=0.1,20",
    "seed=0,1,2",
    "model.width=16",
    "max_steps=30",
    "eval_every=30",
    "data.subset=200",
    "tracking=off",
    "planner.pack_size=4",
    "name=grid",
]


@pytest.fixture
def checking(capfd):
    def run(*arguments):
        code = check.main(["runs/grid", *arguments])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_what_is_trained_again_is_the_same_and_a_changed_value_is_found(command, checking):
    # The second command trains in other company, which is the company that has to be kept.
    command(*[a.replace("0,1,2", "0") for a in GRID], "probes=full")
    command(*GRID, "probes=full")
    code, out, _ = checking("--runs", "6")
    assert code == 0, out
    assert out.count(": the same") == 6
    file = max(Path("runs/grid/store").glob("*.history.parquet"), key=lambda f: f.stat().st_size)
    frame = pl.read_parquet(file)
    run, was = frame.row(1, named=True)["run"], frame["train/loss"][1]
    changed = pl.when(pl.int_range(pl.len()) == 1).then(was * (1 + 1e-15)).otherwise("train/loss")
    frame.with_columns(changed.alias("train/loss")).write_parquet(file)
    code, out, _ = checking("--runs", "6")
    assert code == 1
    assert "1 of 6 runs differ" in out
    (line,) = [line for line in out.splitlines() if line.startswith(run)]
    assert f"train/loss is {was * (1 + 1e-15)!r} in the store and {was!r} now" in line


def test_a_model_that_draws_random_numbers_is_the_same_again(command, checking, tmp_path):
    (tmp_path / "mine_checked.py").write_text(textwrap.dedent(MINE))
    grid = [a for a in GRID if "width" not in a]
    command(*grid, "model._target_=mine_checked.Dropping")
    assert checking("--runs", "2")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--runs", "0"], "--runs 0: must be at least 1"), ([], "runs/grid: no such directory")],
)
def test_what_cannot_be_compared_is_one_line(checking, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    code, _, err = checking(*arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert said in err


def test_a_configuration_that_is_not_the_runs_is_refused(command, checking):
    command(*GRID)
    run = sorted(store.finished("runs/grid"))[0]
    file = Path(f"runs/grid/runs/{run}/.hydra/config.yaml")
    file.write_text(file.read_text().replace("batch_size: 32", "batch_size: 16"))
    code, _, err = checking("--runs", "6")
    assert code == 2
    assert f"is not the configuration of run {run}" in err
