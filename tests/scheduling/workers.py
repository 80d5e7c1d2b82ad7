"""A model whose workers wait where a test wants them, and grids of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from initstudy.config import register
from initstudy.config.compose import compose_jobs
from initstudy.config.paths import CONF
from initstudy.training.group import Pack, prepare

# `held` and what is in it behave in the coordinator; in a worker they wait, raise, or end it.
HELD = """
    import multiprocessing, os, signal, time
    from pathlib import Path
    import torch
    from torch import nn
    from initstudy.initializers import Normal

    def in_worker():
        return multiprocessing.parent_process() is not None

    class Held(nn.Module):
        calls = 0
        def __init__(self, classes):
            super().__init__()
            self.body, self.act, self.head = nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, classes)
        def forward(self, x):
            self.calls += self.training
            if in_worker() and self.calls > 15:
                deadline = time.monotonic() + 60
                while Path("hold").exists():
                    assert time.monotonic() < deadline, "nobody has let it go on"
                    time.sleep(0.02)
            # Not a mere chain of layers: those train without a call of this.
            return self.head(self.act(self.body(x.flatten(1)))) * 1.0

    class Telling(Held):
        def forward(self, x):
            if in_worker() and self.calls <= 15:
                time.sleep(0.05)
            return super().forward(x)

    class Raising(Held):
        def forward(self, x):
            if in_worker() and self.training:
                raise ArithmeticError("not in a worker")
            return super().forward(x)

    class Leaving(Held):
        def forward(self, x):
            if in_worker() and self.training:
                # A child that has the pipe of this process, as one of a data loader would.
                if os.fork() == 0:
                    Path("leaving").write_text(str(os.getpid()))
                    time.sleep(60)
                    os._exit(0)
                os._exit(7)
            return super().forward(x)

    def deadly(std):
        if std == 0.2 and in_worker():
            os.kill(os.getpid(), signal.SIGKILL)
        return Normal(std)

    class Speechless(Exception):
        def __reduce__(self):
            raise TypeError("cannot be sent")

    class Choosy:
        def __init__(self, std):
            self.std = std
        def __call__(self, shape, fans, *, generator, dtype):
            if self.std == 0.2:
                raise Speechless("not with 0.2")
            return self.std * torch.randn(shape, generator=generator, dtype=dtype)
"""
SMALL = [
    "max_steps=24",
    "data.subset=200",
    "tracking=off",
    "eval_every=24",
    "probes=full",
    "probes.every=6",
    "planner.timing=off",
]
GRID = ["-m", "model._target_=held.Held", "init.std=0.1,0.3", "seed=0,1", "planner.pack_size=2"]
# How the coordinator comes to have two workers, and the threads that torch may use. With one thread
# for each it forks them; with two it starts interpreters.
WORKERS = {
    "forked": (["planner.workers=2"], 1),
    "forked, asked for": (["executor.workers=2"], 2),
    "spawned": (["executor.workers=2"], 4),
}
FORKED, SPAWNED = WORKERS["forked"], WORKERS["spawned"]
CONTINUING = ["checkpoint.every=0", "save_weights=init"]


def small_pack(model: str = "model.width=8", *overrides: str) -> Pack:
    """Two seeds of two initializations."""
    register()
    always = [*SMALL, "name=x", model, *overrides]
    jobs = [[*always, f"seed={s}", f"init.std={std}"] for std in (0.1, 0.3) for s in (0, 1)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", ["name=x"], run_mode=RunMode.MULTIRUN)
        runs = compose_jobs(loader, config, jobs)
    (group,) = prepare(runs, torch.device("cpu"))
    return Pack(group, group.runs)


def workers_of(process: subprocess.Popen) -> set[int]:
    """The worker processes that a coordinator has started."""
    listed = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "pid=,args="],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
    # Python tracks with one more process what spawned ones share.
    return {int(pid) for pid, command in lines if "resource_tracker" not in command}


def is_gone(pid: int) -> bool:
    """A dead process that nobody has waited for is gone, too."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"
