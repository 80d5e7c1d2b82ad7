"""From a run's configuration to the objects it names; every failure is one line."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from initstudy.config import ConfigError, Plain, Run, accepted_arguments
from initstudy.initializers import (
    Calibrated,
    ModelPolicy,
    Policy,
    as_policy,
    calibrate,
    mup_learning_rates,
)
from initstudy.initializers import draw as draw_parameters
from initstudy.probes.layers import find_layers
from initstudy.tasks.data import Batches, Dataset, load

Tensors = dict[str, torch.Tensor]


def device(name: str) -> torch.device:
    """The device to train on; "auto" is a GPU where there is one.

    Raises:
        ConfigError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device={name}: not usable here ({reason}); try device=auto") from error
    return chosen


def dataset(config: Plain) -> Dataset:
    """The data of a run, on the CPU.

    Raises:
        ConfigError: It is missing, damaged, or too small for one batch.
    """
    try:
        data = _load(**config["data"])
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if config["batch_size"] > len(data.train_y):
        raise ConfigError(
            f"batch_size={config['batch_size']}: must be at most the number of training images, "
            f"{len(data.train_y)}"
        )
    return data


def model(config: Plain, data: Dataset) -> nn.Module:
    """The architecture of a run. `input_shape` and `classes` go to a target that takes them.

    Raises:
        ConfigError: It cannot be built, or its output does not fit the classes.
    """
    section = config["model"]
    accepted = accepted_arguments("model", section["_target_"])
    offered = {"input_shape": data.shape, "classes": data.classes}
    extra = {k: v for k, v in offered.items() if accepted is None or k in accepted}
    built = _instantiate("model", section | extra)
    if not isinstance(built, nn.Module):
        raise ConfigError(f"model._target_={section['_target_']}: builds no torch.nn.Module")
    _check_output(built, section["_target_"], data)
    return built


def layer_names(config: Plain) -> list[str]:
    """The names of the layers of a run's model, in the order in which they run.

    Raises:
        ConfigError: The model cannot be built.
    """
    shape = {key: config[key] for key in ("model", "data", "batch_size")}
    return list(_layer_names(json.dumps(shape, default=str)))


def policy(config: Plain) -> Policy | ModelPolicy | Calibrated:
    """The initialization of a run.

    Raises:
        ConfigError: It cannot be built.
    """
    section = dict(config["init"])
    built = _instantiate("init", {k: v for k, v in section.items() if k not in ("bias", "rest")})
    try:
        if isinstance(built, Calibrated):
            return dataclasses.replace(built, bias=section.get("bias", built.bias))
        rest = section.get("rest")
        return as_policy(
            built, section.get("bias", 0.0), None if rest is None else _instantiate("init", rest)
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(_keyed("init", section, error)) from error


def draw(run: Run, architecture: nn.Module, data: Dataset) -> tuple[Tensors, Plain]:
    """A run's initial parameters by name, and what they cost beyond the draw.

    An initialization that looks at data sees the first batch of the run's training, as
    `init/examples` of them in `init/passes` forward passes.

    Raises:
        ConfigError: The policy leaves a parameter unfilled, or an initializer cannot fill one.
    """
    chosen = policy(run.config)
    seed = run.config["seed"]
    try:
        if not isinstance(chosen, Calibrated):
            return draw_parameters(architecture, chosen, seed), {}
        start = draw_parameters(architecture, chosen.start(), seed)
        x, _ = Batches(data, [seed], run.config["batch_size"])(0)
        values, cost = calibrate(architecture, chosen, start, x[0])
    except (TypeError, ValueError) as error:
        raise ConfigError(_keyed("init", run.config["init"], error)) from error
    return values, {"init/examples": cost.examples, "init/passes": cost.passes}


def learning_rates(config: Plain, architecture: nn.Module) -> dict[str, float]:
    """Factors of the learning rate by parameter, where the optimizer has a base width; else none.

    Raises:
        ConfigError: muP says nothing of such a model.
    """
    base_width = config["optimizer"].get("base_width")
    if base_width is None:
        return {}
    try:
        return mup_learning_rates(architecture, config["optimizer"]["name"], base_width)
    except ValueError as error:
        raise ConfigError(str(error)) from error


@lru_cache(maxsize=4)
def _load(**section: Any) -> Dataset:
    return load(**section)


@lru_cache(maxsize=64)
def _layer_names(shape: str) -> tuple[str, ...]:
    config = json.loads(shape)
    data = dataset(config)
    found = find_layers(model(config, data), data.normalize(data.train_x[:2]))
    return tuple(layer.name for layer in found)


def _instantiate(group: str, section: Plain) -> Any:
    try:
        return instantiate(section, _convert_="all")
    except InstantiationException as error:
        raise ConfigError(_keyed(group, section, error.__cause__ or error)) from error


def _keyed(group: str, section: Plain, error: BaseException) -> str:
    """One line that names the group's target unless the error already names a key of it."""
    reason = " ".join(str(error).split())
    if reason.startswith((f"{group}.", "init.", "model.")):
        return reason
    return f"{group}._target_={section['_target_']}: {reason}"


def _check_output(built: nn.Module, target: str, data: Dataset) -> None:
    example = data.normalize(data.train_x[:2])
    training = built.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = built.eval()(example)
    except Exception as error:
        # A user's model may raise anything; what it was given says what to change.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        shape = tuple(example.shape)
        raise ConfigError(
            f"model._target_={target}: does not take images of shape {shape}: {reason}"
        ) from error
    finally:
        built.train(training)
    returned = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if returned != (2, data.classes):
        raise ConfigError(
            f"model._target_={target}: returns {returned} for 2 images; "
            f"{data.classes} classes need (2, {data.classes})"
        )
