"""Is anything lost? Kills a study again and again, and compares it with an undisturbed one.

    python experiments/faults.py                                  # 42 runs, 30 kills; ten minutes
    python experiments/faults.py --kills 3 --runs 6 --steps 600   # reduced

Trains `+sweep=std_grid` once without disturbance, and once more as processes that get SIGKILL,
SIGTERM or SIGINT at random moments, from start-up to the report, until the given number of them
have been killed; the last one finishes. Then it compares every file of results in the store byte by
byte, every run's rows in W&B's offline files as wandb's own reader prints them, and looks for files
that should have been removed. It exits with code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import torch

from initstudy import store
from initstudy.config import geomspace

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WANDB = Path(sys.executable).with_name("wandb")


def main() -> int:
    """Prints what was done and found; returns 1 if anything is lost, doubled or different."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument(
        "--runs", type=int, default=42, help="the size of the grid, a multiple of three"
    )
    parser.add_argument("--steps", type=int, default=2640)
    parser.add_argument("--seed", type=int, default=0, help="for the random moments")
    given = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "initstudy",
        "+sweep=std_grid",
        "seed=0,1,2",
        "epochs=100000",
        f"max_steps={given.steps}",
        f"init.std={geomspace(0.001, 4, given.runs // 3)}",
        "planner.pack_size=6",
        "checkpoint.every=0.5",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = Path(scratch) / "whole", Path(scratch) / "killed"
        for folder in (whole, killed):
            folder.mkdir()
        start, seconds = finish(command, whole)
        print(
            f"undisturbed: {given.runs} runs of {given.steps} steps in {seconds:.1f} s, "
            f"the first {start:.1f} s before any training"
        )
        # Chosen so that the training lasts for about as many processes as are killed.
        within = start + 3 * (seconds - start) / given.kills
        kill(command, killed, given.kills, within, random.Random(given.seed))
        finish(command, killed)
        trouble = compare(whole / "runs/std_grid", killed / "runs/std_grid")
    for line in trouble:
        print(f"DIFFERENT: {line}")
    print("FAIL" if trouble else "PASS: nothing lost, nothing doubled, nothing different")
    print(f"torch {torch.__version__}, {os.cpu_count()} cores, seed {given.seed}")
    return 1 if trouble else 0


def finish(command: list[str], folder: Path) -> tuple[float, float]:
    """Runs the command to its end; returns the seconds until training begins, and in total."""
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    begun = time.monotonic()
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        assert process.stdout
        process.stdout.readline()
        start = time.monotonic() - begun
        process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return start, time.monotonic() - begun


def kill(
    command: list[str], folder: Path, kills: int, within: float, chance: random.Random
) -> None:
    """Starts the command `kills` times, and kills it each time at a random moment."""
    done, slowest = 0, 0.0
    names = Counter[str]()
    while done < kills:
        process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        moment = chance.uniform(0, within)
        time.sleep(moment)
        if process.poll() is not None:
            continue
        number = SIGNALS[done % len(SIGNALS)]
        sent = time.monotonic()
        process.send_signal(number)
        process.wait()
        slowest = max(slowest, time.monotonic() - sent)
        done += 1
        names[number.name] += 1
        complete = len(store.finished(folder / "runs/std_grid"))
        begun = len(list((folder / "runs/std_grid/checkpoints").glob("*/sha256")))
        print(
            f"kill {done}: {number.name} after {moment:.1f} s; {complete} runs complete, "
            f"{begun} packs at a checkpoint",
            flush=True,
        )
    counts = ", ".join(f"{count} × {name}" for name, count in names.items())
    print(f"killed {done} times ({counts}), gone within {slowest:.2f} s; then let finish")


def compare(whole: Path, killed: Path) -> list[str]:
    """Returns a line for everything that differs; prints what was compared."""
    trouble = []
    results = [{f.name: f.read_bytes() for f in d.glob("store/*.parquet")} for d in (whole, killed)]
    differing = {
        n for n in results[0].keys() | results[1].keys() if results[0].get(n) != results[1].get(n)
    }
    print(f"store: {len(results[0])} files of results, {len(differing)} differ")
    trouble += [f"store/{name}" for name in sorted(differing)]
    frames = [store.load(path) for path in (whole, killed)]
    ids = [sorted(frame.runs["run"].to_list()) for frame in frames]
    rows = frames[1].history.group_by("run", "step").len().filter(pl.col("len") > 1)
    print(
        f"store: {len(ids[1])} runs, {len(set(ids[0]) - set(ids[1]))} lost, "
        f"{len(ids[1]) - len(set(ids[1]))} doubled, {len(rows)} rows doubled"
    )
    if ids[0] != ids[1] or len(rows):
        trouble.append("runs of the store")
    mirrored = [wandb_steps(path) for path in (whole, killed)]
    expected = {
        run: sorted(part["step"].to_list()) for (run,), part in frames[0].history.group_by("run")
    }
    wrong = {run for run in expected if not expected[run] == mirrored[0][run] == mirrored[1][run]}
    total = sum(len(steps) for steps in mirrored[1].values())
    print(f"W&B: {len(mirrored[1])} runs with {total} rows, {len(wrong)} runs differ")
    trouble += [f"W&B run {run}" for run in sorted(wrong)]
    if mirrored[1].keys() != expected.keys():
        trouble.append("runs of W&B")
    left = [
        *killed.rglob("*.partial"),
        *killed.glob("checkpoints/*"),
        *killed.rglob("*.damaged"),
        *killed.glob("wandb-pending/*"),
    ]
    print(f"left lying about: {len(left)} files")
    return trouble + [f"left: {file.relative_to(killed)}" for file in left]


def wandb_steps(path: Path) -> dict[str, list[int]]:
    """The steps of each run, from all of its offline files."""
    steps: dict[str, list[int]] = {}
    # The study's own run, of job type study, has no steps.
    files = sorted(
        set(path.glob("wandb/*run-*/run-*.wandb"))
        - set(path.glob("wandb/*run-*/run-study-*.wandb"))
    )
    with ThreadPoolExecutor(2) as pool:
        for file, found in zip(files, pool.map(rows_of, files), strict=True):
            steps.setdefault(file.stem.removeprefix("run-"), []).extend(found)
    return {run: sorted(found) for run, found in steps.items()}


def rows_of(file: Path) -> list[int]:
    """The steps in one file, as wandb's own reader prints them."""
    done = subprocess.run(
        [str(WANDB), "leet", "inspect", "--json", str(file)], capture_output=True, check=True
    )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return [r["history"]["item"]["step"] for r in records if r.get("type") == "history"]


if __name__ == "__main__":
    sys.exit(main())
