"""From a configuration to the task that it names, and to what engines and columns need of it."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

from initstudy.columns import LOSS, TEST, TRAIN, VALIDATION, Schema
from initstudy.config import ConfigError
from initstudy.engine import losses as engine
from initstudy.tasks import Data, Metric, Task, as_data, binary, cross_entropy, make_task
from initstudy.tasks.losses import by_targets
from initstudy.tasks.metrics import ACCURACY, own_metric
from initstudy.tasks.task import pick
from initstudy.training.config import TrainingConfig
from initstudy.training.instantiate import instantiated, keyed, located, target_of
from initstudy.trees import arguments, at, call, count

# What `dataset` takes out of the section before it calls the target.
BESIDE_THE_TARGET = ("subset", "validation")
# What a metric of one's own says besides its target.
METRIC_OPTIONS = ("better", "meaning", "unit")
EXAMPLES = 2
# Data that somebody in this process still holds; nothing is kept alive by it.
_LOADED: WeakValueDictionary[str, Data] = WeakValueDictionary()


def load(section: Mapping[str, Any]) -> Data:
    """The data that a section `data` names, on the CPU, before any of them are held out.

    Data that were loaded before and are still held are the same object.

    Raises:
        ConfigError: They are missing, damaged, or no data.
    """
    source = json.dumps(dict(section), sort_keys=True, default=str)
    loaded = _LOADED.get(source)
    if loaded is not None:
        return loaded
    target = section["_target_"]
    named = {key: value for key, value in section.items() if key not in BESIDE_THE_TARGET}
    made = instantiated("data", named)
    try:
        data = as_data(made, target.removeprefix("initstudy.tasks."))
        if section.get("subset") is not None:
            data = data.first(section["subset"])
    except ValueError as error:
        raise ConfigError(keyed("data", section, error)) from error
    _LOADED[source] = data
    return data


def hold_out(data: Data, fraction: float | None, seed: int) -> Data:
    """The data with a part of the training examples held out for validation, if asked for.

    Raises:
        ConfigError: That leaves no examples, or there are validation data already.
    """
    if fraction is None:
        return data
    try:
        return data.hold_out(fraction, seed)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def task(config: TrainingConfig, data: Data) -> Task:
    """The task of a configuration on its data.

    Raises:
        ConfigError: The loss or a metric cannot be loaded, or they do not go with the data.
    """
    loss = _function("loss", config.loss)
    metrics = [_metric(name, section) for name, section in config.metrics.items()]
    try:
        return make_task(
            data,
            None if loss is by_targets else loss,
            metrics=metrics,
            objective=config.objective,
            output=config.output,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check(task: Task, model: nn.Module, target: str) -> None:
    """Makes sure that the model takes the inputs, and the loss and the metrics its outputs.

    Args:
        task: The task.
        model: The model, which is left as it was.
        target: The model's `_target_`, for messages.

    Raises:
        ConfigError: One of them does not fit.
    """
    inputs, targets = example(task)
    training = model.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = call(model.eval(), inputs)
    except Exception as error:
        # A user's model may raise anything; what it was given says what to change.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        form = _form(inputs)
        raise ConfigError(
            f"model._target_={target}: does not take {_examples(task)} of {form}: {reason}"
        ) from error
    finally:
        model.train(training)
    try:
        if task.classifies:
            _check_classes(task, pick(output, task.output), count(inputs))
        task.check(output, targets)
    except ValueError as error:
        raise ConfigError(f"model._target_={target}: {error}") from error
    except Exception as error:
        # A user's loss or metric may raise anything.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"loss: cannot be computed from the outputs: {reason}") from error


def example(task: Task) -> tuple[Any, Any]:
    """The first training examples, on which a model is tried before it is trained."""
    train = task.data.train
    inputs = task.data.normalize(at(train.inputs, slice(0, EXAMPLES)))
    return inputs, inputs if train.targets is None else at(train.targets, slice(0, EXAMPLES))


def unreached(task: Task, model: nn.Module) -> list[str]:
    """The names of the parameters that the loss does not depend on, frozen ones left out.

    Args:
        task: The task, whose first training examples are tried.
        model: The model, which is left as it was.
    """
    inputs, targets = example(task)
    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    training = model.training
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            output = functional_call(model.train(), buffers, *arguments(inputs))
            loss = task.losses(output, targets).sum()
            if not loss.requires_grad:
                return list(params)
            grads = torch.autograd.grad(loss, list(params.values()), allow_unused=True)
    except Exception:
        # A user's model may raise anything as it trains; its training will tell.
        return []
    finally:
        model.train(training)
    return [name for name, grad in zip(params, grads, strict=True) if grad is None]


def engine_loss(task: Task) -> engine.Loss:
    """What engines minimize and measure for a task.

    The cross-entropy of one class per example, with the accuracy beside it, has batched kernels;
    any other loss, and any other metric, is computed through the functions of the task.
    """
    part = functools.partial(pick, key=task.output)
    if task.classifies and task.metrics == (ACCURACY,):
        return engine.CrossEntropy(part=part)
    measured = tuple(
        engine.Measured(metric.about, metric.means, metric.value) for metric in task.metrics
    )
    return engine.PerExample(_name(task), task.loss, measured, part)


def schema_of(task: Task) -> Schema:
    """The columns that runs of a task have."""
    unit = "nats" if task.loss in (cross_entropy, binary) else "1"
    classes = task.data.classes if task.classifies else None
    loss = replace(LOSS, unit=unit, chance=math.log(classes) if classes else None)
    about = [
        replace(metric.about, chance=1 / classes)
        if classes and metric is ACCURACY
        else metric.about
        for metric in task.metrics
    ]
    splits = (TRAIN, VALIDATION, TEST) if task.data.validation is not None else (TRAIN, TEST)
    return Schema((loss, *about), task.column, splits)


def joined(groups: Sequence[Schema], earlier: Schema | None, objective: str | None) -> Schema:
    """One schema for all runs of a study.

    Args:
        groups: The schemas of the groups that are to train.
        earlier: The schema of what the study trained before; None if that is nothing.
        objective: The objective that the configuration names; None for the usual one.

    Raises:
        ConfigError: The groups have different objectives, or the study has none of that name.
    """
    schemas = [*groups] if earlier is None else [earlier, *groups]
    if not schemas:
        # Nothing is left to train, and what described the study was damaged.
        return Schema()
    metrics = {metric.name: metric for schema in schemas for metric in schema.metrics}
    splits = [s for s in (TRAIN, VALIDATION, TEST) if any(s in x.splits for x in schemas)]
    usual = list(dict.fromkeys(schema.objective for schema in groups or schemas))
    every = Schema(tuple(metrics.values()), usual[0], tuple(splits))
    if objective is not None:
        try:
            return every.about(objective)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    if len(usual) > 1:
        raise ConfigError(
            f"objective: the runs have different ones, {' and '.join(usual)}; name one that all of "
            "them have, such as objective=loss, or study them apart"
        )
    return every


def check_criterion(schema: Schema, criterion: float | None) -> None:
    """Makes sure that what counts as learned can be reached.

    Raises:
        ConfigError: The metric is a fraction, which cannot exceed 1.
    """
    metric = schema.metric(schema.learning)
    if criterion is not None and metric is not None and metric.fraction and criterion > 1:
        raise ConfigError(f"criterion={criterion}: must be at most 1")


def _function(group: str, section: Mapping[str, Any]) -> Callable[[Any, Any], Tensor]:
    """A loss or metric: a function itself, with arguments if there are any, or what a class makes.

    Raises:
        ConfigError: It cannot be loaded or made, or is no function.
    """
    found = located(group, section)
    options = {key: value for key, value in section.items() if not key.startswith("_")}
    if inspect.isclass(found) or not _takes_two(found):
        found = instantiated(group, section)
    elif options:
        found = functools.partial(found, **options)
    if not callable(found) and not isinstance(found, Metric):
        raise ConfigError(f"{group}._target_={target_of(section)}: is no function (output, target)")
    return found


def _takes_two(function: Any) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) >= 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters)


def _metric(name: str, section: Any) -> Metric:
    if not isinstance(section, Mapping) or "_target_" not in section:
        raise ConfigError(
            f"metrics.{name}={json.dumps(section, default=str)}: must be a mapping with the keys "
            "_target_ and better"
        )
    function = {k: v for k, v in section.items() if k not in METRIC_OPTIONS}
    try:
        return own_metric(name, _function(f"metrics.{name}", function), section)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _name(task: Task) -> str:
    """The loss in messages about engines."""
    name = getattr(task.loss, "__name__", type(task.loss).__name__)
    if task.loss is cross_entropy and task.data.has_tokens:
        return f"{name} of tokens"
    own = [metric.name for metric in task.metrics if metric is not ACCURACY]
    return f"{name} with the metric {own[0]}" if task.classifies and own else name


def _check_classes(task: Task, output: Any, examples: int) -> None:
    returned = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    classes = task.data.classes
    if returned != (examples, classes):
        raise ValueError(
            f"returns {returned} for {examples} {_examples(task)}; "
            f"{classes} classes need ({examples}, {classes})"
        )


def _examples(task: Task) -> str:
    return "images" if task.data.are_images else "examples"


def _form(inputs: Any) -> str:
    if isinstance(inputs, Tensor):
        return f"shape {tuple(inputs.shape)}"
    if isinstance(inputs, Mapping):
        return "shapes " + ", ".join(f"{key}: {tuple(t.shape)}" for key, t in inputs.items())
    return "shapes " + ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
