"""What a loop of the user's own measures, told from the names under which it logs."""

from __future__ import annotations

from collections.abc import Iterable

from initstudy.columns import ACCURACY, LOSS, TEST, TRAIN, VALIDATION, Metric, Schema
from initstudy.config import ConfigError

SPLITS = (TEST, VALIDATION, TRAIN)
KNOWN = {metric.name: metric for metric in (LOSS, ACCURACY)}
# Words in the names of metrics of which small values are good; of all others large ones are.
LOWER = {"loss", "error", "mse", "rmse", "mae", "nll", "perplexity", "bits", "distance"}


def schema_of(columns: Iterable[str], objective: str | None = None) -> Schema:
    """The metrics behind the columns that a run has logged, and what the study is about.

    Args:
        columns: Names such as "train/loss" and "test/accuracy"; others are no metrics.
        objective: The column that the study is about. By default it is a metric on the test data,
            other than the loss if there is one, else the same on validation or training data.

    Raises:
        ConfigError: The objective was not logged.

    Example:
        >>> schema_of(["train/loss", "test/loss", "test/word_error", "epoch"]).objective
        'test/word_error'
        >>> schema_of(["train/loss", "test/word_error"]).better("test/word_error")
        'lower'
    """
    parts = [name.partition("/") for name in columns]
    logged = {(split, name) for split, _, name in parts if split in SPLITS and name}
    names = sorted({LOSS.name} | {name for _, name in logged}, key=lambda n: (n != LOSS.name, n))
    splits = tuple(s for s in reversed(SPLITS) if s == TRAIN or any(p == s for p, _ in logged))
    found = [
        f"{split}/{name}"
        for split in SPLITS
        for name in [*names[1:], LOSS.name]
        if (split, name) in logged
    ]
    if objective is not None and objective not in found:
        raise ConfigError(f"objective={objective}: choose one of {', '.join(found)}")
    return Schema(
        tuple(KNOWN.get(name) or _metric(name) for name in names),
        objective or next(iter(found), f"{TRAIN}/{LOSS.name}"),
        splits,
    )


def _metric(name: str) -> Metric:
    is_lower = bool(LOWER & set(name.lower().split("_")))
    return Metric(name, name.replace("_", " "), "", "lower" if is_lower else "higher")
