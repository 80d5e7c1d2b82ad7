"""The configuration's section `optimizer`, `clip_norm` and `decay` as the optimizer of a pack."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from initstudy.config import ConfigError, Run
from initstudy.engine.optimizers import OPTIMIZERS, Muon, Optimizer, Rates, Target
from initstudy.engine.optimizers.base import Common
from initstudy.engine.optimizers.target import Kind, Trial, tried
from initstudy.initializers import mup_learning_rates
from initstudy.probes.layers import Layer
from initstudy.training.config import OptimizerConfig, member_options
from initstudy.training.instantiate import located

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Updates:
    """How the runs of a group are updated, as far as that is known before they are built.

    Attributes:
        kind: The class of their optimizer.
        make: What makes the optimizer that a `_target_` names; None for one of the choices.
        trial: What a trial of that has shown.
        scales: Factors of the learning rate by parameter; those that are left out are 1.
        by_adamw: The names of the matrices that Muon leaves to AdamW.
    """

    kind: type[Optimizer]
    make: Kind | None
    trial: Trial | None
    scales: Mapping[str, float]
    by_adamw: frozenset[str]

    def described(self, config: OptimizerConfig) -> str | None:
        """What is unusual about the updates, in one line; None if nothing is."""
        if self.kind is Muon:
            left = ", ".join(sorted(self.by_adamw))
            return f"Muon for matrices; AdamW for {left} and for whatever is no matrix"
        if self.trial is None:
            return None
        if self.trial.why_not_stacked is None:
            return f"{config.target}, for all runs of the same settings at once, as a trial allows"
        return f"{config.target}, for one run after another: {self.trial.why_not_stacked}"


def updates(
    config: OptimizerConfig, runs: Sequence[Run], model: nn.Module, layers: Sequence[Layer]
) -> Updates:
    """How runs are updated; an optimizer that a `_target_` names takes a few steps in a trial.

    Args:
        config: What the runs share of their optimizer.
        runs: The runs.
        model: Their model.
        layers: Its layers, in the order in which they run.

    Raises:
        ConfigError: The optimizer cannot be made or cannot train the model, or muP has no rule for
            the model.
    """
    scales = _scales(config, model)
    if config.target is None:
        kind = OPTIMIZERS[config.name]
        by_adamw = _not_hidden(model, layers) if kind is Muon else frozenset()
        return Updates(kind, None, None, scales, by_adamw)
    make: Any = located("optimizer", {"_target_": config.target})
    params = [param for param in model.parameters() if param.requires_grad]
    trial = None
    for run in runs if _construction_differs(runs, config) else runs[:1]:
        options = {**config.options, **{k: v[0] for k, v in member_options([run], config).items()}}
        try:
            _check(make(params, **options))
            trial = trial or tried(make, options, [param.shape for param in params])
        except Exception as error:
            # Whoever wrote the optimizer may raise anything.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"optimizer._target_={config.target}: {reason}") from error
    return Updates(Target, make, trial, scales, frozenset())


def optimizer_of(
    runs: Sequence[Run],
    config: OptimizerConfig,
    how: Updates,
    params: Mapping[str, Tensor],
    rates: Rates | None,
    *,
    lr: float | None = None,
) -> Optimizer:
    """The optimizer of a pack, with one value per member of what each run sets for itself.

    Args:
        runs: The members.
        config: What they share.
        how: How they are updated.
        params: Their stacked parameters by name.
        rates: The factors of the learning rate by step.
        lr: A learning rate for all members, instead of their own.
    """
    own = member_options(runs, config)
    if lr is not None and "lr" in own:
        own["lr"] = [lr] * len(runs)
    settings: dict[str, Any] = {**config.options, **own}
    common: Common = {
        "scales": [how.scales.get(name, 1.0) for name in params],
        "vector_decay": _vector_decay(runs),
        "clip_norm": _clip_norm(runs),
        "rates": rates,
    }
    stacked = list(params.values())
    if how.kind is Muon:
        by_adamw = [name in how.by_adamw for name in params]
        return Muon(stacked, by_adamw=by_adamw, **settings, **common)
    if how.make is None:
        return how.kind(stacked, **settings, **common)
    assert how.trial is not None
    made = Target(
        stacked,
        kind=how.make,
        options=config.options,
        own=own,
        stacked=how.trial.why_not_stacked is None,
        **{key: own[key] for key in ("lr", "weight_decay") if key in own},
        **common,
    )
    if not made.stacked and len(runs) > 1 and lr is None:
        why = how.trial.why_not_stacked or "their settings differ"
        log.warning("%s updates one run after another: %s", config.target, why)
    return made


def _scales(config: OptimizerConfig, model: nn.Module) -> dict[str, float]:
    """Factors of the learning rate by parameter; empty if the optimizer has no base width."""
    if config.base_width is None:
        return {}
    try:
        return mup_learning_rates(model, config.name, config.base_width)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _not_hidden(model: nn.Module, layers: Sequence[Layer]) -> frozenset[str]:
    """The weights of embeddings and of the last layer, which Muon's authors leave to AdamW."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    embeddings = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    last = layers[-1].weights if layers else ()
    return frozenset((*(names[id(weight)] for weight in embeddings), *last))


def _construction_differs(runs: Sequence[Run], config: OptimizerConfig) -> bool:
    return any(len(set(values)) > 1 for values in member_options(runs, config).values())


def _check(made: Any) -> None:
    """Makes sure that a target has made an optimizer of torch's form."""
    if not isinstance(made, torch.optim.Optimizer):
        raise TypeError(f"makes a {type(made).__name__}, which is no torch.optim.Optimizer")


def _clip_norm(runs: Sequence[Run]) -> list[float] | None:
    given = [run.config["clip_norm"] for run in runs]
    if all(value is None for value in given):
        return None
    return [math.inf if value is None else float(value) for value in given]


def _vector_decay(runs: Sequence[Run]) -> list[float] | None:
    if all(run.config["decay"] == "all" for run in runs):
        return None
    return [
        float(run.config["optimizer"]["weight_decay"]) if run.config["decay"] == "all" else 0.0
        for run in runs
    ]
