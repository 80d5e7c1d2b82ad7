"""Two programs as a user writes them down at the first attempt, with a small network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from initstudy.claims import Result
from initstudy.initializers import Orthogonal

STUDY = """
import initstudy
study = initstudy.study(Net, data=(x, y, x_test, y_test), init=["own", "kaiming_normal", Orthogonal(gain=1.4)],
                        seeds=5, optimizer={"name": "adam", "lr": [1e-3, 3e-3]}, epochs=20, name="mine")
study.runs; study.history          # polars frames
study.table(); study.chart("objective"); study.claims; study.report()   # Altair charts, findings, the page's path
study                              # in a notebook: headline, table, charts
"""  # noqa: E501
LOOP = """
import initstudy
for run in initstudy.grid(init=["torch", "kaiming_normal"], lr=[0.1, 0.01], seeds=3, name="mine"):   # unfinished runs only
    model = run.initialize(Net())
    with run.watch(model):                     # the same statistics per layer, in any loop, at probes' cadence
        for step, (x, y) in enumerate(loader):
            …; run.log(step, loss=loss, **{"test/accuracy": acc})
    run.finish(model)
"""  # noqa: E501


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.act, self.head = nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.act(self.body(x)))


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def sectors(n):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(n))
    return x, x[:, :3].argmax(1)


def test_a_study_of_objects():
    (x, y), (x_test, y_test) = sectors(96), sectors(32)
    names = {"Net": Net, "Orthogonal": Orthogonal}
    names |= {"x": x, "y": y, "x_test": x_test, "y_test": y_test}
    exec(STUDY, names)
    study = names["study"]
    assert len(study.runs) == 3 * 5 * 2
    assert set(study.runs["init"]) == {"own", "kaiming_normal", "Orthogonal_gain_1.4"}
    assert set(study.runs["optimizer.lr"]) == {1e-3, 3e-3}
    # 96 examples in batches of 32 are three steps per epoch.
    assert study.history["step"].max() == 60
    assert study.table()["runs"].to_list() == ["5"] * 6
    assert all(isinstance(result, Result) for result in study.claims)
    assert Path("runs/mine/report/index.html").is_file()
    shown = study._repr_html_()
    assert "<svg" in shown
    assert "kaiming_normal" in shown


def test_a_loop_of_ones_own():
    loader = [sectors(32)] * 8

    def train(model, x, y, lr):
        optimizer = torch.optim.SGD(model.parameters(), lr)
        output = model(x)
        loss = nn.functional.cross_entropy(output, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss, (output.argmax(1) == y).float().mean()

    names = {"Net": Net, "loader": loader, "train": train}
    exec(LOOP.replace("…", "loss, acc = train(model, x, y, run.lr)"), names)
    import initstudy

    results = initstudy.results("runs/mine")
    assert len(results.runs) == 2 * 2 * 3
    assert results.table()["runs"].to_list() == ["3"] * 4
    # Every run has learned something, and at the larger rate more.
    first = results.history.filter(step=0).sort("run")["train/loss"]
    last = results.runs.sort("run")
    assert (last["train/loss"] < first).all()
    assert last.filter(lr=0.1)["train/loss"].max() < last.filter(lr=0.01)["train/loss"].max()
    assert results.history["activation/body/rms"].drop_nulls().len() == 12
    # Nothing is left to do.
    inits = ["torch", "kaiming_normal"]
    assert list(initstudy.grid(init=inits, lr=[0.1, 0.01], seeds=3, name="mine")) == []
