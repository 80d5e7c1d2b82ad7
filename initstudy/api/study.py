"""`initstudy.study`: a grid of runs, trained and reported from Python."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from omegaconf import open_dict
from torch import nn

from initstudy.api import given
from initstudy.api.compose import composed
from initstudy.api.options import OBJECTS, forget, overrides, with_claims
from initstudy.api.results import Results
from initstudy.config import ConfigError, Plain
from initstudy.config.command_line import Grid
from initstudy.scheduling.backends.choose import choose
from initstudy.scheduling.backends.cluster import Cluster
from initstudy.store import failures

ModelChoice = str | Callable[..., nn.Module] | nn.Module
InitChoice = str | Callable[..., Any] | object


def study(
    model: ModelChoice | list[ModelChoice] | None = None,
    *,
    data: Any = None,
    init: InitChoice | list[InitChoice] | None = None,
    seeds: int | str | Sequence[int] | None = None,
    name: str | None = None,
    claims: Mapping[str, Any] | None = None,
    **options: Any,
) -> Results:
    """Trains every run of a grid that is not finished, and returns the results.

    What `python -m initstudy` does with words this does with objects: the same configuration,
    checks, store, W&B runs and resumption. A list is an axis of the grid; a tuple is one value.

    Args:
        model: A class or function that makes a model, an instance (which is copied), a name of
            conf/model, or a list of those. A factory gets `input_shape` and `classes` if it takes
            them.
        data: `(inputs, targets, test inputs, test targets)`, an `initstudy.Data`, a function that
            returns either, or a name of conf/data.
        init: A name of conf/init, an initializer or policy, or a list of those. "own" leaves a
            model as its constructor made it.
        seeds: How many seeds, or which ones; "until_decided" adds seeds, up to `max_seeds=20`,
            until the claims are decided.
        name: The study's name. The same call with the same name trains only what is missing.
        claims: Claims to decide, by name: see `initstudy.claims`.
        **options: Keys of the configuration (`python -m initstudy --help`), such as `epochs=20` or
            `optimizer={"name": "adam", "lr": [1e-3, 3e-3]}`. Without `tracking`, W&B files are
            written offline, as by the command.

    Raises:
        ConfigError: Something is wrong, said in one line; nothing has trained.
        StoreError: The study's directory cannot be written.

    Example:
        >>> import os, tempfile, torch, initstudy
        >>> os.chdir(tempfile.mkdtemp())
        >>> x = torch.randn(64, 8); y = (x[:, 0] > 0).long()
        >>> net = lambda: torch.nn.Linear(8, 2)
        >>> inits = ["zeros", "xavier_normal"]
        >>> found = initstudy.study(
        ...     net, data=(x, y, x, y), init=inits, seeds=2, epochs=1, name="mine", tracking="off"
        ... )  # doctest: +ELLIPSIS
        runs/mine: 0 of 4 complete...
        >>> found.runs.height
        4
    """
    from initstudy.scheduling.study import study as train

    try:
        words = overrides({"model": model, "data": data, "init": init}, seeds, options)
        grid = _grid_of([*words, *([] if name is None else [f"name={name}"])], claims or {})
    finally:
        forget()
    call = f"initstudy.study(…, name={grid.directory.name!r})"
    train(grid.runs, grid.config, grid.directory, command=call, report=False)
    # Runs that have failed are in the results, with the reasons.
    sys.stderr.flush()
    return Results(grid.directory, failures(grid.directory))


def _grid_of(words: Sequence[str], claims: Mapping[str, Any]) -> Grid:
    """The grid that overrides describe, with claims.

    Raises:
        ConfigError: It is not valid.
    """
    grid = composed(words)
    _check_reach(grid)
    of_the_study: Plain = {"claims": {**grid.runs[0].config["claims"], **with_claims(claims)}}
    with open_dict(grid.config):
        grid.config.merge_with(of_the_study)
    # Claims are no part of a run's identity.
    runs = [replace(run, config={**run.config, **of_the_study}) for run in grid.runs]
    return replace(grid, runs=runs)


def _check_reach(grid: Grid) -> None:
    """Makes sure that the processes that train can find what was given as an object.

    Raises:
        ConfigError: They cannot.
    """
    config = grid.runs[0].config
    names = {
        run.config[group]["_target_"].rpartition(".")[2]
        for run in grid.runs
        for group in OBJECTS
        if given.is_known_here_alone(run.config[group])
    }
    if not names:
        return
    with closing(choose(config, grid.directory)) as backend:
        if isinstance(backend, Cluster):
            raise ConfigError(
                f"executor={backend.name}: {min(names)} is known to this process alone; put it "
                "into a module that can be imported, or train on this machine"
            )
