"""What can train together, and what does: all that has been worked out about it, once.

    runs ── prepare ──▶ groups ── packing ──▶ packs ── train_pack ──▶ rows

`prepare` is the only place where a plain configuration becomes data, a model, its layers and an
engine. Whatever comes after takes a group or a pack, and does not ask the configuration again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NoReturn
from weakref import WeakValueDictionary

import torch
from torch import nn

from initstudy.columns import Schema
from initstudy.config import WITHOUT_EFFECT, ConfigError, Plain, Run, flatten, without
from initstudy.engine.autograd import DRAWS, not_vectorizable
from initstudy.engine.choose import Choice, choose_engine
from initstudy.engine.losses import Loss
from initstudy.engine.schedule import Schedule
from initstudy.engine.workload import Workload
from initstudy.probes.layers import Layer, find_layers
from initstudy.tasks import Data, Task
from initstudy.training import factory, precision, tasks
from initstudy.training.config import MEMBER_KEYS, TrainingConfig, split_seed
from initstudy.training.optimizers import Updates, updates
from initstudy.training.rates import Tables, tables

log = logging.getLogger(__name__)
# Parameters that a message names before it counts the rest.
NAMED = 5


@dataclass(frozen=True)
class Size:
    """What one run keeps busy, in numbers of floats.

    Attributes:
        parameters: All parameters of the model.
        activations: The outputs of all layers for one batch.
    """

    parameters: int
    activations: int


@dataclass(frozen=True, eq=False)
class RunGroup:
    """The runs of a study that can train together, with all that they share.

    A group goes to another process by its key and some of its runs, never with its model and data;
    see `group_of`.

    Attributes:
        key: Twelve hexadecimal digits; the same for the same shared configuration.
        runs: The runs, those that are finished among them.
        config: The configuration that they share.
        task: What they learn, with the data on the CPU. Groups with the same data hold the same
            object.
        loss: The task's loss and metrics, as engines take them.
        schema: The columns of their rows.
        model: The structure that they share. It is never trained, and of its values only the
            buffers are kept; see `new_model`.
        layers: The model's layers, in the order in which they run.
        engine: Which engine trains packs of these runs, and why no faster one.
        schedule: How long each run trains, and at which steps it is measured.
        updates: How they are updated.
        rates: The factors of the learning rate of each of their schedules.
        size: What one run keeps busy.
    """

    key: str
    runs: tuple[Run, ...]
    config: TrainingConfig
    task: Task
    loss: Loss
    schema: Schema
    model: nn.Module
    layers: tuple[Layer, ...]
    engine: Choice
    schedule: Schedule
    updates: Updates
    rates: Tables
    size: Size

    def __reduce__(self) -> NoReturn:
        # Pickled by mistake it would take a data set and a model through a pipe for every pack.
        raise TypeError("a group goes to another process by its key; see group_of")

    @property
    def shared(self) -> Plain:
        """The plain configuration that the runs share, less what cannot change a result."""
        return shared(self.runs[0])

    @property
    def data(self) -> Data:
        """The data of the task."""
        return self.task.data

    def new_model(self) -> nn.Module:
        """A copy of the model for one training, which nothing of another training reaches."""
        return factory.copy_of(self.model, self.config.model, self.task)


@dataclass(frozen=True)
class Pack:
    """Runs of one group that train together.

    Attributes:
        group: What they share.
        runs: The members, in their order.
    """

    group: RunGroup
    runs: tuple[Run, ...]

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits that name the pack's files; the same for the same runs."""
        ids = " ".join(run.id for run in self.runs)
        return hashlib.sha256(ids.encode()).hexdigest()[:12]


# The groups of this process, so that a fork finds those that were made before it. Nothing is kept
# alive by it.
_MADE: WeakValueDictionary[str, RunGroup] = WeakValueDictionary()


def group_of(key: str, runs: Sequence[Run], device: torch.device) -> RunGroup:
    """The group of some runs, in a process that is to train them.

    A fork finds the group that was made before it; another process prepares its own.

    Args:
        key: The key of the group.
        runs: The runs of a pack.
        device: The device on which they train.

    Raises:
        ConfigError: The group cannot be built here.
    """
    group = _MADE.get(key)
    # A group of one run may lack the engine for several.
    if group is None or len(group.runs) < len(runs):
        (group,) = prepare(runs, device)
    return group


def prepare(
    runs: Sequence[Run], device: torch.device, finished: Collection[str] = ()
) -> list[RunGroup]:
    """Makes the groups of a study: each data set is loaded once, and each model built once.

    Args:
        runs: The runs of the whole grid, so that a study that goes on has the same packs.
        device: The device for which packs are planned.
        finished: The ids of runs that do not have to train. Of a group of such runs alone nothing
            is built.

    Returns:
        The groups that have something to train, in the order of their first runs.

    Raises:
        ConfigError: The first thing that cannot be built, in one line.
    """
    alike: dict[str, list[Run]] = {}
    for run in runs:
        alike.setdefault(signature(run), []).append(run)
    loaded: dict[str, Data] = {}
    groups = []
    for text, members in alike.items():
        if all(run.id in finished for run in members):
            continue
        config = TrainingConfig.of(members[0].config)
        data = _data_of(members[0], config, loaded)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        groups.append(_make(key, members, config, data, device))
    _MADE.update({group.key: group for group in groups})
    return groups


def signature(run: Run) -> str:
    """What a run shares with those that can train with it, as text."""
    return json.dumps(flatten(shared(run)), sort_keys=True)


def shared(run: Run) -> Plain:
    """The part of a run's configuration that all runs of its group have.

    Runs for which different examples are held out do not train together.
    """
    held_out = {"split": split_seed(run)} if split_seed(run) is not None else {}
    # Members may have initializers of different code; model and data are the same here and now.
    apart = (*MEMBER_KEYS, "seeds", "fingerprints", *WITHOUT_EFFECT)
    return without(run.config, apart) | held_out


def check_draws(group: RunGroup, finished: Collection[str] = ()) -> None:
    """Makes sure that the initial parameters of a group's runs can be sampled.

    Every initialization is built. One that differs from another in numbers alone fills the same
    parameters, so that of those one is sampled.

    Args:
        group: The group.
        finished: The ids of runs that do not have to train.

    Raises:
        ConfigError: The first initialization that cannot be built or leaves a parameter unfilled.
    """
    sampled: set[str] = set()
    built: set[str] = set()
    for run in group.runs:
        section = flatten(run.config["init"])
        text = json.dumps(section, default=str)
        if run.id in finished or text in built:
            continue
        built.add(text)
        factory.policy(run.config["init"])
        kind = json.dumps(
            {k: v for k, v in section.items() if not isinstance(v, float)}, default=str
        )
        if kind in sampled:
            continue
        sampled.add(kind)
        try:
            factory.draw(run, group.model, group.task)
        except ConfigError:
            raise
        except Exception as error:
            # A user's initializer may raise anything.
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ConfigError(f"init._target_={section.get('_target_')}: {reason}") from error


def _data_of(run: Run, config: TrainingConfig, loaded: dict[str, Data]) -> Data:
    """The data of a run; those that were loaded or divided before are the same object."""
    source = json.dumps(config.data, sort_keys=True)
    divided = f"{source} {split_seed(run)}"
    if source not in loaded:
        loaded[source] = tasks.load(config.data)
    if divided not in loaded:
        fraction, seed = config.data.get("validation"), split_seed(run)
        loaded[divided] = tasks.hold_out(loaded[source], fraction, seed or 0)
    return loaded[divided]


def _make(
    key: str, runs: Sequence[Run], config: TrainingConfig, data: Data, device: torch.device
) -> RunGroup:
    factory.check_batch_size(config, data)
    precision.check(config.precision, device)
    task = tasks.task(config, data)
    model = factory.model(config.model, task)
    schedule = config.schedule(len(data.train))
    rates = tables(runs, schedule.steps)
    example, targets = tasks.example(task)
    loss = tasks.engine_loss(task)
    workload = Workload(model, example, len(runs), device, loss=loss, targets=targets)
    _freeze_unreached(task, workload)
    layers = find_layers(model, example)
    how = updates(config.optimizer, runs, model, layers)
    draws = how.trial is not None and how.trial.draws
    workload = replace(
        workload, optimizer=how.kind, optimizer_draws=draws, precision=config.precision
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    activations = config.batch_size * sum(math.prod(layer.shape) for layer in layers)
    engine = choose_engine(workload)
    _let_go_of_values(model)
    return RunGroup(
        key=key,
        runs=tuple(runs),
        config=config,
        task=task,
        loss=loss,
        schema=tasks.schema_of(task),
        model=model,
        layers=tuple(layers),
        engine=engine,
        schedule=schedule,
        updates=how,
        rates=rates,
        size=Size(parameters, activations),
    )


def _let_go_of_values(model: nn.Module) -> None:
    """Keeps one slice of each parameter, seen again at every index of its first axis.

    A study of depths may have thirty groups, and their models together more parameters than memory
    holds; every run samples its own. Not zeros, since a trial trains from these values, and some
    modules divide by the norm of their weights.
    """
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = parameter.data[:1].clone().expand_as(parameter)


def _freeze_unreached(task: Task, workload: Workload) -> None:
    """Freezes the parameters that the loss does not depend on, as torch's optimizers skip them.

    Weight decay would otherwise move them. If the model's way depends on its inputs, other
    examples may reach them: then they are only named.
    """
    model = workload.model
    names = tasks.unreached(task, model)
    if not names:
        return
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    log.warning("the loss does not depend on %s%s", ", ".join(names[:NAMED]), rest)
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    why = not_vectorizable(workload)
    if why is not None and DRAWS not in why:
        for name in names:
            model.get_parameter(name).requires_grad_(True)
