"""Backends are known by name in their own files alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import initstudy
from initstudy.config.schema import EXECUTORS

PACKAGE = Path(initstudy.__file__).parent
WORDS = "|".join([*EXECUTORS.schemas, "sbatch", "scancel", "squeue"])


def strings(file: Path) -> list[str]:
    """The strings in a file's code, not its documentation."""
    tree = ast.parse(file.read_text())
    documented = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documented
    ]


def test_no_code_asks_for_a_backend_by_its_name():
    """So that another backend is one more file, and its keys in the schema."""
    assert len(EXECUTORS.schemas) == 3
    own = {PACKAGE / "scheduling" / "backends" / f"{name}.py" for name in EXECUTORS.schemas}
    assert all(file.exists() for file in own)
    naming = {}
    # The schema lists them, and Hydra's own launchers have such names too.
    listed = {PACKAGE / "config" / name for name in ("schema.py", "messages.py")}
    for file in {*PACKAGE.rglob("*.py")} - own - listed:
        named = [text for text in strings(file) if re.fullmatch(rf"(executor=)?({WORDS})", text)]
        if named:
            naming[str(file.relative_to(PACKAGE))] = named
    assert naming == {}
