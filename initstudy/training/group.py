"""What trains together."""

from __future__ import annotations

from dataclasses import dataclass

from initstudy.config import Run


@dataclass(frozen=True)
class Pack:
    """Runs that train together, and an id for their file in the store."""

    id: str
    runs: tuple[Run, ...]
