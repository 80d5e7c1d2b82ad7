"""From a configuration to the objects that it names; whatever fails is told in one line."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from jaxtyping import Float
from torch import Tensor, nn

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
from initstudy.tasks.data import Batches, Dataset, load
from initstudy.training.config import OptimizerConfig, TrainingConfig

Tensors = dict[str, Tensor]

# Examples on which a model is tried before it is trained.
EXAMPLES = 2
# A model's own random values are those of this seed, so that every process builds the same one.
MODEL_SEED = 0


def device(name: str) -> torch.device:
    """The device to train on; "auto" is a GPU if there is one.

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


def dataset(section: Mapping[str, Any]) -> Dataset:
    """The data that the configuration's section `data` names, on the CPU.

    Raises:
        ConfigError: It is missing or damaged.
    """
    try:
        return load(**section)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def check_batch_size(config: TrainingConfig, data: Dataset) -> None:
    """Makes sure that the data fill at least one batch.

    Raises:
        ConfigError: They do not.
    """
    if config.batch_size > len(data.train_y):
        raise ConfigError(
            f"batch_size={config.batch_size}: must be at most the number of training images, "
            f"{len(data.train_y)}"
        )


def example(data: Dataset) -> Float[Tensor, "examples channels height width"]:
    """The first inputs of the training data, on which a model is tried before it is trained."""
    return data.normalize(data.train_x[:EXAMPLES])


def model(section: Plain, data: Dataset) -> nn.Module:
    """The model that the configuration's section `model` names.

    Its target is given `input_shape` and `classes` if it takes them. The global random state stays
    as it was.

    Raises:
        ConfigError: The model cannot be built, or its output does not fit the classes.
    """
    accepted = accepted_arguments("model", section["_target_"])
    offered = {"input_shape": data.shape, "classes": data.classes}
    extra = {k: v for k, v in offered.items() if accepted is None or k in accepted}
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed GPUs as well.
        torch.default_generator.manual_seed(MODEL_SEED)
        built = _instantiate("model", section | extra)
    if not isinstance(built, nn.Module):
        raise ConfigError(f"model._target_={section['_target_']}: builds no torch.nn.Module")
    _check_output(built, section["_target_"], data)
    if not sum(parameter.numel() for parameter in built.parameters()):
        raise ConfigError(f"model._target_={section['_target_']}: has no parameters")
    return built


def copy_of(built: nn.Module, section: Plain, data: Dataset) -> nn.Module:
    """A copy of a model, so that what a training leaves in it reaches no other training.

    A model that cannot be copied (one that holds a `torch.Generator`, for example) is built again.
    """
    try:
        return copy.deepcopy(built)
    except Exception:
        # A user's module may raise anything when it is copied.
        return model(section, data)


def policy(section: Plain) -> Policy | ModelPolicy | Calibrated:
    """The initialization that the configuration's section `init` names.

    Raises:
        ConfigError: It cannot be built.
    """
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
    """Samples a run's initial parameters.

    An initialization that looks at data sees the first batch of the run's training.

    Args:
        run: The run, whose seed and `init` decide the values.
        architecture: The run's model; its own values are not read.
        data: The run's data.

    Returns:
        The parameters by name, and what they cost beyond sampling, as columns of the summary:
        `init/examples` that were looked at in `init/passes` forward passes.

    Raises:
        ConfigError: The policy leaves a parameter unfilled, or an initializer cannot fill one.
    """
    section, seed = run.config["init"], run.config["seed"]
    chosen = policy(section)
    try:
        if not isinstance(chosen, Calibrated):
            return draw_parameters(architecture, chosen, seed), {}
        start = draw_parameters(architecture, chosen.start(), seed)
        x, _ = Batches(data, [seed], run.config["batch_size"])(0)
        values, cost = calibrate(architecture, chosen, start, x[0])
    except (TypeError, ValueError) as error:
        raise ConfigError(_keyed("init", section, error)) from error
    return values, {"init/examples": cost.examples, "init/passes": cost.passes}


def learning_rates(config: OptimizerConfig, architecture: nn.Module) -> dict[str, float]:
    """Factors of the learning rate by parameter; empty if the optimizer has no base width.

    Raises:
        ConfigError: muP has no rule for such a model.
    """
    if config.base_width is None:
        return {}
    try:
        return mup_learning_rates(architecture, config.name, config.base_width)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _instantiate(group: str, section: Plain) -> Any:
    try:
        return instantiate(section, _convert_="all")
    except InstantiationException as error:
        raise ConfigError(_keyed(group, section, error.__cause__ or error)) from error


def _keyed(group: str, section: Plain, error: BaseException) -> str:
    """The error in one line that names the section's target, unless it already names a key."""
    reason = " ".join(str(error).split())
    if reason.startswith((f"{group}.", "init.", "model.")):
        return reason
    return f"{group}._target_={section['_target_']}: {reason}"


def _check_output(built: nn.Module, target: str, data: Dataset) -> None:
    x = example(data)
    training = built.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = built.eval()(x)
    except Exception as error:
        # A user's model may raise anything; what it was given says what to change.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(
            f"model._target_={target}: does not take images of shape {tuple(x.shape)}: {reason}"
        ) from error
    finally:
        built.train(training)
    returned = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if returned != (len(x), data.classes):
        raise ConfigError(
            f"model._target_={target}: returns {returned} for {len(x)} images; "
            f"{data.classes} classes need ({len(x)}, {data.classes})"
        )
