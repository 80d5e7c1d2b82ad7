"""Studies from Python: the same runs as the command's, of objects instead of names."""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from torch import nn

import initstudy
from initstudy.claims import Better
from initstudy.config import ConfigError
from initstudy.initializers import Normal, Orthogonal, Policy, Rule
from initstudy.tasks import Batches, as_data


class Net(nn.Module):
    """Importable, so that any process can name it."""

    def __init__(self, classes: int, hidden: int = 8) -> None:
        super().__init__()
        self.body, self.act, self.head = nn.Linear(6, hidden), nn.Tanh(), nn.Linear(hidden, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.act(self.body(x)))


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # `study` tells Hydra nothing of the tests' own environment.
    monkeypatch.setenv("WANDB_MODE", "disabled")


def examples(count: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, :3]).argmax(1)


QUICK = {"epochs": 2, "log_every": 1, "planner": {"workers": 1}, "name": "mine"}


def test_the_snippet_of_the_readme_runs_word_for_word():
    (x, y), (x_test, y_test) = examples(), examples(32)
    study = initstudy.study(
        Net,
        data=(x, y, x_test, y_test),
        init=["own", "kaiming_normal", Orthogonal(gain=1.4)],
        seeds=5,
        optimizer={"name": "adam", "lr": [1e-3, 3e-3]},
        epochs=20,
        name="mine",
    )
    assert study.runs.height == 3 * 5 * 2
    assert study.history["step"].max() == 20 * (96 // 32)
    assert set(study.table()["init"]) == {"own", "kaiming_normal", "Orthogonal_gain_1.4"}
    assert isinstance(study.chart("objective"), alt.TopLevelMixin)
    assert study.claims == []
    assert study.report().name == "index.html"
    shown = study._repr_html_()
    assert "kaiming_normal" in shown
    assert "<svg" in shown


def factor(step, total_steps):
    return 1 - step / total_steps


def test_optimizers_and_schedules_may_be_classes_and_functions():
    (x, y), quiet = examples(), {"tracking": "off", **QUICK}
    optimizer = {"_target_": torch.optim.RMSprop, "lr": [1e-3, 3e-3], "alpha": 0.9}
    study = initstudy.study(Net, data=(x, y, x, y), optimizer=optimizer, schedule=factor, **quiet)
    assert sorted(study.runs["optimizer.lr"]) == [1e-3, 3e-3]
    assert set(study.runs["optimizer.alpha"]) == {0.9}
    assert set(study.runs["optimizer.name"]) == {"RMSprop"}
    assert set(study.runs["schedule._target_"]) == {f"{__name__}.factor"}
    with pytest.raises(ConfigError, match=r"schedule=.*must be a class or function of a module"):
        initstudy.study(Net, data=(x, y, x, y), schedule=lambda step: 1.0, **quiet)


def test_objects_whose_label_is_the_same_are_choices_of_their_own(command):
    """And no later command of the process has them."""
    (x, y), quiet = examples(), {"tracking": "off", **QUICK}
    first, second = (Policy((Rule(Normal(std)),)) for std in (0.01, 1.0))
    study = initstudy.study(Net, data=(x, y, x, y), init=[first, second], **quiet)
    assert study.runs["init"].n_unique() == 2
    assert study.history.filter(step=0)["test/loss"].n_unique() == 2
    assert "Policy" not in command("init=nope")[2]


def test_names_train_the_same_runs_as_the_command(command):
    words = ("init=kaiming_normal,xavier_normal", "seed=0,1", "max_steps=8", "tracking=off")
    assert command("-m", *words, "name=command")[0] == 0
    found = initstudy.study(
        init=["kaiming_normal", "xavier_normal"],
        seeds=2,
        max_steps=8,
        tracking="off",
        name="python",
    )
    of_command = initstudy.results("runs/command")
    keys = ["run", "step"]
    assert_frame_equal(found.history.sort(keys), of_command.history.sort(keys))


def test_a_run_equals_a_plain_loop():
    x, y = examples()
    found = initstudy.study(
        lambda: Net(3), data=(x, y, x, y), init=Orthogonal(gain=1.4), tracking="off", **QUICK
    )
    model = initstudy.initialize(Net(3), Orthogonal(gain=1.4), seed=0)
    losses = found.history.sort("step")["train/loss"].to_list()
    batches = Batches(as_data((x, y, x, y)), [0], 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    plain = []
    for step in range(6):
        inputs, targets = batches(step)
        loss = nn.functional.cross_entropy(model(inputs[0]), targets[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        plain.append(loss.item())
    # A row has the loss of the batch before it; the first row that of the batch behind it.
    assert losses == pytest.approx([plain[0], *plain], rel=1e-5)


def test_instances_are_copied_and_the_same_call_trains_nothing(capfd):
    x, y = (values.numpy() for values in examples())
    model = Net(3)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    given = {"data": (x, y, x, y), "init": ["own", "zeros"], "tracking": "off", **QUICK}
    first = initstudy.study(model, **given)
    assert all(torch.equal(b, p) for b, p in zip(before, model.parameters(), strict=True))
    again = initstudy.study(model, **given)
    assert "2 of 2 complete" in capfd.readouterr().out
    assert_frame_equal(first.runs.sort("run"), again.runs.sort("run"))
    with torch.no_grad():
        model.head.bias.add_(1)
    changed = initstudy.study(model, **given)
    assert changed.runs.height == 4


def test_claims_are_decided():
    x, y = examples()
    claim = Better("Zeros learn nothing.", "kaiming_normal", "zeros")
    inits = ["kaiming_normal", "zeros"]
    changed = {**QUICK, "epochs": 30, "optimizer": {"lr": 0.3}, "tracking": "off"}
    found = initstudy.study(
        Net, data=(x, y, x, y), init=inits, seeds=6, claims={"zeros": claim}, **changed
    )
    assert [result.finding.verdict for result in found.claims] == ["PASS"]
    assert "Zeros learn nothing." in found._repr_html_()


class Fragile(Net):
    """Fails as it trains, depending on its first weight and so on the seed."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and self.body.weight[0, 0] > 0:
            raise RuntimeError("the first weight is positive")
        return super().forward(x)


def test_a_run_that_fails_is_named_and_the_others_train(capfd):
    x, y = examples()
    first = {
        seed: initstudy.initialize(Net(3), Orthogonal(), seed=seed).body.weight[0, 0].item()
        for seed in range(6)
    }
    fails = next(seed for seed, weight in first.items() if weight > 0)
    trains = next(seed for seed, weight in first.items() if weight < -0.1)
    found = initstudy.study(
        Fragile, data=(x, y, x, y), init=Orthogonal(), seeds=[fails, trains], tracking="off",
        optimizer={"lr": 1e-6}, **QUICK,
    )  # fmt: skip
    assert found.runs["seed"].to_list() == [trains]
    assert list(found.failed.values()) == ["RuntimeError: the first weight is positive"]
    assert "1 runs failed" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"init": "kaiming_norm"}, "kaiming_norm"),
        ({"init": []}, r"init=\[\]: names no choice"),
        ({"seeds": []}, r"seeds=\[\]: must be at least one seed"),
        ({"epochs": 0}, "epochs=0"),
        ({"epoch": 3}, "unknown key 'epoch'"),
        ({"optimizer": {"lr": -1.0}}, "optimizer.lr=-1.0"),
        ({"optimizer": {"lr": []}}, r"optimizer.lr=\[\]: names no value"),
        ({"batch_size": object()}, "a object cannot stand there"),
        ({"model": 3}, "model=3: must be"),
        ({"claims": {"x": 3}}, "claims.x: 3 is no claim"),
        ({"executor": {"name": "nowhere"}}, "nowhere"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(changes, line, tmp_path):
    x, y = examples()
    given = {"model": Net, "data": (x, y, x, y), "tracking": "off", **QUICK, **changes}
    with pytest.raises(ValueError, match=line) as refused:
        initstudy.study(given.pop("model"), **given)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_other_machines_cannot_have_objects_of_this_process():
    x, y = examples()
    with pytest.raises(ValueError, match=r"executor=ray: .* is known to this process alone"):
        initstudy.study(Net, data=(x, y, x, y), executor="ray", tracking="off", **QUICK)


def test_numbers_of_numpy_and_polars_frames_are_data_too():
    x, y = examples()
    frame = pl.DataFrame(x.numpy()).to_numpy().astype(np.float64)
    found = initstudy.study(Net, data=(frame, y.numpy(), frame, y.numpy()), tracking="off", **QUICK)
    assert found.runs["test/accuracy"].is_finite().all()
