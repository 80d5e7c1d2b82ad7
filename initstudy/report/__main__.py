"""`python -m initstudy.report runs/std_grid`: draws a sweep's report again."""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from initstudy.report import write
from initstudy.report.terminal import show
from initstudy.store import StoreError


def main() -> int:
    """Writes the report; 2 where there is nothing to report on."""
    parser = argparse.ArgumentParser(prog="python -m initstudy.report", description=__doc__)
    parser.add_argument("path", help="a sweep's directory, such as runs/std_grid")
    parser.add_argument("--out", help="where to write it (default: PATH/report)")
    arguments = parser.parse_args()
    try:
        show(Console(), write(arguments.path, arguments.out))
    except (StoreError, OSError) as error:
        sys.stderr.write(f"initstudy.report: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
