"""Initializing a model in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from initstudy.initializers.calibrated import Calibrated, calibrate
from initstudy.initializers.fill import (
    Assignment,
    Sampler,
    Selection,
    assign,
    require_value,
    warn,
)
from initstudy.initializers.names import preset
from initstudy.initializers.parametrized import State, refresh
from initstudy.initializers.policy import Fill, ModelPolicy, Policy, as_policy

STATISTICS = (nn.modules.batchnorm._NormBase,)
AnyPolicy = str | Fill | Policy | ModelPolicy | Calibrated


@torch.no_grad()
def initialize(
    model: nn.Module,
    policy: AnyPolicy,
    *,
    seed: int,
    batch: object = None,
    unknown: str | None = None,
    only: Selection | None = None,
    skip: Selection | None = None,
    frozen: str = "keep",
    device: torch.device | str | None = None,
) -> nn.Module:
    """Initializes a model in place. Devices and types stay, and so does the global random state.

    Parameters on the meta device are first created on `device`, with the running statistics of
    normalizations; they get the same numbers as those of a model that was built in memory, one
    parameter at a time.

    Args:
        model: Any module.
        policy: A policy; a name, which is any of `conf/init` (see `preset`); or an initializer for
            the weights, with biases of zero (see `as_policy`).
        seed: The seed, a whole number.
        batch: Inputs of the model on its own device: a tensor, a tuple of positional arguments or a
            dict of keyword arguments. Only initializations that look at data need it, and those
            that follow a data flow which cannot be read from the model's code alone.
        unknown: What happens to a parameter that no rule matches: "error" (the default of all
            policies but `torch_default`), "keep", or "warn", which keeps it and warns.
        only: The parameters to fill: patterns for their names, or a function of a `Slot`. All
            others stay as they are.
        skip: The parameters to leave as they are, in the same form.
        frozen: What happens to parameters that do not require a gradient: "keep" or "fill".
        device: The device of what is on the meta device now; the CPU by default.

    Returns:
        The same model.

    Raises:
        UnfilledParameterError: No rule matches a parameter.
        ValueError: An initializer cannot fill a parameter, there is no policy of that name or it is
            not for such a model, a calibration fails or has no batch, or a tensor on the meta
            device would stay without a value.
        TypeError: The policy is nothing of the above.

    Example:
        >>> from torch import nn
        >>> import initstudy
        >>> model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        >>> model = initstudy.initialize(model, "kaiming_normal", seed=0)
        >>> round(model[0].weight.std().item(), 2), model[0].bias.abs().max().item()
        (0.18, 0.0)
    """
    if isinstance(policy, str):
        policy = preset(policy)
    start = policy.start() if isinstance(policy, Calibrated) else as_policy(policy)
    if isinstance(policy, Calibrated) and batch is None:
        raise ValueError(f"init: {type(policy).__name__} looks at data; give it a batch")
    choice = {"unknown": unknown, "only": only, "skip": skip, "frozen": frozen}
    assignment = assign(model, start, batch=batch, **choice)  # type: ignore[arg-type]
    warn(assignment)
    sampler = Sampler(model, assignment, seed)
    _materialize(model, assignment, torch.device("cpu" if device is None else device))
    for name in assignment.rules:
        _apply(model, "", assignment.slots[name], sampler.state(name))
    if isinstance(policy, Calibrated):
        _calibrate(model, policy, batch, seed)
    return model


def param_init_fn(
    model: nn.Module,
    policy: AnyPolicy,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    batch: object = None,
    unknown: str | None = None,
) -> Callable[[nn.Module], None]:
    """A `param_init_fn` for `torch.distributed.fsdp.FullyShardedDataParallel`.

    The model is on the meta device; FSDP calls the function for one module after the other, on
    every rank, and shards what it has filled. The numbers are those of `initialize` on one device.

    Args:
        model: The whole model, before it is wrapped.
        policy: As for `initialize`; initializations that look at data are not possible.
        seed: The seed, the same on every rank.
        device: The device to create parameters on.
        batch: Inputs of the model, for policies that follow its data flow; see `ModelPolicy.of`.
        unknown: What happens to a parameter that no rule matches; see `initialize`.

    Raises:
        ValueError: The policy is not for such a model, or a parameter would stay without a value.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from initstudy.initializers import KaimingNormal, param_init_fn
        >>> with torch.device("meta"):
        ...     model = nn.Sequential(nn.Linear(64, 32))
        >>> fill = param_init_fn(model, KaimingNormal(), seed=0)
        >>> fill(model[0])  # FullyShardedDataParallel(model, param_init_fn=fill) calls it
        >>> model[0].weight.device.type
        'cpu'
    """
    if isinstance(policy, str):
        policy = preset(policy)
    if isinstance(policy, Calibrated):
        raise ValueError(f"init: {type(policy).__name__} looks at data, which FSDP has not yet")
    assignment = assign(model, as_policy(policy), batch=batch, unknown=unknown)
    warn(assignment)
    for name in assignment.kept:
        require_value(name, assignment.slots[name].tensor)
    sampler = Sampler(model, assignment, seed)
    names: dict[int, list[str]] = {}
    for name in assignment.rules:
        names.setdefault(id(assignment.slots[name].module), []).append(name)
    modules = {id(module): name for name, module in model.named_modules()}
    target = torch.device(device)

    @torch.no_grad()
    def fill(module: nn.Module) -> None:
        if isinstance(module, ParametrizationList):
            # The module that has the parametrized tensor fills it.
            return
        inner = [m for m in module.modules() if isinstance(m, ParametrizationList)]
        for part in (module, *(below for m in inner for below in m.modules())):
            _create(part, modules.get(id(part), ""), target, {})
        for name in names.get(id(module), ()):
            slot = assignment.slots[name]
            _apply(module, name[: len(name) - len(slot.key)], slot, sampler.state(name))

    return fill


def _calibrate(model: nn.Module, policy: Calibrated, batch: object, seed: int) -> None:
    if not isinstance(batch, Tensor):
        raise ValueError(f"init: {type(policy).__name__} needs a batch that is one tensor")
    values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for name, value in calibrate(model, policy, values, batch, seed=seed)[0].items():
        _set(model.get_parameter(name), value)


def _apply(root: nn.Module, prefix: str, slot: Slot, state: State) -> None:
    """Gives the parameters and buffers below a module, whose names begin so, their new values."""
    for name, value in state.parameters.items():
        _set(root.get_parameter(name.removeprefix(prefix)), value)
    for name, value in state.buffers.items():
        owner, _, key = name.removeprefix(prefix).rpartition(".")
        module = root.get_submodule(owner)
        old = module._buffers.get(key)
        if old is None or old.shape != value.shape:
            module._buffers[key] = value.to(next(slot.module.parameters()).device)
        else:
            old.copy_(value)
    refresh(slot.module, slot.key)


def _set(parameter: Tensor, value: Tensor) -> None:
    """Copies a value into a parameter, or its own shard into one that is distributed."""
    if hasattr(parameter, "placements"):
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(
            value.to(parameter.device),
            parameter.device_mesh,  # type: ignore[attr-defined]
            parameter.placements,
        )
    parameter.copy_(value)


def _materialize(model: nn.Module, assignment: Assignment, device: torch.device) -> None:
    """Creates what is on the meta device on another one; parameters hold nothing of use there."""
    for name in assignment.kept:
        require_value(name, assignment.slots[name].tensor)
    made: dict[int, nn.Parameter] = {}
    modules = list(model.named_modules())
    for name, module in modules:
        _require_known_buffers(name, module, modules)
    for name, module in modules:
        _create(module, name, device, made)


def _require_known_buffers(
    name: str, module: nn.Module, modules: list[tuple[str, nn.Module]]
) -> None:
    computed = any(isinstance(m, ParametrizationList) and name.startswith(n) for n, m in modules)
    for key, buffer in module.named_buffers(recurse=False):
        known = isinstance(module, STATISTICS) or computed or key.endswith(("_u", "_v"))
        if buffer.is_meta and not known:
            where = f"{name}.{key}".removeprefix(".")
            raise ValueError(f"init: buffer {where} is on the meta device; its values are lost")


def _create(
    module: nn.Module, name: str, device: torch.device, made: dict[int, nn.Parameter]
) -> None:
    for key, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
        if parameter.is_meta:
            # Layers that share a parameter go on sharing it.
            fresh = made.get(id(parameter))
            if fresh is None:
                empty = torch.empty_like(parameter, device=device)
                fresh = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                made[id(parameter)] = fresh
            setattr(module, key, fresh)
    buffers = dict(module.named_buffers(recurse=False))
    if any(buffer.is_meta for buffer in buffers.values()):
        for key, buffer in buffers.items():
            setattr(module, key, torch.empty_like(buffer, device=device))
        if isinstance(module, STATISTICS):
            module.reset_running_stats()
