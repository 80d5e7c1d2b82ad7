"""`python -m initstudy` and the console script `initstudy`."""

from __future__ import annotations

import sys

import initstudy.runtime.clock  # noqa: F401  where the system does not tell, time counts from here
from initstudy.cli.door import enter


def main() -> None:
    """Runs the command; leaves with its exit code if that is not 0."""
    if code := enter():
        sys.exit(code)


if __name__ == "__main__":
    main()
