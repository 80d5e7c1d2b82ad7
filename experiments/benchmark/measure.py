"""Running contenders in turn, each as a process of its own."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contenders.tasks import TASKS, steps_at

EXPERIMENTS = Path(__file__).resolve().parent.parent
PATHS = [str(EXPERIMENTS), *filter(None, [os.environ.get("PYTHONPATH")])]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(PATHS)}
Result = dict[str, Any]
# In the order in which a repetition runs them: later ones use what the first ones find.
PLAIN, JAX, OURS = "plain loop", "JAX", "initstudy"
BASIC, FULL, WANDB, BOTH = (
    f"initstudy, {extra}"
    for extra in ("basic probes", "full probes", "W&B offline", "basic probes and W&B offline")
)
CONTENDERS = {
    PLAIN: ["plain"],
    "DataLoader": ["dataloader"],
    "Hydra -m": ["hydra_basic"],
    "joblib": ["joblib_processes"],
    JAX: ["jax_vmap"],
    OURS: ["command"],
    BASIC: ["command", "--probes=basic"],
    FULL: ["command", "--probes=full"],
    WANDB: ["command", "--tracking=offline"],
    BOTH: ["command", "--probes=basic", "--tracking=offline"],
}
# These run twice per repetition, since they differ by less than a machine varies.
AGAIN = (OURS, BASIC, WANDB, BOTH)
# Not a contender, but measured between them.
MACHINE = "machine"
# Sums in another order change losses a little; a contender that did other work is further off.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Size:
    """How much to do.

    Attributes:
        scale: A factor on the steps; 1 is the whole benchmark.
        stds, seeds: The numbers of standard deviations and of seeds; their product is that of runs.
        data: The folder of torchvision's data sets.
        device: The device to train on.
    """

    scale: float
    stds: int
    seeds: int
    data: Path
    device: str

    def arguments(self, task: str) -> list[str]:
        """The arguments that all contenders share."""
        return [
            task,
            f"--steps={steps_at(TASKS[task], self.scale)}",
            f"--stds={self.stds}",
            f"--seeds={self.seeds}",
            f"--data={self.data.resolve()}",
            f"--device={self.device}",
        ]


def measure(task: str, size: Size, repeats: int) -> dict[str, list[Result]]:
    """The results of every contender on a task, one per repetition."""
    found: dict[str, list[Result]] = {name: [] for name in (MACHINE, *CONTENDERS)}
    for repeat in range(repeats):
        for name in (*found, *AGAIN):
            script, *options = CONTENDERS.get(name, [MACHINE])
            asked = [*options, *_settled(name, found), *size.arguments(task)]
            told = run(script, asked)
            found[name].append(told)
            if "losses" in told:
                told["apart"] = apart(told["losses"], found[PLAIN][0]["losses"])
            tell(f"{task}, repetition {repeat + 1}, {name}: {_in_words(found[name][-1])}")
    return found


def _settled(name: str, found: dict[str, list[Result]]) -> list[str]:
    """Options that an earlier trial has found: threads of plain loops, the size of JAX's packs."""
    if name == JAX and found[JAX] and "pack" in found[JAX][0]:
        return ["--pack", *map(str, found[JAX][0]["pack"])]
    if name in (PLAIN, "DataLoader", "Hydra -m") and found[PLAIN]:
        return [f"--threads={found[PLAIN][0]['threads']}"]
    return []


def run(script: str, arguments: list[str]) -> Result:
    """Runs a script of `contenders`; returns its result with the seconds of the whole process."""
    command = [sys.executable, "-m", f"contenders.{script}", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env=ENVIRONMENT, text=True, capture_output=True, check=False
        )
        seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    told: Result = json.loads(done.stdout.splitlines()[-1])
    # The script of initstudy tells its own, since its process is not the command's.
    return {"whole": seconds, **told}


def median(results: list[Result], key: str = "rate") -> float:
    """The median over all repetitions, or NaN if there is none."""
    values = [result[key] for result in results if key in result]
    return statistics.median(values) if values else float("nan")


def apart(losses: list[float], theirs: list[float]) -> float:
    """The largest relative distance of final losses from those of the plain loop.

    A loss below 0.01 is compared as if it were 0.01.
    """
    if not all(math.isfinite(loss) for loss in losses):
        return math.inf
    return max(abs(a - b) / max(abs(b), 0.01) for a, b in zip(losses, theirs, strict=True))


def _in_words(result: Result) -> str:
    if "rate" in result:
        return f"{result['rate']:,.0f} member-steps/s"
    if "peak" in result:
        return f"{result['peak'] / 1e9:,.0f} GFLOP/s"
    return str(result.get("absent"))


def tell(line: str) -> None:
    """Prints how far the benchmark is."""
    print(line, file=sys.stderr, flush=True)
