"""`executor=local`: in this process, or in as many as are asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from initstudy import store
from initstudy.config import make_run, register
from initstudy.config.paths import CONF
from initstudy.scheduling.autotune import Autotuner
from initstudy.scheduling.backends.choose import choose
from initstudy.scheduling.backends.pool import Pool
from initstudy.scheduling.packing import pack_runs
from initstudy.training.group import prepare
from tests.clusters import GRID, SMALL, assert_same_results, coordinator
from tests.scheduling.workers import WORKERS


def logged(directory: Path, run: str) -> list[dict]:
    """The rows and the summary of a W&B run, as wandb's own reader prints them."""
    (file,) = directory.glob(f"wandb/*run-*-{run}/run-{run}.wandb")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    rows = [r["history"]["item"] for r in records if r["type"] == "history"]
    rows.append(
        {k: v for r in records if r["type"] == "summary" for k, v in r["summary"]["update"].items()}
    )
    hidden = ("_", "device")
    return [{k: v for k, v in row.items() if not k.startswith(hidden)} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "threads"), WORKERS.values(), ids=WORKERS)
def test_two_workers_give_what_one_process_gives(tmp_path, undisturbed, asked, threads):
    """In the store, and in W&B."""
    directory = tmp_path / "runs/grid"
    grid = [*GRID, *SMALL, *asked, "tracking=offline", "name=grid"]
    with coordinator(tmp_path, *grid, threads=threads) as study:
        assert study.wait() == 0, study.said()
    assert "in 2 packs on 2 processes on cpu" in study.said()
    assert_same_results(directory, undisturbed)
    assert not (directory / "jobs").exists()
    for run in store.load(undisturbed).runs["run"]:
        alone = logged(undisturbed, run)
        assert len(alone) >= 3
        assert logged(directory, run) == alone


@pytest.mark.slow
def test_a_run_that_kills_its_process_fails_alone(tmp_path):
    """Not an exception but a death, as of memory: halved until what is left is the run at fault."""
    (tmp_path / "deadly.py").write_text(
        "import multiprocessing, os\n"
        "from initstudy.initializers import Normal\n"
        "def init(std):\n"
        "    if std == 0.2 and multiprocessing.parent_process():\n"
        "        os._exit(9)\n"
        "    return Normal(std)\n"
    )
    grid = ["-m", "init._target_=deadly.init", "init.std=0.1,0.2,0.3", "executor.retries=0"]
    with coordinator(tmp_path, *grid, *SMALL, "executor.workers=1", "name=grid") as study:
        assert study.wait() == 3, study.said()
    assert sorted(store.load(tmp_path / "runs/grid").runs["init.std"]) == [0.1, 0.3]
    (reason,) = store.failures(tmp_path / "runs/grid").values()
    assert reason == "its process ended with code 9"


def test_packs_leave_no_worker_without_work():
    """42 runs on 4 workers: four packs where one would do for a single process."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = [
            compose("config", [f"seed={seed}", "name=x", "max_steps=5"]) for seed in range(42)
        ]
    runs = [make_run(cfg) for cfg in composed]

    def packs(workers, **asked):
        section = {"pack_size": None, "workers": None, "timing": "off", **asked}
        tuner = Autotuner(section, torch.device("cpu"), None, workers, {})
        groups = prepare(runs, torch.device("cpu"))
        tuner.plan(groups)
        return [len(pack.runs) for pack in pack_runs(groups, tuner.pack_size)]

    assert packs(1) == [42]
    assert packs(4) == [11, 11, 11, 9]
    assert packs(4, pack_size=21) == [21, 21]


@pytest.mark.parametrize(
    ("gpus", "device", "workers", "devices"),
    [
        (1, "auto", None, None),
        (3, "auto", None, ["cuda:0", "cuda:1", "cuda:2"]),
        (2, "cuda", 4, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        (2, "cuda:1", None, None),
        (2, "cuda:1", 2, ["cuda:1", "cuda:1"]),
        (0, "auto", 2, ["cpu", "cpu"]),
    ],
)
def test_several_gpus_get_a_worker_each(monkeypatch, tmp_path, gpus, device, workers, devices):
    """Which device each worker gets, where the machine had so many GPUs."""
    chosen = device.replace("auto", "cuda" if gpus else "cpu")
    monkeypatch.setattr("initstudy.training.factory.device", lambda name: torch.device(chosen))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    section = {"name": "local", "workers": workers, "retries": 3}
    backend = choose({"device": device, "executor": section}, tmp_path)
    assert backend.workers == backend.free == (len(devices) if devices else 1)
    used = f"{len(devices)} processes on {', '.join(sorted(set(devices)))}" if devices else chosen
    assert str(backend) == used
    assert backend.devices == (devices or [])


@pytest.mark.slow
def test_workers_that_are_asked_for_are_spawned_where_nothing_forks(command, monkeypatch):
    """As on macOS."""
    monkeypatch.setattr("initstudy.scheduling.backends.pool.CAN_FORK", False)
    grid = ["-m", "seed=0,1", "model.width=8", "planner.pack_size=1", *SMALL]
    code, out, _ = command(*grid, "planner.workers=2", "name=spawned")
    assert (code, "in 2 packs on 2 processes on cpu" in out) == (0, True)
    assert command(*grid, "planner.workers=1", "name=alone")[0] == 0
    assert_same_results(Path("runs/spawned"), Path("runs/alone"), runs=2)


@pytest.mark.parametrize(
    ("devices", "threads", "forks"),
    [(["cpu"], 1, True), (["cpu"], 2, False), (["cuda:0"], None, False)],
)
def test_forks_are_for_one_thread_of_a_cpu(devices, threads, forks):
    """CUDA does not survive a fork, nor do OpenMP's threads."""
    assert Pool(devices, threads).forks == (forks and sys.platform == "linux")
