"""How fast is it? Trains 42 runs in every way, in turn: scripts, JAX, initstudy.

    pip install -e ".[throughput]"
    python experiments/throughput.py                # digits; three quarters of an hour
    python experiments/throughput.py --data PATH    # torchvision's MNIST as well; two hours
    python experiments/throughput.py --rows mlp_digits --scale 0.02 --repeats 1 --no-scaling
    python experiments/throughput.py --draw         # draws the report again, and measures nothing

It writes reports/throughput; the third command takes a minute, to see that it works. It also times
the whole command against `experiments/plain_loop.py` (`--no-whole` leaves this out), and measures
the cost of a run among 1 to 4,200 (`--no-scaling`). Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmark import measure, mnist, page, scaling, whole
from contenders.tasks import HIGHEST, LOWEST, MOMENTUM, TASKS, steps_at
from initstudy.tasks.images import load

LIBRARIES = ("torch", "jax", "joblib", "hydra-core", "wandb")


def main() -> None:
    given = arguments()
    if given.draw:
        file = given.out / "throughput.json"
        page.write(json.loads(file.read_text(encoding="utf-8")), given.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        benchmark(given, mnist.with_small_test_set(given.data, Path(folder)))


def benchmark(given: argparse.Namespace, root: Path) -> None:
    """Measures what was asked for, and writes the report.

    Args:
        given: The arguments of the command.
        root: The folder of the data sets that contenders read.
    """
    size = measure.Size(given.scale, given.stds, given.seeds, root, given.device)
    record = opening(given)
    given.out.mkdir(parents=True, exist_ok=True)
    for task in given.rows:
        if reason := missing(task, given.data):
            record["absent"].append(f"{TASKS[task].title}: {reason}")
            measure.tell(record["absent"][-1])
            continue
        record["rows"][task] = row(task, size, given.repeats)
        save(record, given.out)
    if given.whole:
        results = whole.measure(given.scale, given.repeats)
        record["whole"] = {"epochs": whole.epochs_at(given.scale), "results": results}
        save(record, given.out)
    if given.scaling:
        record["scaling"] = scaling.measure(size, given.repeats)
    save(record, given.out)
    page.write(record, given.out)
    show(record)
    print(f"wrote {given.out / 'README.md'}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="a factor on the steps of every run"
    )
    parser.add_argument("--stds", type=int, default=14, help="number of standard deviations")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="the folder of torchvision's MNIST"
    )
    parser.add_argument("--out", type=Path, default=Path("reports/throughput"))
    found = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=found)
    parser.add_argument("--whole", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--scaling", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--draw", action="store_true", help="draw again what was measured")
    return parser.parse_args()


def opening(given: argparse.Namespace) -> dict[str, Any]:
    """The record before anything is measured: the command, the versions and the size."""
    versions = {"Python": platform.python_version()}
    versions |= {name: version(name) for name in LIBRARIES}
    return {
        "command": shlex.join(["python", "experiments/throughput.py", *sys.argv[1:]]),
        "machine": "",
        "versions": versions,
        "runs": given.stds * given.seeds,
        "measured": {
            "runs": given.stds * given.seeds,
            "stds": given.stds,
            "seeds": given.seeds,
            "lowest": LOWEST,
            "highest": HIGHEST,
            "momentum": MOMENTUM,
            "tests": mnist.TEST_IMAGES,
        },
        "absent": [],
        "rows": {},
        "whole": None,
        "scaling": None,
    }


def missing(task: str, root: Path) -> str | None:
    """The reason why a row is left out, in one line, or None."""
    try:
        load(TASKS[task].data, root, download=False)
    except ValueError as error:
        return str(error)
    return None


def row(task: str, size: measure.Size, repeats: int) -> dict[str, Any]:
    """Measures one row."""
    steps = steps_at(TASKS[task], size.scale)
    results = measure.measure(task, size, repeats)
    runs = size.stds * size.seeds
    return {
        "title": TASKS[task].title,
        "steps": steps,
        "runs": runs,
        "member_steps": steps * runs,
        "eval_every": min(steps, TASKS[task].eval_every),
        "results": results,
    }


def save(record: dict[str, Any], folder: Path) -> None:
    """Writes what has been measured so far."""
    for part in record["rows"].values():
        record["machine"] = part["results"][measure.MACHINE][0]["name"]
    (folder / "throughput.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def show(record: dict[str, Any]) -> None:
    """Prints the one table and the verdicts."""
    console = Console()
    head, lines = page.summary(record)
    verdicts = [[v.what, v.target, v.reached, v.word] for v in page.verdicts_of(record)]
    for columns, cells in ((head, lines), (["what", "target", "reached", "verdict"], verdicts)):
        table = Table(*columns)
        for line in cells:
            table.add_row(*line)
        console.print(table)


if __name__ == "__main__":
    main()
