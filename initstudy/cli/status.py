"""`initstudy status runs/std_grid`: how far a study is that runs in another process."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from initstudy.cli.parser import Parser

if TYPE_CHECKING:
    from rich.console import Console

DESCRIPTION = "Says how far a study is, from its directory alone."
EXAMPLES = """\
  initstudy status runs/std_grid
  initstudy status runs/std_grid --json"""


def main(arguments: Sequence[str]) -> int:
    """Prints a study's status; returns 0, or 2 if there is no study."""
    given = parser().parse_args(arguments)
    from rich.console import Console

    from initstudy.config.messages import refuse
    from initstudy.store import StoreError

    try:
        known = status(given.path)
    except (StoreError, OSError) as error:
        return refuse(error)
    if given.json:
        sys.stdout.write(json.dumps(known, indent=2) + "\n")
    else:
        show(Console(), known)
    return 0


def parser() -> Parser:
    """The command's parser."""
    parser = Parser("status", DESCRIPTION, EXAMPLES)
    parser.add_argument("path", help="a study's directory, such as runs/std_grid")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def status(path: str | Path) -> dict[str, Any]:
    """What is known of a study from its directory alone.

    Args:
        path: The study's directory.

    Returns:
        The number of `runs` in the grid and of those that are `complete`, `diverged` and `failed`;
        whether the study is `running`; how many packs other processes hold as `jobs`; the
        `command`; and `progress`, the last message of the training process.

    Raises:
        StoreError: There is no study, or a file is damaged.
    """
    from initstudy import store
    from initstudy.store import locks

    path = Path(path)
    study = store.read_study(path)
    if not study:
        raise store.StoreError(f"{path}: no study has been there; give the directory of one")
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


def show(console: Console, known: dict[str, Any]) -> None:
    """Prints what `status` returns as a table."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("study", known["directory"])
    table.add_row("complete", f"{known['complete']} of {known['runs']} runs")
    for key in ("diverged", "failed"):
        if known[key]:
            table.add_row(key, str(known[key]))
    if known["running"]:
        _add_progress(table, known["progress"])
    if known["jobs"]["packs"]:
        packs, begun, done = (known["jobs"][key] for key in ("packs", "begun", "done"))
        table.add_row(
            "jobs", f"hold {packs} packs: {begun} begun, {done} done and not taken in yet"
        )
    if not known["running"] and known["complete"] < known["runs"]:
        table.add_row("not running", f"to continue: {known['command']}")
    console.print(table, highlight=False, soft_wrap=True)


def _add_progress(table: Any, progress: dict[str, Any] | None) -> None:
    from initstudy.scheduling.progress import texts

    if not progress:
        table.add_row("running", "has just begun")
        return
    described = texts(progress)
    table.add_row("running", f"on {progress['host']}, process {progress['pid']}")
    for key in ("packs", "steps", "loss", "left"):
        if described[key]:
            table.add_row("" if key != "steps" else "this call", described[key])
    table.add_row("as of", progress["updated"])


def _jobs(path: Path) -> dict[str, int]:
    """How many packs other processes hold; they go on even if no command is watching them."""
    from initstudy.scheduling.backends import mailbox

    packs = {task.pack for task in mailbox.tasks(path)}
    status = mailbox.list_status(path)
    return {
        "packs": len(packs),
        "begun": len(packs & status.started),
        "done": len(packs & status.done),
    }


def _progress(path: Path) -> dict[str, Any] | None:
    from initstudy.scheduling.progress import FILE

    try:
        return json.loads((path / FILE).read_text())
    except (OSError, ValueError):
        return None
