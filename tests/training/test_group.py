"""What the runs of a study share is worked out once, and goes to other processes by its key."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest
import torch

from initstudy import store
from initstudy.engine.batched import chain
from initstudy.engine.train import Row
from initstudy.training import group as group_module
from initstudy.training.group import Pack, group_of, prepare
from initstudy.training.pack import train_pack
from tests.scheduling.workers import SMALL, small_pack

CPU = torch.device("cpu")
# Data and models that write down when they are made, in whichever process.
COUNTED = """
    import threading
    from pathlib import Path
    import torch
    from torch import nn

    def data():
        with Path("loaded").open("a") as log:
            log.write("data ")
        x = torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        y = x.flatten(1).argmax(1) % 10
        return (x[:250], y[:250]), (x[250:], y[250:])

    class Counted(nn.Module):
        def __init__(self, classes, hidden=6):
            super().__init__()
            with Path("built").open("a") as log:
                log.write(f"{hidden} ")
            self.body, self.head = nn.Linear(64, hidden), nn.Linear(hidden, classes)
        def forward(self, x):
            return self.head(torch.sin(self.body(x.flatten(1))))

    class Chained(Counted):
        def __init__(self, classes, hidden=6):
            super().__init__(classes, hidden)
            self.act = nn.Tanh()
        def forward(self, x):
            return self.head(self.act(self.body(x.flatten(1))))

    class Fourier(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.register_buffer("features", torch.randn(64, 32))
            self.head = nn.Linear(32, classes)
        def forward(self, x):
            return self.head(torch.cos(x.flatten(1) @ self.features))

    class Remembering(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.head, self.calls = nn.Linear(64, classes), 0
        def forward(self, x):
            self.calls += self.training
            return self.head(x.flatten(1)) * self.calls

    class Uncopyable(Counted):
        def __init__(self, classes):
            super().__init__(classes)
            self.lock = threading.Lock()
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's module of this name, in the folder in which a test runs."""
    (tmp_path / "mine_counted.py").write_text(textwrap.dedent(COUNTED))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine_counted", raising=False)
    return tmp_path


class Calls:
    """How often functions are called in this process while it is entered."""

    def __init__(self, *functions) -> None:
        self.names = {
            inspect.unwrap(function).__code__: function.__qualname__ for function in functions
        }
        self.counted: Counter[str] = Counter()

    def __enter__(self) -> Counter[str]:
        sys.setprofile(self._note)
        return self.counted

    def __exit__(self, *error) -> None:
        sys.setprofile(None)

    def _note(self, frame, event, argument) -> None:
        if event == "call" and frame.f_code in self.names:
            self.counted[self.names[frame.f_code]] += 1


@pytest.mark.parametrize(("workers", "model"), [(1, "Counted"), (1, "Chained"), (2, "Chained")])
def test_a_study_loads_its_data_and_builds_each_model_once(command, mine, workers, model):
    """Two groups of two runs, in four packs, from the command to the report's doorstep."""
    grid = ["-m", f"model._target_=mine_counted.{model}", "+model.hidden=3,5", "seed=0,1", *SMALL]
    grid += ["data._target_=mine_counted.data"]
    spread = ["planner.pack_size=1", f"planner.workers={workers}"]
    with Calls(group_module.signature, prepare, chain.stages) as calls:
        code, out, err = command(*grid, *spread, "name=traced")
    assert (code, err) == (0, "")
    assert "training 4 in 4 packs" in out
    assert len(store.load("runs/traced").runs) == 4
    assert calls == {"signature": 4, "prepare": 1, "stages": 2}
    assert Path("loaded").read_text().split() == ["data"]
    assert Counter(Path("built").read_text().split()) == {"3": 1, "5": 1}


def test_groups_share_data_and_what_differs_splits_them(mine):
    runs = [*small_pack("model.width=8").runs, *small_pack("model.width=9").runs]
    narrow, wide = prepare(runs, CPU)
    assert narrow.data is wide.data
    assert narrow.runs == tuple(runs[:4])
    assert narrow.key != wide.key
    assert [group.size.parameters for group in (narrow, wide)] == [
        sum(p.numel() for p in group.model.parameters()) for group in (narrow, wide)
    ]


def test_a_group_of_finished_runs_is_not_built(mine):
    counted = small_pack("model._target_=mine_counted.Counted").runs
    built = len(Path("built").read_text().split())
    assert prepare(counted, CPU, {run.id for run in counted}) == []
    assert len(Path("built").read_text().split()) == built
    # One run that is missing needs the whole group, so that packs are those of the whole grid.
    (group,) = prepare(counted, CPU, {run.id for run in counted[1:]})
    assert group.runs == counted


def test_a_group_is_found_by_its_key_and_never_pickled():
    """Neither on its own nor in a pack: it would take data and model along each time."""
    pack = small_pack()
    assert group_of(pack.group.key, pack.runs[:1], CPU) is pack.group
    for what in (pack, pack.group):
        with pytest.raises(TypeError, match="by its key"):
            pickle.dumps(what)


def test_a_group_holds_a_model_in_next_to_no_memory():
    """Its parameters have their shapes but no values; each training has its own, and buffers."""
    pack = small_pack("model.width=512")
    parameters = list(pack.group.model.parameters())
    needed = sum(p.numel() * p.element_size() for p in parameters)
    assert needed > 2_000_000
    assert sum(p.untyped_storage().nbytes() for p in parameters) < needed / 50
    first, second = (list(pack.group.new_model().parameters()) for _ in range(2))
    assert [p.shape for p in first] == [p.shape for p in parameters]
    assert all(p.is_contiguous() and bool(p.isfinite().all()) for p in first)
    assert not {p.data_ptr() for p in first} & {p.data_ptr() for p in second}


def test_another_process_prepares_the_same_group_from_its_runs(mine):
    """Its key and a buffer that the model's constructor has drawn at random."""
    pack = small_pack("model._target_=mine_counted.Fourier")
    runs = [{"config": r.config, "overrides": r.overrides, "id": r.id} for r in pack.runs]
    (mine / "runs.json").write_text(json.dumps(runs))
    code = """
        import json, torch
        from initstudy.config import Run
        from initstudy.training.group import prepare
        torch.manual_seed(123)
        listed = json.load(open("runs.json"))
        runs = [Run(r["config"], tuple(r["overrides"]), r["id"]) for r in listed]
        (group,) = prepare(runs, torch.device("cpu"))
        print(group.key, group.model.features.double().sum().item())
    """
    other = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{mine}", "HOME": str(mine)},
    )
    key, total = other.stdout.split()
    assert key == pack.group.key
    assert float(total) == pack.group.model.features.double().sum().item()


def losses(pack: Pack) -> list[float]:
    rows = [item for item in train_pack(pack, CPU) if isinstance(item, Row)]
    return [row.values["train/loss"] for row in rows if "train/loss" in row.values]


def test_training_leaves_no_trace_in_the_group(mine):
    """Neither parameters nor what a user's module remembers: a second training is the first."""
    pack = small_pack("model._target_=mine_counted.Remembering", "max_steps=5", "log_every=1")
    before = copy.deepcopy(pack.group.model.state_dict())
    calls, training = pack.group.model.calls, pack.group.model.training
    first = losses(pack)
    assert len(first) == 4 * 6
    assert losses(pack) == first
    assert pack.group.model.calls == calls
    assert pack.group.model.training == training
    after = pack.group.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_pack_leaves_no_activations_in_the_group(mine, model):
    """After one that did not fit, the memory for its halves would be taken."""
    pack = small_pack(f"model={model}", "model.activation=tanh", "max_steps=2")
    stages = pack.group.engine.workload.stages
    assert len(losses(pack)) > 0
    kept = [value for stage in stages for value in vars(stage).values()]
    assert not any(isinstance(value, torch.Tensor) for value in kept)


def test_a_model_that_cannot_be_copied_is_built_again(mine):
    pack = small_pack("model._target_=mine_counted.Uncopyable", "max_steps=5")
    with pytest.raises(TypeError):
        copy.deepcopy(pack.group.model)
    copyable = small_pack("model._target_=mine_counted.Counted", "max_steps=5")
    assert losses(pack) == losses(copyable)


def test_what_fills_no_parameter_is_told_before_training(command, mine):
    """By a run in the middle of the grid, whose initializer is of another kind than the others."""
    (mine / "mine_init.py").write_text(
        "class Choosy:\n"
        "    def __init__(self, std):\n"
        "        self.std = std\n"
        "    def __call__(self, shape, fans, *, generator, dtype):\n"
        "        raise ArithmeticError('not ever')\n"
    )
    grid = ["-m", "model.width=8", "init._target_=mine_init.Choosy", "init.std=0.1,0.2", *SMALL]
    code, _, err = command(*grid, "name=refused")
    assert code == 2
    assert err.splitlines() == [
        "initstudy: init._target_=mine_init.Choosy: ArithmeticError: not ever"
    ]
    assert not store.finished("runs/refused")
