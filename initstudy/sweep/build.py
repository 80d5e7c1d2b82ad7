"""From a run's configuration to the objects it names; every failure is one line."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from initstudy.config import ConfigError, Plain, Run, accepted_arguments
from initstudy.data import Dataset, load
from initstudy.initializers import Policy, as_policy


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


def policy(config: Plain) -> Policy:
    """The initialization of a run.

    Raises:
        ConfigError: It cannot be built.
    """
    section = dict(config["init"])
    bias = section.pop("bias", 0.0)
    try:
        return as_policy(_instantiate("init", section), bias)
    except (TypeError, ValueError) as error:
        raise ConfigError(_keyed("init", section, error)) from error


def draw(run: Run, architecture: nn.Module) -> dict[str, torch.Tensor]:
    """A run's initial parameters, by name.

    Raises:
        ConfigError: The policy leaves a parameter unfilled, or an initializer cannot fill one.
    """
    from initstudy.initializers import draw as draw_parameters

    try:
        return draw_parameters(architecture, policy(run.config), run.config["seed"])
    except (TypeError, ValueError) as error:
        raise ConfigError(_keyed("init", run.config["init"], error)) from error


@lru_cache(maxsize=4)
def _load(**section: Any) -> Dataset:
    return load(**section)


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
