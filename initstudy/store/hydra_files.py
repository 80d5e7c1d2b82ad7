"""The `.hydra` folder of each run, as Hydra writes it for a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import OmegaConfDumper

from initstudy.config import Run
from initstudy.store.errors import writing


class Dumper(getattr(yaml, "CDumper", yaml.Dumper)):  # type: ignore[misc]
    """OmegaConf's YAML, written by libyaml if it is installed, which OmegaConf does not use."""

    def ignore_aliases(self, data: Any) -> bool:
        """True, so that what runs share is written out in each."""
        return True


# Quotes text that would be read as a number or a boolean.
Dumper.add_representer(str, OmegaConfDumper.str_representer)


def write(directory: Path, runs: Sequence[Run]) -> None:
    """Writes the configuration and the overrides of runs.

    Raises:
        StoreError: The directory cannot be written.
    """
    for run in runs:
        folder = directory / "runs" / run.id / ".hydra"
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.yaml").write_text(as_yaml(run.config), encoding="utf-8")
            (folder / "overrides.yaml").write_text(as_yaml([*run.overrides]), encoding="utf-8")


def as_yaml(values: Any) -> str:
    """Plain values as `OmegaConf.save` writes them."""
    return yaml.dump(
        values, Dumper=Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False
    )
