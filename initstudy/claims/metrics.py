"""Whether the metrics that claims name will be there once a study has trained."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from initstudy.claims.evaluation import _built
from initstudy.columns import LEARNING_TIME, Schema
from initstudy.config import ConfigError


def check_metrics(claims: Mapping[str, Any], schema: Schema, criterion: float | None) -> None:
    """Makes sure that every claim is about a column that the study's runs have.

    Args:
        claims: The claims of the configuration, by name.
        schema: The columns of the study.
        criterion: What counts as learned, without which there are no learning times.

    Raises:
        ConfigError: A claim names another metric.

    Example:
        >>> from initstudy.columns import SCHEMA
        >>> claim = {"_target_": "initstudy.claims.AtLeast", "statement": "It learns.", "limit": 1}
        >>> claim |= {"choice": "he", "metric": "test/acuracy"}
        >>> check_metrics({"a": claim}, SCHEMA, None)
        Traceback (most recent call last):
        ...
        initstudy.config.errors.ConfigError: claims.a.metric=test/acuracy: there is no such ...
    """
    known = [column.name for column in schema if column.summary]
    for name, config in claims.items():
        claim, _, _ = _built(name, config)
        metric = getattr(claim, "metric", None)
        if metric == LEARNING_TIME.name and criterion is None:
            raise ConfigError(
                f"claims.{name}.metric={metric}: set criterion, the value from which a run counts "
                "as having learned"
            )
        if isinstance(metric, str) and metric not in known:
            close = difflib.get_close_matches(metric, known, n=1)
            measured = ", ".join(column.name for column in schema.measured)
            advice = f"did you mean {close[0]}?" if close else f"choose one of {measured}"
            raise ConfigError(f"claims.{name}.metric={metric}: there is no such metric; {advice}")
