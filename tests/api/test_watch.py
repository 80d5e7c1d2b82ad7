"""Statistics of layers in a loop of one's own, against plain autograd and against a study's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from initstudy import store
from initstudy.api.watch import Watch
from initstudy.initializers import Normal, initialize
from initstudy.models import MLP
from initstudy.tasks import Batches, digits


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3))


def rms(values: torch.Tensor) -> float:
    return values.double().square().mean().sqrt().item()


def test_one_step_measures_what_autograd_gives():
    model, x, y = net(), torch.randn(32, 6), torch.randint(3, (32,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    hidden: list[torch.Tensor] = []

    def keep(_module: nn.Module, _args: object, output: torch.Tensor) -> None:
        # The watch runs the model once by itself, without gradients, before it observes it.
        if output.requires_grad:
            output.retain_grad()
            hidden.append(output)

    handle = model[1].register_forward_hook(keep)
    before = model[0].weight.detach().clone()
    with Watch(model) as watch:
        nn.functional.cross_entropy(model(x), y).backward()
        assert hidden[-1].grad is not None
        gradient = model[0].weight.grad.clone()
        optimizer.step()
        measured = watch.collect()
    handle.remove()
    assert [layer.name for layer in watch.layers] == ["0", "3"]
    assert measured["activation/0/rms"] == pytest.approx(rms(hidden[-1]), rel=1e-6)
    assert measured["gradient/0/rms"] == pytest.approx(rms(hidden[-1].grad), rel=1e-6)
    assert measured["gradient/0/weight_rms"] == pytest.approx(rms(gradient), rel=1e-6)
    assert measured["weight/0/rms"] == pytest.approx(rms(before), rel=1e-6)
    ratio = rms(model[0].weight.detach() - before) / rms(before)
    assert measured["weight/0/update_ratio"] == pytest.approx(ratio, rel=1e-5)


def test_watching_changes_nothing_of_the_training():
    def train(watching: bool) -> list[torch.Tensor]:
        model = net()
        torch.manual_seed(1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
        watch = Watch(model, "full" if watching else "off")
        with watch:
            for _ in range(4):
                optimizer.zero_grad()
                model(torch.randn(8, 6)).square().sum().backward()
                optimizer.step()
                watch.collect()
        return [parameter.detach() for parameter in model.parameters()]

    for watched, plain in zip(train(True), train(False), strict=True):
        assert torch.equal(watched, plain)


def test_only_passes_that_are_due_and_train_are_observed():
    model, x, due = net(), torch.randn(8, 6), [True, False]
    with Watch(model, due=lambda: due[0]) as watch:
        model(x).sum().backward()
        assert "activation/3/rms" in watch.collect()
        due[0] = False
        model(x).sum().backward()
        assert watch.collect() == {}
        due[0] = True
        with torch.no_grad():
            model(x)
        model.eval()(x)
        assert watch.collect() == {}
    assert not model._forward_pre_hooks
    assert not model[1]._forward_hooks


def test_a_study_measures_the_same_at_its_first_step(command):
    sizes = ("model.depth=2", "model.width=16", "init.std=0.2")
    assert command(*sizes, "max_steps=1", "probes=full", "tracking=off", "name=one")[0] == 0
    row = store.load("runs/one").history.filter(step=0).row(0, named=True)
    model = MLP((1, 8, 8), 10, width=16, depth=2)
    initialize(model, Normal(0.2), seed=0)
    x, y = Batches(digits(), [0], 32)(0)
    with Watch(model, "full") as watch:
        nn.functional.cross_entropy(model(x[0]), y[0]).backward()
        measured = watch.collect()
    shared = [name for name in measured if not name.endswith("update_ratio")]
    assert len(shared) > 30
    for name in shared:
        assert measured[name] == pytest.approx(row[name], rel=1e-5, abs=1e-9), name
