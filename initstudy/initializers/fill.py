"""Filling a model in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from initstudy.initializers.calibrated import Calibrated, calibrate
from initstudy.initializers.mup import MuP
from initstudy.initializers.policy import Fill, ModelPolicy, Policy, as_policy, draw
from initstudy.initializers.presets import (
    article,
    bert,
    flax,
    irnn,
    keras,
    matlab,
    mean_field,
    torch_default,
    unit_forget_gate,
)
from initstudy.initializers.residual import GPT2, Fixup, ZeroResidual

PRESETS: dict[str, Callable[[], Policy | ModelPolicy]] = {
    "torch": torch_default,
    "torch_default": torch_default,
    "keras": keras,
    "matlab": matlab,
    "flax": flax,
    "article": article,
    "bert": bert,
    "gpt2": GPT2,
    "fixup": Fixup,
    "zero_residual": ZeroResidual,
    "mup": MuP,
    "mean_field": mean_field,
    "irnn": irnn,
    "unit_forget_gate": unit_forget_gate,
}
STATISTICS = (nn.modules.batchnorm._NormBase,)


@torch.no_grad()
def initialize(
    model: nn.Module,
    policy: str | Fill | Policy | ModelPolicy | Calibrated,
    *,
    seed: int,
    batch: Float[Tensor, "examples ..."] | None = None,
) -> nn.Module:
    """Fills a model in place; devices and types stay, buffers are not touched.

    Parameters on the meta device are made on the CPU first, and running statistics with them.

    Args:
        model: Any module.
        policy: A policy, a preset's name (one of `PRESETS`), or an initializer for the weights
            (biases are then zero).
        seed: Of the draws.
        batch: Inputs, on the model's device; only an initialization that looks at data needs them.

    Returns:
        The same model.

    Raises:
        ValueError: The policy leaves a parameter unfilled, an initializer cannot fill one, a
            calibration fails or has no batch, there is no preset of that name, or a buffer on the
            meta device is none of the known ones.
    """
    if isinstance(policy, str):
        policy = preset(policy)
    materialize(model)
    if not isinstance(policy, Calibrated):
        return _copy(model, draw(model, as_policy(policy), seed))
    if batch is None:
        raise ValueError(f"init: {type(policy).__name__} looks at data; give it a batch")
    devices = {name: parameter.device for name, parameter in model.named_parameters()}
    start = draw(model, policy.start(), seed)
    values = {name: value.to(devices[name]) for name, value in start.items()}
    return _copy(model, calibrate(model, policy, values, batch)[0])


def _copy(model: nn.Module, values: dict[str, Tensor]) -> nn.Module:
    for name, value in values.items():
        model.get_parameter(name).copy_(value)
    return model


def preset(name: str) -> Policy | ModelPolicy:
    """A preset by its name, with its default numbers.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"init: there is no preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def materialize(model: nn.Module) -> None:
    """Puts what lies on the meta device onto the CPU; parameters hold nothing of use there.

    Raises:
        ValueError: A buffer on the meta device is no running statistic: its values are lost.
    """
    for name, module in model.named_modules():
        for key, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta and not isinstance(module, STATISTICS):
                where = f"{name}.{key}".removeprefix(".")
                raise ValueError(f"init: buffer {where} is on the meta device; its values are lost")
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for key, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                empty = torch.empty_like(parameter, device="cpu")
                fresh = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                # Layers that share a parameter go on sharing it.
                setattr(module, key, made.setdefault(id(parameter), fresh))
        buffers = dict(module.named_buffers(recurse=False))
        if isinstance(module, STATISTICS) and any(buffer.is_meta for buffer in buffers.values()):
            for key, buffer in buffers.items():
                setattr(module, key, torch.empty_like(buffer, device="cpu"))
            module.reset_running_stats()
