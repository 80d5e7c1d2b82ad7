"""Studies whose loop is the user's own: the same store, claims and report."""

from __future__ import annotations

import math

import polars as pl
import pytest
import torch
from torch import nn

import initstudy
from initstudy import store
from initstudy.claims import Better
from initstudy.config import ConfigError
from initstudy.initializers import Orthogonal


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.act, self.head = nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.body(x)))


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def batches(count: int = 6) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(16, 4, generator=generator) for _ in range(count)]
    return [(x, (x[:, 0] > 0).long()) for x in inputs]


def train(run, model: nn.Module, steps: int = 6) -> float:
    optimizer = torch.optim.SGD(model.parameters(), lr=run.lr)
    accuracy = 0.0
    with run.watch(model):
        for step, (x, y) in enumerate(batches(steps)):
            output = model(x)
            loss = nn.functional.cross_entropy(output, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            accuracy = (output.argmax(1) == y).float().mean().item()
            run.log(step, loss=loss, **{"test/loss": loss, "test/accuracy": accuracy})
    return accuracy


def grid(**changes):
    given = {"init": ["torch", "kaiming_normal"], "lr": [0.1, 0.01], "seeds": 3, "name": "mine"}
    return initstudy.grid(**{**given, "tracking": "off", "every": 2, **changes})


def test_every_unfinished_run_comes_once_and_lands_in_the_store():
    seen = []
    for run in grid():
        model = run.initialize(Net())
        final = train(run, model)
        run.finish(model)
        seen.append((run.init, run.lr, run.seed, final))
    assert len(seen) == len({run[:3] for run in seen}) == 12
    results = grid().results()
    assert results.runs.height == 12
    for name, lr, seed, final in seen:
        row = results.runs.filter(init=name, lr=lr, seed=seed)
        assert row["test/accuracy"].to_list() == [pytest.approx(final)]
    probed = results.history.drop_nulls("activation/body/rms")
    assert probed["step"].unique().sort().to_list() == [0, 2, 4]
    assert list(grid()) == []
    assert len([run.id for run in grid(seeds=4)]) == 4


def test_a_run_starts_from_its_own_seed_and_initializer():
    starts = {}
    for run in grid(init=["own", Orthogonal(gain=1.4)], lr=0.1, seeds=2):
        model = run.initialize(Net())
        starts[run.init, run.seed] = model.body.weight.detach().clone()
    torch.manual_seed(1)
    assert torch.equal(starts["own", 1], Net().body.weight)
    again = initstudy.initialize(Net(), Orthogonal(gain=1.4), seed=1).body.weight
    assert torch.equal(starts["Orthogonal gain 1.4", 1], again)


def test_the_report_and_the_claims_are_those_of_any_study():
    claim = Better("Zeros learn nothing.", "kaiming_normal", "zeros")
    for run in grid(init=["kaiming_normal", "zeros"], lr=0.5, claims={"zeros": claim}):
        model = run.initialize(Net())
        train(run, model, 40)
        run.finish(model)
    results = initstudy.results("runs/mine")
    assert [result.finding.verdict for result in results.claims] == ["PASS"]
    assert "Zeros learn nothing." in results.report().read_text()
    assert results.table().columns[0] == "init"
    assert "body" in results.chart("activations").to_json()


def test_a_loss_that_is_not_finite_ends_a_run_as_diverged():
    for run in grid(init="torch", lr=0.1, seeds=1):
        model = run.initialize(Net())
        run.log(0, loss=1.0)
        run.log(1, loss=math.nan)
        run.log(2, loss=1.0)
        run.finish(model)
    found = initstudy.results("runs/mine")
    assert found.runs["diverged_step"].to_list() == [1]
    assert found.runs["diverged_layer"].to_list() == ["loss"]
    assert found.history["step"].to_list() == [0, 1]


def test_a_run_that_is_not_finished_comes_again():
    for run in grid(init="torch", lr=0.1, seeds=2):
        run.initialize(Net())
        run.log(0, loss=1.0)
        if run.seed == 0:
            run.finish()
    assert [run.seed for run in grid(init="torch", lr=0.1, seeds=2)] == [1]
    assert store.load("runs/mine").runs.select(pl.len()).item() == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"init": []}, r"init=\[\]: must have at least one value"),
        ({"lr": []}, r"lr=\[\]: must have at least one value"),
        ({"seeds": 0}, r"seeds=\[\]: must have at least one value"),
        ({"log": 3}, "log: runs have an attribute of this name; choose another"),
        ({"lr": [object()]}, "lr=.*: values must be numbers, texts or truth values"),
        ({"init": "kaiming_norm"}, "kaiming_norm"),
        ({"tracking": "ofline"}, "tracking.mode=ofline: choose one of"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused_in_one_line(changes, line):
    with pytest.raises(ValueError, match=line) as refused:
        list(grid(**changes))
    assert "\n" not in str(refused.value)


def test_rows_come_in_order_and_hold_numbers():
    (run,) = grid(init="torch", lr=0.1, seeds=1)
    run.log(3, loss=torch.tensor(1.0))
    with pytest.raises(ValueError, match="step=3: must be above 3"):
        run.log(3, loss=1.0)
    with pytest.raises(ValueError, match="accuracy='high': must be a number"):
        run.log(4, accuracy="high")


def test_a_loop_without_accuracy_is_about_what_it_logs():
    for run in initstudy.grid(init=["zeros", "ones"], seeds=2, name="errors", tracking="off"):
        run.initialize(nn.Linear(2, 1))
        error = {"zeros": 0.4, "ones": 0.2}[run.init] + run.seed / 100
        run.log(0, loss=1.0, **{"test/word_error": error})
        run.finish()
    results = initstudy.results("runs/errors")
    table = results.table()
    # The best one first, and an error is better when it is small.
    assert table["init"].to_list() == ["ones", "zeros"]
    assert table["test word error"].to_list() == ["0.205", "0.405"]
    page = results.report()
    assert "accuracy" not in page.read_text().lower().split("<script")[0]
    assert "![word error](charts/accuracy.png)" in page.with_name("README.md").read_text()


def test_an_objective_that_was_not_logged_is_refused():
    (run,) = initstudy.grid(name="none", objective="test/accuracy", tracking="off")
    run.log(0, loss=1.0)
    with pytest.raises(ConfigError, match="objective=test/accuracy: choose one of train/loss"):
        run.finish()


def test_other_data_are_other_runs(capsys):
    def train(x):
        trained = 0
        for run in initstudy.grid(
            init=["zeros"], seeds=2, name="data", tracking="off", data=(x, 3)
        ):
            run.log(0, loss=x.mean())
            run.finish()
            trained += 1
        return trained

    x = torch.ones(4, 2)
    assert [train(x), train(x.clone())] == [2, 0]
    assert train(2 * x) == 2
    assert "the data changed since 2 runs were trained" in capsys.readouterr().out
    assert initstudy.results("runs/data").runs["train/loss"].to_list() == [2.0, 2.0]
