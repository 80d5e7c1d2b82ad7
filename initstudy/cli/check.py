"""`initstudy check runs/std_grid --runs 3`: trains finished runs again and compares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from initstudy.cli.parser import Parser

DESCRIPTION = """\
Trains finished runs of a study again and compares every value of their history and summary with
the store, to the last bit. Whole packs are trained again, since a run's last bits may depend on how
many runs train with it. Nothing is written.

Leaves with code 0 if every value is the same, with code 1 if one differs."""
EXAMPLES = "  initstudy check runs/std_grid --runs 3"
DIFFERENT = 1


def main(arguments: Sequence[str]) -> int:
    """Returns 0 if every value is the same, 1 if one differs, 2 if nothing can be compared."""
    given = parser().parse_args(arguments)
    from initstudy.config import ConfigError
    from initstudy.config.messages import refuse
    from initstudy.store import StoreError

    try:
        if given.runs < 1:
            raise ConfigError(f"--runs {given.runs}: must be at least 1")
        different, total = _compare(given.path, given.runs, given.seed)
    except (ConfigError, StoreError) as error:
        return refuse(error)
    print(f"{different} of {total} runs differ")
    return DIFFERENT if different else 0


def parser() -> Parser:
    """The command's parser."""
    parser = Parser("check", DESCRIPTION, EXAMPLES)
    parser.add_argument("path", type=Path, help="a study's directory, such as runs/std_grid")
    parser.add_argument("--runs", type=int, default=3, help="how many runs to compare (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the choice (default: 0)")
    return parser


def _compare(path: Path, count: int, seed: int) -> tuple[int, int]:
    """Prints a line per run; returns how many runs differ, and how many were compared."""
    from initstudy import store

    results = store.load(path)
    # What trains takes a second to import; a wrong path is said before that.
    from initstudy.scheduling.verify import choose, compare

    chosen = choose(results, count, seed)
    different = 0
    for run, difference in compare(path, results, chosen):
        print(f"{run}: {difference or 'the same'}", flush=True)
        different += difference is not None
    return different, len(chosen)
