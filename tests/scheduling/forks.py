"""A model whose forks wait where a test wants them, and grids of it."""

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

# `held` and what is in it behave only in a fork of the process that has imported them first.
HELD = """
    import os, signal, time
    from pathlib import Path
    import torch
    from torch import nn
    from initstudy.initializers import Normal

    HEAD = os.getpid()

    class Held(nn.Module):
        calls = 0
        def __init__(self, classes):
            super().__init__()
            self.body, self.act, self.head = nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, classes)
        def forward(self, x):
            self.calls += self.training
            if os.getpid() != HEAD and self.calls > 15:
                deadline = time.monotonic() + 60
                while Path("hold").exists():
                    assert time.monotonic() < deadline, "nobody has let it go on"
                    time.sleep(0.02)
            # Not a mere chain of layers: those train without a call of this.
            return self.head(self.act(self.body(x.flatten(1)))) * 1.0

    class Telling(Held):
        def forward(self, x):
            if os.getpid() != HEAD and self.calls <= 15:
                time.sleep(0.05)
            return super().forward(x)

    class Raising(Held):
        def forward(self, x):
            if os.getpid() != HEAD and self.training:
                raise ArithmeticError("not in a fork")
            return super().forward(x)

    def deadly(std):
        if std == 0.2 and os.getpid() != HEAD:
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
FORKS = ["planner.workers=2"]
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


def children(process: subprocess.Popen) -> set[int]:
    done = subprocess.run(
        ["ps", "--ppid", str(process.pid), "-o", "pid="],
        capture_output=True,
        text=True,
        check=False,
    )
    return {int(pid) for pid in done.stdout.split()}


def is_gone(pid: int) -> bool:
    """A dead process that nobody has waited for is gone, too."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"
