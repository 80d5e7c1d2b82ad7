"""The configuration's section `schedule` as factors of the learning rate by step.

With `w` steps of warm-up, the factor of step t = 0, 1, … is (t + 1) / (w + 1) as long as t < w. The
schedule itself begins after that, with u = t - w of U = steps - w:

    constant   1
    linear     1 + (end_factor - 1) u / U
    cosine     end_factor + (1 - end_factor) (1 + cos(pi u / U)) / 2
    step       gamma ** (u // step_size)

These are `LinearLR`, `CosineAnnealingLR` and `StepLR` of `torch.optim.lr_scheduler`, behind a
`LinearLR` for the warm-up.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from initstudy.config import ConfigError, Plain, Run
from initstudy.engine.optimizers import Rates
from initstudy.training.instantiate import instantiated, located, target_of

TOTAL_STEPS = "total_steps"
Factor = Callable[[int], float]
# For the text of each section the factors by step, or None if they are all 1.
Tables = Mapping[str, Float64[Tensor, " steps"] | None]


def tables(runs: Sequence[Run], steps: int) -> Tables:
    """The factors of every schedule of some runs.

    Args:
        runs: The runs.
        steps: How many updates each of them takes.

    Raises:
        ConfigError: A warm-up is as long as the training, or a schedule of the user's own gives
            something else than finite numbers of at least 0.
    """
    sections = {_text(run): run.config["schedule"] for run in runs}
    return {text: _table(section, steps) for text, section in sections.items()}


def rates_of(runs: Sequence[Run], made: Tables, steps: int, device: torch.device) -> Rates | None:
    """The factors of the members of a pack; None if all of them are 1.

    Args:
        runs: The members.
        made: The factors of their schedules. A process that trains pack after pack may hold those
            of an earlier one alone; what is missing is made here.
        steps: How many updates each of the members takes.
        device: Where they train.
    """
    sections = {_text(run): run.config["schedule"] for run in runs}
    texts = list(sections)
    chosen = [
        made[text] if text in made else _table(section, steps) for text, section in sections.items()
    ]
    given = [table for table in chosen if table is not None]
    if not given:
        return None
    ones = torch.ones_like(given[0])
    table = torch.stack([ones if factors is None else factors for factors in chosen])
    return Rates(table, [texts.index(_text(run)) for run in runs], device)


def _text(run: Run) -> str:
    return json.dumps(run.config["schedule"], sort_keys=True)


def _table(section: Plain, steps: int) -> Float64[Tensor, " steps"] | None:
    if "_target_" not in section and section["name"] == "constant" and not section.get("warmup"):
        return None
    factor = _own(section, steps) if "_target_" in section else _named(section, steps)
    values = []
    for step in range(steps):
        value = factor(step)
        if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
            raise ConfigError(
                f"schedule._target_={target_of(section)}: gives {value!r} at step {step}; it has "
                "to give a finite number of at least 0"
            )
        values.append(float(value))
    return torch.tensor(values, dtype=torch.float64)


def _named(section: Plain, steps: int) -> Factor:
    warmup = section.get("warmup", 0)
    if warmup >= steps:
        raise ConfigError(f"schedule.warmup={warmup}: must be below the number of steps, {steps}")
    after, end = steps - warmup, section.get("end_factor", 0.0)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        step -= warmup
        if section["name"] == "linear":
            return 1 + (end - 1) * step / after
        if section["name"] == "cosine":
            return end + (1 - end) * (1 + math.cos(math.pi * step / after)) / 2
        if section["name"] == "step":
            return section.get("gamma", 0.1) ** (step // section.get("step_size", 1000))
        return 1.0

    return factor


def _own(section: Plain, steps: int) -> Factor:
    """The user's function from the step, and from the number of all steps if it names it."""
    function: Any = located("schedule", section)
    given = {k: v for k, v in section.items() if k not in ("_target_", "name")}
    if inspect.isclass(function):
        names = inspect.signature(function).parameters
        total = {TOTAL_STEPS: steps} if TOTAL_STEPS in names else {}
        function = instantiated("schedule", {"_target_": target_of(section), **given, **total})
        given = {}
    if not callable(function):
        raise ConfigError(f"schedule._target_={target_of(section)}: is no function of the step")
    names = inspect.signature(function).parameters
    total = {TOTAL_STEPS: steps} if TOTAL_STEPS in names else {}
    whole = functools.partial(function, **given, **total)

    def factor(step: int) -> float:
        try:
            return whole(step)
        except Exception as error:
            # A user's function may raise anything.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ConfigError(
                f"schedule._target_={target_of(section)}: raises at step {step}: {reason}"
            ) from error

    return factor
