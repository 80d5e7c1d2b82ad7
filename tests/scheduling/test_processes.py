"""`executor=local` with workers: processes side by side, here on CPUs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from initstudy import store
from initstudy.config import Run, identity, make_run, register
from initstudy.config.paths import CONF
from initstudy.scheduling.autotune import Autotuner
from initstudy.scheduling.backends import mailbox as jobs
from initstudy.scheduling.backends.choose import choose
from initstudy.scheduling.packing import pack_runs
from initstudy.training.group import prepare
from tests.clusters import (
    CONTINUING,
    GRID,
    SMALL,
    assert_same_results,
    assert_went_on,
    begun,
    drawn,
    head,
    partway,
    wait_for,
)

WORKERS = ["executor.workers=2"]


def workers_of(process: subprocess.Popen) -> list[int]:
    """The processes that a head has started."""
    done = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "pid=,args="],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    return [int(pid) for pid, command in lines if "initstudy.scheduling.backends.worker" in command]


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


def test_two_workers_give_what_one_process_gives(tmp_path, undisturbed):
    """In the store, and in W&B, where the head mirrors what the workers have stored."""
    directory = tmp_path / "runs/grid"
    with head(tmp_path, *GRID, *SMALL, *WORKERS, "tracking=offline", "name=grid") as study:
        assert study.wait() == 0, study.said()
    assert "in 2 packs on 2 processes on cpu" in study.said()
    assert_same_results(directory, undisturbed)
    assert not list((directory / "jobs").iterdir())
    for run in store.load(undisturbed).runs["run"]:
        alone = logged(undisturbed, run)
        assert len(alone) >= 3
        assert logged(directory, run) == alone


def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path, undisturbed):
    """Both at once: what each was training the next goes on with from where it was."""
    directory = tmp_path / "runs/grid"
    (tmp_path / "hold-later").touch()
    with head(tmp_path, *GRID, *SMALL, *WORKERS, *CONTINUING, "name=grid") as study:
        wait_for(lambda: len({file.parent for file in partway(directory)}) == 2)
        before = drawn(directory)
        first = workers_of(study.process)
        assert len(first) == 2
        for worker in first:
            os.kill(worker, signal.SIGKILL)
        wait_for(lambda: set(workers_of(study.process)) - set(first))
        (tmp_path / "hold-later").unlink()
        assert study.wait() == 0, study.said()
    assert study.said().count("its process ended by signal 9; its pack is submitted again") == 2
    assert_went_on(directory, before, undisturbed)


def test_workers_end_with_their_head_and_the_next_one_continues(tmp_path, undisturbed):
    directory = tmp_path / "runs/grid"
    (tmp_path / "hold").touch()
    with head(tmp_path, *GRID, *SMALL, *WORKERS, "name=grid") as killed:
        wait_for(lambda: len(begun(directory)) == 2)
        workers = workers_of(killed.process)
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 10)
    (tmp_path / "hold").unlink()
    # In one process this time: whoever trains, the packs are the same.
    with head(tmp_path, *GRID, *SMALL, "name=grid") as study:
        assert study.wait() == 0, study.said()
    assert "0 of 4 complete; training 4" in study.said()
    assert_same_results(directory, undisturbed)


def test_a_run_that_kills_its_process_fails_alone(tmp_path):
    """Not an exception but a death, as of memory: halved until what is left is the run at fault."""
    (tmp_path / "deadly.py").write_text(
        "import os, sys\n"
        "from initstudy.initializers import Normal\n"
        "def init(std):\n"
        "    if std == 0.2 and 'worker' in sys.argv[0]:\n"
        "        os._exit(9)\n"
        "    return Normal(std)\n"
    )
    grid = ["-m", "init._target_=deadly.init", "init.std=0.1,0.2,0.3", "executor.retries=0"]
    with head(tmp_path, *grid, *SMALL, "executor.workers=1", "name=grid") as study:
        assert study.wait() == 3, study.said()
    assert sorted(store.load(tmp_path / "runs/grid").runs["init.std"]) == [0.1, 0.3]
    (reason,) = store.failures(tmp_path / "runs/grid").values()
    assert "its process ended by code 9" in reason


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
def test_several_gpus_get_a_worker_each(monkeypatch, gpus, device, workers, devices):
    """Which device each worker gets, where the machine had so many GPUs."""
    chosen = device.replace("auto", "cuda" if gpus else "cpu")
    monkeypatch.setattr("initstudy.training.factory.device", lambda name: torch.device(chosen))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    place = choose(
        {"device": device, "executor": {"name": "local", "workers": workers, "retries": 3}}
    )
    assert (place.executor and list(place.executor.devices)) == devices
    assert place.workers == (len(devices) if devices else 1)


def test_every_executor_reads_the_pack_that_was_planned(tmp_path):
    """Through JSON: a run's id is the hash of its configuration, which must be what it was."""
    config = {
        "seed": 1,
        "optimizer": {"betas": [0.9, 0.999], "lr": 1e-5, "nesterov": None},
        "init": {"_target_": "mine.Ünit", "std": 0.1 + 0.2},
    }
    run = Run(config, ("init.std=0.3",), identity(config), {"init": "normal"})
    task = jobs.Task("abc", (run, run), "auto", "/somewhere", 2)
    jobs.write_task(tmp_path, task)
    jobs.write_submission(tmp_path, "abc", jobs.Submission("slurm", "name", 3, "12_3"))
    assert list(jobs.tasks(tmp_path)) == [task]
    assert identity(jobs.read_task(tmp_path, "abc").runs[0].config) == run.id
    jobs.forget(tmp_path, "abc")
    assert not list((tmp_path / "jobs").iterdir())
