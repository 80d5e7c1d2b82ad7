"""Imports go down: the floors of the house, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "initstudy"
GROUND = {
    "initializers",
    "models",
    "data",
    "meanfield",
    "ensemble",
    "store",
    "config",
    "cli",
    "weights",
}
FLOORS = {
    "__main__": 6, "entry": 5, "command": 4, "status": 4, "report": 3, "check": 3, "audit": 3,
    "tracking": 2, "sweep": 2, "theory": 1, "checkpoints": 1, "locks": 1,
    **dict.fromkeys(GROUND, 0), "clock": -1, "files": -1, "stopping": -1,
}  # fmt: skip


def rooms_imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {n.split(".")[1] for n in names if n.startswith("initstudy.")}
    return found & set(FLOORS)


def test_no_room_imports_one_beside_or_above_it():
    for file in ROOT.rglob("*.py"):
        room = file.relative_to(ROOT).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for other in rooms_imported(file) - {room}:
            assert FLOORS[other] < FLOORS[room], f"{file.name} imports {other}"


def test_files_stay_small_enough_to_read():
    long = {f.name: n for f in ROOT.rglob("*.py") if (n := len(f.read_text().splitlines())) > 300}
    assert long == {}
