"""A run's parameters on disk, and back in a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

import initstudy
from initstudy import store
from initstudy.initializers import Normal, as_policy, draw
from initstudy.models import CNN, MLP
from initstudy.tasks import Batches
from initstudy.tasks.images import load

SMALL = ["max_steps=5", "data.subset=200", "tracking=off", "eval_every=5", "probes=off"]


def folder(name, **where):
    run = store.load(f"runs/{name}").runs.filter(**where)["run"].item()
    return Path(f"runs/{name}/runs/{run}")


def test_the_saved_weights_are_those_of_a_plain_loop(command):
    grid = ["-m", "seed=0,1", "init.std=0.1,0.2", "model.width=16", *SMALL]
    assert command(*grid, "name=grid", "save_weights=both")[0] == 0
    kept = folder("grid", **{"seed": 1, "init.std": 0.2})
    data = load("digits", subset=200)
    model = MLP(data.shape, data.classes, width=16)
    start = draw(model, as_policy(Normal(0.2)), 1)
    initstudy.load_weights(kept, model, moment="init")
    assert all(torch.equal(p, start[name]) for name, p in model.named_parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for step in range(5):
        x, y = Batches(data, [1], 32)(step)
        optimizer.zero_grad()
        F.cross_entropy(model(x[0]), y[0]).backward()
        optimizer.step()
    trained = MLP(data.shape, data.classes, width=16).double()
    assert initstudy.load_weights(kept, trained) is trained
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours.float(), theirs, rtol=1e-4, atol=1e-6)
    # What is kept has no part in a run's identity, and other sweeps keep nothing.
    assert "4 of 4 complete" in command(*grid, "name=grid")[1]
    command(*grid, "name=none")
    assert not list(Path("runs/none").rglob("*.safetensors"))


def test_a_run_that_diverged_keeps_the_weights_from_before(command):
    command(
        "-m", "init.std=0.1,100000.0", "model.depth=12", *SMALL, "save_weights=final", "name=grid"
    )
    kept = folder("grid", **{"init.std": 100000.0})
    assert store.load("runs/grid").runs.filter(pl_diverged())["init.std"].to_list() == [100000.0]
    with safe_open(kept / "final.safetensors", "pt") as file:
        assert all(torch.isfinite(file.get_tensor(name)).all() for name in file.keys())  # noqa: SIM118


def pl_diverged():
    import polars as pl

    return pl.col("diverged_step").is_not_null()


def test_buffers_come_along(command):
    command("model=cnn", "model.batch_norm=true", *SMALL, "save_weights=final", "name=one")
    model = CNN((1, 8, 8), 10, batch_norm=True)
    initstudy.load_weights(folder("one"), model)
    assert model.norm1.num_batches_tracked.item() == 5
    assert model.norm1.running_mean.abs().sum() > 0


def test_what_does_not_fit_is_one_line(command):
    command(*SMALL, "model.width=16", "save_weights=final", "name=one")
    kept = folder("one")
    for model, said in (
        (MLP((1, 8, 8), 10, width=8), "fc1.bias has shape (16,), in the model (8,)"),
        (MLP((1, 8, 8), 10, width=16, depth=4), "fc4.bias is only in the model"),
        (MLP((1, 8, 8), 10, width=16, depth=2), "fc3.bias is only in the file"),
    ):
        with pytest.raises(ValueError, match=r"final\.safetensors") as error:
            initstudy.load_weights(kept, model)
        assert said in str(error.value)
    right = MLP((1, 8, 8), 10, width=16)
    with pytest.raises(ValueError, match="train with save_weights=init or both"):
        initstudy.load_weights(kept, right, moment="init")
    with pytest.raises(ValueError, match="moment=last: choose one of init, final"):
        initstudy.load_weights(kept, right, moment="last")
    (kept / "final.safetensors").write_bytes(b"garbled")
    with pytest.raises(ValueError, match="cannot be read"):
        initstudy.load_weights(kept, right)
