"""Studies of made-up results, on which a claim can be tried before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import polars as pl

from initstudy.columns import DIVERGED_STEP, RUN, STEP, layer_of
from initstudy.store import Store
from initstudy.store.frames import MODEL, Study, prepare


def synthetic_study(
    grid: Mapping[str, Sequence[Any]],
    results: Callable[..., Mapping[str, Any]],
    *,
    seeds: int = 8,
    model: str = "MLP",
) -> Study:
    """A study with one run per point of a grid and seed, whose results a function makes up.

    Args:
        grid: The values of the studied key and, if there is a second entry, of the second key.
        results: What a run measures, as column and value, from its point of the grid and its seed:
            the arguments are the keys' last parts, such as `std` for `init.std`, and `seed`. A
            column per layer, such as "activation/fc1/rms", is what a probe measures before the
            first step.
        seeds: How many seeds there are; they count from 0.
        model: The model's name, which is the study's only facet.

    Returns:
        The study, for the `check` of a claim.

    Example:
        >>> from initstudy.claims import WorseThanBest, synthetic_study
        >>> def results(std, seed):
        ...     return {"test/accuracy": (0.4 if std > 0.5 else 0.9) + 0.001 * std * seed}
        >>> study = synthetic_study({"init.std": [0.01, 0.1, 1.0]}, results)
        >>> finding = WorseThanBest("Large is worse.", count=1).check(study, "MLP")
        >>> finding.verdict, round(finding.estimate, 3)
        ('PASS', -0.497)
    """
    by, *second = grid
    names = {key: key.rpartition(".")[2] for key in grid}
    runs, history = [], []
    for number, (*point, seed) in enumerate(product(*grid.values(), range(seeds))):
        arguments = dict(zip(names.values(), point, strict=True)) | {"seed": seed}
        measured = results(**arguments)
        probed = {name: value for name, value in measured.items() if layer_of(name)}
        run = {RUN.name: f"{number:012d}"}
        history.append(run | {STEP.name: 0} | probed)
        summary = {name: value for name, value in measured.items() if name not in probed}
        settings = dict(zip(grid, point, strict=True)) | {"seed": seed, MODEL: f"models.{model}"}
        runs.append(run | settings | {DIVERGED_STEP.name: None} | summary)
    about = {"by": by, "across": second[0] if second else None}
    table, steps = (pl.DataFrame(rows, infer_schema_length=None) for rows in (runs, history))
    return prepare(Store(table, steps, about))
