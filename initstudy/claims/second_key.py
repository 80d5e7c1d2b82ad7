"""What claims along the second studied key have in common."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from initstudy.claims.finding import Finding
from initstudy.store.cells import points
from initstudy.store.frames import Study

Seeds = Mapping[int, float]


def values_of(study: Study, facet: str, metric: str) -> dict[Any, dict[float, dict[int, float]]]:
    """`points` of a study of two keys, and nothing of any other."""
    return {} if study.across is None else points(study, facet, metric)


def without_second_key(unit: str) -> Finding:
    """The finding of a claim about two keys on a study of one."""
    return Finding.undecided(unit, "needs a second studied key, which `across` names")


def common_seeds(values: Mapping[Any, Seeds]) -> list[int]:
    """The seeds that all of these have."""
    return sorted(set.intersection(*(set(v) for v in values.values()))) if values else []


def mean(values: Seeds) -> float:
    """The mean over the seeds."""
    return fmean(values.values())
