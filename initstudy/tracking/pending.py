"""What W&B has been promised and does not have yet, on disk: DIR/wandb-pending/PACK.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from initstudy.runtime.files import write_atomically
from initstudy.store import writing

FOLDER = "wandb-pending"


@dataclass(frozen=True)
class Mirrored:
    """All that W&B shows of a run, besides its history.

    Attributes:
        run: The run's id.
        name: The name that people see.
        config: The whole configuration.
        summary: The final values.
    """

    run: str
    name: str
    config: Mapping[str, Any]
    summary: Mapping[str, Any]


def write(directory: Path, pack: str, runs: Sequence[Mirrored]) -> None:
    """Promises the runs of a pack.

    Raises:
        StoreError: The directory cannot be written.
    """
    text = json.dumps([asdict(run) for run in runs], default=str)
    file = directory / FOLDER / f"{pack}.json"
    with writing(file.parent):
        write_atomically(file, lambda partial: partial.write_text(text))


def packs(directory: Path) -> list[str]:
    """The ids of the packs whose promise is not kept yet."""
    return sorted(file.stem for file in (directory / FOLDER).glob("*.json"))


def read(directory: Path, pack: str) -> list[Mirrored]:
    """The runs of a pack that were promised, which may be none.

    Raises:
        ValueError: The file is damaged.
    """
    file = directory / FOLDER / f"{pack}.json"
    try:
        return [Mirrored(**record) for record in json.loads(file.read_text())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged; remove it") from error


def remove(directory: Path, pack: str) -> None:
    """Removes a promise, because it is kept or void."""
    (directory / FOLDER / f"{pack}.json").unlink(missing_ok=True)
