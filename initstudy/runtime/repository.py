"""The state of the git repository in which a command was given."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

# A status that takes longer, as on a network disk, is not worth waiting for.
SECONDS = 5.0


@cache
def revision(folder: Path) -> dict[str, str | bool] | None:
    """The commit that is checked out, and whether tracked files differ from it.

    It is looked up once per process and folder.

    Args:
        folder: A folder of the repository.

    Returns:
        `commit`, 40 hexadecimal digits, and `dirty`; None outside of repositories, before the first
        commit, and where git is not installed.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers; None if it does not."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
