"""The command as a user gives it, in a process of its own only where that is what matters."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
import yaml
from omegaconf import OmegaConf

from initstudy import load_weights, store
from initstudy.config.paths import CONF
from initstudy.initializers import Normal, as_policy, initialize
from initstudy.models import MLP
from initstudy.tasks import Batches
from initstudy.tasks.images import load
from tests.users_own import MINE

SMALL = ["max_steps=3", "data.subset=200", "model.width=8", "tracking=off", "eval_every=3"]


def test_a_single_run_is_stored_with_its_configuration(command):
    code, out, _ = command(*SMALL, "name=one", "init.std=0.07", "seed=5")
    assert code == 0
    assert "0 of 1 complete" in out
    loaded = store.load("runs/one")
    run = loaded.runs.row(0, named=True)
    assert (run["init.std"], run["seed"], run["model.width"]) == (0.07, 5, 8)
    assert loaded.history["step"].to_list() == [0, 3]
    written = OmegaConf.load(f"runs/one/runs/{run['run']}/.hydra/config.yaml")
    assert written.init.std == 0.07


def test_the_std_grid_is_112_runs_evenly_spaced_in_log(command):
    assert command("+sweep=std_grid", *SMALL)[0] == 0
    runs = store.load("runs/std_grid").runs
    stds = runs["init.std"].unique().sort()
    assert (len(runs), len(stds), runs["seed"].n_unique()) == (112, 14, 8)
    assert (stds[0], stds[-1]) == (0.001, 4.0)
    ratios = (stds / stds.shift(1)).drop_nulls()
    assert ratios.to_list() == pytest.approx([4000 ** (1 / 13)] * 13, rel=1e-3)


def test_a_rerun_trains_nothing_and_a_wider_grid_only_what_is_missing(command):
    sweep = ["-m", *SMALL, "name=grid", "seed=0,1"]
    command(*sweep, "init.std=0.1,0.2")
    before = store.load("runs/grid")
    assert "4 of 4 complete" in command(*sweep, "init.std=0.1,0.2")[1]
    _, out, _ = command(*sweep, "init.std=0.1,0.2,0.3")
    assert "4 of 6 complete; training 2" in out
    after = store.load("runs/grid")
    old = after.runs.filter(pl.col("run").is_in(before.runs["run"].to_list()))
    assert old.sort("run").equals(before.runs.select(old.columns).sort("run"))
    assert after.runs["run"].n_unique() == len(after.runs) == 6


def test_grid_points_that_are_excluded_do_not_train(command):
    grid = [
        "-m",
        "model=mlp,cnn",
        "init=dirac,normal",
        "max_steps=2",
        "data.subset=40",
        "batch_size=16",
        "tracking=off",
        "name=grid",
    ]
    assert command(*grid, "exclude=[{model: mlp, init: dirac}]")[0] == 0
    runs = store.load("runs/grid").runs
    assert set(runs.select("model", "init").iter_rows()) == {
        ("mlp", "normal"),
        ("cnn", "dirac"),
        ("cnn", "normal"),
    }
    assert "3 of 4 complete; training 1" in command(*grid)[1]


def test_what_theory_foresees_stands_beside_the_first_measurement(command):
    command(
        "-m", "init.std=0.05,0.2", "model.width=256", "max_steps=40", "tracking=off", "name=grid"
    )
    loaded = store.load("runs/grid")
    first = loaded.history.filter(pl.col("step") == 0)
    for layer in ("fc1", "fc2", "fc3", "head"):
        for kind in ("activation", "gradient"):
            ratio = first[f"{kind}/{layer}/rms"] / first[f"{kind}/{layer}/theory"]
            assert ratio.to_list() == pytest.approx([1.0, 1.0], rel=0.25)
    later = loaded.history.filter(pl.col("step") > 0)
    assert later["activation/fc1/theory"].null_count() == len(later)
    assert loaded.runs["theory/critical_std"].to_list() == pytest.approx([(2 / 256) ** 0.5] * 2)
    # A convolution with pooling is not covered: it trains without.
    command("model=cnn", *[s for s in SMALL if "model" not in s], "name=cnn")
    assert "theory/critical_std" not in store.load("runs/cnn").runs.columns


def test_an_initialization_that_looks_at_data_is_charged_for_it(command):
    command("-m", "init=lsuv,orthogonal", *SMALL, "model.depth=4", "name=grid")
    runs = store.load("runs/grid").runs
    cost = {row["init"]: (row["init/examples"], row["init/passes"]) for row in runs.to_dicts()}
    # One pass finds the order; each of five layers takes at least one to measure.
    assert cost["orthogonal"] == (None, None)
    assert cost["lsuv"][0] == 32
    assert 6 <= cost["lsuv"][1] <= 1 + 5 * 10
    first = store.load("runs/grid").history.join(runs.select("run", "init"), on="run")
    start = first.filter((pl.col("step") == 0) & (pl.col("init") == "lsuv"))
    # Unit variance on the batch that calibrated; half of it survives the ReLU.
    assert start["activation/fc3/rms"].item() == pytest.approx(0.7, abs=0.2)


def test_runs_lost_from_the_store_are_trained_again_to_the_same_result(command):
    grid = ["-m", *SMALL, "name=grid", "seed=0,1", "init.std=0.1,0.2", "planner.pack_size=2"]
    command(*grid)
    before = store.load("runs/grid")
    next(Path("runs/grid/store").glob("*.runs.parquet")).unlink()
    assert "2 of 4 complete; training 2" in command(*grid)[1]
    after = store.load("runs/grid")
    losses = ["run", "train/loss", "test/loss"]
    assert after.runs.select(losses).sort("run").equals(before.runs.select(losses).sort("run"))


def test_every_run_of_the_grid_equals_a_plain_pytorch_loop(command):
    """The 42 runs of three seeds against one model alone with torch.optim, to 1e-4 relative.

    The bound holds for forty steps where training is stable. Beyond the edge of stability rounding
    grows by a factor each step, so there the first ten steps are compared, to 1e-3, or as many as
    come before the one that is not finite (overflow itself may come a step later).
    """
    steps = 40
    command(
        "+sweep=std_grid",
        "seed=0,1,2",
        f"max_steps={steps}",
        "tracking=off",
        "log_every=1",
        "probes=off",
    )
    loaded = store.load("runs/std_grid")
    data = load("digits")
    compared = []
    for row in loaded.runs.rows(named=True):
        model = MLP(data.shape, data.classes)
        initialize(model, as_policy(Normal(row["init.std"])), seed=row["seed"])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        batches = Batches(data, [row["seed"]], 32)
        losses = []
        for step in range(steps):
            x, y = batches(step)
            loss = F.cross_entropy(model(x[0]), y[0])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        history = loaded.history.filter(pl.col("run") == row["run"]).sort("step")
        ours = history["train/loss"].to_list()[1:]
        if row["diverged_step"] is not None:
            ours = ours[:-1]
        stable = row["init.std"] < 0.2
        count = min(len(ours), steps if stable else 10)
        assert ours[:count] == pytest.approx(losses[:count], rel=1e-4 if stable else 1e-3)
        compared.append(count)
    assert len(compared) == 42
    assert min(compared) >= 3


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["-m", "init.std=0.1,0.2", "seed=range(3)"], 6),
        (["-m", "init=glob(x*)"], 2),
        (["+sweep=std_grid", "init.std=0.1,0.2", "seed=range(5)"], 10),
        (["+sweep=std_grid", "init.std=0.1", "seed=0", "model=mlp,cnn", "~model.width"], None),
        (["-m", "optimizer.lr=0.01,0.1", "hydra/launcher=basic", "hydra/sweeper=basic"], 2),
    ],
    ids=["range", "glob", "sweep-file", "models", "basic-launcher"],
)
def test_sweeps_work_as_hydra_users_expect(command, arguments, count):
    if count is None:
        arguments, count = [a for a in arguments if a != "~model.width"], 2
        small = [s for s in SMALL if s != "model.width=8"]
    else:
        small = SMALL
    code, _, err = command(*arguments, *small, "name=grid")
    assert code == 0, err
    assert len(store.load("runs/grid").runs) == count


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "python -m initstudy +sweep=std_grid"),
        (["--cfg", "job"], "init:"),
        (["--info", "defaults"], "Defaults"),
        (["+sweep=std_grid", "--cfg", "job"], "claims:"),
    ],
)
def test_hydras_own_questions_are_answered(command, arguments, said):
    code, out, _ = command(*arguments)
    assert code == 0
    assert said in out
    assert not Path("runs").exists()


def shipped():
    # The sweeps have scripts, and clusters have to be there: both have tests of their own.
    elsewhere = {CONF / "executor/slurm.yaml", CONF / "executor/ray.yaml"}
    for group in sorted(set(CONF.iterdir()) - {CONF / "sweep"}):
        for file in sorted(set(group.glob("*.yaml")) - elsewhere) if group.is_dir() else ():
            yield pytest.param(group.name, file.stem, id=f"{group.name}={file.stem}")


OF_ONES_OWN = ("data=image_folder", "data=npz", "data=csv", "loss=binary", "init=weight_selection")


def own_file(choice, folder):
    """A file of the kind that a choice of data, of a loss or of weights reads."""
    from tests.tasks.test_sources import pictures

    numbers = np.random.default_rng(0).normal(size=(60, 3))
    if choice == "image_folder":
        return pictures(folder / "pets", count=40)
    if choice == "csv":
        lines = [",".join(map(str, row)) for row in numbers.round(3)]
        (folder / "t.csv").write_text("\n".join(["a,b,price", *lines]))
        return folder / "t.csv"
    if choice == "weight_selection":
        torch.save(MLP((1, 8, 8), 10, width=128).state_dict(), folder / "large.pt")
        return folder / "large.pt"
    targets = numbers[:, 0] > 0 if choice == "binary" else numbers.sum(1)
    np.savez(folder / "a.npz", x=numbers, y=targets.astype(float))
    return folder / "a.npz"


@pytest.mark.parametrize(("group", "choice"), list(shipped()))
def test_every_shipped_choice_composes_and_trains(command, group, choice, tmp_path):
    from tests.tasks.test_data import fake_mnist

    if choice == "cifar10":
        code, _, err = command(f"data={choice}", "data.download=false", "data.root=nowhere")
        assert code == 2
        assert f"data.root=nowhere: {choice} is missing" in err
        return
    small = ["max_steps=2", "data.subset=40", "probes.every=1", "eval_every=2", "batch_size=16"]
    small += [] if group == "tracking" else ["tracking=off"]
    if choice == "online":
        assert "tracking.mode=online: no W&B key" in command("tracking=online")[2]
        return
    if "mnist" in choice:
        name = "FashionMNIST" if choice == "fashion_mnist" else "MNIST"
        root = fake_mnist(tmp_path / "data", name=name)
        small += [f"data.root={root}", "data.download=false"]
    asked = [f"{group}={choice}"]
    if group in ("init", "model", "data", "loss"):
        # The file's own first line says with what it goes.
        asked = shlex.split((CONF / group / f"{choice}.yaml").read_text().splitlines()[0])[4:]
        assert asked[0] == f"{group}={choice}"
        path = own_file(choice, tmp_path) if f"{group}={choice}" in OF_ONES_OWN else "."
        asked = [override.replace("PATH", str(path)) for override in asked]
    code, _, err = command(*asked, *small, "name=x")
    assert code == 0, err
    assert store.load("runs/x").runs["train/loss"].is_finite().all()


def test_every_shipped_file_opens_with_its_command():
    for file in CONF.rglob("*.yaml"):
        lines = [line for line in file.read_text().splitlines() if "@package" not in line]
        assert lines[0].startswith("# python -m initstudy"), file
        yaml.safe_load(file.read_text())


def test_every_initializer_has_a_row_in_the_docs():
    page = (CONF.parent / "docs" / "initializers.md").read_text(encoding="utf-8")
    rows = "".join(line for line in page.splitlines() if line.startswith("| `"))
    for file in (CONF / "init").glob("*.yaml"):
        assert f"`{file.stem}`" in rows, file.stem


def test_a_users_own_model_and_initializer(command, tmp_path):
    (tmp_path / "mine_ok.py").write_text(textwrap.dedent(MINE))
    code, _, err = command(
        "model._target_=mine_ok.Net",
        "+model.hidden=5",
        "init._target_=mine_ok.MyInit",
        "init.std=0.3",
        "name=mine",
        *[s for s in SMALL if "model" not in s],
    )
    assert code == 0, err
    loaded = store.load("runs/mine")
    assert loaded.runs["model.hidden"].to_list() == [5]
    assert "activation/body/saturated" in loaded.history.columns


def test_a_model_that_cannot_be_stacked_trains_one_by_one_and_says_why(command, tmp_path):
    (tmp_path / "mine_drop.py").write_text(textwrap.dedent(MINE))
    small = [s for s in SMALL if "model" not in s]
    grid = ["-m", "model._target_=mine_drop.Dropping", "seed=0,1", *small]
    _, out, err = command(*grid, "name=both")
    assert "one by one, since the model cannot be stacked: vmap" in " ".join((out + err).split())
    command(*[a.replace("seed=0,1", "seed=1") for a in grid], "name=alone")
    both, alone = (store.load(f"runs/{n}").runs.filter(seed=1) for n in ("both", "alone"))
    assert both["train/loss"].item() == alone["train/loss"].item()


def test_another_hydra_application_does_not_pay_for_the_plugin(tmp_path):
    """The launcher is loaded by every Hydra application of the environment."""
    script = tmp_path / "other.py"
    script.write_text(
        "import hydra, sys\n"
        "@hydra.main(version_base='1.3', config_path=None)\n"
        "def main(cfg):\n    print('initstudy' in sys.modules, 'torch' in sys.modules)\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.slow
def test_the_whole_command_from_the_shell(tmp_path):
    arguments = [*SMALL, "init.std=0.1,2", "seed=0,1,2"]
    done = subprocess.run(
        [sys.executable, "-m", "initstudy", "+sweep=std_grid", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "training 6 in 1 pack" in done.stdout
    assert "report: runs/std_grid/report/index.html" in done.stdout
    assert "large" in done.stdout
    readme = (tmp_path / "runs/std_grid/report/README.md").read_text()
    assert "python -m initstudy +sweep=std_grid max_steps=3" in readme


def test_a_value_may_refer_to_another_one(command):
    assert command(*SMALL, "name=one", "init.std=0.03", "optimizer.lr=${init.std}")[0] == 0
    assert store.load("runs/one").runs["optimizer.lr"].to_list() == [0.03]


UNREACHED = """
    from torch import nn

    class Beside(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.head, self.aside = nn.Linear(64, classes), nn.Linear(3, 2)
        def forward(self, x):
            return self.head(x.flatten(1))
"""


def test_parameters_that_the_loss_does_not_depend_on_are_named_and_stay(command):
    """As with torch.optim, which skips parameters without gradients even under weight decay."""
    Path("beside.py").write_text(textwrap.dedent(UNREACHED))
    sys.modules.pop("beside", None)
    small = [word for word in SMALL if not word.startswith("model")]
    code, out, err = command(
        *small,
        "model._target_=beside.Beside",
        "init=own",
        "optimizer.weight_decay=0.5",
        "save_weights=both",
        "name=beside",
    )
    assert code == 0, err
    assert "the loss does not depend on aside.weight, aside.bias" in out + err
    (folder,) = Path("runs/beside/runs").iterdir()
    from beside import Beside

    start, end = (
        load_weights(folder, Beside(10), moment=moment).state_dict() for moment in ("init", "final")
    )
    same = {name: torch.equal(start[name], end[name]) for name in start}
    assert same == {
        "head.weight": False,
        "head.bias": False,
        "aside.weight": True,
        "aside.bias": True,
    }
