"""`python -m initstudy.report runs/std_grid`: draws a report again, compares sweeps, publishes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from initstudy.report import FORMATS, compare_studies, write
from initstudy.report.page.terminal import show, show_table
from initstudy.store import StoreError

HERE = "\0"
SOURCES = """A source is a sweep's directory, a folder of offline W&B runs (runs/std_grid/wandb), or
'wandb:ENTITY/PROJECT?group=GROUP'. Several are laid side by side, with the differences to the first
one."""


def main() -> int:
    """Writes the report; 2 where there is nothing to report on."""
    parser = argparse.ArgumentParser(
        prog="python -m initstudy.report", description=__doc__, epilog=SOURCES
    )
    parser.add_argument("source", nargs="+", help="what to report on")
    parser.add_argument("--out", help="where to write it (default: SOURCE/report)")
    parser.add_argument(
        "--format",
        action="append",
        choices=FORMATS,
        dest="formats",
        help="html, markdown (a README.md with pictures) or pdf; may be given several times "
        "(default: html and markdown)",
    )
    parser.add_argument(
        "--publish",
        nargs="?",
        const=HERE,
        metavar="ENTITY/PROJECT",
        help="create or update a W&B report and a workspace (default: where the runs are)",
    )
    arguments = parser.parse_args()
    try:
        return _write(arguments)
    except KeyboardInterrupt:
        return 130
    except (StoreError, OSError) as error:
        sys.stderr.write(f"initstudy.report: {error}\n")
        return 2


def _write(arguments: argparse.Namespace) -> int:
    console = Console()
    if len(arguments.source) > 1:
        if arguments.publish:
            raise StoreError("--publish: takes one source")
        index, table = compare_studies(arguments.source, arguments.out)
        show_table(console, table)
        console.print(f"\nreport: {index}", highlight=False, soft_wrap=True)
        return 0
    (source,) = arguments.source
    out = arguments.out or _beside(source)
    show(console, write(source, out, arguments.formats or FORMATS[:2]))
    if arguments.publish:
        from initstudy.report.wandb import publish

        found = publish(source, None if arguments.publish == HERE else arguments.publish)
        console.print(f"W&B report: {found.report}", highlight=False, soft_wrap=True)
        console.print(f"W&B workspace: {found.workspace}", highlight=False, soft_wrap=True)
    return 0


def _beside(source: str) -> Path:
    """Where the report on a source goes: runs of a server have no folder of their own here."""
    if not source.startswith("wandb:"):
        return Path(source) / "report"
    words = "".join(c if c.isalnum() else "_" for c in source.removeprefix("wandb:"))
    return Path("reports") / words
