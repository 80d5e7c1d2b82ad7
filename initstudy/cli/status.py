"""`python -m initstudy.status runs/std_grid`: how far a sweep is that runs elsewhere."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from initstudy import store
from initstudy.scheduling.backends import mailbox
from initstudy.scheduling.progress import FILE, texts
from initstudy.store import StoreError, locks


def status(path: str | Path) -> dict[str, Any]:
    """What is known of a sweep from its directory alone.

    Args:
        path: The sweep's directory.

    Returns:
        `runs` of the grid, `complete`, `diverged` and `failed` ones, whether it is `running`, the
        `jobs` that hold packs of it elsewhere, the `command`, and `progress`, the last row that the
        training process wrote.

    Raises:
        StoreError: There is no sweep, or a file is damaged.
    """
    path = Path(path)
    study = store.read_study(path)
    if not study:
        raise StoreError(f"{path}: no sweep has been there; give the directory of one")
    complete = store.finished(path)
    diverged = 0
    if complete:
        diverged = len(store.load(path).runs.drop_nulls("diverged_step"))
    return {
        "directory": str(path),
        "runs": study.get("runs", len(complete)),
        "complete": len(complete),
        "diverged": diverged,
        "failed": len(store.failures(path)),
        "running": locks.is_locked(path),
        "jobs": _jobs(path),
        "command": study.get("command", ""),
        "progress": _progress(path),
    }


def show(console: Console, found: dict[str, Any]) -> None:
    """Prints it."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("sweep", found["directory"])
    table.add_row("complete", f"{found['complete']} of {found['runs']} runs")
    for key in ("diverged", "failed"):
        if found[key]:
            table.add_row(key, str(found[key]))
    progress = found["progress"]
    if found["running"] and progress:
        said = texts(progress)
        table.add_row("running", f"on {progress['host']}, process {progress['pid']}")
        for key in ("packs", "steps", "loss", "left"):
            if said[key]:
                table.add_row("" if key != "steps" else "this call", said[key])
        table.add_row("as of", progress["updated"])
    elif found["running"]:
        table.add_row("running", "just begun")
    if found["jobs"]["packs"]:
        packs, begun, done = (found["jobs"][key] for key in ("packs", "begun", "done"))
        table.add_row(
            "jobs", f"hold {packs} packs: {begun} begun, {done} done and not taken in yet"
        )
    if not found["running"] and found["complete"] < found["runs"]:
        table.add_row("not running", f"to continue: {found['command']}")
    console.print(table, highlight=False, soft_wrap=True)


def _jobs(path: Path) -> dict[str, int]:
    """Packs that other processes hold, which go on where no command is watching them."""
    packs = {task.pack for task in mailbox.tasks(path)}
    status = mailbox.list_status(path)
    return {
        "packs": len(packs),
        "begun": len(packs & status.started),
        "done": len(packs & status.done),
    }


def _progress(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads((path / FILE).read_text())
    except (OSError, ValueError):
        return None


def main() -> int:
    """Prints a sweep's status; 2 where there is none."""
    parser = argparse.ArgumentParser(prog="python -m initstudy.status", description=__doc__)
    parser.add_argument("path", help="a sweep's directory, such as runs/std_grid")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    try:
        found = status(arguments.path)
    except (StoreError, OSError) as error:
        sys.stderr.write(f"initstudy.status: {error}\n")
        return 2
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        show(Console(), found)
    return 0
