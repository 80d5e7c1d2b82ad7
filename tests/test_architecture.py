"""Imports go down: the floors of the house, read from the source."""

from __future__ import annotations

import ast

from tests.architecture import DOCUMENT, PACKAGE, ROOMS, document, room_of, rooms_imported

LONGEST_FUNCTION = 60


def test_every_import_is_an_arrow_of_the_floor_plan():
    for file in PACKAGE.rglob("*.py"):
        room = room_of(file)
        # A door into the commands, wherever it stands.
        allowed = {"cli"} if file.name == "__main__.py" and file.parent != PACKAGE else None
        assert room in ROOMS, f"{file}: {room} is not in the floor plan"
        unlisted = rooms_imported(file) - {room} - (allowed or set(ROOMS[room][1]))
        assert not unlisted, f"{file}: imports {sorted(unlisted)}"


def test_every_arrow_of_the_floor_plan_goes_down():
    order = list(ROOMS)
    for room, (_, imported) in ROOMS.items():
        for other in imported:
            assert order.index(other) > order.index(room), f"{room} imports {other}"


def test_every_arrow_of_the_floor_plan_is_used():
    used: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        used.setdefault(room_of(file), set()).update(rooms_imported(file))
    for room, (_, imported) in ROOMS.items():
        assert set(imported) <= used[room], f"{room}: {set(imported) - used[room]}"


def test_the_documented_floor_plan_is_this_one():
    assert DOCUMENT.read_text() == document(), "run: python -m tests.architecture"


def test_functions_fit_on_a_screen():
    """The docstring apart: what a public function has to say of its arguments may be long."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                documented = ast.get_docstring(node) is not None
                docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
                lines = (node.end_lineno or 0) - node.lineno + 1 - docstring
                assert lines <= LONGEST_FUNCTION, f"{file}: {node.name} has {lines} lines"
