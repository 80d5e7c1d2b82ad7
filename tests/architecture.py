"""The floor plan: every room of `initstudy`, what it is for, and which rooms it may import.

`tests/test_architecture.py` holds the source against this table, and
`python -m tests.architecture` writes it to docs/architecture.md.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "initstudy"
DOCUMENT = ROOT / "docs" / "architecture.md"

# From the top floor down. A room may import the rooms it names, all of which stand below it.
ROOMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "__main__": (
        "`python -m initstudy`: handles signals, then runs the command",
        ("cli", "runtime"),
    ),
    "status": ("`python -m initstudy.status`", ("cli",)),
    "check": ("`python -m initstudy.check`", ("cli",)),
    "explain": ("`python -m initstudy.explain`", ("cli",)),
    "cli": (
        "the commands, one thin file each",
        (
            "api",
            "scheduling",
            "training",
            "report",
            "audit",
            "store",
            "initializers",
            "tasks",
            "columns",
            "config",
            "runtime",
            "trees",
        ),
    ),
    "__init__": (
        "the public functions",
        (
            "api",
            "testing",
            "claims",
            "audit",
            "theory",
            "store",
            "initializers",
            "models",
            "tasks",
        ),
    ),
    "testing": ("a model that starts badly fails its user's tests", ("audit",)),
    "callbacks": ("statistics of layers within other libraries' trainers", ("api",)),
    "api": (
        "studies from Python, and for a loop of the user's own",
        (
            "scheduling",
            "training",
            "tracking",
            "report",
            "claims",
            "store",
            "probes",
            "initializers",
            "columns",
            "config",
            "runtime",
            "trees",
        ),
    ),
    "scheduling": (
        "which runs train together, where, and what happens when they fail",
        (
            "training",
            "tracking",
            "report",
            "engine",
            "claims",
            "store",
            "tasks",
            "columns",
            "config",
            "runtime",
        ),
    ),
    "training": (
        "from a configuration to objects, and one pack of runs as rows",
        (
            "engine",
            "theory",
            "store",
            "probes",
            "initializers",
            "tasks",
            "config",
            "columns",
            "runtime",
            "trees",
        ),
    ),
    "engine": ("how a pack takes a step", ("probes", "columns", "runtime", "trees")),
    "tracking": (
        "Weights & Biases: a mirror of the store's rows",
        ("store", "columns", "config", "runtime"),
    ),
    "report": (
        "charts and findings of one study",
        ("claims", "store", "columns", "config", "runtime"),
    ),
    "claims": ("what is claimed, and how it is decided", ("theory", "store", "columns", "config")),
    "audit": (
        "what a model really starts from, and what is wrong with it",
        ("theory", "probes", "initializers"),
    ),
    "theory": ("mean field, and what it predicts for a model", ("initializers", "quadrature")),
    "store": ("what was measured, on disk", ("columns", "config", "runtime")),
    "probes": ("which modules are layers, and their statistics", ("columns", "trees")),
    "initializers": ("what a parameter starts as", ("quadrature",)),
    "quadrature": ("Gaussian expectations of any function", ()),
    "models": ("plain `nn.Module`s", ()),
    "tasks": ("what is to be learned", ("columns", "runtime", "trees")),
    "config": ("the schema, what makes it valid, and a run's identity", ()),
    "columns": (
        "the schema of what is measured: names, meanings, units, directions, types",
        ("runtime",),
    ),
    "trees": ("one tensor, or a tuple or dict of several", ()),
    "runtime": ("the process: signals, clock, memory, files", ()),
}


def room_of(file: Path) -> str:
    """The room in which a source file lies."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported(file: Path) -> set[str]:
    """The rooms that a source file imports, also inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "initstudy":
            names = [f"initstudy.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("initstudy.")}
    return {name for name in found if not name.startswith("__")}


def document() -> str:
    """The floor plan as a page."""
    lines = [
        "# Architecture",
        "",
        "The rooms of `initstudy`, from the top floor down. A room imports only the rooms that its",
        "row names, and all of them stand below it, so there is no circle. The table is written by",
        "`python -m tests.architecture`; `tests/test_architecture.py` holds the source against it.",
        "A room's `__main__.py` is a door: it imports `cli` alone.",
        "",
        "| room | what it is for | imports |",
        "| --- | --- | --- |",
    ]
    for name, (purpose, imported) in ROOMS.items():
        lines.append(f"| `{name}` | {purpose} | {', '.join(f'`{i}`' for i in imported) or '–'} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
