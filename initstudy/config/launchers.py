"""Hydra's launchers, and what takes the place of those that launch every job by itself."""

from __future__ import annotations

from initstudy.config.schema import EXECUTORS

TARGETS = (
    "hydra_plugins.initstudy_launcher.InitstudyLauncher",
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
)


def instead_of(launcher: str) -> str:
    """Why a launcher is refused, and which executor does the same, in one line.

    Args:
        launcher: The launcher's name, such as "joblib" or "submitit_local".

    Example:
        >>> instead_of("submitit_slurm")[:60]
        'hydra/launcher=submitit_slurm: leave it out and set executor'
    """
    # A launcher's name ends with the places where it trains, as those of the executors are called.
    places = launcher.rpartition("_")[2]
    usual, *_ = EXECUTORS.schemas
    executor = places if places in EXECUTORS.schemas else usual
    return (
        f"hydra/launcher={launcher}: leave it out and set executor={executor}, which trains the "
        "runs of a grid together and side by side"
    )
