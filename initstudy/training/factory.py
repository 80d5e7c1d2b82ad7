"""From a configuration to the objects that it names; whatever fails is told in one line."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from initstudy.config import ConfigError, Plain, Run, named_arguments
from initstudy.initializers import (
    Calibrated,
    ModelPolicy,
    Policy,
    as_policy,
    calibrate,
    draw_state,
)
from initstudy.initializers import draw as draw_parameters
from initstudy.initializers.own import Own
from initstudy.initializers.policy import Keep
from initstudy.tasks import Batches, Data, Task
from initstudy.training import tasks
from initstudy.training.config import TrainingConfig, init_seed, order_seeds
from initstudy.training.instantiate import instantiated, keyed

Tensors = dict[str, Tensor]

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
        # The first sentence; torch goes on with every backend that there could be.
        reason = str(error).splitlines()[0].partition(". ")[0]
        raise ConfigError(f"device={name}: not usable here ({reason}); try device=auto") from error
    return chosen


def check_batch_size(config: TrainingConfig, data: Data) -> None:
    """Makes sure that the data fill at least one batch.

    Raises:
        ConfigError: They do not.
    """
    if config.batch_size > len(data.train):
        what = "images" if data.are_images else "examples"
        raise ConfigError(
            f"batch_size={config.batch_size}: must be at most the number of training {what}, "
            f"{len(data.train)}"
        )


def model(section: Plain, task: Task) -> nn.Module:
    """The model that the configuration's section `model` names, checked against its task.

    Raises:
        ConfigError: The model cannot be built, has nothing to train, or does not fit the task.
    """
    built = build(section, task)
    tasks.check(task, built, section["_target_"])
    if not any(True for _ in built.parameters()):
        raise ConfigError(f"model._target_={section['_target_']}: has no parameters")
    if not any(parameter.requires_grad for parameter in built.parameters()):
        raise ConfigError(f"model._target_={section['_target_']}: all of its parameters are frozen")
    return built


def build(section: Plain, task: Task, seed: int = MODEL_SEED) -> nn.Module:
    """What the target of the configuration's section `model` makes.

    It is given what it takes of `input_shape`, `classes` (the number of classes, or else of
    outputs), `outputs` (the same) and `tokens` (how many different ones the inputs hold), unless
    the section has them. The global random state stays as it was.

    Args:
        section: The section.
        task: What the model is for.
        seed: The seed of torch's random state while it is made.

    Raises:
        ConfigError: The model cannot be built.
    """
    offered = {
        "input_shape": task.data.shape,
        "classes": task.outputs,
        "outputs": task.outputs,
        "tokens": task.data.tokens,
    }
    taken = named_arguments("model", section["_target_"])
    extra = {name: value for name, value in offered.items() if name in taken}
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed GPUs as well.
        torch.default_generator.manual_seed(seed)
        built = instantiated("model", extra | section)
    if not isinstance(built, nn.Module):
        raise ConfigError(f"model._target_={section['_target_']}: builds no torch.nn.Module")
    return built


def copy_of(built: nn.Module, section: Plain, task: Task) -> nn.Module:
    """A copy of a model, so that what a training leaves in it reaches no other training.

    A model that cannot be copied (one that holds a `torch.Generator`, for example) is built again.
    """
    try:
        return copy.deepcopy(built)
    except Exception:
        # A user's module may raise anything when it is copied.
        again = build(section, task)
        for name, parameter in built.named_parameters():
            again.get_parameter(name).requires_grad_(parameter.requires_grad)
        return again


def policy(section: Plain) -> Policy | ModelPolicy | Calibrated | Own:
    """The initialization that the configuration's section `init` names.

    Raises:
        ConfigError: It cannot be built.
    """
    built = instantiated("init", {k: v for k, v in section.items() if k not in ("bias", "rest")})
    if isinstance(built, Own):
        return built
    try:
        if isinstance(built, Calibrated):
            return dataclasses.replace(built, bias=section.get("bias", built.bias))
        rest = section.get("rest")
        return as_policy(
            built, section.get("bias", 0.0), None if rest is None else instantiated("init", rest)
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(keyed("init", section, error)) from error


def draw(run: Run, architecture: nn.Module, task: Task) -> tuple[Tensors, Plain]:
    """Samples a run's initial parameters.

    An initialization that looks at data sees the first batch of the run's training.

    Args:
        run: The run, whose seeds and `init` decide the values.
        architecture: The run's model; its own values are not read.
        task: What the run learns.

    Returns:
        The parameters by name, with the buffers that are computed from them, and what they cost
        beyond sampling, as columns of the summary:
        `init/examples` that were looked at in `init/passes` forward passes.

    Raises:
        ConfigError: The policy leaves a parameter unfilled, or an initializer cannot fill one.
    """
    section, seed = run.config["init"], init_seed(run)
    chosen = policy(section)
    if isinstance(chosen, Own):
        made = build(run.config["model"], task, seed)
        return {name: param.detach().clone() for name, param in made.named_parameters()}, {}
    if _may_keep(architecture, chosen):
        # What is kept is what the constructor makes, once the run's seed is set.
        architecture = build(run.config["model"], task, seed)
    example, _ = tasks.example(task)
    try:
        if not isinstance(chosen, Calibrated):
            state = draw_state(architecture, chosen, seed, batch=example)
            return state.parameters | state.buffers, {}
        start = draw_parameters(architecture, chosen.start(), seed, batch=example)
        inputs, _ = Batches(task.data, order_seeds([run]), run.config["batch_size"])(0)
        if not isinstance(inputs, Tensor):
            raise ValueError("looks at data, and so far takes only models with one input")
        values, cost = calibrate(architecture, chosen, start, inputs[0], seed=seed)
    except (TypeError, ValueError) as error:
        raise ConfigError(keyed("init", section, error)) from error
    return values, {"init/examples": cost.examples, "init/passes": cost.passes}


def _may_keep(model: nn.Module, chosen: Policy | ModelPolicy | Calibrated) -> bool:
    """Whether an initialization may leave a parameter as the model's constructor made it."""
    start = chosen.start() if isinstance(chosen, Calibrated) else chosen
    if isinstance(start, ModelPolicy) or start.unknown != "error":
        return True
    keeps = any(isinstance(rule.initializer, Keep) for rule in start.rules)
    return keeps or not all(param.requires_grad for param in model.parameters())
