"""A run is known by its configuration, the content of its data and the user's own code."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

from initstudy import store
from initstudy.config import sources

NET = """
from torch import nn
import layers

class Net(nn.Module):
    def __init__(self, classes, width=16):
        super().__init__()
        self.body = nn.Linear(64, width)
        self.act = layers.act()
        self.head = nn.Linear(width, classes)
    def forward(self, x):
        return self.head(self.act(self.body(x.flatten(1))))
"""
DATA = """
import numpy as np
def load():
    x = np.load("numbers.npy")
    return (x, x.sum(1)), (x, x.sum(1))
"""
SMALL = ["max_steps=3", "data.subset=100", "tracking=off", "probes=off", "name=s"]
MODULES = ("mine_edited", "layers")


@pytest.fixture
def edit(tmp_path):
    """Writes a module as an editor does, for the next process."""

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        for module in MODULES:
            sys.modules.pop(module, None)
        sources._fingerprint.cache_clear()

    yield write
    for module in MODULES:
        sys.modules.pop(module, None)
    sources._fingerprint.cache_clear()


def test_edited_code_trains_again_and_the_report_has_only_the_new_runs(command, edit):
    edit("layers", "from torch import nn\nact = nn.ReLU\n")
    edit("mine_edited", NET)
    grid = ["-m", "model._target_=mine_edited.Net", "seed=0,1", *SMALL]
    assert command(*grid)[0] == 0
    first = store.load("runs/s").runs
    assert "2 of 2 complete" in command(*grid)[1]
    # Not the model's own module, but one that it imports.
    edit("layers", "from torch import nn\nact = nn.Tanh\n")
    code, out, _ = command(*grid)
    assert code == 0
    assert "0 of 2 complete; training 2" in out
    said = "mine_edited.Net changed since 2 runs were trained, which the report leaves out"
    assert said in out
    second = store.load("runs/s").runs
    assert len(second) == 2
    assert set(first["run"]).isdisjoint(second["run"])
    assert second["train/loss"].to_list() != first["train/loss"].to_list()
    # What is edited back is there still.
    edit("layers", "from torch import nn\nact = nn.ReLU\n")
    assert "2 of 2 complete" in command(*grid)[1]
    assert set(store.load("runs/s").runs["run"]) == set(first["run"])


def test_other_data_in_the_same_file_are_other_runs(command, edit):
    edit("mine_edited", DATA)
    np.save("numbers.npy", np.random.default_rng(0).normal(size=(100, 3)))
    run = ["data._target_=mine_edited.load", "max_steps=3", "tracking=off", "name=s"]
    assert command(*run)[0] == 0
    assert "1 of 1 complete" in command(*run)[1]
    np.save("numbers.npy", np.random.default_rng(1).normal(size=(100, 3)))
    assert "the data changed since 1 run was trained" in command(*run)[1]
    assert len(store.load("runs/s").runs) == 1


def test_what_the_package_brings_along_needs_no_fingerprint(command):
    assert command(*SMALL)[0] == 0
    names = store.load("runs/s").runs.columns
    assert not [name for name in names if name.startswith("fingerprints")]


def test_check_says_that_the_code_has_changed(command, edit, tmp_path):
    edit("layers", "from torch import nn\nact = nn.ReLU\n")
    edit("mine_edited", NET)
    assert command("model._target_=mine_edited.Net", *SMALL)[0] == 0
    edit("layers", "from torch import nn\nact = nn.GELU\n")
    done = subprocess.run(
        [sys.executable, "-m", "initstudy.check", "runs/s"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert "mine_edited.Net changed since it was trained" in done.stdout + done.stderr
