"""Data, losses, metrics and models that do not go together: one line, code 2, nothing left."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

MINE = textwrap.dedent("""
    import numpy as np
    import torch
    from torch import nn

    def number():
        return 3

    def raises(n):
        raise OSError("the disk is on fire\\nsecond line")

    def uneven():
        return (np.zeros((4, 2)), np.zeros(3)), (np.zeros((4, 2)), np.zeros(4))

    def holes():
        x = np.full((40, 2), np.nan)
        return (x, np.zeros(40)), (x, np.zeros(40))

    def pairs():
        x = {"left": np.zeros((40, 2)), "right": np.zeros((40, 2))}
        return (x, np.zeros(40)), (x, np.zeros(40))

    def held():
        part = (np.zeros((40, 2)), np.zeros(40))
        return part, part, part

    def single(output, target):
        return ((output - target) ** 2).mean()

    def broken(output, target):
        raise KeyError("no such thing")

    class Dict(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.layer = nn.Linear(64, classes)
        def forward(self, x):
            y = self.layer(x.flatten(1))
            return {"first": y, "second": y}

    class Frozen(Dict):
        def __init__(self, classes):
            super().__init__(classes)
            self.requires_grad_(False)
        def forward(self, x):
            return super().forward(x)["first"]
""")
WORST = "_target_: mine_wrong.single"
WRONG = [
    (["data._target_=mine_wrong.number"], "data._target_=mine_wrong.number: int is no data; give"),
    (["data._target_=mine_wrong.none"], "data._target_=mine_wrong.none: cannot be loaded from"),
    (
        ["data._target_=mine_wrong.raises", "+data.n=3"],
        "data._target_=mine_wrong.raises: the disk is on fire second line",
    ),
    (["data._target_=mine_wrong.raises"], "missing 1 required positional argument: 'n'"),
    (["data._target_=mine_wrong.number", "+data.n=3"], "data.n=3: mine_wrong.number takes no arg"),
    (["data._target_=mine_wrong.uneven"], "the train part has tensors of 4, 3 examples"),
    (["data._target_=mine_wrong.holes"], "the train inputs hold 80 values that are NaN"),
    (["data._target_=mine_wrong.pairs"], "model._target_=initstudy.models.MLP: can't multiply"),
    (
        ["data._target_=mine_wrong.pairs", "model._target_=mine_wrong.Dict"],
        "does not take examples of shapes left: (2, 2), right: (2, 2): TypeError",
    ),
    (["data._target_=mine_wrong.held", "data.validation=0.1"], "has validation data already"),
    (["data.validation=1"], "data.validation=1: must be below 1"),
    (["data.validation=0"], "data.validation=0: must be a finite number above 0"),
    (["data.validation=0.0001"], "must leave at least one of the 1438 training examples"),
    (["data.validation=0.9", "batch_size=500"], "batch_size=500: must be at most the number of"),
    (["data=npz"], "data.file: missing"),
    (["data=npz", "data.file=none.npz"], "data.file=none.npz: there is no such file"),
    (["data=csv", "data.file=none.csv", "data.target=y"], "data.file=none.csv: there is no such"),
    (["data=image_folder", "data.root=none"], "data.root=none: "),
    (["data=characters", "data.file=none.txt"], "data.file=none.txt: cannot be read: No such file"),
    (["data=adding", "data.length=1"], "data.length=1: must be a whole number of at least 2"),
    (["data=adding", "data.lenght=9"], "unknown key 'data.lenght' (did you mean 'data.length'?)"),
    (["data=parity", "data.relevant=99"], "data.relevant=99: must be at most data.bits=20"),
    (["data=image_fit", "data.image=cat"], "data.image=cat: there is no such file; choose one of"),
    (["data=regression", "loss=cross_entropy"], "loss=cross_entropy: diabetes has numbers as"),
    (
        ["loss=nope"],
        "loss=nope: there is no such choice; choose one of auto, binary, cross_entropy",
    ),
    (["loss._target_=mine_wrong.none"], "loss._target_=mine_wrong.none: cannot be loaded"),
    (["loss._target_=torch.nn.MSELoss"], "loss"),
    (["data=regression", "loss._target_=mine_wrong.single"], "the loss gives a single number; it"),
    (["data=regression", "loss._target_=mine_wrong.broken"], "loss: cannot be computed from the"),
    (["objective=f1"], "objective=f1: choose one of accuracy, loss"),
    (["objective=validation/loss"], "objective=validation/loss: choose one of train, test"),
    (["metrics=3"], "metrics=3: must be a mapping, such as {worst: {_target_"),
    (["+metrics.worst=3"], "metrics.worst=3: must be a mapping with the keys _target_ and better"),
    ([f"+metrics.worst={{{WORST}}}"], "metrics.worst.better: missing; choose one of higher, lower"),
    (
        [f"+metrics.worst={{{WORST}, better: up}}"],
        "metrics.worst.better: is up; choose one of high",
    ),
    (["output=logits"], "output=logits: the model returns a tensor of shape (2, 10)"),
    (["model._target_=mine_wrong.Dict"], "the model returns a mapping with the keys first, second"),
    (["model._target_=mine_wrong.Dict", "output=third"], "output=third: the model returns a mapp"),
    (["model._target_=mine_wrong.Frozen"], "all of its parameters are frozen"),
    (["model._target_=torchvision.models.resnet18"], "does not take images of shape (2, 1, 8, 8)"),
    (
        ["model=gpt"],
        "model=gpt: takes sequences of tokens (tokens,); the data have inputs of shape",
    ),
    (["model=lstm", "data=regression"], "recurrent networks take sequences (steps, features)"),
    (["model=siren", "model.w0=0"], "model.w0=0: must be a finite number above 0"),
    (["seeds.order=-1"], "seeds.order=-1: must be a whole number of at least 0"),
    (["seeds.ordr=1"], "unknown key 'seeds.ordr' (did you mean 'seeds.order'?)"),
    (
        ["-m", "data=digits,regression"],
        "objective: the runs have different ones, test/accuracy and",
    ),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda v: " ".join(v)[:60])
def test_what_does_not_go_together_is_one_line(command, tmp_path, arguments, said):
    (tmp_path / "mine_wrong.py").write_text(MINE)
    code, out, err = command(*arguments, "tracking=off", "max_steps=2")
    assert (code, out) == (2, ""), err
    (line,) = err.splitlines()
    assert said in line
    assert {path.name for path in tmp_path.iterdir()} <= {"mine_wrong.py", "__pycache__", ".cache"}
    assert not Path("runs").exists()
