"""`initstudy report runs/std_grid`: draws a report again, compares studies, publishes to W&B."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from initstudy.cli.parser import Parser

if TYPE_CHECKING:
    from rich.console import Console

DESCRIPTION = "Draws the report of a study from its results, with no training and no network."
SOURCES = """\
A source is a study's directory, a folder of offline W&B runs (runs/std_grid/wandb), or runs on a
W&B server ('wandb:ENTITY/PROJECT?group=GROUP'). Several sources are laid side by side, with their
differences from the first one.

  initstudy report runs/std_grid
  initstudy report runs/std_grid --format pdf
  initstudy report runs/std_grid runs/std_grid_mnist --out reports/both
  initstudy report runs/std_grid --publish ENTITY/PROJECT"""
# What `--publish` stands for without a project: the project in which the runs are.
HERE = "\0"


def main(arguments: Sequence[str]) -> int:
    """Writes the report; returns 0, or 2 if there is nothing to report on."""
    given = parser().parse_args(arguments)
    from initstudy.config.messages import refuse
    from initstudy.store import StoreError

    try:
        _write(given)
    except BrokenPipeError:
        raise
    except (StoreError, OSError) as error:
        return refuse(error)
    return 0


def parser() -> Parser:
    """The command's parser."""
    parser = Parser("report", DESCRIPTION, SOURCES)
    parser.add_argument("source", nargs="+", help="what to report on")
    parser.add_argument("--out", help="the folder to write (default: SOURCE/report)")
    parser.add_argument(
        "--format",
        action="append",
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
    return parser


def _write(given: argparse.Namespace) -> None:
    from rich.console import Console

    from initstudy.report import FORMATS, compare_studies, write
    from initstudy.report.page.terminal import show, show_table
    from initstudy.store import StoreError

    console = Console()
    formats = given.formats or FORMATS[:2]
    if unknown := set(formats) - set(FORMATS):
        raise StoreError(f"--format {min(unknown)}: choose from {', '.join(FORMATS)}")
    if len(given.source) > 1:
        if given.publish:
            raise StoreError("--publish: takes one source")
        index, table = compare_studies(given.source, given.out)
        show_table(console, table)
        console.print(f"\nreport: {index}", highlight=False, soft_wrap=True)
        return
    (source,) = given.source
    show(console, write(source, given.out or _folder_for(source), formats))
    if given.publish:
        _publish(console, source, None if given.publish == HERE else given.publish)


def _publish(console: Console, source: str, project: str | None) -> None:
    from initstudy.report.wandb import publish

    published = publish(source, project)
    console.print(f"W&B report: {published.report}", highlight=False, soft_wrap=True)
    console.print(f"W&B workspace: {published.workspace}", highlight=False, soft_wrap=True)


def _folder_for(source: str) -> Path:
    """The folder of a source's report; runs on a server have no folder of their own here."""
    if not source.startswith("wandb:"):
        return Path(source) / "report"
    words = "".join(c if c.isalnum() else "_" for c in source.removeprefix("wandb:"))
    return Path("reports") / words
